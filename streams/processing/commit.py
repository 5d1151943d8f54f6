"""
Batches to one transaction, then to the stores.

1. Begin.
2. Produce outputs, dead letters and changelog rows, each into its batch's own partition number.
3. Add the input positions, which fences whoever has lost the partitions (KIP-447).
4. Commit.
5. Only then write each store: rows, deadline index and checkpoint at once. An abort must leave no state whose outputs
   nobody sent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from confluent_kafka import TopicPartition

from streams import metrics
from streams.batch import Batch, RowChange
from streams.errors import RejoinderError
from streams.processing.dead_letters import Refusals, dead_letter
from streams.store.partition import Partition
from streams.transport.member import TP
from streams.transport.transaction import Transaction


class Work(NamedTuple):
    """
    One partition number's part of a transaction.

    *positions*: of every input that is to be committed, the next offset to read. *spent*: deadlines that fired. *store*
    is None where the application has no table.
    """

    batch: Batch
    positions: Mapping[TP, int]
    store: Partition | None
    spent: Sequence[tuple[int, bytes]] = ()


class Committer:
    """Commits works; *cluster_name* makes the cluster's name of a declared topic."""

    def __init__(self, transaction: Transaction, cluster_name: Callable[[str], str], changelog: str | None) -> None:
        self._transaction = transaction
        self._cluster_name = cluster_name
        self._changelog = changelog
        self._refusals = Refusals()

    def commit(self, works: Sequence[Work], metadata: Any) -> list[tuple[Work, RejoinderError]]:
        """
        Commit *works* under the group *metadata* of their poll, all or nothing.

        Returns:
            The works whose store couldn't be written, and why: these stores are behind their changelog now.

        Raises:
            Aborted: nothing was written anywhere.
            SessionOver: the outcome is unknown, or somebody else has taken over; no store was written.
        """
        transaction = self._transaction
        transaction.begin()  # 1
        changes = [work.batch.changes for work in works]
        markers: Counter[str] = Counter()
        ends = [self._produce(work, rows, markers) for work, rows in zip(works, changes, strict=True)]  # 2
        positions = [
            TopicPartition(self._cluster_name(tp.topic), tp.partition, offset)
            for work in works
            for tp, offset in work.positions.items()
        ]
        with metrics.COMMIT_SECONDS.time():
            transaction.commit(positions, metadata)  # 3, 4
        metrics.COMMITS.inc()
        for topic, count in markers.items():
            metrics.MARKERS.labels(topic).inc(count)
        behind: list[tuple[Work, RejoinderError]] = []
        for work, rows, end in zip(works, changes, ends, strict=True):
            if work.store is not None and (rows or work.spent):  # 5
                try:
                    work.store.write(rows, end[-1] if end else work.store.position, work.batch.now_ms, work.spent)
                except RejoinderError as exc:
                    behind.append((work, exc))
        refusals = [refusal for work in works for refusal in work.batch.refusals]
        for refusal in refusals:
            metrics.DEAD_LETTERS.labels(refusal.reason).inc()
        self._refusals.tell(refusals)
        return behind

    def _produce(self, work: Work, rows: Sequence[RowChange], markers: Counter[str]) -> list[int]:
        """
        Produce one batch; return a list that will hold the changelog position after its last row's delivery.

        *markers* takes in the topics whose partition gets a transaction marker because of it.
        """
        batch, name = work.batch, self._cluster_name
        outputs = batch.outputs
        if batch.refusals:
            outputs = [*outputs, *(dead_letter(refusal, name) for refusal in batch.refusals)]
        names = {topic: name(topic) for topic in {output.topic for output in outputs}}
        self._transaction.produce_outputs(batch.partition, outputs, names)
        markers.update(names.keys())
        end: list[int] = []
        if rows:
            assert self._changelog is not None

            def delivered(error: Any, message: Any) -> None:
                # A failed delivery fails the commit, which says so; only the last row's offset is wanted. Of a record
                # that the broker had already, and no longer knows where (its answer was lost, then it was started
                # anew), there is none: the checkpoint then stays where it was, and a restore reads a little more.
                if error is None and (offset := message.offset()) is not None:
                    end.append(offset + 1)

            self._transaction.produce_rows(batch.partition, self._changelog, rows, delivered)
        return end
