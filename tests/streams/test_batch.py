"""A batch: it reads its own writes, and knows what it changed."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from streams.batch import Batch, Output, Record, Refusal, RowChange

ROWS = {b"a": b"1", b"b": b"2"}
RECORD = Record("topic", 3, 0, 0, b"a", b"value", None)


def _batch(records: Sequence[Record] = ()) -> Batch:
    batch = Batch(3, records, 7, lambda keys: [ROWS.get(key) for key in keys], [b"b"])
    batch.load([b"a", b"b", b"c"])
    return batch


def test_batch_reads_its_own_writes() -> None:
    """What it put, a deletion too; else what was loaded."""
    batch = _batch()
    batch.put(b"a", b"new")
    batch.put(b"b", None)
    assert [b"new", None, None] == [batch.get(key) for key in (b"a", b"b", b"c")]
    batch.put(b"b", b"again")
    assert b"again" == batch.get(b"b")


def test_key_that_was_not_loaded_is_a_bug() -> None:
    """An absent row and one that nobody asked for are two things."""
    with pytest.raises(KeyError):
        _batch().get(b"d")


def test_changes_are_what_differs() -> None:
    """A row put as it was, or put and taken back, is none; each key is one change, from what was loaded."""
    batch = _batch()
    batch.put(b"a", b"x")
    batch.put(b"a", b"y")
    batch.put(b"b", b"2")
    batch.put(b"c", b"x")
    batch.put(b"c", None)
    assert [RowChange(b"a", b"1", b"y")] == batch.changes
    batch.put(b"b", None)
    assert RowChange(b"b", b"2", None) in batch.changes


def test_batch_knows_the_record_in_hand() -> None:
    """So that a failure can say where it was; past the last record it is on none."""
    records = [RECORD._replace(offset=offset) for offset in range(3)]
    batch = _batch(records)
    assert [0, 1, 2] == [batch.at for _ in batch]
    assert 3 == batch.at


def test_outputs_and_refusals_are_collected_in_order() -> None:
    """Nothing is produced here."""
    batch = _batch([RECORD])
    batch.send("one", b"a", b"1", [])
    batch.send("two", b"a", None, [("name", b"value")])
    batch.refuse(RECORD, "reason", "detail")
    assert [Output("one", b"a", b"1", []), Output("two", b"a", None, [("name", b"value")])] == batch.outputs
    assert [Refusal(RECORD, "reason", "detail")] == batch.refusals
