"""
What the topics say of each order, read once from the beginning, one partition number at a time.

All topics are partitioned alike, so a partition number holds whole orders: memory is that of one partition's orders.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from confluent_kafka import Consumer, KafkaError, TopicPartition

from tests.chaos import wire
from tests.chaos.model import Input, Kind
from tests.chaos.plan import Order, Plan, Poison, email_id, query_id
from topology.topics import COMMANDS, DEAD_LETTERS, DETAILS, EMAIL_COMMANDS, EMAIL_EVENTS, OUTCOMES, QUERIES

READ_RECORDS_MAX: Final = 10_000
STALL_S: Final = 60.0
INPUT_TOPICS: Final = (COMMANDS.name, DETAILS.name, EMAIL_EVENTS.name)


class Given(NamedTuple):
    """An input record: what it says, where it is, and when the broker took it (Unix milliseconds)."""

    input: Input
    offset: int
    at_ms: int


class Made(NamedTuple):
    """
    A record that the process manager produced for a command.

    *number*: a query's attempt, or the version of an e-mail's details, -1 for one that is as no plan has it; *text*:
    how it ended, empty for sent; *at_ms*: when it was decided as far as the record says so, else when the broker took
    it.
    """

    number: int
    text: str
    offset: int
    at_ms: int


class DeadLetter(NamedTuple):
    """A dead letter: where the refused record was, why it was refused, whether its bytes are those of the original."""

    topic: str
    source_offset: int
    reason: str
    intact: bool
    offset: int


@dataclass(slots=True)
class History:
    """All that was read of one order; *made* lists are by command."""

    order: Order
    partition: int
    command_ids: tuple[str, ...]
    email_ids: tuple[str, ...]
    given: tuple[list[Given], list[Given], list[Given]] = field(default_factory=lambda: ([], [], []))
    poisons: list[int] = field(default_factory=list)
    """Offsets in the commands' topic."""
    queries: defaultdict[int, list[Made]] = field(default_factory=lambda: defaultdict(list))
    emails: defaultdict[int, list[Made]] = field(default_factory=lambda: defaultdict(list))
    ended: defaultdict[int, list[Made]] = field(default_factory=lambda: defaultdict(list))
    dead: list[DeadLetter] = field(default_factory=list)
    strange: list[str] = field(default_factory=list)
    """Records that the process manager produced and nobody could owe: wrong ids, another's order; with coordinates."""


class Message(NamedTuple):
    """One record, as a test can make it."""

    offset: int
    at_ms: int
    key: bytes
    value: bytes | None
    headers: Mapping[str, bytes]


def read(client: Mapping[str, Any], topic: str, partition: int) -> Iterator[Message]:
    """
    Yield the committed records of a partition, from its beginning to its last stable offset.

    Raises:
        TimeoutError: nothing comes for a minute before that.
    """
    consumer = Consumer(
        {
            **client,
            "group.id": "chaos-checker",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "fetch.wait.max.ms": 20,
            "queued.max.messages.kbytes": 65_536,
        }
    )
    consumer.assign([TopicPartition(topic, partition, 0)])
    with_headers = topic.endswith(DEAD_LETTERS.name)
    try:
        news_s = time.monotonic()
        while True:
            messages: list[Any] = consumer.consume(READ_RECORDS_MAX, 0.2)
            if messages:
                news_s = time.monotonic()
            elif time.monotonic() - news_s > STALL_S:
                raise TimeoutError(f"{topic}/{partition}: can't be read to its end")
            for message in messages:
                error = message.error()
                if error is None:
                    headers = dict(message.headers() or ()) if with_headers else {}
                    yield Message(message.offset(), message.timestamp()[1], message.key(), message.value(), headers)
                elif error.code() == KafkaError._PARTITION_EOF:
                    return
    finally:
        consumer.close()


class Historian:
    """Puts records into histories, by order number."""

    def __init__(self, plan: Plan, partition: int) -> None:
        self.orders: dict[int, History] = {}
        self._plan = plan
        self._partition = partition
        self._takers = {
            COMMANDS.name: self._command,
            DETAILS.name: self._details,
            EMAIL_EVENTS.name: self._email_event,
            QUERIES.name: self._query,
            EMAIL_COMMANDS.name: self._email,
            OUTCOMES.name: self._outcome,
            DEAD_LETTERS.name: self._dead_letter,
        }

    def take(self, topic: str, message: Message) -> None:
        """
        Take *message* of the declared *topic* in.

        Raises:
            ValueError: an input record isn't one that the driver sends: the run itself is at fault.
        """
        number = self._plan.number(message.key)
        history = self.orders.get(number)
        if history is None:
            history = self.orders[number] = self._begin(number)
        self._takers[topic](history, message)

    def _strange(self, history: History, topic: str, message: Message, what: str) -> None:
        history.strange.append(f"{what}: {topic}/{self._partition}/{message.offset}")

    def _begin(self, number: int) -> History:
        order = self._plan.order(number)
        command_ids = tuple([self._plan.command_id(number, index) for index in range(order.commands)])
        email_ids = tuple([email_id(order.id, command_id) for command_id in command_ids])
        return History(order, self._partition, command_ids, email_ids)

    # Inputs: the driver's own, known byte for byte.

    def _command(self, history: History, message: Message) -> None:
        order, value = history.order, message.value
        if order.poison and value == self._plan.poison(order):
            history.poisons.append(message.offset)
            return
        if value is not None:
            command_id = value[wire.ID_AT : wire.ID_END].decode(errors="replace")
            index = _index(history.command_ids, command_id)
            if index >= 0 and value == wire.command(order.id, command_id, order.number):
                history.given[0].append(Given(Input(Kind.COMMAND, index, 0), message.offset, message.at_ms))
                return
            if index == 0 and value == wire.cancel(order.id, command_id, order.number):
                history.given[0].append(Given(Input(Kind.CANCEL, 0, 0), message.offset, message.at_ms))
                return
        raise ValueError(f"{COMMANDS.name}/{self._partition}/{message.offset}: the driver sends no such record")

    def _details(self, history: History, message: Message) -> None:
        order, value = history.order, message.value or b""
        if value[: wire.FRAME_BYTES] == wire.NOT_FOUND:
            asked = value[wire.ID_AT : wire.ID_END].decode()
            given = _asked(history, asked)
        else:
            at = wire.FRAME_BYTES + 1 + (37 if value[wire.FRAME_BYTES] else 0)
            _, at = wire.read_number(value, at)
            version, _ = wire.read_number(value, at + 1 + len(message.key))
            if not value.endswith(wire.order_body(order.id, order.number, version)):
                raise ValueError(f"{DETAILS.name}/{self._partition}/{message.offset}: the driver sends no such record")
            given = Input(Kind.DETAILS, 0, version)
        history.given[1].append(Given(given, message.offset, message.at_ms))

    def _email_event(self, history: History, message: Message) -> None:
        order, value = history.order, message.value or b""
        id_ = value[wire.ID_AT : wire.ID_END].decode(errors="replace")
        index = _index(history.email_ids, id_)
        kinds = _SENT if value[: wire.FRAME_BYTES] == wire.SENT else _FAILED
        for kind, number in kinds if index >= 0 else ():
            if kind is Kind.FAILED:
                expected = wire.failed(id_, order.id, order.number, permanent=bool(number))
            else:
                expected = wire.sent(id_, order.id, order.number, early=kind is Kind.EARLY)
            if value == expected:
                history.given[2].append(Given(Input(kind, index, number), message.offset, message.at_ms))
                return
        raise ValueError(f"{EMAIL_EVENTS.name}/{self._partition}/{message.offset}: the driver sends no such record")

    # Outputs: whatever the process manager made.

    def _query(self, history: History, message: Message) -> None:
        order = history.order
        try:
            query = wire.read_query(message.value or b"")
        except (ValueError, IndexError) as exc:
            self._strange(history, QUERIES.name, message, f"no query ({exc})")
            return
        for index, command_id in enumerate(history.command_ids):
            right = query_id(order.id, command_id, query.attempt)
            if query.query_id == right and query.order_id == order.id:
                made = Made(query.attempt, "", message.offset, query.asked_at_ms)
                history.queries[index].append(made)
                return
        self._strange(history, QUERIES.name, message, f"the id of query {query} derives from nothing")

    def _email(self, history: History, message: Message) -> None:
        order, value = history.order, message.value or b""
        command_id = value[wire.COMMAND_ID_AT : wire.COMMAND_ID_AT + 36].decode(errors="replace")
        index = _index(history.command_ids, command_id)
        if index < 0:
            self._strange(history, EMAIL_COMMANDS.name, message, f"an e-mail for {command_id!r}, which is no command")
            return
        expected = (wire.send_email(history.email_ids[index], order.id, command_id, order.number, v) for v in (1, 2))
        version = next((v for v, right in enumerate(expected, start=1) if value == right), -1)
        history.emails[index].append(Made(version, "", message.offset, message.at_ms))

    def _outcome(self, history: History, message: Message) -> None:
        order = history.order
        try:
            ended = wire.read_ended(message.value or b"")
        except (ValueError, IndexError) as exc:
            self._strange(history, OUTCOMES.name, message, f"no outcome ({exc})")
            return
        index = _index(history.command_ids, ended.command_id)
        right = index >= 0 and ended.order_id == order.id and ended.email_id in {"", history.email_ids[index]}
        if not right or bool(ended.email_id) == bool(ended.reason):
            self._strange(history, OUTCOMES.name, message, f"the outcome {ended} is of nothing")
            return
        history.ended[index].append(Made(0, ended.reason, message.offset, ended.ended_at_ms))

    def _dead_letter(self, history: History, message: Message) -> None:
        order, headers = history.order, message.headers
        topic = headers["__streams.errors.topic"].decode()
        where = int(headers["__streams.errors.offset"])
        intact = order.poison is not Poison.NONE and message.value == self._plan.poison(order)
        letter = DeadLetter(topic, where, headers["rejoinder.reason"].decode(), intact, message.offset)
        history.dead.append(letter)


_SENT: Final = ((Kind.SENT, 0), (Kind.EARLY, 0))
_FAILED: Final = ((Kind.FAILED, 0), (Kind.FAILED, 1))
_ATTEMPTS_MAX: Final = 1_000


def _index(ids: tuple[str, ...], id_: str) -> int:
    """Return which of *ids* this is; -1 for none."""
    return ids.index(id_) if id_ in ids else -1


def _asked(history: History, asked: str) -> Input:
    """Return «not found» to the query with the id *asked*."""
    for attempt in range(1, _ATTEMPTS_MAX):
        for index, command_id in enumerate(history.command_ids):
            if query_id(history.order.id, command_id, attempt) == asked:
                return Input(Kind.NOT_FOUND, index, attempt)
    raise ValueError(f"{history.order.id}: «not found» to the query {asked}, which is none")
