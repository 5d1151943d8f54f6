"""
What a committed batch or a part of the changelog changes in a partition's database, as entries of a write batch.

    o KEY                 the row; its bytes 1 to 8 are its due time
    d DUE_MS WRITE 0      keys of rows that aren't due then any more; 1: one key, alone
    d DUE_MS WRITE 2      keys of rows that are due then; 3: one key, alone

A batch is decided at one instant, so most of the deadlines that it sets are the same few instants, and most of those
that it takes back were set by a few batches: an entry for all keys of an instant costs a twentieth of one for each.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from itertools import accumulate, pairwise
from operator import itemgetter
from typing import Any, Final

from streams.batch import RowChange

ROW: Final = b"o"
DUE: Final = b"d"
NEVER: Final = 2**63 - 1
"""The due time of a row without a deadline."""
NEVER_BYTES: Final = NEVER.to_bytes(8, "big")
ROW_BYTES_MIN: Final = 9

_OVER: Final = b"\0"
_OVER_ONE: Final = b"\1"
_SET: Final = b"\2"
"""After those that are over: a batch may take a deadline back and set the same again."""
_SET_ONE: Final = b"\3"

_key_of: Final = itemgetter(0)


class Deadlines:
    """Keys by due time: those that are due then, and those that aren't any more."""

    __slots__ = ("due", "over")

    def __init__(self) -> None:
        self.due: dict[bytes, list[bytes]] = {}
        self.over: dict[bytes, list[bytes]] = {}


class NoRow(Exception):
    """The value of *key* is too short to be a row."""

    def __init__(self, key: bytes) -> None:
        super().__init__(key)
        self.key = key


def put_changes(batch: Any, changes: Iterable[RowChange], fired: set[bytes], deadlines: Deadlines) -> None:
    """
    Put *changes* into the write *batch*, and what becomes of their deadlines into *deadlines*.

    *fired*: due times and keys, joined, that have been taken back already.

    Raises:
        NoRow: a new row is none; the batch is of no use any more.
    """
    # In key order: RocksDB inserts what follows its last insert in half the time.
    for key, old, new in sorted(changes, key=_key_of):
        due = _put_row(batch, key, new)
        was = NEVER_BYTES if old is None else old[1:9]
        if fired and was + key in fired:
            was = NEVER_BYTES
        if was != due:
            _note(deadlines.over, was, key)
            _note(deadlines.due, due, key)


def put_rows(batch: Any, rows: Iterable[tuple[bytes, bytes | None]], deadlines: Deadlines) -> None:
    """
    Put *rows* as they follow in a changelog into the write *batch*, and their deadlines into *deadlines*.

    Raises:
        NoRow: a value is none; the batch is of no use any more.
    """
    # Only the last value of each key matters, and keys in order are quicker.
    for key, value in sorted(dict(rows).items()):
        _note(deadlines.due, _put_row(batch, key, value), key)


def _put_row(batch: Any, key: bytes, row: bytes | None) -> bytes:
    """Put *row*, None is none, into the write *batch*; return when it is due."""
    if row is None:
        batch.delete(ROW + key)
        return NEVER_BYTES
    if len(row) < ROW_BYTES_MIN:
        raise NoRow(key)
    batch.put(ROW + key, row)
    return row[1:9]


def _note(by_due: dict[bytes, list[bytes]], due: bytes, key: bytes) -> None:
    """Add *key* to those of *due*, unless that is never."""
    if due == NEVER_BYTES:
        return
    if (keys := by_due.get(due)) is None:
        by_due[due] = [key]
    else:
        keys.append(key)


def put_deadlines(batch: Any, deadlines: Deadlines, write: bytes) -> bytes | None:
    """
    Put *deadlines* into the write *batch*; return where in the index the earliest lies that is set, None if none is.

    *write*: the write's number, 8 bytes: greater than those of all entries there are. It is kept with the checkpoint,
    so after a kill a number comes again only if the entries that had it were lost.
    """
    for by_due, one, several in (
        (deadlines.over, write + _OVER_ONE, write + _OVER),
        (deadlines.due, write + _SET_ONE, write + _SET),
    ):
        # In order, as the rows.
        for due in sorted(by_due):
            keys = by_due[due]
            if len(keys) == 1:
                batch.put(DUE + due + one, keys[0])
            else:
                batch.put(DUE + due + several, _joined(keys))
    return DUE + min(deadlines.due) if deadlines.due else None


def fold(keys: set[bytes], entry: bytes, value: bytes) -> None:
    """Have *keys*, those that are due at some instant by all earlier entries of it, follow its next one."""
    what = entry[-1:]
    if what == _SET:
        keys.update(_split(value))
    elif what == _OVER:
        keys.difference_update(_split(value))
    elif what == _SET_ONE:
        keys.add(value)
    else:
        keys.discard(value)


def _joined(keys: list[bytes]) -> bytes:
    """Return *keys* as one value: their number and lengths, each 4 bytes, then themselves."""
    count = len(keys)
    return struct.pack(f">{count + 1}I", count, *map(len, keys)) + b"".join(keys)


def _split(value: bytes) -> list[bytes]:
    (count,) = struct.unpack_from(">I", value)
    lengths = struct.unpack_from(f">{count}I", value, 4)
    return [value[start:end] for start, end in pairwise(accumulate(lengths, initial=4 + 4 * count))]
