"""
One life of a worker in its group: from joining to leaving, or to the error after which only a new life helps.

A turn polls, lets each running task decide, commits all of it in one transaction, writes the stores. There is never
more than one transaction under way, and rebalances happen only between turns.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from contextlib import ExitStack
from queue import SimpleQueue
from typing import Final, Protocol

import structlog

from streams import metrics
from streams.batch import Batch, Record
from streams.errors import Corrupt, RejoinderError, Unavailable
from streams.headers import about
from streams.processing.clock import Clock
from streams.processing.commit import Committer, Work
from streams.processing.end_offsets import EndOffsets, Ends
from streams.processing.places import Places, tell_held
from streams.processing.task import Failed, HeldAt, Phase, Task
from streams.store.partition import Partition
from streams.store.restore import Restorer
from streams.transport.member import TP, GroupOffsets, Listener, Member, Polled
from streams.transport.transaction import Aborted, SessionOver, Transaction

log = structlog.get_logger(__name__)

POLL_S: Final = 0.1
IDLE_COMMIT_S: Final = 1.0
"""How often positions that moved without records (end of partition, past markers) are committed."""
DUE_MAX: Final = 1_000
"""Deadlines of one partition in one transaction."""
STABLE_S: Final = 1.0
"""One wait for stable offsets; the restorer repeats it until they are."""
ABORTS_MAX: Final = 20
"""Aborts one after another before a new membership is tried."""


class Logic(Protocol):
    """What an application does with the batches of one turn."""

    records_max: int

    def run(self, session: Session, batches: Mapping[Task, Sequence[Record]], due: Due, polled: Polled) -> None:
        """Decide and commit by `Session.decide` and `Session.commit`."""

    def stop(self) -> None:
        """Let a run under way end soon; any thread may call it."""


Due = Mapping[Task, Sequence[tuple[int, bytes]]]


class Session(Listener):
    """
    Wires one membership.

    *inputs*: declared topics, co-partitioned; *open_restorer* is None without a table; *stores* shows the open
    partitions to whoever reads them.

    Raises from all methods:
        SessionOver: this life is over; `close` and begin another.
        ConfigurationError: no life would be any better.
    """

    def __init__(
        self,
        inputs: Sequence[str],
        logic: Logic,
        open_member: Callable[[Listener], Member],
        transaction: Transaction,
        committer: Committer,
        open_restorer: Callable[[Callable[[Sequence[int]], None]], Restorer] | None,
        group_offsets: GroupOffsets,
        end_offsets: EndOffsets,
        clock: Clock,
        stores: MutableMapping[int, Partition],
    ) -> None:
        self.stores = stores
        self.tasks: dict[int, Task] = {}
        self.clock = clock
        self.turned_s = time.monotonic()
        """When the last turn ended, on the monotonic clock."""
        self._inputs = tuple(inputs)
        self._logic = logic
        self._transaction = transaction
        self._committer = committer
        self._group_offsets = group_offsets
        self._places = Places(group_offsets)
        self._end_offsets = end_offsets
        self._ends: Ends | None = None
        self._idle_commit_s = 0.0
        self._aborts = 0
        self._to_skip: SimpleQueue[HeldAt] = SimpleQueue()
        self._closing = False
        self._restorer: Restorer | None = None
        metrics.SESSIONS.inc()
        try:
            transaction.init()
        except BaseException:
            # Nobody will close what never began; a producer that the interpreter finds at its end can take it down.
            transaction.close()
            group_offsets.close()
            raise
        self.member = open_member(self)
        self._restorer = open_restorer(self._offsets_stable) if open_restorer else None

    def close(self) -> None:
        """Leave the group; what is owned is revoked, so its stores are closed."""
        self._closing = True
        with ExitStack() as last_first:
            last_first.callback(self._transaction.close)
            last_first.callback(self._group_offsets.close)
            if self._restorer is not None:
                last_first.callback(self._restorer.stop)
            self.member.close()
            for task in list(self.tasks.values()):
                self._drop(task)

    @property
    def restorer(self) -> Restorer | None:
        """Who restores the stores; None without a table."""
        return self._restorer

    @property
    def closed(self) -> bool:
        """Whether this life is over."""
        return self._closing

    # A turn.

    def turn(self) -> None:
        """Do whatever there is to do now; wait for it a tenth of a second at most."""
        self._skip()
        polled = self.member.poll(self._logic.records_max, POLL_S)
        self._take_restored()
        self._take_places()
        now_ms = self.clock.read()
        self._end_rests()
        for tp, offset in polled.ends.items():
            if (task := self.tasks.get(tp.partition)) and task.phase is Phase.RUNNING and tp in task.owned:
                task.positions[tp] = offset
        # Before the records: a store that fails here stops its task, whose records must then be put back.
        due = self._due(now_ms)
        records = {task: some for number, some in polled.records.items() if (task := self._usable(number, some))}
        if records or due or self._idle_commit_due():
            self._logic.run(self, records, due, polled)
        self.turned_s = time.monotonic()

    def skip(self, at: HeldAt) -> bool:
        """
        Refuse the record that a partition is held at, and go on, in the next turn; any thread may ask.

        Return whether there is such a partition. Who asks twice is told so twice; nothing is skipped twice.
        """
        task = self.tasks.get(at.partition)
        if task is None or task.phase is not Phase.HELD or task.held_at != at:
            return False
        self._to_skip.put(at)
        return True

    def _skip(self) -> None:
        while not self._to_skip.empty():
            at = self._to_skip.get()
            task = self.tasks.get(at.partition)
            if task is None or task.phase is not Phase.HELD or task.held_at != at:
                continue  # It has moved meanwhile: its next owner is held at the same record.
            task.skipped.add(at)
            task.held_at = None
            self._run(task)

    def _usable(self, number: int, records: Sequence[Record]) -> Task | None:
        """Return the task for *records*; None when they must wait, after putting them back."""
        task = self.tasks.get(number)
        if task is not None and task.phase is Phase.RUNNING:
            return task
        if task is not None:
            self.rewind(task, records)
        return None

    def rewind(self, task: Task, records: Sequence[Record]) -> None:
        """Have *records* read again, if they are still ours to read."""
        for tp, offset in task.step_back(records).items():
            if tp in task.owned:
                self.member.seek(tp, offset)

    def decide(
        self,
        decide: Callable[[Batch], object],
        records: Mapping[Task, Sequence[Record]],
        due: Due,
    ) -> list[Work]:
        """Let every task decide that has something; those that can't now are put to rest, the others go on."""
        works = []
        for task in self._running():
            some, keys = records.get(task, ()), due.get(task, ())
            if some or keys:
                work = self._decide_one(decide, task, some, keys)
            else:
                work = Work(task.batch((), self.clock.now_ms), task.uncommitted, task.store)
            if work is not None and (some or keys or work.positions):
                works.append(work)
        return works

    def _decide_one(
        self,
        decide: Callable[[Batch], object],
        task: Task,
        records: Sequence[Record],
        due: Sequence[tuple[int, bytes]],
    ) -> Work | None:
        try:
            # A row holds several deadlines: those that fell due after the ends were asked for must wait.
            due_ms = self._ends.asked_at_ms if due and self._ends else None
            return task.decide(decide, records, self.clock.now_ms, due, due_ms)
        except Unavailable as exc:
            self.rewind(task, records)
            self.member.pause(task.owned)
            wait_ms = task.back_off(self.clock.monotonic_ms)
            log.warning("backing off", partition=task.partition, wait_ms=wait_ms, because=str(exc))
            return None
        except Corrupt as exc:
            self.rewind(task, records)
            self._restore_again(task, exc)
            return None
        except Failed as exc:
            return self._hold(decide, task, records, exc)

    def _hold(
        self, decide: Callable[[Batch], object], task: Task, records: Sequence[Record], failed: Failed
    ) -> Work | None:
        """Commit what came before the record on which our code failed; hold the partition there."""
        record = failed.record
        before = records[: records.index(record)] if record else records
        self.member.pause(task.owned)
        # The end of a partition may have been seen behind the record that nobody has decided.
        first = task.step_back(records)
        try:
            work = task.decide(decide, before, self.clock.now_ms) if before else None
        except (Unavailable, Corrupt, Failed):
            work = None
            task.step_back(records)
        # Should the task lose an input and get it back, it goes on at the record that failed.
        for tp in first:
            self.member.seek(tp, task.positions[tp])
        task.phase = Phase.HELD
        task.held_at = record and HeldAt(record.topic, record.partition, record.offset)
        log.error(
            "partition held: our own code failed on a record, the other partitions go on",
            **(about(record) if record else {"partition": task.partition}),
            exc_info=failed.__cause__,
        )
        return work

    def commit(self, works: Sequence[Work], polled: Polled) -> bool:
        """
        Commit; return whether it is done. If not, nothing was written anywhere and the records come again.

        *polled*: the poll that the works come from.
        """
        if not works:
            return True
        try:
            behind = self._committer.commit(works, polled.metadata)
        except Aborted as exc:
            self._aborted(works, exc)
            return False
        self._aborts = 0
        metrics.BATCH_RECORDS.observe(sum(len(work.batch.records) for work in works))
        self._idle_commit_s = time.monotonic()
        for work in works:
            self.tasks[work.batch.partition].committed |= work.positions
        for work, why in behind:
            self._restore_again(self.tasks[work.batch.partition], why)
        return True

    def _restore_again(self, task: Task, exc: RejoinderError) -> None:
        """Give up *task*'s store, which can't be read or written; its changelog has everything."""
        assert self._restorer is not None
        log.error("store given up, restoring", partition=task.partition, because=str(exc))
        self.member.pause(task.owned)
        task.phase = Phase.WAITING
        if isinstance(exc, Corrupt) and task.store is not None:
            try:
                task.store.wipe()
            except RejoinderError as wiping:
                log.error("not wiped", partition=task.partition, because=str(wiping))
        self._drop(task)
        self._restorer.restore([task.partition])

    def _aborted(self, works: Sequence[Work], exc: Aborted) -> None:
        metrics.ABORTS.inc()
        self._aborts += 1
        log.warning("aborted, reading again", because=str(exc), times=self._aborts)
        if self._aborts >= ABORTS_MAX:
            raise SessionOver(f"{self._aborts} transactions aborted one after another, the last: {exc}") from exc
        for work in works:
            self.rewind(self.tasks[work.batch.partition], work.batch.records)

    def _idle_commit_due(self) -> bool:
        return time.monotonic() - self._idle_commit_s > IDLE_COMMIT_S and any(
            task.uncommitted for task in self._running()
        )

    def _running(self) -> list[Task]:
        return [task for task in self.tasks.values() if task.phase is Phase.RUNNING]

    def _end_rests(self) -> None:
        for task in self.tasks.values():
            if task.phase is Phase.BACKING_OFF and task.retry_at_ms <= self.clock.monotonic_ms:
                task.phase = Phase.RUNNING
                self.member.resume(task.owned)

    # Deadlines.

    def _due(self, now_ms: int) -> Due:
        """Return the deadlines that may fire, see `end_offsets`."""
        if self._restorer is None or not self.clock.steady:
            return {}
        waiting = [task for task in self._running() if self._due_entries(task, now_ms, 1)]
        if not waiting:
            return {}
        self._ends = self._end_offsets.answer() or self._ends
        self._end_offsets.ask([tp for task in waiting for tp in task.inputs], now_ms)
        if self._ends is None:
            return {}
        found = {}
        for task in waiting:
            ends = [(task.positions.get(tp, -1), self._ends.offsets.get(tp)) for tp in task.inputs]
            if task.store and all(end is not None and position >= end for position, end in ends):
                found[task] = self._due_entries(task, self._ends.asked_at_ms, DUE_MAX)
        return {task: entries for task, entries in found.items() if entries}

    def _due_entries(self, task: Task, until_ms: int, limit: int) -> Sequence[tuple[int, bytes]]:
        try:
            return task.store.due(until_ms, limit) if task.store else ()
        except RejoinderError as exc:
            self._restore_again(task, exc)
            return ()

    # Partitions come and go: called by the member inside `poll` and `close`.

    def assigned(self, partitions: frozenset[TP]) -> None:
        """Take *partitions*; those that are complete begin to restore."""
        if self._closing:
            return
        complete = []
        for tp in sorted(partitions):
            task = self.tasks.setdefault(tp.partition, Task(tp.partition, self._inputs))
            task.owned.add(tp)
            if task.complete:
                complete.append(tp.partition)
        if partitions:
            log.info("assigned", partitions=sorted({tp.partition for tp in partitions}), complete=complete)
        if self._restorer is not None:
            self._restorer.restore(complete)
        else:
            for number in complete:
                self._run(self.tasks[number])

    def revoked(self, partitions: frozenset[TP]) -> None:
        """Let go of *partitions*; a partition number that isn't complete any more rests."""
        for tp in sorted(partitions):
            task = self.tasks.get(tp.partition)
            if task is None:
                continue
            self._rest(task)
            task.owned.discard(tp)
            self._places.forget(tp)
            task.positions.pop(tp, None)
            task.committed.pop(tp, None)
            if not task.owned:
                del self.tasks[tp.partition]
        if partitions:
            log.info("revoked", partitions=sorted({tp.partition for tp in partitions}))

    def lost(self, partitions: frozenset[TP]) -> None:
        """The same as `revoked`: no transaction is open between two turns."""
        if partitions:
            log.warning("lost", partitions=sorted({tp.partition for tp in partitions}))
        self.revoked(partitions)

    def out_of_range(self, partition: TP, detail: str) -> None:
        """Hold the partition, for as long as it isn't known where to read from, see `places`."""
        task = self.tasks.get(partition.partition)
        if task is None:
            return
        self.member.pause(task.owned)
        task.held_at = None
        may_end = task.phase is not Phase.HELD or self._places.asks(task.partition)
        task.phase = Phase.HELD
        if may_end and self._places.ask(partition):
            log.warning("no position to read from, asking again", topic=partition.topic, partition=task.partition)
        else:
            tell_held(partition, detail)

    def _take_places(self) -> None:
        """Go on with the partitions of which it is known now where to read from."""
        answers = self._places.answers()
        held = set()
        for tp, offset in answers.items():
            if offset < 0:
                tell_held(tp, "the group has no committed position")
                held.add(tp.partition)
            else:
                self.member.place(tp, offset)
        for number in {tp.partition for tp in answers} - held:
            task = self.tasks[number]
            task.phase = Phase.WAITING
            if self._restorer is None or task.store is not None:
                self._run(task)

    def _run(self, task: Task) -> None:
        task.phase = Phase.RUNNING
        self.member.resume(task.owned)

    def _rest(self, task: Task) -> None:
        """Stop *task*; its store is closed, whoever has it now."""
        task.held_at = None
        task.skipped.clear()
        if task.phase is not Phase.WAITING and task.owned:
            self.member.pause(task.owned)
        task.phase = Phase.WAITING
        self._drop(task)

    def _drop(self, task: Task) -> None:
        if self._restorer is not None:
            self._restorer.cancel([task.partition])
        if task.store is not None:
            store, task.store = task.store, None
            del self.stores[task.partition]
            try:
                store.close()
            except RejoinderError as exc:
                # What it didn't flush is restored from the changelog, from its last checkpoint on.
                log.error("store not closed cleanly", partition=task.partition, because=str(exc))

    def _take_restored(self) -> None:
        if self._restorer is None:
            return
        for number, store in self._restorer.ready():
            task = self.tasks.get(number)
            if task is None or not task.complete:
                store.close()
                continue
            task.store = self.stores[number] = store
            # Held while it was restored: its rows can be asked for, but one of its inputs can't be read.
            if task.phase is not Phase.HELD:
                self._run(task)
        for phase in Phase:
            metrics.PARTITIONS.labels(phase.value).set(sum(task.phase is phase for task in self.tasks.values()))

    def _offsets_stable(self, numbers: Sequence[int]) -> None:
        """Return when a restore of *numbers* may begin, see `GroupOffsets`; runs in the restorer's thread."""
        self._group_offsets.wait_stable([TP(topic, number) for topic in self._inputs for number in numbers], STABLE_S)
