"""
Restoring stores from their changelog, in a thread of its own, while the worker's ready partitions go on.

    restore ─▶ ASKING ──open──▶ READING ──position reaches the end──▶ ready
                 ▲                 │
                 └──wait over── an error

1. ASKING: wait until the group's offsets are stable. A former owner whose commit is under way may still succeed, and
   then its rows belong to us. Only after that ask for the changelog's end.
2. Open the store, wipe it unless its checkpoint will do (`changelog.begin`), and read from there.
3. READING: load what comes, until the *position* reaches the end; the last offsets may be markers that deliver nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import structlog

from streams.errors import Bug, Corrupt, RejoinderError, Unavailable
from streams.store.changelog import Bounds, Changelog, Chunk, Facts, Interrupted, Reader, begin
from streams.store.messages import bytes_of
from streams.store.partition import Partition

log = structlog.get_logger(__name__)

BACKOFF_FIRST_S: Final = 0.5
BACKOFF_MOST_S: Final = 5.0
CANCEL_S_MAX: Final = 30.0
"""How long `cancel` and `stop` wait: the thread looks up every 0.1 s, but may be closing a large store."""
_IDLE_S: Final = 1.0


class Progress(NamedTuple):
    """How far a partition's restore is; *left* is offsets to go, None before the end is known."""

    partition: int
    rows: int
    bytes: int
    seconds: float
    left: int | None

    @property
    def rows_per_second(self) -> float:
        """Since reading began."""
        return self.rows / self.seconds if self.seconds else 0.0


@dataclass(slots=True, eq=False)
class _Restoring:
    """One partition's restore; only the thread touches *store*, and only while *held*."""

    number: int
    store: Partition | None = None
    held: bool = False
    topic_id: str = ""
    position: int = 0
    end: int | None = None
    end_at_ms: int = 0
    """When the end was asked for: everything beyond it was written later."""
    rows: int = 0
    bytes: int = 0
    began_s: float = field(default_factory=time.monotonic)
    cancelled: bool = False
    failures: int = 0
    error: RejoinderError | None = None
    retry_at_s: float = 0.0


class Restorer:
    """
    Restores partitions of *changelog_topic*.

    Args:
        client_config: librdkafka's, for a connection to the cluster; nothing of a group.
        changelog_topic: As the cluster knows it.
        open_partition: Returns the store of a partition number.
        offsets_stable: Returns when no open transaction holds the group's offsets of these partition numbers; may
            raise `Unavailable` after a while, then it is called again. Runs in this thread, so the other restores
            rest meanwhile: about a second is a good while.
        now_ms: The wall clock, Unix milliseconds.
        group: A group that this process may describe; see `changelog.Reader`.

    All methods may be called from any thread.
    """

    def __init__(
        self,
        client_config: Mapping[str, Any],
        changelog_topic: str,
        open_partition: Callable[[int], Partition],
        offsets_stable: Callable[[Sequence[int]], None],
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        group: str = "rejoinder-restore",
    ) -> None:
        self._client_config = dict(client_config)
        self._group = group
        self._topic = changelog_topic
        self._open_partition = open_partition
        self._offsets_stable = offsets_stable
        self._now_ms = now_ms
        self._changed = threading.Condition()
        self._tasks: dict[int, _Restoring] = {}
        self._ready: dict[int, Partition] = {}
        self._stopping = False
        # The thread's own.
        self._changelog = Changelog(client_config, changelog_topic, self._interrupted)
        self._reader: Reader | None = None
        self._thread = threading.Thread(target=self._run, name=f"restore-{changelog_topic}", daemon=True)
        self._thread.start()

    def restore(self, partitions: Iterable[int]) -> None:
        """Restore *partitions*; those that are being restored, or are ready, already go on as they are."""
        with self._changed:
            for number in partitions:
                if number not in self._ready:
                    self._tasks.setdefault(number, _Restoring(number))
            self._changed.notify_all()

    def cancel(self, partitions: Iterable[int]) -> None:
        """
        Forget *partitions*, close their stores unless `ready` returned them, and return when that is done.

        Raises:
            Unavailable: the thread doesn't let go of them in time.
        """
        with self._changed:
            closing = []
            for number in partitions:
                if (ready := self._ready.pop(number, None)) is not None:
                    closing.append(ready)
                if (task := self._tasks.get(number)) is None:
                    continue
                if not task.held:
                    # Not opened yet, and the thread sees before it does so that the task isn't there any more. So a
                    # revocation never waits for a dead worker's transaction.
                    del self._tasks[number]
                else:
                    task.cancelled = True
            self._changed.notify_all()
            done = self._changed.wait_for(lambda: not any(t.cancelled for t in self._tasks.values()), CANCEL_S_MAX)
        for store in closing:
            _close(store)
        if not done:
            raise Unavailable(f"{self._topic}: the restore didn't let go of its stores; is the disk hung?")

    def ready(self) -> list[tuple[int, Partition]]:
        """Return what has been restored since the last call, open; the caller closes it. Never waits."""
        with self._changed:
            found = list(self._ready.items())
            self._ready.clear()
            return found

    @property
    def alive(self) -> bool:
        """Whether its thread runs."""
        return self._thread.is_alive()

    def failures(self) -> dict[int, RejoinderError]:
        """Return the partitions that can't be restored at the moment, and why; they are tried again."""
        with self._changed:
            return {number: task.error for number, task in self._tasks.items() if task.error is not None}

    def progress(self) -> list[Progress]:
        """Return how far each restore is."""
        now_s = time.monotonic()
        with self._changed:
            return [
                Progress(t.number, t.rows, t.bytes, now_s - t.began_s, None if t.end is None else t.end - t.position)
                for t in self._tasks.values()
            ]

    def stop(self) -> None:
        """
        Stop, and close all stores that `ready` hasn't returned.

        Raises:
            Unavailable: the thread doesn't end in time.
        """
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join(CANCEL_S_MAX)
        for _, store in self.ready():
            _close(store)
        if self._thread.is_alive():
            raise Unavailable(f"{self._topic}: the restore doesn't end; is the disk hung?")

    # From here on: the thread.

    def _run(self) -> None:
        try:
            while not self._stopping:
                try:
                    self._turn()
                except Interrupted:
                    continue
                except Exception as exc:
                    # Whatever it is, the worker must hear of it and the thread must go on.
                    log.exception("restore failed", topic=self._topic)
                    self._close_reader()
                    for task in list(self._tasks.values()):
                        self._fail(task, Bug(f"{self._topic}: restore failed: {exc!r}"))
        finally:
            self._close_reader()
            for task in self._tasks.values():
                if task.store is not None:
                    _close(task.store)

    def _turn(self) -> None:
        gone, asking = self._next()
        for task in gone:
            self._let_go(task)
        if asking:
            self._ask(asking)
        if self._reader is not None:
            self._read(self._reader)

    def _next(self) -> tuple[list[_Restoring], list[_Restoring]]:
        """Return the tasks to let go and those to ask for, after a rest if there is nothing to do, reading included."""
        with self._changed:
            tasks = self._tasks.values()
            if not self._stopping and not any(task.cancelled or task.held for task in tasks):
                until_s = min((task.retry_at_s for task in tasks), default=float("inf"))
                rest_s = min(until_s - time.monotonic(), _IDLE_S)
                if rest_s > 0:
                    self._changed.wait(rest_s)
            now_s = time.monotonic()
            gone = [task for task in tasks if task.cancelled]
            asking = [t for t in tasks if not t.cancelled and not t.held and t.retry_at_s <= now_s]
            return gone, asking

    def _interrupted(self) -> bool:
        """Whether somebody waits for the thread, so that it mustn't wait for the cluster."""
        with self._changed:
            return self._stopping or any(task.cancelled for task in self._tasks.values())

    def _ask(self, tasks: Sequence[_Restoring]) -> None:
        numbers = [task.number for task in tasks]
        try:
            self._offsets_stable(numbers)
            asked_at_ms = self._now_ms()
            facts = self._changelog.facts()
            bounds = self._changelog.bounds(numbers)
        except RejoinderError as exc:
            for task in tasks:
                self._fail(task, exc)
            return
        positions = {}
        for task in tasks:
            if not self._hold(task):
                continue
            task.end_at_ms = asked_at_ms
            try:
                if self._open(task, facts, bounds[task.number]):
                    positions[task.number] = task.position
            except RejoinderError as exc:
                self._fail(task, exc)
        if positions:
            self._reader = self._reader or Reader(self._client_config, self._topic, self._group)
            self._reader.assign(positions)

    def _hold(self, task: _Restoring) -> bool:
        """Keep `cancel` from forgetting *task* while its store is open; return False if it has been forgotten."""
        with self._changed:
            task.held = self._tasks.get(task.number) is task
            return task.held

    def _open(self, task: _Restoring, facts: Facts, bounds: Bounds) -> bool:
        """Open the store and wipe it if need be; return whether there is something to read."""
        task.store = store = self._open_partition(task.number)
        checkpoint = store.checkpoint()
        where = begin(checkpoint, facts, bounds, self._now_ms())
        if where.because and checkpoint is not None:
            log.warning("store wiped", topic=self._topic, partition=task.number, because=where.because)
            store.wipe()
        task.topic_id, task.position, task.end = facts.topic_id, where.position, bounds.end
        task.began_s, task.rows, task.bytes = time.monotonic(), 0, 0
        log.info("restoring", topic=self._topic, partition=task.number, position=task.position, end=task.end)
        if task.position < bounds.end:
            return True
        self._load(task, store, Chunk(position=task.position))
        return False

    def _read(self, reader: Reader) -> None:
        for number, chunk in reader.read().items():
            task = self._tasks[number]
            assert task.store is not None, "the reader reads what has a store, and that only"
            try:
                self._load(task, task.store, chunk)
            except Corrupt as exc:
                self._wipe(task, task.store, exc)
            except RejoinderError as exc:
                self._fail(task, exc)

    def _load(self, task: _Restoring, store: Partition, chunk: Chunk) -> None:
        assert task.end is not None
        if chunk.position is not None:
            task.position = max(task.position, chunk.position)
            checkpoint = store.checkpoint()
            done = task.position >= task.end
            # What follows may be old records, tombstones that are about to go among them: only at the end do we know
            # that it is newer than our question.
            written_at_ms = task.end_at_ms if done else chunk.last_ms or (checkpoint.written_at_ms if checkpoint else 0)
            store.load(chunk.rows, task.position, task.topic_id, written_at_ms)
            task.rows += len(chunk.rows)
            task.bytes += bytes_of(chunk.rows)
            if done:
                self._finish(task, store)
                return
        if chunk.error is not None:
            # An offset that is out of range is such an error: the next try sees it and restores in full.
            raise Unavailable(f"{self._topic}/{task.number} at {task.position}: {chunk.error.str()}")

    def _finish(self, task: _Restoring, store: Partition) -> None:
        self._unassign(task)
        seconds = round(time.monotonic() - task.began_s, 3)
        log.info("restored", topic=self._topic, partition=task.number, rows=task.rows, seconds=seconds)
        with self._changed:
            if not task.cancelled:
                del self._tasks[task.number]
                self._ready[task.number] = store

    def _wipe(self, task: _Restoring, store: Partition, exc: Corrupt) -> None:
        log.warning("store wiped", topic=self._topic, partition=task.number, because=str(exc))
        try:
            store.wipe()
        except RejoinderError as failed:
            self._fail(task, failed)
        else:
            self._fail(task, exc)

    def _fail(self, task: _Restoring, exc: RejoinderError) -> None:
        """Close its store, and try again after a while."""
        log.warning("restore failed, trying again", topic=self._topic, partition=task.number, because=str(exc))
        self._close_store(task)
        with self._changed:
            task.held = False
            task.error = exc
            task.retry_at_s = time.monotonic() + min(BACKOFF_FIRST_S * 2 ** min(task.failures, 16), BACKOFF_MOST_S)
            task.failures += 1

    def _let_go(self, task: _Restoring) -> None:
        self._close_store(task)
        with self._changed:
            del self._tasks[task.number]
            self._changed.notify_all()

    def _close_store(self, task: _Restoring) -> None:
        if task.store is not None:
            self._unassign(task)
            _close(task.store)
            task.store = None

    def _unassign(self, task: _Restoring) -> None:
        if self._reader is not None and self._reader.unassign(task.number):
            self._close_reader()

    def _close_reader(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None


def _close(store: Partition) -> None:
    """Close; what can't be put on disk any more is restored once more the next time."""
    try:
        store.close()
    except RejoinderError as exc:
        log.warning("store closed with an error", because=str(exc))
