"""The committer: what a store is told after the commit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from streams import metrics
from streams.batch import Batch, Output, Record, RowChange
from streams.processing.commit import Committer, Work
from topology.state import NEVER_MS
from topology.topics import COMMANDS, DEAD_LETTERS, EMAIL_COMMANDS, QUERIES

ROW = b"\1" + NEVER_MS.to_bytes(8, "big")


class Message:
    """A delivered message."""

    def __init__(self, offset: int | None) -> None:
        self._offset = offset

    def offset(self) -> int | None:
        """Return where it is; None as confluent-kafka says it when librdkafka doesn't know."""
        return self._offset


class Transaction:
    """A transaction that comes true; its records are at *offsets*."""

    def __init__(self, *offsets: int | None) -> None:
        self._offsets = list(offsets)
        self._reports: list[Any] = []

    def begin(self) -> None:
        """Nothing is sent yet."""

    def produce_outputs(self, _partition: int, outputs: Sequence[Output], _names: dict[str, str]) -> None:
        """Take records."""
        self._reports += [None] * len(outputs)

    def produce_rows(self, _partition: int, _topic: str, rows: Sequence[RowChange], last_delivered: Any) -> None:
        """Take rows."""
        self._reports += [None] * (len(rows) - 1) + [last_delivered]

    def commit(self, *_: Any) -> None:
        """Report all deliveries."""
        for report, offset in zip(self._reports, self._offsets, strict=True):
            if report is not None:
                report(None, Message(offset))


class Store:
    """A store whose checkpoint is at 40."""

    position = 40

    def __init__(self) -> None:
        self.written: list[tuple[int, int]] = []

    def write(self, rows: Sequence[Any], position: int, *_: Any) -> None:
        """Remember how many rows came and the position after them."""
        self.written.append((len(rows), position))


@pytest.mark.parametrize(("offsets", "position"), [((41, 42), 43), ((41, None), 40), ((None, None), 40)])
def test_checkpoint_never_passes_what_is_known(offsets: tuple[int | None, ...], position: int) -> None:
    """Where the last row is may be unknown, after its answer was lost: the rows are written, the checkpoint stays."""
    record = Record(COMMANDS.name, 0, 7, 0, b"a", b"", None)
    batch = Batch(0, [record], 1, lambda keys: [None] * len(keys))
    batch.load([b"a", b"b"])
    batch.put(b"a", ROW)
    batch.put(b"b", ROW)
    store: Any = Store()
    transaction: Any = Transaction(*offsets)
    assert [] == Committer(transaction, lambda name: name, "changelog").commit([Work(batch, {}, store)], None)
    assert [(2, position)] == store.written


def test_markers_are_counted_by_topic() -> None:
    """One for each partition that got records, however many; what isn't a record isn't taken for one."""
    before = metrics.markers()
    works = []
    for partition in (0, 1):
        record = Record(COMMANDS.name, partition, 7, 0, b"a", b"", None)
        batch = Batch(partition, [record], 1, lambda keys: [None] * len(keys))
        for _ in range(3):
            batch.send(EMAIL_COMMANDS.name, b"a", b"", [])
        works.append(Work(batch, {}, None))
    works[0].batch.send(QUERIES.name, b"a", b"", [])
    works[1].batch.refuse(works[1].batch.records[0], "null", "")
    transaction: Any = Transaction(*[0] * 8)
    Committer(transaction, lambda name: f"shop.{name}", None).commit(works, None)
    grown = {topic: count - before.get(topic, 0) for topic, count in metrics.markers().items()}
    expected = {EMAIL_COMMANDS.name: 2, QUERIES.name: 1, DEAD_LETTERS.name: 1}
    assert expected == {topic: count for topic, count in grown.items() if count}
