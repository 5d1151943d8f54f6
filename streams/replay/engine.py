"""
The replay: partition by partition, each record decided by today's code, as if it came at the broker's time.

Which of two topics' records was decided first can't be known; the broker's times are taken. Deadlines aren't made up:
they fire where a recorded output says that one fired, at the time that it says. So one that would fire now and didn't
fire then is not an action here; how many processes have one is told.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, cast

from rocksdict import Options, Rdict

from schemas import state_codec
from schemas.catalog import UnknownSchema
from schemas.codec import Codec
from schemas.undecodable import Undecodable
from streams.batch import Batch, Record
from streams.headers import REASON, header
from streams.monitor.dead_letters import origin_of
from streams.processing.process_manager import INPUTS, ProcessManager
from streams.processing.waiting import WAITING
from streams.registry import Registry
from streams.replay.judge import REFUSAL, Difference, Judge, Owed, owed_of
from streams.replay.recording import Recording, decided_ms
from streams.settings import Settings
from topology.policy import Policy
from topology.topics import DEAD_LETTERS, EMAIL_COMMANDS, OUTCOMES, QUERIES

_BATCH: Final = 500
_BATCH_MS: Final = 100
"""Records within this time are decided together: as a worker would, and faster than one by one."""
_UNDER_WAY_MS: Final = 60_000
"""What was decided this shortly before the look may be of inputs behind it."""
_INPUTS: Final = frozenset(topic.name for topic in INPUTS)
_DEADLINE: Final = "deadline"


class Result(NamedTuple):
    """
    What a replay found.

    Attributes:
        inputs: Records that were decided.
        same: Actions and refusals that are as recorded.
        differences: Those that aren't.
        deadlines: That were taken from recorded outputs.
        queries_recorded, queries_now: Not compared.
        not_judged: By reason, what can't be told.
    """

    inputs: int
    same: int
    differences: list[Difference]
    deadlines: int
    queries_recorded: int
    queries_now: int
    not_judged: dict[str, int]


BEGUN_BEFORE: Final = "of processes begun before the recording"
DETAILS_BEFORE: Final = "of details that came before the recording"
OUTPUT_GONE: Final = "decided before what is kept of the output's topic"
UNDER_WAY: Final = "decided while the topics were looked at"
OVERDUE: Final = "processes with a deadline that would have passed, and of which no output tells"
LATER: Final = "deadlines that passed then and wouldn't have yet now"
UNREADABLE: Final = "recorded outputs that can't be read"
PUT_ASIDE: Final = "records that a person had skipped"


class Replay:
    """Runs *recording* through the process manager of *settings*, by *policy* (None: theirs)."""

    def __init__(
        self, settings: Settings, registry: Registry, recording: Recording, policy: Policy | None = None
    ) -> None:
        self._declared_names = {settings.topic(topic): topic for topic in _INPUTS}
        self._codec: Codec = registry.codec
        self._recording = recording
        self._manager = ProcessManager(
            registry.codec, registry.resolve, policy or settings.policy,
            recording.partition_count or settings.partitions,
            with_headers=False, resolve_stored=registry.resolve_stored,
        )  # fmt: skip
        self._not_judged: dict[str, int] = {}
        self._inputs = self._deadlines = self._queries_recorded = self._queries_now = 0

    def run(self) -> Result:
        """
        Replay all partitions.

        Raises:
            Unavailable: the schema registry doesn't answer.
            TooManyDifferences: it is another program.
        """
        same, differences = 0, []
        for partition in sorted(self._recording.partitions):
            judge = Judge()
            rows = Rdict(str(self._recording.directory / f"rows-{partition}"), Options(raw_mode=True))
            try:
                end_ms = self._partition(partition, rows, judge)
                self._count_overdue(rows, end_ms)
                differences += [one for one, at_ms in judge.open() if self._counts(one, at_ms, partition, rows)]
            finally:
                rows.close()
            same += judge.same
        return Result(
            self._inputs, same, differences, self._deadlines,
            self._queries_recorded, self._queries_now, self._not_judged,
        )  # fmt: skip

    def _partition(self, partition: int, rows: Rdict, judge: Judge) -> int:
        skipped = {at for record in self._recording.of(partition) if (at := _skipped(record)) is not None}
        self._note(PUT_ASIDE, len(skipped))
        waiting: list[Record] = []
        end_ms = 0
        fired: tuple[bytes, int] | None = None
        for record in self._recording.of(partition):
            end_ms = max(end_ms, record.timestamp_ms)
            if record.topic in _INPUTS:
                if (record.topic, record.offset) in skipped:
                    continue
                if waiting and (len(waiting) >= _BATCH or record.timestamp_ms - waiting[0].timestamp_ms > _BATCH_MS):
                    self._decide(partition, rows, judge, waiting)
                    waiting = []
                waiting.append(record)
                continue
            due = record.key or b"", decided_ms(record)
            # One deadline may have brought about several outputs.
            if header(record.headers, "ce_causationid") == _DEADLINE and fired != due:
                self._decide(partition, rows, judge, waiting)
                waiting, fired = [], due
                self._deadlines += 1
                self._fire(partition, rows, judge, *due)
            self._recorded(record, judge)
        self._decide(partition, rows, judge, waiting)
        return end_ms

    def _decide(self, partition: int, rows: Rdict, judge: Judge, records: Sequence[Record]) -> None:
        if records:
            self._inputs += len(records)
            self._carry_out(Batch(partition, records, records[-1].timestamp_ms, _load(rows)), rows, judge)

    def _fire(self, partition: int, rows: Rdict, judge: Judge, key: bytes, at_ms: int) -> None:
        if rows.get(key) is not None:
            batch = Batch(partition, [], at_ms, _load(rows), [key], at_ms)
            self._carry_out(batch, rows, judge)
            self._note(LATER, not batch.changes)

    def _carry_out(self, batch: Batch, rows: Rdict, judge: Judge) -> None:
        self._manager(batch)
        for change in batch.changes:
            if change.new is None:
                rows.delete(change.key)
            else:
                rows[change.key] = change.new
        for output in batch.outputs:
            if output.topic == QUERIES.name:
                self._queries_now += 1
                continue
            owed = owed_of(self._codec, output.topic, output.key or b"", output.value or b"")
            assert owed is not None
            judge.now(owed, batch.now_ms)
        for refused in batch.refusals:
            record = refused.record
            judge.now(_refusal(record.key, record.topic, record.partition, record.offset, refused.reason), batch.now_ms)

    def _recorded(self, record: Record, judge: Judge) -> None:
        at_ms = decided_ms(record)
        if record.topic == DEAD_LETTERS.name:
            origin = self._origin(record)
            if origin is not None and origin.content != "skipped":
                judge.recorded(origin, record.timestamp_ms)
            return
        try:
            owed = owed_of(self._codec, record.topic, record.key or b"", record.value or b"")
        except (UnknownSchema, Undecodable):
            self._note(UNREADABLE)
            return
        if owed is None:
            self._queries_recorded += 1
        else:
            judge.recorded(owed, at_ms)

    def _origin(self, letter: Record) -> Owed | None:
        """Return the refusal that a dead letter of one of our inputs tells of; None for those of the services."""
        # The last of each name: the record's own headers come first.
        said = dict(letter.headers or ())
        origin = origin_of(said)
        topic = self._declared_names.get(origin.topic) if origin is not None else None
        if origin is None or topic is None:
            return None
        reason = (said.get(REASON) or b"").decode(errors="replace")
        return _refusal(letter.key, topic, origin.partition, origin.offset, reason)

    def _counts(self, difference: Difference, at_ms: int, partition: int, rows: Rdict) -> bool:
        """Return whether *difference* is one; notes why, if that can't be told."""
        reason = None
        if difference.recorded is None:
            topic = _topic_of(difference.action)
            if at_ms < self._recording.kept_from_ms.get((topic, partition), 0):
                reason = OUTPUT_GONE
        elif (
            difference.now is None
            and partition in self._recording.moving
            and at_ms > self._recording.seen_ms - _UNDER_WAY_MS
        ):
            reason = UNDER_WAY
        if reason is None and difference.now is None and not difference.action.startswith(REFUSAL):
            reason = _before(difference, rows)
        if reason is not None:
            self._note(reason)
        return reason is None

    def _count_overdue(self, rows: Rdict, end_ms: int) -> None:
        for key, row in rows.items():
            order = state_codec.decode(cast("bytes", key).decode(), cast("bytes", row))
            self._note(OVERDUE, sum(p.step in WAITING and p.due_ms <= end_ms for p in order.processes.values()))

    def _note(self, reason: str, times: int = 1) -> None:
        if times:
            self._not_judged[reason] = self._not_judged.get(reason, 0) + times


def _before(difference: Difference, rows: Rdict) -> str | None:
    """Return why what was recorded can't follow from the recording; None if it could."""
    row = rows.get(difference.order_id.encode())
    if row is None:
        return BEGUN_BEFORE
    order = state_codec.decode(difference.order_id, bytes(row))
    if difference.command_id not in order.processes:
        return BEGUN_BEFORE
    return DETAILS_BEFORE if order.details is None and difference.action != "outcome" else None


def _load(rows: Rdict) -> Callable[[Sequence[bytes]], Sequence[bytes | None]]:
    def load(keys: Sequence[bytes]) -> Sequence[bytes | None]:
        return cast("list[bytes | None]", rows.get(list(keys))) if keys else []

    return load


def _refusal(key: bytes | None, topic: str, partition: int, offset: int, reason: str) -> Owed:
    return Owed((key or b"").decode(errors="replace"), "", f"{REFUSAL} {topic}/{partition}/{offset}", reason)


def _topic_of(action: str) -> str:
    if action.startswith(REFUSAL):
        return DEAD_LETTERS.name
    return OUTCOMES.name if action == "outcome" else EMAIL_COMMANDS.name


def _skipped(record: Record) -> tuple[str, int] | None:
    """Return topic and offset of the record that a dead letter says was skipped."""
    if record.topic != DEAD_LETTERS.name:
        return None
    said = dict(record.headers or ())
    if said.get(REASON) != b"skipped":
        return None
    origin = origin_of(said)
    if origin is None:
        return None
    # By its end: a file may come from a cluster with another prefix.
    name = next((one for one in _INPUTS if origin.topic.endswith(one)), None)
    return None if name is None else (name, origin.offset)
