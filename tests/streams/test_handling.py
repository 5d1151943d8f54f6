"""Work outside transactions: claim and commit, then deliver, then settle and commit with the positions."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from streams.batch import Batch, Output, Record, Refusal
from streams.errors import Unavailable
from streams.processing.clock import Clock
from streams.processing.commit import Work
from streams.processing.logic import Handling
from streams.processing.session import Session
from streams.processing.task import Phase
from streams.transport.member import TP, Polled
from streams.transport.transaction import Aborted
from topology.topics import EMAIL_COMMANDS, EMAIL_EVENTS

TOPIC: Final = EMAIL_COMMANDS.name
METADATA: Final = object()


class Committed(NamedTuple):
    """What one work of a transaction held."""

    partition: int
    positions: dict[TP, int]
    outputs: list[Output]
    refusals: list[Refusal]


class Broker:
    """The seams to Kafka: polls that a test prepares, transactions that it looks at or lets fail."""

    def __init__(self) -> None:
        self.polls: deque[dict[int, list[Record]]] = deque()
        self.aborts: deque[bool] = deque()
        self.committed: list[list[Committed]] = []
        self.metadata: list[Any] = []
        self.sought: list[tuple[TP, int]] = []
        self.paused: set[TP] = set()

    # As the group's member.

    def poll(self, _records_max: int, _timeout_s: float) -> Polled:
        """Return the next prepared poll."""
        return Polled(self.polls.popleft() if self.polls else {}, {}, METADATA)

    def seek(self, partition: TP, offset: int) -> None:
        """Remember where reading goes on."""
        self.sought.append((partition, offset))

    def pause(self, partitions: set[TP]) -> None:
        """Nothing comes from *partitions*."""
        self.paused |= partitions

    def resume(self, partitions: set[TP]) -> None:
        """It does again."""
        self.paused -= partitions

    # As the transaction, its committer, and what tells offsets.

    def init(self) -> None:
        """Register the transactional id."""

    def close(self) -> None:
        """Let go."""

    def commit(self, works: Sequence[Work], metadata: Any) -> list[Any]:
        """Commit, or abort if the test says so."""
        if self.aborts and self.aborts.popleft():
            raise Aborted("told to")
        self.metadata.append(metadata)
        self.committed.append(
            [
                Committed(w.batch.partition, dict(w.positions), list(w.batch.outputs), list(w.batch.refusals))
                for w in works
            ]
        )
        return []


class Recorder:
    """A handler that writes down what it is asked, and fails where a record says so."""

    def __init__(self) -> None:
        self.delivered: list[dict[int, list[bytes]]] = []
        self.settled: list[tuple[int, list[bytes], Any]] = []

    def claim(self, batch: Batch) -> list[bytes]:
        """Return the records' values as jobs; produce one output and refuse what is bad."""
        jobs = []
        for record in batch:
            if record.value == b"unavailable":
                raise Unavailable("told to")
            if record.value == b"bug":
                raise ZeroDivisionError
            if record.value == b"bad":
                batch.refuse(record, "bad", "told to")
            jobs.append(record.value or b"")
        batch.send(EMAIL_EVENTS.name, b"key", b"claimed", [])
        return jobs

    async def deliver(self, jobs: Mapping[int, Sequence[bytes]]) -> dict[int, str]:
        """Do nothing, well."""
        self.delivered.append({partition: list(some) for partition, some in jobs.items()})
        return {partition: f"done {len(some)}" for partition, some in jobs.items()}

    def stop(self) -> None:
        """Nothing takes long here."""

    def settle(self, batch: Batch, outcomes: Any) -> None:
        """Refuse what is bad again, this time for good."""
        for record in batch:
            if record.value == b"bad":
                batch.refuse(record, "bad", "told to")
        self.settled.append((batch.partition, [record.value or b"" for record in batch.records], outcomes))
        batch.send(EMAIL_EVENTS.name, b"key", b"settled", [])


class Life:
    """A session of a `Handling` over *partitions* of one topic."""

    def __init__(self, partitions: int = 2) -> None:
        self.broker = Broker()
        self.handler = Recorder()
        self.opened = 0
        seam: Any = self.broker
        self.handling = Handling(self._open, asyncio.run, 500)
        self.session = Session([TOPIC], self.handling, lambda _: seam, seam, seam, None, seam, seam, Clock(), {})
        self.session.assigned(frozenset(TP(TOPIC, number) for number in range(partitions)))

    def _open(self) -> Recorder:
        self.opened += 1
        return self.handler

    def turn(self, records: Mapping[int, Sequence[tuple[int, bytes]]]) -> None:
        """Let *records* (offset and value, by partition) come, and take a turn."""
        self.broker.polls.append(
            {
                number: [Record(TOPIC, number, offset, 0, b"key", value, None) for offset, value in some]
                for number, some in records.items()
            }
        )
        self.session.turn()


def _outputs(committed: Sequence[Committed]) -> list[tuple[int, list[bytes | None]]]:
    return [(work.partition, [output.value for output in work.outputs]) for work in committed]


def test_claim_is_committed_before_delivery_and_settled_after() -> None:
    """The first transaction leaves the positions where they were, which fences; the second moves them."""
    life = Life()
    life.turn({0: [(5, b"a"), (6, b"b")], 1: [(9, b"c")]})
    claimed, settled = life.broker.committed
    assert {(0, 5), (1, 9)} == {(work.partition, work.positions[TP(TOPIC, work.partition)]) for work in claimed}
    assert [(0, [b"claimed"]), (1, [b"claimed"])] == _outputs(claimed)
    assert [{0: [b"a", b"b"], 1: [b"c"]}] == life.handler.delivered
    assert {(0, 7), (1, 10)} == {(work.partition, work.positions[TP(TOPIC, work.partition)]) for work in settled}
    assert [(0, [b"settled"]), (1, [b"settled"])] == _outputs(settled)
    assert [(0, [b"a", b"b"], "done 2"), (1, [b"c"], "done 1")] == life.handler.settled
    assert [METADATA, METADATA] == life.broker.metadata
    assert {TP(TOPIC, 0): 7} == life.session.tasks[0].committed


def test_abort_of_the_claim_delivers_nothing() -> None:
    """Somebody else may have the partitions; the records are read again."""
    life = Life()
    life.broker.aborts.append(True)
    life.turn({0: [(5, b"a"), (6, b"b")]})
    assert ([], [], []) == (life.handler.delivered, life.handler.settled, life.broker.committed)
    assert [(TP(TOPIC, 0), 5)] == life.broker.sought
    life.turn({0: [(5, b"a"), (6, b"b")]})
    assert [{0: [b"a", b"b"]}] == life.handler.delivered


def test_abort_of_the_settling_brings_the_records_again() -> None:
    """What was delivered is in the claims: the handler knows how far it had come."""
    life = Life()
    life.broker.aborts.extend([False, True])
    life.turn({0: [(5, b"a")]})
    assert [(TP(TOPIC, 0), 5)] == life.broker.sought
    assert {TP(TOPIC, 0): 5} == life.session.tasks[0].positions


def test_what_is_refused_goes_into_one_transaction_only() -> None:
    """The one that passes the record."""
    life = Life()
    life.turn({0: [(5, b"bad")]})
    claimed, settled = life.broker.committed
    assert ([], 1) == (claimed[0].refusals, len(settled[0].refusals))


def test_held_partition_is_not_delivered() -> None:
    """Our code failed on one of its records, so nothing would settle it; the other partition goes on."""
    life = Life()
    life.turn({0: [(5, b"a"), (6, b"bug")], 1: [(9, b"c")]})
    assert Phase.HELD is life.session.tasks[0].phase
    assert [{1: [b"c"]}] == life.handler.delivered
    assert [[1], [1]] == [[work.partition for work in works] for works in life.broker.committed]
    assert {TP(TOPIC, 0)} == life.broker.paused
    life.turn({})
    assert 1 == len(life.handler.delivered)


def test_partition_that_backs_off_is_not_delivered() -> None:
    """Its records come again after a while, when what it needs may answer."""
    life = Life()
    life.turn({0: [(5, b"unavailable")], 1: [(9, b"c")]})
    assert Phase.BACKING_OFF is life.session.tasks[0].phase
    assert [{1: [b"c"]}] == life.handler.delivered
    assert [(TP(TOPIC, 0), 5)] == life.broker.sought
    assert {TP(TOPIC, 0)} == life.broker.paused


def test_deadlines_alone_are_settled_without_a_delivery() -> None:
    """No job is made for them, and they carry the known position."""
    life = Life()
    life.turn({0: [(5, b"a")]})
    task = life.session.tasks[0]
    life.handling.run(life.session, {}, {task: [(1, b"key")]}, Polled({}, {}, METADATA))
    assert [{0: [b"a"]}, {}] == life.handler.delivered
    assert (0, [], None) == life.handler.settled[-1]
    ((work,),) = life.broker.committed[2:]
    assert {TP(TOPIC, 0): 6} == work.positions


def test_handler_is_opened_once_when_first_needed() -> None:
    """It may need what is ready only then, such as the locked state directory."""
    life = Life()
    assert 0 == life.opened
    life.turn({0: [(5, b"a")]})
    life.turn({0: [(6, b"b")]})
    assert 1 == life.opened
