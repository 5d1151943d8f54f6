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
            history = self.orders[number] = History(self._plan.order(number), self._partition)
        self._takers[topic](history, message)

    def _strange(self, history: History, topic: str, message: Message, what: str) -> None:
        history.strange.append(f"{what}: {topic}/{self._partition}/{message.offset}")

    def _command_index(self, order: Order, command_id: str) -> int:
        """Return which command this is; -1 for none."""
        ids = [self._plan.command_id(order.number, index) for index in range(order.commands)]
        return ids.index(command_id) if command_id in ids else -1

    def _email_index(self, order: Order, id_: str) -> int:
        for index in range(order.commands):
            if email_id(order.id, self._plan.command_id(order.number, index)) == id_:
                return index
        return -1

    # Inputs: the driver's own, known byte for byte.

    def _command(self, history: History, message: Message) -> None:
        order, value = history.order, message.value
        if order.poison and value == self._plan.poison(order):
            history.poisons.append(message.offset)
            return
        if value is not None:
            index = self._command_index(order, value[wire.ID_AT : wire.ID_END].decode(errors="replace"))
            if index >= 0 and value == self._plan.command(order.number, index):
                history.given[0].append(Given(Input(Kind.COMMAND, index, 0), message.offset, message.at_ms))
                return
            if index == 0 and value == self._plan.cancel(order.number):
                history.given[0].append(Given(Input(Kind.CANCEL, 0, 0), message.offset, message.at_ms))
                return
        raise ValueError(f"{COMMANDS.name}/{self._partition}/{message.offset}: the driver sends no such record")

    def _details(self, history: History, message: Message) -> None:
        order, value = history.order, message.value or b""
        if value[: wire.FRAME_BYTES] == wire.NOT_FOUND:
            asked = value[wire.ID_AT : wire.ID_END].decode()
            given = self._asked(order, asked)
        else:
            at = wire.FRAME_BYTES + 1 + (37 if value[wire.FRAME_BYTES] else 0)
            _, at = wire.read_number(value, at)
            version, _ = wire.read_number(value, at + 1 + len(message.key))
            if not value.endswith(wire.order_body(order.id, order.number, version)):
                raise ValueError(f"{DETAILS.name}/{self._partition}/{message.offset}: the driver sends no such record")
            given = Input(Kind.DETAILS, 0, version)
        history.given[1].append(Given(given, message.offset, message.at_ms))

    def _asked(self, order: Order, asked: str) -> Input:
        for attempt in range(1, 1_000):
            for index in range(order.commands):
                if query_id(order.id, self._plan.command_id(order.number, index), attempt) == asked:
                    return Input(Kind.NOT_FOUND, index, attempt)
        raise ValueError(f"{order.id}: «not found» to the query {asked}, which is none")

    def _email_event(self, history: History, message: Message) -> None:
        order, value = history.order, message.value or b""
        id_ = value[wire.ID_AT : wire.ID_END].decode()
        index = self._email_index(order, id_)
        for kind, number, expected in (
            (Kind.SENT, 0, wire.sent(id_, order.id, order.number)),
            (Kind.EARLY, 0, wire.sent(id_, order.id, order.number, early=True)),
            (Kind.FAILED, 0, wire.failed(id_, order.id, order.number, permanent=False)),
            (Kind.FAILED, 1, wire.failed(id_, order.id, order.number, permanent=True)),
        ):
            if index >= 0 and value == expected:
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
        for index in range(order.commands):
            right = query_id(order.id, self._plan.command_id(order.number, index), query.attempt)
            if query.query_id == right and query.order_id == order.id:
                made = Made(query.attempt, "", message.offset, query.asked_at_ms)
                history.queries[index].append(made)
                return
        self._strange(history, QUERIES.name, message, f"the id of query {query} derives from nothing")

    def _email(self, history: History, message: Message) -> None:
        order, value = history.order, message.value or b""
        command_id = value[wire.COMMAND_ID_AT : wire.COMMAND_ID_AT + 36].decode(errors="replace")
        index = self._command_index(order, command_id)
        if index < 0:
            self._strange(history, EMAIL_COMMANDS.name, message, f"an e-mail for {command_id!r}, which is no command")
            return
        versions = [v for v in (1, 2) if value == self._plan.send_email(order.number, index, v)]
        version = versions[0] if versions else -1
        history.emails[index].append(Made(version, "", message.offset, message.at_ms))

    def _outcome(self, history: History, message: Message) -> None:
        order = history.order
        try:
            ended = wire.read_ended(message.value or b"")
        except (ValueError, IndexError) as exc:
            self._strange(history, OUTCOMES.name, message, f"no outcome ({exc})")
            return
        index = self._command_index(order, ended.command_id)
        right = ended.order_id == order.id and (ended.reason or ended.email_id == email_id(order.id, ended.command_id))
        if index < 0 or not right:
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
