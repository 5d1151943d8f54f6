"""A store that can't be written after its commit: nothing of its batch is passed over."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from streams.errors import Corrupt
from streams.processing import session as module
from streams.processing.clock import Clock
from streams.processing.commit import Work
from streams.processing.session import Session
from streams.transport.member import TP
from tests.streams.test_handling import TOPIC, Life

TOPIC_0 = TP(TOPIC, 0)


class Store:
    """An empty store."""

    position = 0
    broken = False

    def get_many(self, keys: Sequence[bytes]) -> list[None]:
        """Nothing is there."""
        return [None] * len(keys)

    def due(self, *_: int) -> tuple[()]:
        """Nothing is due."""
        if self.broken:
            raise Corrupt("flipped bytes")
        return ()

    def wipe(self) -> None:
        """It is empty."""

    def close(self) -> None:
        """Nothing is open."""


class Restorer:
    """Restores at once."""

    def __init__(self) -> None:
        self._wanted: list[int] = []

    def restore(self, numbers: Iterable[int]) -> None:
        """Take what is wanted."""
        self._wanted += numbers

    def ready(self) -> list[tuple[int, Store]]:
        """Return what was wanted."""
        wanted, self._wanted = self._wanted, []
        return [(number, Store()) for number in wanted]

    def cancel(self, _numbers: Iterable[int]) -> None:
        """Nothing is under way."""


def test_claim_whose_store_fails_is_read_again_and_not_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The claim was committed, its store given up: nothing is delivered yet, and no position goes past the records."""
    monkeypatch.setattr(module, "IDLE_COMMIT_S", 0.0)
    life = Life(1)
    broker = life.broker
    seam: Any = broker
    commit = broker.commit

    def fail_once(works: Sequence[Work], metadata: Any) -> list[Any]:
        commit(works, metadata)
        return [(work, Corrupt("flipped bytes")) for work in works] if len(broker.committed) == 1 else []

    monkeypatch.setattr(broker, "commit", fail_once)
    restorer: Any = Restorer()
    life.session = Session(
        [TOPIC], life.handling, lambda _: seam, seam, seam, lambda _: restorer, seam, seam, Clock(), {}
    )
    life.session.assigned(frozenset({TOPIC_0}))
    life.turn({0: [(10, b"a"), (11, b"b")]})
    for _ in range(3):
        life.turn({})
    assert [(TOPIC_0, 10)] == broker.sought
    assert {10} == {work.positions[TOPIC_0] for works in broker.committed for work in works}
    assert [] == [some for some in life.handler.delivered if some.get(0)]
    life.turn({0: [(10, b"a"), (11, b"b")]})
    assert [{0: [b"a", b"b"]}] == [some for some in life.handler.delivered if some.get(0)]
    assert 12 == broker.committed[-1][0].positions[TOPIC_0]


def test_records_polled_while_the_deadlines_cant_be_read_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their task rests from then on: they are put back, and no end of a partition passes them."""
    monkeypatch.setattr(module, "IDLE_COMMIT_S", 0.0)
    life = Life(1)
    seam: Any = life.broker
    restorer: Any = Restorer()
    life.session = Session(
        [TOPIC], life.handling, lambda _: seam, seam, seam, lambda _: restorer, seam, seam, Clock(), {}
    )
    life.session.assigned(frozenset({TOPIC_0}))
    life.turn({})
    store: Any = life.session.stores[0]
    store.broken = True
    life.turn({0: [(10, b"a"), (11, b"b")]})
    assert [(TOPIC_0, 10)] == life.broker.sought
    life.turn({0: [(10, b"a"), (11, b"b")]})
    assert [{0: [b"a", b"b"]}] == [some for some in life.handler.delivered if some.get(0)]


def test_held_partition_that_loses_an_input_and_gets_it_back_is_read_from_the_failing_record() -> None:
    """No record behind the one that nobody has decided is decided first."""
    life = Life(1)
    life.turn({0: [(5, b"a"), (6, b"bug"), (7, b"c")]})
    assert (TOPIC_0, 6) in life.broker.sought or (TOPIC_0, 5) in life.broker.sought
    assert life.session.tasks[0].positions[TOPIC_0] == life.broker.sought[-1][1] <= 6
