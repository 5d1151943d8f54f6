"""
Every recording rule and every alert, declared once: `./dev monitoring` writes them for Prometheus and Kubernetes.

An alert asks for a person. *critical* wakes somebody: orders wait, and go on waiting until somebody acts. *warning* can
wait for the morning. What ends by itself, such as a rebalance or a rolling restart, is shorter than each ``for``.

Series are taken over all processes of a job (``without (instance, pod)``): a partition that moves to another process
goes on being the same one, and so its alert goes on.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from streams.promql import select

JOBS: Final = "rejoinder.*"
"""The jobs that are ours: kafka_exporter has some of the same names for the groups of others."""

ROLES: Final = ("worker", "orders", "email")

CRITICAL: Final = "critical"
WARNING: Final = "warning"

_EACH: Final = "without (instance, pod)"


class Recording(NamedTuple):
    """A recording rule; *record* is level:metric:operation."""

    record: str
    expr: str
    help: str


class Alert(NamedTuple):
    """
    One alert at one severity.

    Attributes:
        name: With its prefix; also the name of its page in docs/runbooks/.
        expr: PromQL, true where something is wrong.
        hold: Its ``for``: how long it must be so.
        severity: `CRITICAL` or `WARNING`.
        summary: Half a sentence, the same for all of its instances.
        description: What is seen, with values (Prometheus's templates).
        why: Why this threshold and this ``for``.
    """

    name: str
    expr: str
    hold: str
    severity: str
    summary: str
    description: str
    why: str


def _ours(name: str, **matchers: str) -> str:
    return select(name, JOBS, **matchers)


def _grew(name: str, window: str) -> str:
    """Return what is true where a counter grew; one with labels begins with its first event, not with 0."""
    counter = _ours(name)
    return f"increase({counter}[{window}]) > 0\nor\n({counter} > 0 unless {counter} offset {window})"


LAG: Final = "consumergroup:kafka_consumergroup_lag:sum"
LAG_SECONDS: Final = "consumergroup:kafka_consumergroup_lag_seconds:max"
CONSUMED: Final = "consumergroup:rejoinder_consumed_per_second:sum"
WAITING: Final = "step:rejoinder_processes_waiting:sum"
OLDEST: Final = "step:rejoinder_processes_oldest_seconds:max"
COMMIT_P99: Final = "job:rejoinder_commit_seconds:p99_5m"
STABLE: Final = "partition:kafka_topic_partition_last_stable_offset:max"
END: Final = "partition:kafka_topic_partition_current_offset:max"

_ALL: Final = "without (instance, pod, topic, partition)"

RECORDINGS: Final = (
    Recording(LAG, f"sum {_ALL} ({_ours('kafka_consumergroup_lag')})", "Offsets behind, of a group."),
    Recording(
        LAG_SECONDS, f"max {_ALL} ({_ours('kafka_consumergroup_lag_seconds')})", "Seconds behind, of a group's worst."
    ),
    Recording(CONSUMED, f"sum {_ALL} ({_ours('rejoinder_consumed_per_second')})", "Offsets a second, of a group."),
    Recording(
        WAITING,
        f"sum without (instance, pod, partition) ({_ours('rejoinder_processes_waiting')})",
        "Processes that wait, by step.",
    ),
    Recording(
        OLDEST,
        f"max without (instance, pod, partition) ({_ours('rejoinder_processes_oldest_seconds')})",
        "The age of the oldest of them.",
    ),
    Recording(
        COMMIT_P99,
        f"histogram_quantile(0.99, sum without (instance, pod) (rate({_ours('rejoinder_commit_seconds_bucket')}[5m])))",
        "Of commits, the time that 99 in 100 keep.",
    ),
    # Over the processes that tell of it one after the other, so that `changes` sees one series.
    Recording(STABLE, f"max {_EACH} ({_ours('kafka_topic_partition_last_stable_offset')})", "Of a partition."),
    Recording(END, f"max {_EACH} ({_ours('kafka_topic_partition_current_offset')})", "Of a partition."),
)

_PROCESSES: Final = (
    Alert(
        "RejoinderRoleMissing",
        "\nor\n".join(f"absent({_ours('rejoinder_info', role=role)})" for role in ROLES),
        "5m",
        CRITICAL,
        "No process of a role is there.",
        "Prometheus sees no process of the role {{ $labels.role }}: none runs, or none is found.",
        "A rolling restart of the only process takes less than 5 minutes, its restore included.",
    ),
    Alert(
        "RejoinderTargetDown",
        f'up{{job=~"{JOBS}"}} == 0',
        "5m",
        WARNING,
        "A process can't be scraped.",
        "{{ $labels.instance }} of {{ $labels.job }} hasn't answered Prometheus for 5 minutes.",
        "Its partitions go to others by themselves within a minute; if there are no others, more alerts follow.",
    ),
    Alert(
        "RejoinderGroupEmpty",
        f"max {_EACH} ({_ours('kafka_consumergroup_members')}) == 0",
        "5m",
        CRITICAL,
        "A consumer group has no member.",
        "{{ $labels.consumergroup }} has no member: its processes run, but aren't in their group, and nothing is read.",
        "Between two sessions a process is out of the group for seconds; while brokers are away, for as long as that.",
    ),
    Alert(
        "RejoinderProcessStuck",
        f"{_ours('rejoinder_thread_alive')} == 0\nor\n{_ours('rejoinder_session_turn_age_seconds')} > 900",
        "2m",
        CRITICAL,
        "A process runs, but its work doesn't.",
        "{{ $labels.instance }}: {{ with $labels.thread }}its thread {{ . }} has ended"
        "{{ else }}its last turn ended {{ $value | humanizeDuration }} ago{{ end }}.",
        "A turn lasts as long as its batch: 500 mails to a mail server that takes its time need minutes, never 15.",
    ),
    Alert(
        "RejoinderDiskFilling",
        f"{_ours('rejoinder_state_disk_free_bytes')} / {_ours('rejoinder_state_disk_bytes')} < 0.15",
        "15m",
        WARNING,
        "The disk of the state directory fills up.",
        "{{ $labels.instance }} has {{ $value | humanizePercentage }} of its state directory's disk left.",
        "RocksDB needs room to compact, for a while about as much as its largest level; a compaction takes minutes.",
    ),
    Alert(
        "RejoinderDiskFilling",
        f"{_ours('rejoinder_state_disk_free_bytes')} / {_ours('rejoinder_state_disk_bytes')} < 0.05",
        "2m",
        CRITICAL,
        "The disk of the state directory is nearly full.",
        "{{ $labels.instance }} has {{ $value | humanizePercentage }} of its state directory's disk left: "
        "at 0 its partitions stop.",
        "What is left may be gone within minutes.",
    ),
)

_PARTITIONS: Final = (
    Alert(
        "RejoinderPartitionHeld",
        f"{_ours('rejoinder_partitions', phase='held')} > 0",
        "1m",
        CRITICAL,
        "Partitions are held for a person.",
        "{{ $labels.instance }} holds {{ $value }} partition(s): our own code failed on a record, or records are gone.",
        "It never ends by itself; a minute, so that a look at a state that is just being left calls nobody.",
    ),
    Alert(
        "RejoinderPartitionBackingOff",
        f"max_over_time({_ours('rejoinder_partitions', phase='backing off')}[5m]) > 0",
        "10m",
        WARNING,
        "Partitions wait for somebody who doesn't answer.",
        "{{ $labels.instance }} backs off: the schema registry or the database doesn't answer.",
        "It tries every 30 seconds, and runs for a moment each time, hence the 5 minutes' maximum.",
    ),
    Alert(
        "RejoinderRestoreStuck",
        f"{_ours('rejoinder_restore_failing')} == 1\nor\n"
        f"({_ours('rejoinder_restore_left')} > 0 and delta({_ours('rejoinder_restore_left')}[10m]) >= 0)",
        "10m",
        CRITICAL,
        "A restore doesn't come nearer to its end.",
        "Partition {{ $labels.partition }} on {{ $labels.instance }} isn't restored: it fails, or stands still.",
        "A restore that gets on reads thousands of rows a second, however long it takes.",
    ),
    Alert(
        "RejoinderPartitionWaiting",
        f"{_ours('rejoinder_partitions', phase='waiting')} > 0 unless on (job, instance) "
        f"{_ours('rejoinder_restore_left')}",
        "15m",
        CRITICAL,
        "Partitions wait, and nothing restores them.",
        "{{ $labels.instance }} has {{ $value }} partition(s) that wait for the rest of their inputs, or for an open "
        "transaction to end.",
        "A rebalance takes seconds; a dead worker's transaction holds a takeover for REJOINDER_TRANSACTION_TIMEOUT "
        "(15 s), which may be set to 15 minutes at most.",
    ),
)

_LAGGING: Final = (
    Alert(
        "RejoinderLagging",
        f"{LAG_SECONDS} > 60",
        "5m",
        WARNING,
        "A group is behind.",
        "{{ $labels.consumergroup }} is {{ $value | humanizeDuration }} behind.",
        "A takeover after a kill takes a minute with Kafka's own session timeout (45 s), and what came meanwhile less.",
    ),
    Alert(
        "RejoinderLagging",
        f"{LAG_SECONDS} > 900",
        "10m",
        CRITICAL,
        "A group is far behind.",
        "{{ $labels.consumergroup }} is {{ $value | humanizeDuration }} behind.",
        "Customers notice. A flood that is worked off within 10 minutes needs nobody.",
    ),
    Alert(
        "RejoinderStalled",
        f"max {_EACH} ({_ours('rejoinder_lag_status', status='~STALL|STOP|REWIND')}) == 1",
        "10m",
        CRITICAL,
        "A partition isn't read on.",
        "{{ $labels.consumergroup }}: {{ $labels.topic }}/{{ $labels.partition }} is {{ $labels.status }}.",
        "The status looks at 10 looks, 150 seconds. A batch of mails can take that long; 10 minutes more it can't.",
    ),
    Alert(
        "RejoinderLagUnknown",
        f"{_ours('rejoinder_lag_look_age_seconds')} > 300",
        "5m",
        WARNING,
        "A process can't look at its group.",
        "{{ $labels.instance }} last saw its group {{ $value | humanizeDuration }} ago; its figures are as old.",
        "It looks every 15 seconds; while a coordinator moves, looks fail for a minute.",
    ),
    Alert(
        "RejoinderTransactionHanging",
        f"{END} > {STABLE} and changes({STABLE}[5m]) == 0",
        "10m",
        CRITICAL,
        "An open transaction hides records.",
        "{{ $labels.topic }}/{{ $labels.partition }}: a transaction has been open for minutes. What lies behind it, "
        "up to offset {{ $value | printf `%.0f` }}, isn't read, and isn't counted as lag.",
        "The longest transaction that a client may ask for is 15 minutes (transaction.max.timeout.ms); ours end after "
        "15 seconds.",
    ),
    Alert(
        "RejoinderCommitsFailing",
        f"rate({_ours('rejoinder_aborts_total')}[5m]) > 0\nor\nincrease({_ours('rejoinder_sessions_total')}[15m]) > 3",
        "10m",
        WARNING,
        "Transactions are aborted again and again.",
        "{{ $labels.instance }} aborts transactions or begins its session anew, and has done so for 10 minutes.",
        "A rebalance or a broker's restart aborts one or two, within a minute or two. Nothing is lost by it.",
    ),
)

_WORK: Final = (
    Alert(
        "RejoinderProcessOld",
        f"{OLDEST} > 3600",
        "10m",
        WARNING,
        "A process has waited for long.",
        "The oldest process {{ $labels.step }} began {{ $value | humanizeDuration }} ago; lag doesn't tell of it.",
        "Answers come within seconds. Retries space out to an hour at most, so an hour is the first time that none "
        "helped.",
    ),
    Alert(
        "RejoinderProcessOld",
        f"{OLDEST} > 43200",
        "10m",
        CRITICAL,
        "A process will soon be given up.",
        "The oldest process {{ $labels.step }} began {{ $value | humanizeDuration }} ago; it fails after a day.",
        "Half of REJOINDER_GIVE_UP_AFTER and REJOINDER_EMAIL_OUTCOME_WAIT (24 h): time enough to save it.",
    ),
    Alert(
        "RejoinderDeadLetters",
        _grew("rejoinder_dead_letters_total", "15m"),
        "0m",
        WARNING,
        "Records went to the dead letters.",
        "{{ $labels.instance }} put records aside: {{ $labels.reason }}.",
        "Each is a record that somebody sent and nobody handled; one is enough. They are kept for 30 days.",
    ),
    Alert(
        "RejoinderMailsInDoubt",
        _grew("rejoinder_mails_in_doubt_total", "15m"),
        "0m",
        WARNING,
        "Mails are in doubt.",
        "{{ $labels.instance }}: nobody knows whether the mail server took some mails (then: {{ $labels.then }}).",
        "Held ones wait for a person, and end as unknown after a day; those sent again may have arrived twice.",
    ),
)

ALERTS: Final[dict[str, tuple[Alert, ...]]] = {
    "rejoinder-processes": _PROCESSES,
    "rejoinder-partitions": _PARTITIONS,
    "rejoinder-lag": _LAGGING,
    "rejoinder-work": _WORK,
}
"""By the rules' group."""
