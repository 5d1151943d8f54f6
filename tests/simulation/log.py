"""Partitions as the broker keeps them: records at offsets, control markers among them, and what a reader may see."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

Headers = list[tuple[str, bytes]]


class Place(NamedTuple):
    """One partition of one topic, by the cluster's name."""

    topic: str
    partition: int


class Entry:
    """What lies at one offset; a marker has no key and ends the part of its transaction in this log."""

    __slots__ = ("appended_s", "headers", "key", "marker", "offset", "timestamp_ms", "txn", "value")

    def __init__(
        self,
        offset: int,
        key: bytes | None,
        value: bytes | None,
        headers: Headers | None,
        timestamp_ms: int,
        appended_s: float,
        txn: Txn | None,
        marker: bool = False,
    ) -> None:
        self.offset = offset
        self.key = key
        self.value = value
        self.headers = headers
        self.timestamp_ms = timestamp_ms
        self.appended_s = appended_s
        self.txn = txn
        self.marker = marker

    @property
    def committed(self) -> bool:
        """Whether a reader of committed records gets it, once it lies below the last stable offset."""
        return not self.marker and (self.txn is None or self.txn.committed)


class Txn:
    """One transaction of one producer epoch."""

    def __init__(self, owner: str, epoch: int, began_s: float, maker: Any) -> None:
        self.owner = owner
        self.epoch = epoch
        self.began_s = began_s
        self.maker = maker
        """Whose it is; a life, or None for programs outside."""
        self.state = "open"
        self.logs: dict[Log, int] = {}
        """Its first offset in each log."""
        self.entries: list[tuple[Place, Entry]] = []
        self.positions: dict[Place, int] = {}
        self.decided: list[Any] = []
        """What its maker says that it decided in it; the checker's."""

    @property
    def committed(self) -> bool:
        """Whether it was decided that it is to stay."""
        return self.state in ("committing", "committed")

    @property
    def over(self) -> bool:
        """Whether all of its markers are written."""
        return self.state in ("committed", "aborted")


class Log:
    """One partition."""

    def __init__(self, place: Place, now: Callable[[], tuple[int, float]]) -> None:
        self.place = place
        self.entries: list[Entry | None] = []
        self.open: dict[Txn, int] = {}
        self.watchers: dict[Any, None] = {}
        """Who wants to be told, by its method ``notify``, that more can be read."""
        self._now = now

    @property
    def end(self) -> int:
        """The high watermark, exclusive."""
        return len(self.entries)

    @property
    def stable_end(self) -> int:
        """The last stable offset: where the first open transaction begins."""
        return min(self.open.values(), default=len(self.entries))

    def append(
        self, key: bytes | None, value: bytes | None, headers: Headers | None, txn: Txn | None, marker: bool = False
    ) -> Entry:
        """Append one record, or the marker that ends *txn* here."""
        timestamp_ms, now_s = self._now()
        entry = Entry(len(self.entries), key, value, headers, timestamp_ms, now_s, txn, marker)
        self.entries.append(entry)
        if txn is not None:
            if marker:
                self.open.pop(txn, None)
            elif self not in txn.logs:
                self.open[txn] = entry.offset
                txn.logs[self] = entry.offset
            if not marker:
                txn.entries.append((self.place, entry))
        for watcher in self.watchers:
            watcher.notify()
        return entry

    def committed(self, first: int, end: int) -> list[Entry]:
        """Return the committed records from *first* to before *end*."""
        return [entry for entry in self.entries[first:end] if entry is not None and entry.committed]

    def table(self) -> dict[bytes, bytes]:
        """Return what the committed records make of a table: the last value of each key that isn't None."""
        rows: dict[bytes, bytes] = {}
        for entry in self.committed(0, self.stable_end):
            assert entry.key is not None
            if entry.value is None:
                rows.pop(entry.key, None)
            else:
                rows[entry.key] = entry.value
        return rows

    def compact(self, drop_tombstones: bool) -> int:
        """Remove what later committed records replace, as the cleaner does; return how many records went."""
        until = min(self.stable_end, len(self.entries) - 1)
        last: dict[bytes, int] = {}
        for entry in self.committed(0, until):
            assert entry.key is not None
            last[entry.key] = entry.offset
        gone = 0
        for offset in range(until):
            found = self.entries[offset]
            if found is None:
                continue
            keep = found.committed and found.key is not None and last[found.key] == offset
            if not keep or (found.value is None and drop_tombstones):
                self.entries[offset] = None
                gone += 1
        return gone
