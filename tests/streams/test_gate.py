"""The gate before deadlines, in a session without a broker: which pass, and as of when."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from streams.batch import Batch
from streams.processing.clock import Clock
from streams.processing.end_offsets import Ends
from streams.processing.logic import Transactional
from streams.processing.session import Session
from streams.transport.member import TP
from tests.streams.test_handling import TOPIC, Broker
from tests.streams.test_store_given_up import Restorer, Store

TOPIC_0 = TP(TOPIC, 0)
KEY = b"order-7"
DUE_MS = 50


class Due(Store):
    """A store with one row, which is due."""

    def due(self, *until: int) -> Any:
        """Return the index entries until the first of these instants; the other is a limit."""
        return [(DUE_MS, KEY)] if until[0] >= DUE_MS else []


class RestoresDue(Restorer):
    """Restores it at once."""

    def ready(self) -> list[tuple[int, Store]]:
        """Return what was wanted."""
        return [(number, Due()) for number, _ in super().ready()]


class EndOffsets:
    """Answers in the turn after it was asked."""

    def __init__(self) -> None:
        self.end = 0
        self._ends: Ends | None = None

    def ask(self, partitions: Iterable[TP], now_ms: int) -> None:
        """Look at the end as it is now."""
        self._ends = Ends(now_ms, dict.fromkeys(partitions, self.end))

    def answer(self) -> Ends | None:
        """Say it once."""
        ends, self._ends = self._ends, None
        return ends


class Life:
    """A session of one partition that decides nothing; *clock_ms* is what its clock says."""

    def __init__(self) -> None:
        self.clock_ms = 0
        self.decided: list[tuple[Sequence[bytes], int, int]] = []
        self.ends = EndOffsets()
        broker: Any = Broker()
        restorer: Any = RestoresDue()
        ends: Any = self.ends
        clock = Clock(lambda: self.clock_ms * 1_000_000, lambda: self.clock_ms * 1_000_000)
        logic = Transactional(self._decide, 500)
        self.session = Session(
            [TOPIC], logic, lambda _: broker, broker, broker, lambda _: restorer, broker, ends, clock, {}
        )
        self.session.assigned(frozenset({TOPIC_0}))

    def _decide(self, batch: Batch) -> None:
        if batch.due:
            self.decided.append((batch.due, batch.now_ms, batch.due_ms))

    def turn(self, clock_ms: int, position: int) -> None:
        """Take a turn at *clock_ms*, read up to *position*."""
        self.clock_ms = clock_ms
        if 0 in self.session.tasks:
            self.session.tasks[0].positions[TOPIC_0] = position
        self.session.turn()


def test_deadlines_are_decided_as_of_the_instant_when_the_ends_were_asked_for() -> None:
    """What fell due since then may be answered by a record behind those ends: now is not what was read up to."""
    life = Life()
    life.turn(40, 0)
    life.turn(60, 0)
    assert [] == life.decided
    life.turn(90, 0)
    assert [([KEY], 90, 60)] == life.decided


def test_deadline_waits_until_everything_is_read_that_was_there() -> None:
    """A record more lies before the end that was told after the deadline fell due."""
    life = Life()
    life.ends.end = 1
    for clock_ms in (40, 60, 70, 80):
        life.turn(clock_ms, 0)
    assert [] == life.decided
    life.turn(90, 1)
    assert [([KEY], 90, 80)] == life.decided
