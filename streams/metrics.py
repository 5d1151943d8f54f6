"""
Every metric, declared once, in the form that Prometheus scrapes; docs/operating.md's table is generated from here.

Names end in their unit. Consumer lag has the names and labels of kafka_exporter, which existing dashboards use.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily


class Declared(NamedTuple):
    """A metric as the documentation shows it."""

    name: str
    type: str
    unit: str
    labels: tuple[str, ...]
    help: str


DECLARED: Final[list[Declared]] = []


class Scraped(NamedTuple):
    """A gauge whose values are found at each scrape (`streams.exposition`)."""

    name: str
    help: str
    labels: tuple[str, ...]

    def of(self, samples: Iterable[tuple[Sequence[object], float]]) -> GaugeMetricFamily:
        """Return it with *samples*: label values in order, and the value."""
        family = GaugeMetricFamily(self.name, self.help, labels=self.labels)
        for labels, value in samples:
            family.add_metric([str(label) for label in labels], value)
        return family


def _counter(name: str, unit: str, help_: str, *labels: str) -> Counter:
    DECLARED.append(Declared(name, "counter", unit, labels, help_))
    return Counter(name, help_, labels)


def _gauge(name: str, unit: str, help_: str, *labels: str) -> Gauge:
    DECLARED.append(Declared(name, "gauge", unit, labels, help_))
    return Gauge(name, help_, labels)


def _histogram(name: str, unit: str, help_: str, buckets: Sequence[float] = Histogram.DEFAULT_BUCKETS) -> Histogram:
    DECLARED.append(Declared(name, "histogram", unit, (), help_))
    return Histogram(name, help_, buckets=buckets)


def _scraped(name: str, unit: str, help_: str, *labels: str) -> Scraped:
    DECLARED.append(Declared(name, "gauge", unit, labels, help_))
    return Scraped(name, help_, labels)


# Transactions.

COMMIT_SECONDS: Final = _histogram(
    "rejoinder_commit_seconds",
    "seconds",
    "Time of a commit: flush, positions and transaction. Its count: commits that were tried.",
)
BATCH_RECORDS: Final = _histogram(
    "rejoinder_batch_records", "records", "Records of one transaction.", (1, 10, 100, 500, 1000, 5000, 10000, 20000)
)
COMMITS: Final = _counter(
    "rejoinder_commits_total", "transactions", "Transactions that were committed; their records are done with."
)
ABORTS: Final = _counter(
    "rejoinder_aborts_total", "transactions", "Transactions that were aborted; their records are read again."
)
MARKERS: Final = _counter(
    "rejoinder_transaction_markers_total",
    "markers",
    "Written by our commits: each takes an offset of a partition and is no record.",
    "topic",
)
SESSIONS: Final = _counter("rejoinder_sessions_total", "sessions", "Memberships begun, the first one included.")
DEAD_LETTERS: Final = _counter(
    "rejoinder_dead_letters_total", "records", "Records put into the dead letters.", "reason"
)
DECISIONS: Final = _counter(
    "rejoinder_decisions_total",
    "decisions",
    "Cells of the state × message table that were taken; duplicates are among them.",
    "message", "step", "branch",
)  # fmt: skip
MAILS_IN_DOUBT: Final = _counter(
    "rejoinder_mails_in_doubt_total", "mails", "Mails of which acceptance is unknown, by what was done.", "then"
)

# Partitions, restore and store.

PARTITIONS: Final = _gauge(
    "rejoinder_partitions", "partitions", "Partition numbers owned, by what they are doing.", "phase"
)
RESTORE_LEFT: Final = _scraped(
    "rejoinder_restore_left", "offsets", "Of the changelog, to be read until the partition is restored.", "partition"
)
RESTORE_ROWS: Final = _scraped("rejoinder_restore_rows", "rows", "Read by the restore under way.", "partition")
RESTORE_RATE: Final = _scraped(
    "rejoinder_restore_rows_per_second", "rows per second", "Of the restore under way.", "partition"
)
RESTORE_FAILING: Final = _scraped(
    "rejoinder_restore_failing", "0 or 1", "Whether its restore fails at the moment; it is tried again.", "partition"
)
STORE_ENTRIES: Final = _scraped("rejoinder_store_entries", "entries", "Rows and index entries, about.", "partition")
STORE_DISK: Final = _scraped("rejoinder_store_disk_bytes", "bytes", "RocksDB's files.", "partition")
STORE_BUFFER: Final = _scraped("rejoinder_store_buffer_bytes", "bytes", "RocksDB's write buffers.", "partition")
STORE_MEMORY: Final = _scraped(
    "rejoinder_store_memory_bytes", "bytes", "Cached blocks and write buffers, of all partitions together."
)
STORE_MEMORY_MOST: Final = _scraped(
    "rejoinder_store_memory_limit_bytes", "bytes", "What they may come to: REJOINDER_STORE_MEMORY_MIB."
)
STATE_DISK_FREE: Final = _scraped(
    "rejoinder_state_disk_free_bytes", "bytes", "Left on the disk of the state directory."
)
STATE_DISK: Final = _scraped("rejoinder_state_disk_bytes", "bytes", "Size of that disk.")

# Processes that wait.

WAITING: Final = _scraped(
    "rejoinder_processes_waiting", "processes", "That wait, by step. Lag can't tell of them.", "step", "partition"
)
OLDEST: Final = _scraped(
    "rejoinder_processes_oldest_seconds",
    "seconds",
    "Since the command of the oldest of them came, to 10 seconds.",
    "step", "partition",
)  # fmt: skip
UNCOUNTED: Final = _scraped(
    "rejoinder_partitions_uncounted",
    "partitions",
    "Owned, but just opened: who waits in them isn't counted yet, and missing above.",
)

# Consumer lag: of the partitions that this process has; of those that nobody has, its group's first member tells.

LAG: Final = _scraped(
    "kafka_consumergroup_lag",
    "offsets",
    "Last stable offset minus committed position; 0 on an idle topic, transactional or not.",
    "consumergroup", "topic", "partition",
)  # fmt: skip
LAG_SECONDS: Final = _scraped(
    "kafka_consumergroup_lag_seconds",
    "seconds",
    "Age of the first record that isn't committed yet, to 5 percent.",
    "consumergroup", "topic", "partition",
)  # fmt: skip
LAG_SUM: Final = _scraped(
    "kafka_consumergroup_lag_sum",
    "offsets",
    "The same as kafka_consumergroup_lag, all told partitions of a topic together.",
    "consumergroup", "topic",
)  # fmt: skip
POSITION: Final = _scraped(
    "kafka_consumergroup_current_offset",
    "offset",
    "Committed position; -1 without one.",
    "consumergroup", "topic", "partition",
)  # fmt: skip
MEMBERS: Final = _scraped(
    "kafka_consumergroup_members", "members", "Of the group, told by its first member.", "consumergroup"
)
END: Final = _scraped("kafka_topic_partition_current_offset", "offset", "End of the partition.", "topic", "partition")
STABLE: Final = _scraped(
    "kafka_topic_partition_last_stable_offset",
    "offset",
    "End of what a reader of committed records gets; one that stays behind the end is a hanging transaction.",
    "topic", "partition",
)  # fmt: skip
LAG_RATE: Final = _scraped(
    "rejoinder_consumed_per_second",
    "offsets per second",
    "Committed over the last looks.",
    "consumergroup", "topic", "partition",
)  # fmt: skip
LAG_STATUS: Final = _scraped(
    "rejoinder_lag_status",
    "0 or 1",
    "1 for the partition's status as Burrow defines it: OK, WARN, STALL, STOP, REWIND.",
    "consumergroup", "topic", "partition", "status",
)  # fmt: skip
LAG_LOOK_AGE: Final = _scraped(
    "rejoinder_lag_look_age_seconds", "seconds", "Since the cluster was last asked for all of these."
)

# The process itself.

LOOP_SECONDS: Final = _scraped(
    "rejoinder_loop_lag_seconds", "seconds", "How late the event loop came to its last timer: it is held up by so much."
)
TURN_AGE: Final = _scraped(
    "rejoinder_session_turn_age_seconds",
    "seconds",
    "Since the session's thread ended its last turn; a turn lasts as long as a batch, and a tenth of a second idle.",
)
THREADS: Final = _scraped("rejoinder_thread_alive", "0 or 1", "Whether the thread runs.", "thread")
BUILD: Final = _scraped("rejoinder_info", "1", "Which release this is, and who.", "version", "role", "instance")


def markers() -> dict[str, float]:
    """Return how many transaction markers this process has written, by topic (the declared name)."""
    samples = (sample for family in MARKERS.collect() for sample in family.samples)
    return {sample.labels["topic"]: sample.value for sample in samples if sample.name.endswith("_total")}
