"""
What a committed batch changes in a partition's database, as entries of a write batch.

    o KEY            the row; its bytes 1 to 8 are its due time
    d DUE_MS KEY     an index entry of the row's deadline
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import itemgetter
from typing import Any, Final

from streams.batch import RowChange

ROW: Final = b"o"
DUE: Final = b"d"
NEVER: Final = 2**63 - 1
"""The due time of a row without a deadline."""
NEVER_BYTES: Final = NEVER.to_bytes(8, "big")
ROW_BYTES_MIN: Final = 9

_key_of: Final = itemgetter(0)


def put_changes(batch: Any, changes: Iterable[RowChange], fired: set[bytes]) -> list[bytes]:
    """
    Put *changes* into the write *batch*; return the index entries of new deadlines, which are still to be put.

    *fired*: keys whose entry was deleted in this batch already.
    """
    put, delete = batch.put, batch.delete
    deadlines: list[bytes] = []
    # In key order, and the index after the rows: RocksDB inserts what follows its last insert in half the time.
    for key, old, new in sorted(changes, key=_key_of):
        if new is None:
            delete(ROW + key)
            due = NEVER_BYTES
        else:
            put(ROW + key, new)
            due = new[1:9]
        was = NEVER_BYTES if old is None else old[1:9]
        # A row that keeps its due time keeps its entry, unless that was deleted just now.
        if was == due and key not in fired:
            continue
        if was != NEVER_BYTES:
            delete(DUE + was + key)
        if due != NEVER_BYTES:
            deadlines.append(DUE + due + key)
    return deadlines


class NoRow(Exception):
    """The value of *key* is too short to be a row."""

    def __init__(self, key: bytes) -> None:
        super().__init__(key)
        self.key = key


def put_rows(batch: Any, rows: Iterable[tuple[bytes, bytes | None]]) -> list[bytes]:
    """
    Put *rows* as they follow in a changelog into the write *batch*; return index entries, as `put_changes`.

    Raises:
        NoRow: a value is none; the batch is of no use any more.
    """
    put, delete = batch.put, batch.delete
    deadlines: list[bytes] = []
    # Only the last value of each key matters, and keys in order are quicker.
    for key, value in sorted(dict(rows).items()):
        if value is None:
            delete(ROW + key)
            continue
        put(ROW + key, value)
        due = value[1:9]
        if due != NEVER_BYTES:
            if len(value) < ROW_BYTES_MIN:
                raise NoRow(key)
            deadlines.append(DUE + due + key)
    return deadlines
