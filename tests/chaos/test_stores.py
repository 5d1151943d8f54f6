"""C5 and C6, each shown what it must report."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tests.chaos import positions
from tests.chaos.checks import Violation
from tests.chaos.stores import Found, Row, check
from topology.state import NEVER_MS


def row(text: str, due_ms: int = 1_000) -> bytes:
    """Return a row that is due then."""
    return b"\1" + due_ms.to_bytes(8, "big") + text.encode()


class Kept(NamedTuple):
    """A store in memory, with the index that its rows need, unless a test says otherwise."""

    position: int
    rows: dict[bytes, bytes]
    without_deadlines: bool = False

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """See `StoreLike`."""
        return iter(self.rows.items())

    def deadlines(self) -> list[tuple[int, bytes]]:
        """See `StoreLike`."""
        return (
            [] if self.without_deadlines else [(int.from_bytes(row[1:9], "big"), key) for key, row in self.rows.items()]
        )


LOG = [
    Row(0, b"a", row("a0")),
    Row(1, b"b", row("b1")),
    Row(4, b"a", row("a4")),
    Row(5, b"c", row("c5", NEVER_MS)),
    Row(9, b"b", None),
]
FINAL = {b"a": row("a4"), b"c": row("c5", NEVER_MS)}
UP_TO_DATE = Kept(10, FINAL)


def wrong(*stores: Kept) -> list[Violation]:
    """Return what is wrong with *stores*."""
    table, violations, _ = check(LOG, [Found(f"w{i}", store) for i, store in enumerate(stores)], 0)
    assert table == FINAL
    return violations


def test_stores_equal_the_replay_up_to_their_checkpoint() -> None:
    """The owner's to the end, markers included; former owners' wherever they stopped."""
    assert [] == wrong(UP_TO_DATE)
    assert [] == wrong(Kept(12, FINAL))
    assert [] == wrong(UP_TO_DATE, Kept(2, {b"a": row("a0"), b"b": row("b1")}), Kept(0, {}))
    assert [] == wrong(UP_TO_DATE, Kept(9, {**FINAL, b"b": row("b1")}))


def test_c5_row_missing() -> None:
    """It is in the changelog."""
    (violation,) = wrong(Kept(10, {b"a": row("a4")}))
    assert ("C5", "c") == violation[:2]
    assert "no row" in violation.what


def test_c5_row_too_many() -> None:
    """A tombstone was missed."""
    (violation,) = wrong(Kept(10, {**FINAL, b"b": row("b1")}))
    assert ("C5", "b") == violation[:2]


def test_c5_row_that_differs() -> None:
    """It is older than its checkpoint says."""
    (violation,) = wrong(Kept(10, {**FINAL, b"a": row("a0")}))
    assert "isn't the changelog's last" in violation.what


def test_c5_stale_store_that_ran_ahead() -> None:
    """Rows whose transaction may not have been committed when its checkpoint was written."""
    (violation,) = wrong(UP_TO_DATE, Kept(4, {b"a": row("a4"), b"b": row("b1")}))
    assert ("a", ("w1",)) == (violation.order_id, violation.where)


def test_c5_deadline_that_is_not_indexed() -> None:
    """It would never fire; a row without a deadline needs no entry."""
    (violation,) = wrong(Kept(10, FINAL, without_deadlines=True))
    assert "isn't in the index" in violation.what


def test_c5_nobody_has_come_to_the_end() -> None:
    """All stores are stale."""
    (violation,) = wrong(Kept(6, {**FINAL, b"b": row("b1")}))
    assert "no store of partition 0 has come to" in violation.what


def test_c6_nothing_lags_and_nothing_is_open() -> None:
    """Ends, last stable offsets and committed positions are the same."""
    ends = {("t", 0): 10, ("t", 1): 0, ("out", 0): 7}
    assert [] == list(positions.check(ends, ends, {("t", 0): 10, ("t", 1): 0}))


def test_c6_open_transaction() -> None:
    """Nobody reads beyond its beginning."""
    ends = {("t", 0): 10, ("out", 0): 7}
    (violation,) = positions.check(ends, {**ends, ("out", 0): 5}, {("t", 0): 10})
    assert ("C6", ("out/0/5",)) == (violation.check, violation.where)


def test_c6_lag() -> None:
    """A record, or a marker, that wasn't passed."""
    ends = {("t", 0): 10}
    (violation,) = positions.check(ends, ends, {("t", 0): 9})
    assert "is committed to 9, its end is 10" in violation.what
