"""
What a batch function sees: the records of one partition number, decided together, and the table's rows beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

_new: Final = tuple.__new__
"""See `topology.process`."""

Headers: TypeAlias = list[tuple[str, bytes]]
ReadHeaders: TypeAlias = Sequence[tuple[str, bytes | None]]
"""Kafka has null header values, whatever the client's types say."""


class Record(NamedTuple):
    """
    Bytes at an offset, as the broker delivered them.

    *topic* is the declared name (`topology.topics`), without the deployment's prefix; *timestamp_ms* is the broker's
    (input topics are LogAppendTime).
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: ReadHeaders | None


class Output(NamedTuple):
    """A record to produce in the batch's transaction, into the batch's own partition number."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers


class Refusal(NamedTuple):
    """A record that can't be handled, on its way to the dead letters; *reason* is a label, *detail* for a person."""

    record: Record
    reason: str
    detail: str


class RowChange(NamedTuple):
    """A table row that the batch changed; None is an absent row."""

    key: bytes
    old: bytes | None
    new: bytes | None


class Failure(NamedTuple):
    """A process that failed at *at_ms*; *reason* is its outcome's."""

    order_id: str
    command_id: str
    reason: str
    at_ms: int


class Batch:
    """
    Records of partition *p* of every input topic in offset order, and the table's rows of the same partition.

    Writes, outputs and refusals are only collected here. The worker produces them in one transaction and writes the
    store after its commit: an abort leaves no trace, and the same records come again.

    ``due``: keys whose rows' deadlines have passed. ``due_ms`` is the instant up to which deadlines may be decided, not
    after ``now_ms``: what fell due since then may be answered by records that nobody has read yet. ``moved``: by how
    much the batch moves the counts of what waits (`streams.processing.waiting`). ``failures``: processes that failed in
    it.
    """

    __slots__ = (
        "partition", "records", "due", "now_ms", "due_ms", "outputs", "refusals", "moved", "failures", "at",
        "_loaded", "_rows", "_load",
    )  # fmt: skip

    def __init__(
        self,
        partition: int,
        records: Sequence[Record],
        now_ms: int,
        load: Callable[[Sequence[bytes]], Sequence[bytes | None]],
        due: Sequence[bytes] = (),
        due_ms: int | None = None,
    ) -> None:
        self.partition = partition
        self.records = records
        self.due = due
        self.now_ms = now_ms
        self.due_ms = now_ms if due_ms is None else due_ms
        self.outputs: list[Output] = []
        self.refusals: list[Refusal] = []
        self.moved: dict[int, int] = {}
        self.failures: list[Failure] = []
        self.at = 0
        self._load = load
        self._loaded: dict[bytes, bytes | None] = {}
        self._rows: dict[bytes, bytes | None] = {}

    def __iter__(self) -> Iterator[Record]:
        """Go through the records; ``at`` is the index of the one in hand, so that a failure knows its record."""
        for at, record in enumerate(self.records):
            self.at = at
            yield record
        self.at = len(self.records)

    def load(self, keys: Sequence[bytes]) -> None:
        """Read the rows of *keys* too, with one read of the store; `get` of any other key is a `KeyError`."""
        loaded = self._loaded
        if loaded:
            keys = [key for key in keys if key not in loaded]
        if keys:
            for key, row in zip(keys, self._load(keys), strict=True):
                loaded[key] = row

    def get(self, key: bytes) -> bytes | None:
        """Return the row of *key* as this batch sees it: what it put, else what was loaded."""
        if key in self._rows:
            return self._rows[key]
        return self._loaded[key]

    def known(self) -> tuple[dict[bytes, bytes | None], dict[bytes, bytes | None]]:
        """Return the rows that were loaded, and those that were put since: for who gets and puts by himself."""
        return self._loaded, self._rows

    def put(self, key: bytes, row: bytes | None) -> None:
        """Set the row of *key*; None deletes it."""
        self._rows[key] = row

    def send(self, topic: str, key: bytes, value: bytes | None, headers: Headers) -> None:
        """Produce a record when the batch commits."""
        self.outputs.append(_new(Output, (topic, key, value, headers)))

    def refuse(self, record: Record, reason: str, detail: str) -> None:
        """Put *record* into the dead letters when the batch commits."""
        self.refusals.append(Refusal(record, reason, detail))

    @property
    def changes(self) -> list[RowChange]:
        """Rows that differ from what was loaded."""
        loaded: Mapping[bytes, bytes | None] = self._loaded
        return [_new(RowChange, (key, loaded[key], row)) for key, row in self._rows.items() if row != loaded[key]]


def ends_of(records: Sequence[Record]) -> dict[str, int]:
    """Return the offset after the last of *records*, for each topic that they come from."""
    ends: dict[str, int] = {}
    for record in records:
        ends[record[0]] = record[2] + 1
    return ends


def larger_than(outputs: Sequence[Output], bytes_max: Mapping[str, int]) -> Output | None:
    """
    Return the first of *outputs* whose key and value take more than its topic's *bytes_max*.

    That is what an output takes at least; topics leave room for what Kafka adds.
    """
    for output in outputs:
        topic, key, value, _ = output
        size = (0 if key is None else len(key)) + (0 if value is None else len(value))
        if size > bytes_max[topic]:
            return output
    return None
