"""
Command source, orders service and e-mail service in one thread, by the plan, at thousands of orders a second.

The services answer at least once: what they read is read committed, what they say may be said twice, and nothing that
they say is in a transaction. They hold no order in memory, but for mails that fail and answers that are owed later.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

from streams.settings import Settings
from streams.transport import config
from tests.chaos import wire
from tests.chaos.plan import COMMANDS_MAX, Cancel, Details, Email, Order, Plan, email_id
from topology.topics import COMMANDS, DETAILS, EMAIL_COMMANDS, EMAIL_EVENTS, OUTCOMES, QUERIES

LAG: Final = 100
"""What comes later for order n comes with order n + LAG."""
SLICE_S: Final = 0.01
BATCH_RECORDS: Final = 2_000
OPEN_MAX: Final = 20_000
"""Commands that may be under way before no more are sent."""
FLUSH_S: Final = 120.0
UNKNOWN: Final = "EMAIL_OUTCOME_UNKNOWN"

Record = tuple[str, bytes, bytes | None]
"""Topic, key, value."""


class Figures:
    """What the driver has done so far; read by other threads."""

    def __init__(self) -> None:
        self.orders = 0
        self.commands = 0
        """Commands sent, without duplicates."""
        self.ended = 0
        """Outcomes seen, corrections of an unknown one left out."""
        self.outcomes: Counter[str] = Counter()
        self.emails = 0
        self.queries = 0
        self.last_news_s = time.monotonic()


class Driver:
    """Drives *orders* orders of *plan*; a thread that ends when `stop` is called."""

    def __init__(self, settings: Settings, plan: Plan, orders: int, partitions: int, late_s: float) -> None:
        self.figures = Figures()
        self.failure: BaseException | None = None
        self._settings = settings
        self._plan = plan
        self._orders = orders
        self._partitions = partitions
        self._late_s = late_s
        self._producer = Producer(
            config.plain_producer(settings)
            | {
                "queue.buffering.max.messages": 500_000,
                "delivery.timeout.ms": 600_000,
                "on_delivery": self._delivered,
                "log_level": 0,
            }
        )
        self._topics = {
            t.name: settings.topic(t.name) for t in (COMMANDS, DETAILS, EMAIL_EVENTS, QUERIES, EMAIL_COMMANDS, OUTCOMES)
        }
        self._failures: Counter[tuple[int, int]] = Counter()
        self._unknown: set[str] = set()
        self._owed: deque[tuple[float, Record]] = deque()
        self._stopping = threading.Event()
        self.pace: Callable[[], float] = lambda: float("inf")
        """How many orders a second may be let in now."""
        self._thread = threading.Thread(target=self._run, name="driver", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; everything that was to be sent has been."""
        self._stopping.set()
        self._thread.join(FLUSH_S)

    @property
    def done(self) -> bool:
        """Whether all orders are in, and each of their commands has ended."""
        figures = self.figures
        return figures.orders == self._orders + LAG and figures.ended >= figures.commands and not self._owed

    def _delivered(self, error: KafkaError | None, _message: Any) -> None:
        if error is not None and self.failure is None:
            self.failure = RuntimeError(f"the brokers didn't take the driver's record: {error.str()}")

    def _run(self) -> None:
        try:
            reader = self._reader()
            try:
                self._loop(reader)
                if self._producer.flush(FLUSH_S):
                    raise RuntimeError("the brokers didn't take all of the driver's records")
            finally:
                reader.close()
        except BaseException as exc:  # noqa: BLE001 - whatever it is, the run has failed.
            self.failure = exc

    def _reader(self) -> Consumer:
        reader = Consumer(
            config.common(self._settings)
            | {
                "group.id": "chaos-driver",
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                "fetch.queue.backoff.ms": 5,
                "fetch.wait.max.ms": 50,
                "queued.max.messages.kbytes": 65_536,
                "log_level": 0,
            }
        )
        read = (QUERIES, EMAIL_COMMANDS, OUTCOMES)
        reader.assign(
            [TopicPartition(self._topics[t.name], number, 0) for t in read for number in range(self._partitions)]
        )
        return reader

    def _loop(self, reader: Consumer) -> None:
        answers: Mapping[str, Callable[[bytes, bytes], Iterator[Record]]] = {
            self._topics[QUERIES.name]: self._answer,
            self._topics[EMAIL_COMMANDS.name]: self._mail,
            self._topics[OUTCOMES.name]: self._outcome,
        }
        allowed, before_s = 0.0, time.monotonic()
        while not self._stopping.is_set():
            now_s = time.monotonic()
            per_second = self.pace()
            allowed = min(allowed + per_second * (now_s - before_s), max(per_second * 0.1, 1.0), BATCH_RECORDS)
            before_s = now_s
            allowed -= self._let_in(int(allowed))
            while self._owed and self._owed[0][0] <= now_s:
                self._produce(self._owed.popleft()[1])
            messages: list[Any] = reader.consume(BATCH_RECORDS, SLICE_S)
            for message in messages:
                if message.error() is not None:
                    continue  # Brokers that can't be reached; librdkafka goes on trying.
                for record in answers[message.topic()](message.key(), message.value()):
                    self._produce(record)
            if messages:
                self.figures.last_news_s = now_s
            self._producer.poll(0)

    def _produce(self, record: Record) -> None:
        topic, key, value = record
        while True:
            try:
                self._producer.produce(self._topics[topic], value, key)
            except BufferError:
                self._producer.poll(0.1)
            else:
                return

    # The command source.

    def _let_in(self, most: int) -> int:
        figures = self.figures
        count = 0
        while count < most and figures.orders < self._orders + LAG:
            if figures.commands - figures.ended > OPEN_MAX:
                break
            number = figures.orders
            if number < self._orders:
                order = self._plan.order(number)
                figures.commands += order.commands
                for record in first_records(self._plan, order):
                    self._produce(record)
            if number >= LAG:
                for record in later_records(self._plan, self._plan.order(number - LAG)):
                    self._produce(record)
            figures.orders += 1
            count += 1
        return count

    # The orders service.

    def _answer(self, key: bytes, value: bytes) -> Iterator[Record]:
        self.figures.queries += 1
        plan = self._plan
        query = wire.read_query(value)
        order = plan.order(plan.number(key))
        found = order.details not in {Details.NOT_FOUND, Details.NEVER, Details.AFTER} and (
            order.details is not Details.NOT_FOUND_FIRST or query.attempt > 1
        )
        if found:
            answer = plan.details(order.number, 1, query.query_id)
        elif order.details in {Details.NOT_FOUND, Details.NOT_FOUND_FIRST}:
            answer = wire.not_found(order.id, query.query_id, order.number)
        else:
            return
        yield DETAILS.name, key, answer
        if order.details_twice:
            yield DETAILS.name, key, answer

    # The e-mail service.

    def _mail(self, key: bytes, value: bytes) -> Iterator[Record]:
        self.figures.emails += 1
        plan = self._plan
        order = plan.order(plan.number(key))
        index = self._index(order, value)
        id_ = value[wire.ID_AT : wire.ID_END].decode()
        mail = order.emails[index]
        if mail is Email.SILENT:
            return
        answer = wire.sent(id_, order.id, order.number)
        if mail is Email.LATE:
            self._owed.append((time.monotonic() + self._late_s, (EMAIL_EVENTS.name, key, answer)))
            return
        if mail is Email.REJECTED:
            answer = wire.failed(id_, order.id, order.number, permanent=True)
        elif mail in _FAILURES:
            failures = self._failures[order.number, index]
            if failures < _FAILURES[mail]:
                self._failures[order.number, index] += 1
                answer = wire.failed(id_, order.id, order.number, permanent=False)
        yield EMAIL_EVENTS.name, key, answer
        if order.email_twice:
            yield EMAIL_EVENTS.name, key, answer

    def _index(self, order: Order, value: bytes) -> int:
        if order.commands == 1:
            return 0
        command_id = value[wire.COMMAND_ID_AT : wire.COMMAND_ID_AT + 36].decode()
        return [self._plan.command_id(order.number, i) for i in range(COMMANDS_MAX)].index(command_id)

    def _outcome(self, _key: bytes, value: bytes) -> Iterator[Record]:
        ended = wire.read_ended(value)
        self.figures.outcomes[ended.reason or "SENT"] += 1
        self.figures.ended += 1
        if ended.reason == UNKNOWN:
            self._unknown.add(ended.command_id)
        elif not ended.reason and ended.command_id in self._unknown:
            self.figures.ended -= 1  # The correction of an outcome that was counted.
        return iter(())


_FAILURES: Final = {Email.FAILS_ONCE: 1, Email.FAILS_TWICE: 2, Email.FAILS: 1_000}


def first_records(plan: Plan, order: Order) -> Iterator[Record]:
    """Yield what the command source and the orders service send of *order* by themselves."""
    key, n = order.id.encode(), order.number
    if order.poison:
        yield COMMANDS.name, key, plan.poison(order)
    if order.cancel is Cancel.BEFORE:
        yield COMMANDS.name, key, plan.cancel(n)
    if order.details in {Details.BEFORE, Details.TWICE, Details.ALONE}:
        yield DETAILS.name, key, plan.details(n, 1)
    for index, mail in enumerate(order.emails):
        if mail is Email.EARLY:
            id_ = email_id(order.id, plan.command_id(n, index))
            yield EMAIL_EVENTS.name, key, wire.sent(id_, order.id, n, early=True)
    if order.commands:
        yield COMMANDS.name, key, plan.command(n, 0)
        if order.command_twice:
            yield COMMANDS.name, key, plan.command(n, 0)
    if order.cancel is Cancel.AT_ONCE:
        yield COMMANDS.name, key, plan.cancel(n)


def later_records(plan: Plan, order: Order) -> Iterator[Record]:
    """Yield what they send of *order* when `LAG` more have come."""
    key, n = order.id.encode(), order.number
    if order.details is Details.TWICE:
        yield DETAILS.name, key, plan.details(n, 2)
    if order.details is Details.AFTER:
        yield DETAILS.name, key, plan.details(n, 1)
    for index in range(1, order.commands):
        yield COMMANDS.name, key, plan.command(n, index)
    if order.command_twice and order.commands:
        yield COMMANDS.name, key, plan.command(n, 0)
    if order.cancel is Cancel.LATER:
        yield COMMANDS.name, key, plan.cancel(n)
