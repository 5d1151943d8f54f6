"""
How many processes wait at each step, and since when: known at any time, without a look at the table.

Lag can't tell: a process whose answer never comes has been read and committed long ago. So each batch says by how much
it moves the counts (`Batch.moved`, made from the rows that it loads and writes anyway), and after its commit they are
moved. What they begin with is counted once for each store that is opened, by a thread that reads all of its rows while
the partition goes on. That is one consistent view with a changelog position: of the batches since, exactly those behind
this position are added.

Processes are counted by the time at which their command came, rounded down to `BUCKET_MS`: so many small numbers say
the age of the oldest too, which goes up with time and down when the oldest goes on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

import structlog

from schemas import state_codec
from schemas.corrupt_row import CorruptRow, RowTooNew
from streams.errors import RejoinderError
from streams.processing.commit import Work
from streams.store.partition import Partition
from topology.state import Order, Step

log = structlog.get_logger(__name__)

BUCKET_MS: Final = 10_000
LOOK_S: Final = 1.0
"""How often stores that were opened are looked for."""
AGAIN_S: Final = 30.0
"""From a count that failed to the next."""

_SLICE_ROWS: Final = 500
_REST_S: Final = 0.002
"""After each slice: the count is to take half of a core at most."""

# Plain names for the hot path, and keys that are plain numbers: an enum's member is hashed by Python code.
_FIRST, _LAST = Step.AWAITING_DETAILS, Step.RETRYING_EMAIL
_STEPS: Final = len(Step)

WAITING: Final = (Step.AWAITING_DETAILS, Step.AWAITING_EMAIL, Step.RETRYING_EMAIL)
"""The steps of a process that owes something, or is owed an answer."""


def add(moved: dict[int, int], order: Order, by: int) -> None:
    """Add *by* to the counts of what waits in *order*."""
    for process in order.processes.values():
        if _FIRST <= process.step <= _LAST:
            add_one(moved, process.step, process.received_ms, by)


def add_one(moved: dict[int, int], step: int, received_ms: int, by: int) -> None:
    """Add *by* to the count of those that wait at *step* since *received_ms*."""
    bucket = received_ms // BUCKET_MS * _STEPS + step
    moved[bucket] = moved.get(bucket, 0) + by


class Waiting(NamedTuple):
    """So many processes of *partition* wait at *step*; the command of the oldest came at *oldest_ms* or just after."""

    partition: int
    step: Step
    processes: int
    oldest_ms: int


class _Count:
    """The counts of one open store; ``moves`` are kept until it is counted, and None from then on."""

    def __init__(self, store: Partition) -> None:
        self.store = store
        self.buckets: dict[int, int] = {}
        self.moves: list[tuple[int, Mapping[int, int]]] | None = []
        self.again_s = 0.0

    def move(self, moved: Mapping[int, int]) -> None:
        for bucket, by in moved.items():
            if by:
                count = self.buckets.get(bucket, 0) + by
                if count:
                    self.buckets[bucket] = count
                else:
                    del self.buckets[bucket]


class Census:
    """
    Counts for the open *stores*, by partition number; another thread opens and closes them.

    `committed` is the session's, everything else anybody's.
    """

    def __init__(self, stores: Mapping[int, Partition]) -> None:
        self._stores = stores
        self._lock = threading.Lock()
        self._counts: dict[int, _Count] = {}
        self._stopping = threading.Event()
        self._counter: threading.Thread | None = None

    def start(self) -> None:
        """Begin to count."""
        self._counter = threading.Thread(target=self._run, name="rejoinder-census", daemon=True)
        self._counter.start()

    def stop(self) -> None:
        """Count no more."""
        self._stopping.set()
        if self._counter is not None:
            self._counter.join()

    @property
    def alive(self) -> bool:
        """Whether its thread runs."""
        return self._counter is not None and self._counter.is_alive()

    def committed(self, works: Sequence[Work]) -> None:
        """Take in what was committed, and written to the stores."""
        with self._lock:
            for work in works:
                if work.batch.moved and (count := self._counts.get(work.batch.partition)):
                    if count.store is not work.store:
                        continue
                    if count.moves is None:
                        count.move(work.batch.moved)
                    else:
                        count.moves.append((work.store.position, work.batch.moved))

    def waiting(self) -> list[Waiting]:
        """Return who waits, in the partitions that are open and counted."""
        found = []
        with self._lock:
            for number, count in sorted(self._open().items()):
                if count.moves is not None:
                    continue
                for step in WAITING:
                    of_step = [
                        (bucket, processes) for bucket, processes in count.buckets.items() if bucket % _STEPS == step
                    ]
                    if of_step:
                        oldest_ms = min(of_step)[0] // _STEPS * BUCKET_MS
                        found.append(Waiting(number, step, sum(processes for _, processes in of_step), oldest_ms))
        return found

    def partitions(self) -> set[int]:
        """Return the partitions that are open."""
        return set(self._stores)

    def uncounted(self) -> list[int]:
        """Return the partitions that are open and not counted yet."""
        with self._lock:
            counted = {number for number, count in self._open().items() if count.moves is None}
        return sorted(set(self._stores) - counted)

    def _open(self) -> dict[int, _Count]:
        """Return the counts of what is open now."""
        stores = dict(self._stores)
        return {number: count for number, count in self._counts.items() if stores.get(number) is count.store}

    # The thread.

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_S):
            try:
                self.count_opened()
            except Exception:
                # A page without these counts is no reason to end a worker.
                log.exception("processes aren't counted")

    def count_opened(self) -> None:
        """Count the stores that were opened since the last call, and forget those that were closed."""
        with self._lock:
            self._counts = self._open()
            for number, store in dict(self._stores).items():
                if number not in self._counts:
                    self._counts[number] = _Count(store)
            uncounted = [(number, count) for number, count in self._counts.items() if count.moves is not None]
        for number, count in uncounted:
            if count.again_s <= time.monotonic():
                self._count(number, count)

    def _count(self, number: int, count: _Count) -> None:
        began_s = time.monotonic()
        try:
            with count.store.snapshot() as (position, rows):
                found = _count_rows(rows, self._stopping.is_set)
        except RejoinderError as exc:
            # Closed: its partition moves. Or it can't be read, which its task finds out too.
            log.info("processes not counted", partition=number, because=str(exc))
            count.again_s = time.monotonic() + AGAIN_S
            return
        with self._lock:
            moves, count.moves = count.moves or [], None
            count.move(found)
            for at, moved in moves:
                if at > position:
                    count.move(moved)
        log.info("processes counted", partition=number, seconds=round(time.monotonic() - began_s, 3))


def _count_rows(rows: Iterable[tuple[bytes, bytes]], stopping: Callable[[], bool]) -> dict[int, int]:
    found: dict[int, int] = {}
    for at, (_, row) in enumerate(rows, 1):
        if at % _SLICE_ROWS == 0:
            if stopping():
                break
            time.sleep(_REST_S)
        if state_codec.may_wait(row):
            # Of one that can't be read its task will say so, if ever its order is needed.
            with suppress(CorruptRow, RowTooNew):
                add(found, state_codec.decode("", row), 1)
    return found
