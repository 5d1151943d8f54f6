"""
What must hold, during a run and at its end.

The heart is a serial replay: each committed transaction is decided again, by the same pure code, on what the committed
ones before it left. Its input must be exactly the records between the old positions and the new ones, in offset
order; its output, dead letters and rows must be exactly what the transaction wrote. So whatever was killed, fenced,
aborted or restored, the log must read as if one worker had taken each record once.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

from schemas import state_codec
from schemas.catalog import UnknownSchema
from streams.batch import Batch, Record
from streams.processing.dead_letters import dead_letter
from streams.processing.process_manager import ProcessManager
from streams.processing.task import Phase
from tests.simulation.kernel import Life, World
from tests.simulation.log import Headers, Place, Txn
from tests.simulation.worker import INPUT_NAMES, PARTITIONS, POLICY, Worker, codec
from topology.policy import DAY_MS
from topology.topics import PROCESSES_CHANGELOG


class Decided(NamedTuple):
    """What a worker says that it decided."""

    partition: int
    records: tuple[tuple[Place, int], ...]
    due: tuple[bytes, ...]
    now_ms: int
    due_ms: int


class Checker:
    """Watches one run."""

    inputs: tuple[str, ...] = INPUT_NAMES
    changelog: str = PROCESSES_CHANGELOG.name

    def __init__(self, world: World) -> None:
        self.world = world
        self.workers: list[Worker] = []
        self.rows: list[dict[bytes, bytes]] = [{} for _ in range(PARTITIONS)]
        self.refused: list[tuple[Place, int]] = []
        self._positions: dict[Place, int] = {}
        # Not straight: what workers decide the short way is decided here by the table.
        self._manager = ProcessManager(codec(), _unknown, POLICY, PARTITIONS, straightly=False)
        self._inits: dict[str, Life] = {}

    # What workers tell.

    def polled(self, life: Life) -> None:
        """Forget what was decided in the turn before."""
        assert isinstance(life, Worker)
        life.decided = []

    def begun(self, life: Life) -> None:
        """What was decided until now goes into the transaction that begins."""
        assert isinstance(life, Worker)
        life.begun, life.decided = life.decided, []

    def decided_by(self, life: Life) -> list[Any]:
        """Return what goes into *life*'s transaction."""
        assert isinstance(life, Worker)
        return life.begun

    def inited(self, life: Life, transactional_id: str) -> None:
        """From now on no older process of this id may commit."""
        self._inits[transactional_id] = life
        for txn in self.world.broker.unfinished:
            before = txn.maker
            if isinstance(before, Worker) and isinstance(life, Worker) and before.instance == life.instance:
                self.world.violation(f"{life.name} begins while a transaction of {before.name} is open")

    def deciding(self, worker: Worker, batch: Batch) -> None:
        """*worker* is about to decide *batch*: does it own all of it, and may its deadlines fire?"""
        session = worker.session
        assert session is not None
        task = session.tasks[batch.partition]
        owned = {place for place in session.member.owned if place.partition == batch.partition}
        if task.phase is not Phase.RUNNING or len(owned) != len(self.inputs) or task.owned != owned:
            self.world.violation(f"{worker.name} decides partition {batch.partition} with {sorted(owned)} only")
        if not batch.due:
            return
        self.world.happens("deadlines fired")
        for due_ms, key in session.firing.get(task, ()):
            reached_s = worker.clock.reached_s(due_ms)
            for place in task.inputs:
                log = self.world.broker.logs[Place(*place)]
                for entry in log.entries[task.positions.get(place, self._positions.get(Place(*place), 0)) :]:
                    if entry is None or entry.key != key or entry.appended_s > reached_s:
                        continue
                    if entry.txn is None or entry.txn.state not in ("aborting", "aborted"):
                        self.world.violation(
                            f"{worker.name}: the deadline of {key!r} fires at {due_ms}, read at {reached_s:.3f} s, but "
                            f"{place} offset {entry.offset} of {entry.appended_s:.3f} s wasn't read"
                        )

    def decided(self, worker: Worker, batch: Batch) -> None:
        """*worker* has decided *batch*."""
        records = tuple((Place(record.topic, record.partition), record.offset) for record in batch.records)
        worker.decided.append(Decided(batch.partition, records, tuple(batch.due), batch.now_ms, batch.due_ms))

    # The serial replay.

    def committed(self, txn: Txn) -> None:
        """Decide again what *txn* says it decided, and compare."""
        if isinstance(txn.maker, Worker):
            self._check(txn, self._taken(txn))

    def _taken(self, txn: Txn) -> dict[int, list[tuple[Place, int]]]:
        """Return the records that *txn* takes positions past, by partition number."""
        if (newest := self._inits[txn.owner]) is not txn.maker:
            self.world.violation(f"{txn.maker.name} commits after {newest.name} began with {txn.owner}")
        taken: defaultdict[int, list[tuple[Place, int]]] = defaultdict(list)
        for place in sorted(txn.positions):
            new, old = txn.positions[place], self._positions.get(place, 0)
            log = self.world.broker.logs[place]
            if not old <= new <= log.stable_end:
                self.world.violation(f"{txn.maker.name}: position of {place} from {old} to {new}")
            self._positions[place] = new
            taken[place.partition] += [(place, entry.offset) for entry in log.committed(old, new)]
        return taken

    def _check(self, txn: Txn, taken: dict[int, list[tuple[Place, int]]]) -> None:
        batches: dict[int, Decided] = {}
        for decided in txn.decided:
            if decided.partition in batches:
                self.world.violation(f"{txn.maker.name}: partition {decided.partition} decided twice in a transaction")
            batches[decided.partition] = decided
        for number in sorted(taken.keys() | batches.keys()):
            self._replay(txn, batches.get(number) or Decided(number, (), (), 0, 0), taken.get(number, []))

    def _replay(self, txn: Txn, decided: Decided, taken: Sequence[tuple[Place, int]]) -> None:
        said = sorted(decided.records)
        if said != sorted(taken) or any(
            [offset for place, offset in decided.records if place.topic == topic]
            != [offset for place, offset in taken if place.topic == topic]
            for topic in INPUT_NAMES
        ):
            self.world.violation(f"{txn.maker.name}: decided {decided.records}, but positions say {taken}")
            return
        number, rows = decided.partition, self.rows[decided.partition]
        records = [self._record(place, offset) for place, offset in decided.records]
        batch = Batch(
            number,
            records,
            decided.now_ms,
            lambda keys: [rows.get(key) for key in keys],
            decided.due,
            decided.due_ms,
        )
        if records or decided.due:
            self._manager(batch)
        refused = [dead_letter(refusal, str) for refusal in batch.refusals]
        self.refused += [(Place(r.record.topic, r.record.partition), r.record.offset) for r in batch.refusals]
        changes = batch.changes
        expected: list[tuple[str, bytes | None, bytes | None, Headers | None]] = [
            (output.topic, output.key, output.value, output.headers or None) for output in [*batch.outputs, *refused]
        ]
        expected += [(self.changelog, change.key, change.new, None) for change in sorted(changes)]
        written = [
            (place.topic, entry.key, entry.value, entry.headers or None)
            for place, entry in txn.entries
            if place.partition == number
        ]
        # A row a key: in which order they are written doesn't matter.
        rows_at = len(written) - sum(topic == self.changelog for topic, *_ in written)
        written[rows_at:] = sorted(written[rows_at:], key=lambda row: row[1] or b"")
        if expected != written:
            self.world.violation(
                f"{txn.maker.name}: partition {number} wrote {_names(written)}, a serial run writes {_names(expected)}"
            )
        for change in changes:
            if change.new is None:
                del rows[change.key]
            else:
                rows[change.key] = change.new

    def _record(self, place: Place, offset: int) -> Record:
        entry = self.world.broker.logs[place].entries[offset]
        assert entry is not None
        return Record(*place, offset, entry.timestamp_ms, entry.key, entry.value, entry.headers or None)

    # The end.

    @property
    def quiet(self) -> bool:
        """Whether nothing is to be expected any more: all is read, all is finished, all partitions are worked on."""
        return not self.left

    @property
    def left(self) -> str:
        """Return the first thing that isn't over."""
        broker = self.world.broker
        if open_txns := broker.unfinished:
            return f"open transactions of {[txn.owner for txn in open_txns]}"
        for place in broker.group.places:
            if broker.group.offsets[place] != broker.logs[place].end:
                return f"{place} is read to {broker.group.offsets[place]} of {broker.logs[place].end}"
        far_ms = self.world.now_ms() + DAY_MS
        for rows in self.rows:
            for key, row in rows.items():
                if (due_ms := state_codec.due_of(row)) < far_ms:
                    return f"{key!r} waits for a deadline in {due_ms - self.world.now_ms()} ms"
        running = sorted(number for worker in self.workers for number in worker.running)
        return "" if running == list(range(PARTITIONS)) else f"the partitions that run are {running}"

    def at_end(self) -> None:
        """Compare stores, changelogs and the replayed rows."""
        world, broker = self.world, self.world.broker
        for number, rows in enumerate(self.rows):
            log = broker.logs[Place(self.changelog, number)]
            if log.table() != rows:
                world.violation(f"changelog {number} isn't the serial run's table")
            for worker in self.workers:
                if number not in worker.running:
                    continue
                store = worker.stores[number]
                found = dict(store.items())
                if found != rows:
                    differing = sorted(key for key in found.keys() | rows if found.get(key) != rows.get(key))
                    world.violation(f"{worker.name}: store {number} differs from the changelog in {differing}")
                if log.committed(store.position, log.end):
                    world.violation(f"{worker.name}: store {number} has checkpoint {store.position} of {log.end}")
                due = set(store.deadlines())
                if missing := {(state_codec.due_of(row), key) for key, row in rows.items()} - due:
                    world.violation(f"{worker.name}: store {number} has no deadline of {missing}")


def _unknown(schema_id: int) -> None:
    raise UnknownSchema(schema_id)


def _names(written: Sequence[tuple[str, bytes | None, bytes | None, Headers | None]]) -> list[str]:
    return [f"{topic.rsplit('.', 1)[-1]}:{key!r}:{zlib.crc32(value or b''):x}" for topic, key, value, _ in written]
