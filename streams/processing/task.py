"""
One partition number: what of it is owned, where it is read to, and what it is doing.

    WAITING ──all inputs assigned, store restored──▶ RUNNING ◀──wait over── BACKING_OFF
       ▲                                             │  │ └──somebody doesn't answer──▲
       └──────────────an input revoked───────────────┘  └──our code failed, records lost──▶ HELD

WAITING, BACKING_OFF and HELD are paused: no records come. HELD ends with the membership, or when a person skips the
record that it is held at: that record is refused, and the task goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Final, NamedTuple

from streams.batch import Batch, Record, ends_of, larger_than
from streams.errors import Corrupt, Unavailable
from streams.processing.commit import Work
from streams.store.partition import Partition
from streams.transport.member import TP
from topology.topics import TOPICS

BACKOFF_FIRST_MS: Final = 500
BACKOFF_MOST_MS: Final = 30_000


_BYTES_MAX: Final = {topic.name: topic.record_bytes_max for topic in TOPICS}


class Phase(Enum):
    """What a task is doing; the module's drawing shows the moves."""

    WAITING = "waiting"
    RUNNING = "running"
    BACKING_OFF = "backing off"
    HELD = "held"


class HeldAt(NamedTuple):
    """The record that a task is held at; *topic* is the declared name."""

    topic: str
    partition: int
    offset: int


class Failed(Exception):
    """Our own code failed on ``record`` (None: on a deadline); the cause is chained."""

    def __init__(self, record: Record | None) -> None:
        super().__init__(record)
        self.record = record


class Task:
    """Partition number *partition* of all *inputs* (declared topic names)."""

    def __init__(self, partition: int, inputs: Sequence[str]) -> None:
        self.partition = partition
        self.inputs = tuple(TP(topic, partition) for topic in inputs)
        self.owned: set[TP] = set()
        self.phase = Phase.WAITING
        self.store: Partition | None = None
        self.positions: dict[TP, int] = {}
        """Next offset to read, of each input of which something was heard."""
        self.committed: dict[TP, int] = {}
        self.retry_at_ms = 0
        self.held_at: HeldAt | None = None
        """Where our code failed; None unless it is HELD because of that."""
        self.skipped: set[HeldAt] = set()
        """Records that a person doesn't want to be decided."""
        self._failures = 0

    @property
    def complete(self) -> bool:
        """Whether this partition number of every input is owned."""
        return len(self.owned) == len(self.inputs)

    @property
    def uncommitted(self) -> dict[TP, int]:
        """Positions beyond the committed ones."""
        return {tp: offset for tp, offset in self.positions.items() if self.committed.get(tp) != offset}

    def batch(
        self, records: Sequence[Record], now_ms: int, due: Sequence[bytes] = (), due_ms: int | None = None
    ) -> Batch:
        """Return *records* and *due* keys as a batch over this task's store."""
        return Batch(self.partition, records, now_ms, self._load, due, due_ms)

    def _load(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        assert self.store is not None, "the application has no table"
        return self.store.get_many(keys)

    def decide(
        self,
        decide: Callable[[Batch], object],
        records: Sequence[Record],
        now_ms: int,
        due: Sequence[tuple[int, bytes]] = (),
        due_ms: int | None = None,
    ) -> Work:
        """
        Run *decide* over *records* and the keys of the *due* deadlines, those due by *due_ms* (None: *now_ms*).

        Raises:
            Unavailable: somebody whom *decide* asked doesn't answer.
            Corrupt: the store can't be read.
            Failed: *decide* raised anything else; nothing is changed.
        """
        some = records if not self.skipped else [record for record in records if not self._skips(record)]
        batch = self.batch(some, now_ms, [key for _, key in due], due_ms)
        try:
            decide(batch)
        except (Unavailable, Corrupt):
            raise
        except Exception as exc:
            raise Failed(some[batch.at] if batch.at < len(some) else None) from exc
        if (at := larger_than(batch.outputs, _BYTES_MAX)) is not None:
            # Refused by the broker, it would abort the transaction again and again, and everybody's with it.
            size = len(at.key or b"") + len(at.value or b"")
            raise Failed(None) from ValueError(f"{size} bytes for {at.topic}, key {at.key!r}: more than it takes")
        if len(some) < len(records):
            # Whoever reads the batch again, after an abort, reads these again too.
            batch.records = records
            for record in filter(self._skips, records):
                batch.refuse(record, "skipped", "our own code failed on it, and a person had it skipped")
        self._failures = 0
        return Work(batch, self._positions_after(records), self.store, due)

    def _skips(self, record: Record) -> bool:
        return HeldAt(record.topic, record.partition, record.offset) in self.skipped

    def _positions_after(self, records: Sequence[Record]) -> dict[TP, int]:
        for topic, offset in ends_of(records).items():
            tp = TP(topic, self.partition)
            # The same poll may have seen the end of the partition, which lies behind transaction markers.
            self.positions[tp] = max(offset, self.positions.get(tp, 0))
        # A transaction without a position would be fenced by nothing, so deadlines alone carry the known ones again.
        return self.uncommitted or dict(self.positions)

    def step_back(self, records: Sequence[Record]) -> dict[TP, int]:
        """Take back that *records* were read; return the positions, each input's first of them."""
        first = first_positions(records)
        self.positions |= first
        return first

    def back_off(self, monotonic_ms: int) -> int:
        """Rest for a while, twice as long as the last time; return the milliseconds."""
        wait_ms = min(BACKOFF_FIRST_MS << min(self._failures, 16), BACKOFF_MOST_MS)
        self._failures += 1
        self.phase, self.retry_at_ms = Phase.BACKING_OFF, monotonic_ms + wait_ms
        return wait_ms


def first_positions(records: Sequence[Record]) -> dict[TP, int]:
    """Return where *records* begin, for each input that they come from."""
    first: dict[TP, int] = {}
    for record in records:
        first.setdefault(TP(record.topic, record.partition), record.offset)
    return first
