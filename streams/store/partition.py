"""
One partition number's rows: a RocksDB with the rows, their deadlines and the checkpoint.

All three live in one column family, told apart by a prefix, and change in one write batch:

    o KEY                 the row; its bytes 1 to 8 are its due time
    d DUE_MS WRITE ...    the deadline index, ordered by time: keys of rows that aren't due then any more, or that are;
                          of several entries about a key the last write's counts, and what it sets after what it takes
                          back; a hint, checked when it fires. They stay until their instant has passed
    m checkpoint          the changelog position that the rows reflect

Why one family: the write-ahead log is off, so what survives a kill is what was flushed. A write batch is never split
between two memtables of one family, and these are flushed in order; but each further family has a memtable of its own,
flushed when that one is full. With three families a kill left 2,820 rows, their checkpoint and no deadline at all: the
restore began after them, and they never fired. RocksDB's atomic flush prevents that too, until somebody forgets it.
"""

from __future__ import annotations

import contextlib
import errno
import shutil
import struct
import threading
from collections import defaultdict
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple, Self, cast

import structlog
from rocksdict import DbClosedError, Rdict, RdictIter, ReadOptions, WriteBatch

from streams.batch import RowChange
from streams.errors import Bug, Corrupt, RejoinderError, Unavailable
from streams.store.changes import (
    DUE,
    NEVER,
    ROW,
    ROW_BYTES_MIN,
    Deadlines,
    NoRow,
    fold,
    put_changes,
    put_deadlines,
    put_rows,
)
from streams.store.options import StoreOptions

_CHECKPOINT: Final = b"mcheckpoint"
_END_OF_INDEX: Final = b"e"
_DEAD_MAX: Final = 1_000
"""Index entries of the past that wait for a write to go with."""
_LOOK_BYTES_MAX: Final = 1 << 20
"""What one look reads of the index: a worker that was away for a week finds much of which nothing is left."""

log = structlog.get_logger(__name__)

_INSTANT: Final = struct.Struct(">q")
_FORMAT: Final = 2
"""Of all entries; files in another one are restored."""
_NUMBERS: Final = struct.Struct(">Bqqq")


class Checkpoint(NamedTuple):
    """
    What the rows reflect.

    Attributes:
        position: The next changelog offset.
        topic_id: The changelog topic's id; a topic that is deleted and created anew has another.
        written_at_ms: Everything from *position* on was written to the changelog after this, Unix milliseconds.
    """

    position: int
    topic_id: str
    written_at_ms: int


class _Instant(NamedTuple):
    """What the index says of one due time: the keys that are due then, and the entries that this follows from."""

    due_ms: int
    keys: set[bytes]
    entries: list[bytes]


class Figures(NamedTuple):
    """Approximate sizes: entries are rows and index entries together."""

    entries: int
    disk_bytes: int
    buffer_bytes: int


def due_of(row: bytes) -> int:
    """
    Return when *row* is due: Unix milliseconds, or `changes.NEVER`.

    Raises:
        Bug: it is too short to be a row.
    """
    if len(row) < ROW_BYTES_MIN:
        raise Bug(f"{row!r} is no row: bytes 1 to 8 are its due time; a row is written by its codec only")
    return int(_INSTANT.unpack_from(row, 1)[0])


class Partition:
    """
    An open partition.

    One thread at a time reads and writes; `items` and `figures` may be called by any. All calls raise `Corrupt` when
    the files can't be read (then: `wipe` and restore) and `Unavailable` when the disk refuses (then: `close`, and try
    later), with the path and what to do.
    """

    def __init__(self, path: Path, options: StoreOptions) -> None:
        """Use `open`."""
        self.path = path
        self._options = options
        self._due_from = DUE
        """Nothing is due before this key, so a look that finds nothing costs nothing."""
        self._found: list[tuple[int, bytes]] = []
        """What the last look returned, unless something was written since."""
        self._seen: dict[int, _Instant] = {}
        """What the last look that read anything found, by due time; later entries of these instants aren't in it."""
        self._dead: set[bytes] = set()
        """Index entries of instants of which nothing is left, to be deleted with the next write."""
        self._writes = 0
        self._checkpoint: Checkpoint | None = None
        self._reading = threading.Condition()
        self._readers = 0
        """Threads with an open cursor, see `snapshot`."""
        self._closing = False
        self._open()

    @classmethod
    def open(cls, path: Path, options: StoreOptions) -> Self:
        """
        Open the database at *path* (from `StateDirectory`, so that no other process has it), or create it.

        A database that can't be read is wiped and opened empty: without a checkpoint it is restored in full. So is one
        whose opening didn't come back. RocksDB 9.8 may turn in a circle for ever at a few flipped bits in its logs
        (facebook/rocksdb#13333), or end the process, and whoever starts it again would meet the same.
        """
        opening = path.with_name(f"{path.name}.opening")
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            unfinished = opening.exists()
            opening.touch(mode=0o600)
        except OSError as exc:
            raise Unavailable(f"{opening}: can't be written: {exc}; free some space, or see the system's log") from exc
        if unfinished:
            log.warning(
                "store wiped", because=f"{path}: a process began to open it, and ended or was ended before it had"
            )
            _remove(path)
        try:
            return cls._open_or_empty(path, options)
        finally:
            # Not reached by a process that hangs or is killed.
            opening.unlink(missing_ok=True)

    @classmethod
    def _open_or_empty(cls, path: Path, options: StoreOptions) -> Self:
        try:
            return cls(path, options)
        except Corrupt as exc:
            log.warning("store wiped", because=str(exc))
            _remove(path)
            return cls(path, options)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return the rows of *keys*, with one read; ``rows[i]`` answers ``keys[i]``, None is no row."""
        if not keys:
            return []
        with self._translated():
            return cast("list[bytes | None]", self._db.get([ROW + key for key in keys]))

    def write(
        self, changes: Iterable[RowChange], position: int, now_ms: int, spent: Iterable[tuple[int, bytes]] = ()
    ) -> None:
        """
        Write what a committed batch changed: rows, their deadlines and the checkpoint, all or nothing.

        Args:
            changes: At most one of each key; ``old`` is the row as it is now.
            position: The next changelog offset after the batch's.
            now_ms: The partition's clock in that batch, Unix milliseconds.
            spent: What `due` returned and this batch has dealt with. (It may be what a restore left behind; a row that
                isn't due then needs no change.)

        Raises:
            Bug: the partition was never restored, or a row is too short.
        """
        if self._checkpoint is None:
            raise Bug(f"{self.path}: written before it was restored; a partition comes from the Restorer")
        batch, deadlines = WriteBatch(raw_mode=True), Deadlines()
        fired = self._take_back(batch, deadlines, spent)
        try:
            put_changes(batch, changes, fired, deadlines)
        except NoRow as exc:
            raise Bug(f"{self.path}: what is to be written of {exc.key!r} is no row") from exc
        self._put_dead(batch)
        checkpoint = self._checkpoint._replace(position=position, written_at_ms=now_ms)
        self._apply(batch, deadlines, checkpoint)
        self._dead.clear()

    def _take_back(self, batch: WriteBatch, deadlines: Deadlines, spent: Iterable[tuple[int, bytes]]) -> set[bytes]:
        """Take *spent* out of the index; return due times and keys, joined."""
        by_due: dict[int, set[bytes]] = defaultdict(set)
        for due_ms, key in spent:
            by_due[due_ms].add(key)
        fired = set()
        for due_ms, keys in by_due.items():
            due = _INSTANT.pack(due_ms)
            fired |= {due + key for key in keys}
            if (seen := self._seen.get(due_ms)) and seen.keys <= keys:
                # Not by way of what is dead: should this batch not be written, they aren't.
                for entry in seen.entries:
                    batch.delete(entry)
            else:
                deadlines.over[due] = list(keys)
        return fired

    def load(
        self, rows: Iterable[tuple[bytes, bytes | None]], position: int, topic_id: str, written_at_ms: int
    ) -> None:
        """
        Write *rows*, as they follow in the changelog; a value of None deletes the row.

        The rows before aren't read, so their index entries stay behind: `due` returns them, and their rows aren't due.

        Args:
            rows: Keys and values in offset order.
            position: The next changelog offset after them.
            topic_id: The changelog topic's id.
            written_at_ms: See `Checkpoint`.

        Raises:
            Bug: a value is too short to be a row.
        """
        batch, deadlines = WriteBatch(raw_mode=True), Deadlines()
        try:
            put_rows(batch, rows, deadlines)
        except NoRow as exc:
            raise Bug(f"{self.path}: the changelog's last value of {exc.key!r} before {position} is no row") from exc
        self._apply(batch, deadlines, Checkpoint(position, topic_id, written_at_ms))

    def due(self, now_ms: int, limit: int) -> list[tuple[int, bytes]]:
        """
        Return what the index has up to *now_ms*, the earliest first, *limit* at most: due times and keys.

        After a long time without a look they may be fewer than there are, or none; the next looks find more.
        """
        until = DUE + _INSTANT.pack(now_ms + 1)
        if self._due_from >= until:
            return []
        if 0 < limit <= len(self._found) and self._found[limit - 1][0] <= now_ms:
            return self._found[:limit]
        instants, behind = self._instants(self._due_from, until, limit, _LOOK_BYTES_MAX)
        waiting = [instant for instant in instants if instant.keys]
        self._seen = {instant.due_ms: instant for instant in waiting}
        self._due_from = waiting[0].entries[0] if waiting else behind
        self._dead.update(entry for instant in instants if not instant.keys for entry in instant.entries)
        if len(self._dead) > _DEAD_MAX:
            self._delete_dead()
        self._found = _deadlines_of(waiting)[:limit]
        return self._found[:]

    def deadlines(self) -> list[tuple[int, bytes]]:
        """Return all that the index has, as `due` does, for who examines a store."""
        instants, _ = self._instants(DUE, _END_OF_INDEX, NEVER, NEVER)
        return _deadlines_of(instants)

    def _instants(self, start: bytes, until: bytes, keys_max: int, bytes_max: int) -> tuple[list[_Instant], bytes]:
        """Return the index from *start* on, to the instant that reaches one of the bounds, and where it goes on."""
        instants: list[_Instant] = []
        due, keys, size = b"", 0, 0
        read = ReadOptions()
        read.set_iterate_upper_bound(_END_OF_INDEX)
        with self._translated():
            cursors = self._scan(start, read)
            try:
                for entry, value in map(_whole_entry_of, cursors):
                    if entry[1:9] != due:
                        if instants:
                            keys += len(instants[-1].keys)
                        if entry >= until or keys >= keys_max or size >= bytes_max:
                            return instants, entry
                        due = entry[1:9]
                        instants.append(_Instant(_INSTANT.unpack(due)[0], set(), []))
                    fold(instants[-1].keys, entry, value)
                    instants[-1].entries.append(entry)
                    size += len(entry) + len(value)
            finally:
                cursors.close()
        return instants, _END_OF_INDEX

    def _delete_dead(self) -> None:
        batch = WriteBatch(raw_mode=True)
        self._put_dead(batch)
        with self._translated():
            self._db.write(batch)
        self._dead.clear()

    def _put_dead(self, batch: WriteBatch) -> None:
        for entry in sorted(self._dead):
            batch.delete(entry)

    @property
    def position(self) -> int:
        """The next changelog offset after what the rows reflect; 0 if they reflect nothing yet."""
        return self._checkpoint.position if self._checkpoint else 0

    def checkpoint(self) -> Checkpoint | None:
        """Return what the rows reflect; None if they reflect nothing yet."""
        return self._checkpoint

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield keys and rows in key order, as of the first step."""
        with self._translated():
            yield from map(_entry_of, self._scan(ROW))

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[tuple[int, Iterator[tuple[bytes, bytes]]]]:
        """
        Yield the changelog position and all rows (keys and rows, in key order) of one instant, for any thread to read.

        An open cursor keeps RocksDB's lock on the files: `close` and `wipe` wait for the end of this, and have it end,
        as `Unavailable` at the next row.
        """
        with self._read_from(_CHECKPOINT) as entries:
            # A partition that was never restored has no checkpoint, nor any row.
            _, checkpoint = next(entries, (b"", b""))
            yield _decoded(self.path, checkpoint)[0].position if checkpoint else 0, entries

    @contextlib.contextmanager
    def rows_after(self, key: bytes | None) -> Iterator[Iterator[tuple[bytes, bytes]]]:
        """Yield the rows whose keys come after *key*, all of them after None, as `snapshot` does."""
        with self._read_from(ROW + (key or b"")) as entries:
            yield (entry for entry in entries if key is None or entry[0] > key)

    @contextlib.contextmanager
    def _read_from(self, start: bytes) -> Iterator[Generator[tuple[bytes, bytes], None, None]]:
        with self._reading:
            if self._closing:
                raise Unavailable(f"{self.path}: it is being closed")
            self._readers += 1
        try:
            with self._translated():
                cursors = self._scan(start)
                entries = self._entries(cursors)
                try:
                    yield entries
                finally:
                    entries.close()
                    cursors.close()
        finally:
            with self._reading:
                self._readers -= 1
                self._reading.notify_all()

    def _entries(self, cursors: Iterator[RdictIter]) -> Generator[tuple[bytes, bytes], None, None]:
        for entry in map(_entry_of, cursors):
            if self._closing:
                raise Unavailable(f"{self.path}: it is being closed")
            yield entry

    @contextlib.contextmanager
    def _without_readers(self) -> Iterator[None]:
        with self._reading:
            self._closing = True
            self._reading.wait_for(lambda: not self._readers)
        try:
            yield
        finally:
            self._closing = False

    def figures(self) -> Figures:
        """Return approximate sizes."""
        with self._translated():
            number = self._db.property_int_value
            return Figures(
                entries=number("rocksdb.estimate-num-keys") or 0,
                disk_bytes=number("rocksdb.total-sst-files-size") or 0,
                buffer_bytes=number("rocksdb.cur-size-all-mem-tables") or 0,
            )

    def flush(self) -> None:
        """Put everything on disk."""
        with self._translated():
            self._db.flush()

    def wipe(self) -> None:
        """Forget everything; the partition stays open, without a checkpoint."""
        # Nothing of it is wanted any more, so an error at closing doesn't matter.
        with self._without_readers():
            with contextlib.suppress(RejoinderError), self._translated():
                self._db.close()
            _remove(self.path)
            self._open()

    def close(self) -> None:
        """Put everything on disk and close; closing twice is no error."""
        with self._without_readers(), self._translated(), contextlib.suppress(DbClosedError):
            try:
                self._db.flush()
            finally:
                self._db.close()

    def _open(self) -> None:
        self._due_from = DUE
        self._found.clear()
        self._seen.clear()
        self._dead.clear()
        self._writes = 0
        self._checkpoint = None
        with self._translated():
            self._db = Rdict(str(self.path), self._options.database)
            try:
                self._db.set_write_options(self._options.write)
                data = cast("bytes | None", self._db.get(_CHECKPOINT))
                if data is not None:
                    self._checkpoint, self._writes = _decoded(self.path, data)
            except Exception:
                # Its lock would outlive this call, and nobody could open what is left.
                self._db.close()
                raise

    def _apply(self, batch: WriteBatch, deadlines: Deadlines, checkpoint: Checkpoint) -> None:
        self._writes += 1
        earliest = put_deadlines(batch, deadlines, _INSTANT.pack(self._writes))
        batch.put(_CHECKPOINT, _encoded(checkpoint, self._writes))
        with self._translated():
            self._db.write(batch)
        self._checkpoint = checkpoint
        self._found.clear()
        if earliest is not None:
            self._due_from = min(self._due_from, earliest)

    def _scan(self, start: bytes, read: ReadOptions | None = None) -> Generator[RdictIter, None, None]:
        """
        Yield a cursor, at each entry from *start* on; for `map` only.

        An open cursor keeps RocksDB's lock on the files, also after they were closed. An error's traceback keeps the
        frames that it came through, and so a cursor that is a variable there, for as long as somebody has the error:
        then nobody could open what is left. From 3.12 on a comprehension's variables are its function's.
        """
        cursor = self._db.iter(read)
        try:
            cursor.seek(start)
            while cursor.valid():
                yield cursor
                cursor.next()
            # A block that can't be read ends it as the last entry does; only this raises. `Rdict.keys` and `items`
            # don't ask, so a flipped bit would silently hide every deadline behind it.
            cursor.status()
        finally:
            del cursor

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn RocksDB's errors, all of one type and told apart by their text, into ours."""
        try:
            yield
        except RejoinderError:
            raise
        except DbClosedError as exc:
            raise Unavailable(f"{self.path}: closed; its partition is being handed over, ask its new owner") from exc
        except Exception as exc:
            raise error_of(self.path, str(exc)) from exc


def _entry_of(cursor: RdictIter) -> tuple[bytes, bytes]:
    return cursor.key()[1:], cursor.value()


def _whole_entry_of(cursor: RdictIter) -> tuple[bytes, bytes]:
    return cursor.key(), cursor.value()


def _deadlines_of(instants: Iterable[_Instant]) -> list[tuple[int, bytes]]:
    return [(due_ms, key) for due_ms, keys, _ in instants for key in sorted(keys)]


def _encoded(checkpoint: Checkpoint, writes: int) -> bytes:
    position, topic_id, written_at_ms = checkpoint
    return _NUMBERS.pack(_FORMAT, position, written_at_ms, writes) + topic_id.encode()


def _decoded(path: Path, data: bytes) -> tuple[Checkpoint, int]:
    if data[0] != _FORMAT:
        raise Corrupt(f"{path}: written in another format than this release's; it is wiped and restored")
    _, position, written_at_ms, writes = _NUMBERS.unpack_from(data)
    return Checkpoint(position, data[_NUMBERS.size :].decode(), written_at_ms), writes


def error_of(path: Path, text: str) -> RejoinderError:
    """Return what RocksDB's error *text* means; its first words are the status code."""
    if "No space left" in text or "quota exceeded" in text:
        return Unavailable(f"{path}: the disk is full: {text}; make room, the changelog has everything")
    # A file that the database lists isn't there any more.
    if text.startswith("IO error") and "No such file" not in text:
        return Unavailable(f"{path}: the disk or its file system refuses: {text}; see the system's log")
    return Corrupt(f"{path}: can't be read: {text}; it is wiped and restored from its changelog")


def _remove(path: Path) -> None:
    try:
        shutil.rmtree(path)
    except OSError as exc:
        if exc.errno != errno.ENOENT:
            raise Unavailable(f"{path}: can't be removed: {exc}; remove it by hand") from exc
