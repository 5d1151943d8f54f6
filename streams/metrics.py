"""What is counted and measured, in the form that Prometheus scrapes. Names end in their unit."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

COMMIT_SECONDS: Final = Histogram("rejoinder_commit_seconds", "Time of a commit: flush, positions and transaction.")
BATCH_RECORDS: Final = Histogram(
    "rejoinder_batch_records", "Records of one transaction.", buckets=(1, 10, 100, 500, 1000, 5000, 10000, 20000)
)
ABORTS: Final = Counter("rejoinder_aborts_total", "Transactions that were aborted; their records are read again.")
SESSIONS: Final = Counter("rejoinder_sessions_total", "Memberships begun, the first one included.")
DEAD_LETTERS: Final = Counter("rejoinder_dead_letters_total", "Records put into the dead letters.", ["reason"])
DECISIONS: Final = Counter(
    "rejoinder_decisions_total", "Cells of the state × message table that were taken.", ["message", "step", "branch"]
)
PARTITIONS: Final = Gauge("rejoinder_partitions", "Partition numbers owned, by what they are doing.", ["phase"])
MAILS_IN_DOUBT: Final = Counter(
    "rejoinder_mails_in_doubt_total", "Mails of which acceptance is unknown, by what was done.", ["then"]
)
