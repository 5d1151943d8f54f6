"""The member: what a poll brings when partitions come and go in the middle of it, and what it waits for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest
from confluent_kafka import KafkaError, TopicPartition

from streams.transport import member as module
from streams.transport.member import ENOUGH, TP, Member
from streams.transport.transaction import SessionOver

TOPIC: Final = "commands"
PREFIX: Final = "shop."


class Message:
    """A record of partition *number* at *offset*; with *error*, an event."""

    def __init__(self, number: int, offset: int, error: KafkaError | None = None) -> None:
        self._number, self._offset, self._error = number, offset, error

    def error(self) -> KafkaError | None:
        """See confluent_kafka."""
        return self._error

    def topic(self) -> str:
        """See confluent_kafka."""
        return PREFIX + TOPIC

    def partition(self) -> int:
        """See confluent_kafka."""
        return self._number

    def offset(self) -> int:
        """See confluent_kafka."""
        return self._offset

    def timestamp(self) -> tuple[int, int]:
        """See confluent_kafka."""
        return 0, 0

    def key(self) -> bytes:
        """See confluent_kafka."""
        return b"k"

    value = key

    def headers(self) -> None:
        """See confluent_kafka."""


class Consumer:
    """Librdkafka's consumer: *script* holds what is served, messages and rebalances, in order."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.script: list[Message | Callable[[], None]] = []
        self.later: list[Message | Callable[[], None]] = []
        self.waits: list[tuple[int, float]] = []

    def subscribe(self, _topics: list[str], *, on_assign: Any, on_revoke: Any, on_lost: Any) -> None:
        """See confluent_kafka."""
        self._on_assign, self._on_revoke, self._on_lost = on_assign, on_revoke, on_lost

    def assign_now(self, number: int) -> None:
        """Serve an assignment."""
        self._on_assign(self, [TopicPartition(PREFIX + TOPIC, number)])

    def lose_now(self, number: int) -> None:
        """Serve a loss."""
        self._on_lost(self, [TopicPartition(PREFIX + TOPIC, number)])

    def revoke_now(self, number: int) -> None:
        """Serve a revocation."""
        self._on_revoke(self, [TopicPartition(PREFIX + TOPIC, number)])

    def poll(self, _timeout_s: float) -> Message | None:
        """Serve up to the first message."""
        found = self.consume(1, 0)
        return found[0] if found else None

    def consume(self, count: int, timeout_s: float) -> list[Message]:
        """Serve up to *count* messages, and the rebalances among them; when it was to wait, what comes later too."""
        if timeout_s:
            self.waits.append((count, timeout_s))
            self.script, self.later = self.later, []
        found: list[Message] = []
        while self.script and len(found) < count:
            step = self.script.pop(0)
            if isinstance(step, Message):
                found.append(step)
            else:
                step()
        return found

    def consumer_group_metadata(self) -> None:
        """See confluent_kafka."""

    incremental_assign = incremental_unassign = pause = lambda *_: None


class Clock:
    """`time`, as told."""

    now_s = 1_000.0

    def monotonic(self) -> float:
        """See `time`."""
        return self.now_s


class Listener:
    """Hears nothing."""

    assigned = revoked = lost = out_of_range = lambda *_: None


@pytest.fixture
def member(monkeypatch: pytest.MonkeyPatch) -> Member:
    """Return a member over `Consumer`."""
    monkeypatch.setattr(module, "Consumer", Consumer)
    return Member({"group.protocol": "consumer"}, {TOPIC: PREFIX + TOPIC}, Listener())


def _scripted(member: Member) -> Consumer:
    consumer: Any = member._consumer
    return consumer  # type: ignore[no-any-return]


@pytest.mark.parametrize("how", ["lost", "revoked"])
@pytest.mark.parametrize("comes_back", [False, True])
def test_records_of_a_partition_that_goes_in_the_same_poll_are_left_out(
    member: Member, how: str, comes_back: bool
) -> None:
    """
    A worker that slept finds a record, the loss of its partition and the partition's return in one poll.

    The record may be another's by now, so it must not be decided, and its end of partition not be committed.
    """
    consumer = _scripted(member)
    go = {"lost": consumer.lose_now, "revoked": consumer.revoke_now}[how]
    consumer.script = [lambda: consumer.assign_now(0), lambda: consumer.assign_now(1)]
    member.poll(100, 0)
    end = KafkaError(KafkaError._PARTITION_EOF)
    consumer.script = [Message(0, 7), Message(1, 3), Message(0, 8, end), Message(1, 4, end), lambda: go(0)]
    if comes_back:
        consumer.script.append(lambda: consumer.assign_now(0))
    polled = member.poll(100, 0)
    assert {1: [3]} == {number: [record.offset for record in some] for number, some in polled.records.items()}
    assert {TP(TOPIC, 1): 4} == polled.ends


def test_records_after_the_return_of_a_partition_come(member: Member) -> None:
    """What was left out of one poll doesn't concern the next."""
    consumer = _scripted(member)
    consumer.script = [
        lambda: consumer.assign_now(0), Message(0, 7), lambda: consumer.lose_now(0), lambda: consumer.assign_now(0),
    ]  # fmt: skip
    first = member.poll(100, 0)
    consumer.script = [Message(0, 9)]
    second = member.poll(100, 0)
    assert ({}, [9]) == (first.records, [record.offset for record in second.records[0]])


@pytest.mark.parametrize(
    "text",
    [
        'Failed to fetch committed offsets for partitions in group "g": Local: Broker transport failure',
        'Failed to fetch committed offsets for 0 partition(s) in group "g": Broker: Not coordinator',
        'Failed to fetch committed offset for group "g" topic t [0]: Broker: Unknown topic or partition',
    ],
)
def test_question_for_positions_that_librdkafka_gives_up_ends_the_session(member: Member, text: str) -> None:
    """It would read nothing of these partitions, and hand over nothing either."""
    _scripted(member).script = [Message(0, 7, KafkaError(KafkaError._TRANSPORT, text))]
    with pytest.raises(SessionOver, match="where to read from"):
        member.poll(100, 0)


def test_error_that_librdkafka_deals_with_is_logged(member: Member) -> None:
    """It goes on."""
    _scripted(member).script = [Message(0, 7, KafkaError(KafkaError._ALL_BROKERS_DOWN, "2/2 brokers are down"))]
    assert {} == member.poll(100, 0).records


def _poll(member: Member, count: int, later: int = 0, records_max: int = 1_000) -> tuple[int, list[tuple[int, float]]]:
    """Return how many records a poll returned when *count* were there, and for how many it waited how long."""
    consumer = _scripted(member)
    consumer.script = [Message(0, offset) for offset in range(count)]
    consumer.later = [Message(0, count + offset) for offset in range(later)]
    consumer.waits = []
    polled = member.poll(records_max, 0)
    return len(polled.records.get(0, [])), consumer.waits


@pytest.fixture
def lingering(monkeypatch: pytest.MonkeyPatch) -> tuple[Member, Clock]:
    """Return a member over `Consumer` that owns partition 0 and lingers for 0.1 s, and its clock."""
    clock = Clock()
    monkeypatch.setattr(module, "Consumer", Consumer)
    monkeypatch.setattr(module, "time", clock)
    member = Member({"group.protocol": "consumer"}, {TOPIC: PREFIX + TOPIC}, Listener(), 0.1)
    _scripted(member).script = [lambda: _scripted(member).assign_now(0)]
    member.poll(100, 0)
    return member, clock


def test_record_that_comes_alone_does_not_linger(lingering: tuple[Member, Clock]) -> None:
    """Neither the first, nor one that comes a while after the last; nobody is delayed who has nobody to wait for."""
    member, clock = lingering
    assert (1, []) == _poll(member, 1)
    clock.now_s += 0.11
    assert (1, []) == _poll(member, 1)


def test_records_that_come_soon_after_others_linger(lingering: tuple[Member, Clock]) -> None:
    """Until the time has passed since the last, or there are enough; then they come together."""
    member, clock = lingering
    assert (3, []) == _poll(member, 3)
    clock.now_s += 0.03
    came, waits = _poll(member, 2, later=5)
    assert (7, [ENOUGH - 2]) == (came, [missing for missing, _ in waits])
    assert pytest.approx(0.07) == waits[0][1]


def test_backlog_does_not_linger(lingering: tuple[Member, Clock]) -> None:
    """Enough records are a batch, and a batch that is full is full."""
    member, _ = lingering
    assert (3, []) == _poll(member, 3)
    assert (ENOUGH + 100, []) == _poll(member, ENOUGH + 100)
    assert (50, []) == _poll(member, 80, records_max=50)


def test_end_of_partition_lets_nobody_wait(lingering: tuple[Member, Clock]) -> None:
    """It follows every record, and isn't one."""
    member, clock = lingering
    consumer = _scripted(member)
    assert (1, []) == _poll(member, 1)
    clock.now_s += 0.2
    consumer.script = [Message(0, 1, KafkaError(KafkaError._PARTITION_EOF))]
    member.poll(100, 0)
    assert (1, []) == _poll(member, 1)
