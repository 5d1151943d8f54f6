"""What the dashboard shows: rows of panels, each with its queries; a metric's description is its declaration's."""

from __future__ import annotations

from typing import Final, NamedTuple

from streams.alerts import ROLES
from streams.metrics import DECLARED
from streams.promql import select

_JOB: Final = "$job"
_RANGE: Final = "[$__rate_interval]"
_CHOSEN: Final = {"consumergroup": f"~$application-({'|'.join(ROLES)})", "partition": "~$partition"}
"""By label: what is chosen at the dashboard's top."""
_LABELS: Final = {metric.name: metric.labels for metric in DECLARED}


class Query(NamedTuple):
    """PromQL, and the legend of each of its series."""

    expr: str
    legend: str = ""


class Panel(NamedTuple):
    """
    One panel.

    Attributes:
        title: What it shows.
        unit: Grafana's name of its unit.
        queries: What it asks.
        kind: Grafana's type; "stat" is one number, red from *bad* on.
        bad: None where no value is bad by itself.
    """

    title: str
    unit: str
    queries: tuple[Query, ...]
    kind: str = "timeseries"
    bad: float | None = None


def _of(name: str, **matchers: str) -> str:
    chosen = {label: value for label, value in _CHOSEN.items() if label in _LABELS.get(name, ())}
    return select(name, _JOB, **chosen | matchers)


def _by(labels: str, how: str, name: str, legend: str = "", *, over: str = "", **matchers: str) -> Query:
    """Return *how* the series of *name* are put together by *labels*; *over* is a function of time, such as rate."""
    series = _of(name, **matchers)
    if over:
        series = f"{over}({series}{_RANGE})"
    shown = " ".join(f"{{{{{label.strip()}}}}}" for label in labels.split(","))
    return Query(f"{how} by ({labels}) ({series})", f"{shown} {legend}".strip())


def _quantiles(name: str) -> tuple[Query, ...]:
    """Return median and 99th percentile of a histogram, by role: the information metric tells whose it is."""
    info = _of("rejoinder_info")
    buckets = f"rate({_of(f'{name}_bucket')}{_RANGE}) * on (job, instance) group_left (role) {info}"
    return tuple(
        Query(f"histogram_quantile({share}, sum by (le, role) ({buckets}))", f"{{{{role}}}} p{share * 100:.0f}")
        for share in (0.5, 0.99)
    )


def _lines(title: str, unit: str, *queries: Query) -> Panel:
    return Panel(title, unit, queries)


def _stat(title: str, unit: str, expr: str, bad: float | None, legend: str = "") -> Panel:
    return Panel(title, unit, (Query(expr, legend),), "stat", bad)


def _day(title: str, name: str) -> Panel:
    return _stat(title, "none", f"sum(increase({_of(name)}[1d])) or vector(0)", 1)


_FIRING: Final = 'count(ALERTS{alertname=~"Rejoinder.*", alertstate="firing"}) or vector(0)'
_LEFT: Final = f"min({_of('rejoinder_state_disk_free_bytes')} / {_of('rejoinder_state_disk_bytes')})"
_HIDDEN: Final = (
    f"max by (topic) ({_of('kafka_topic_partition_current_offset')}"
    f" - {_of('kafka_topic_partition_last_stable_offset')})"
)

_WELL: Final = (
    _stat("Alerts that fire", "none", _FIRING, 1),
    _stat("Processes", "none", f"count by (role) ({_of('rejoinder_info')})", None, "{{role}}"),
    _stat("Behind", "s", f"max({_of('kafka_consumergroup_lag_seconds')})", 60),
    _stat("Oldest that waits", "s", f"max({_of('rejoinder_processes_oldest_seconds')}) or vector(0)", 3600),
    _stat("Partitions held", "none", f"sum({_of('rejoinder_partitions', phase='held')}) or vector(0)", 1),
    _day("Dead letters, a day", "rejoinder_dead_letters_total"),
    _day("Mails in doubt, a day", "rejoinder_mails_in_doubt_total"),
    _stat("Disk left, the least", "percentunit", _LEFT, None),
)

_LAG: Final = (
    _lines("Seconds behind", "s", _by("consumergroup, topic", "max", "kafka_consumergroup_lag_seconds")),
    _lines("Offsets behind", "none", _by("consumergroup, topic", "sum", "kafka_consumergroup_lag")),
    _lines("Offsets behind, whole topics", "none", _by("consumergroup, topic", "sum", "kafka_consumergroup_lag_sum")),
    _lines("Consumed a second", "ops", _by("consumergroup, topic", "sum", "rejoinder_consumed_per_second")),
    _lines(
        "Partitions that aren't OK",
        "none",
        _by("consumergroup, status", "sum", "rejoinder_lag_status", status="~WARN|STALL|STOP|REWIND"),
    ),
    _lines("Behind an open transaction", "none", Query(_HIDDEN, "{{topic}}")),
    _lines("Written a second", "ops", _by("topic", "sum", "kafka_topic_partition_current_offset", over="rate")),
    _lines("Committed position", "none", _by("topic, partition", "max", "kafka_consumergroup_current_offset")),
    _lines("Members", "none", _by("consumergroup", "max", "kafka_consumergroup_members")),
    _lines("Age of the last look", "s", _by("instance", "max", "rejoinder_lag_look_age_seconds")),
)

_WORK: Final = (
    _lines("That wait", "none", _by("step", "sum", "rejoinder_processes_waiting")),
    _lines("The oldest of them", "s", _by("step", "max", "rejoinder_processes_oldest_seconds")),
    _lines("Partitions not counted yet", "none", _by("instance", "sum", "rejoinder_partitions_uncounted")),
    _lines("Decisions a second", "ops", _by("message", "sum", "rejoinder_decisions_total", over="rate")),
    _lines("The same, by step and branch", "ops", _by("step, branch", "sum", "rejoinder_decisions_total", over="rate")),
    _lines("Dead letters", "none", _by("reason", "sum", "rejoinder_dead_letters_total", over="increase")),
)

_COMMIT: Final = (
    _lines("Time of a commit", "s", *_quantiles("rejoinder_commit_seconds")),
    _lines("Records of a transaction", "none", *_quantiles("rejoinder_batch_records")),
    _lines("Commits a second", "ops", _by("instance", "sum", "rejoinder_commits_total", over="rate")),
    _lines(
        "Transaction markers a second", "ops", _by("topic", "sum", "rejoinder_transaction_markers_total", over="rate")
    ),
    _lines(
        "Aborts and sessions",
        "none",
        _by("instance", "sum", "rejoinder_aborts_total", "aborts", over="increase"),
        _by("instance", "sum", "rejoinder_sessions_total", "sessions", over="increase"),
    ),
)

_STORE: Final = (
    _lines("Partitions by phase", "none", _by("instance, phase", "sum", "rejoinder_partitions")),
    _lines("Left to restore", "none", _by("instance, partition", "sum", "rejoinder_restore_left")),
    _lines("Rows restored", "none", _by("instance, partition", "sum", "rejoinder_restore_rows")),
    _lines("Rows restored a second", "ops", _by("instance", "sum", "rejoinder_restore_rows_per_second")),
    _lines("Restores that fail", "none", _by("instance, partition", "sum", "rejoinder_restore_failing")),
    _lines("Entries", "none", _by("instance", "sum", "rejoinder_store_entries")),
    _lines(
        "Memory",
        "bytes",
        _by("instance", "sum", "rejoinder_store_memory_bytes"),
        _by("instance", "sum", "rejoinder_store_buffer_bytes", "buffers"),
        _by("instance", "max", "rejoinder_store_memory_limit_bytes", "limit"),
    ),
    _lines(
        "Disk",
        "bytes",
        _by("instance", "sum", "rejoinder_store_disk_bytes", "RocksDB"),
        _by("instance", "min", "rejoinder_state_disk_free_bytes", "left"),
    ),
)


def _service(name: str, role: str) -> tuple[Panel, ...]:
    group = f"~$application-{role}"
    seconds = _by("topic", "max", "kafka_consumergroup_lag_seconds", consumergroup=group)
    rate = _by("topic", "sum", "rejoinder_consumed_per_second", consumergroup=group)
    return _lines(f"{name}: seconds behind", "s", seconds), _lines(f"{name}: consumed a second", "ops", rate)


_SERVICES: Final = (
    *_service("E-mail", "email"),
    _lines("Mails in doubt", "none", _by("then", "sum", "rejoinder_mails_in_doubt_total", over="increase")),
    *_service("Orders", "orders"),
)

_PROCESSES: Final = (
    _lines("Age of the last turn", "s", _by("instance", "max", "rejoinder_session_turn_age_seconds")),
    _lines("Event loop late by", "s", _by("instance", "max", "rejoinder_loop_lag_seconds")),
    _lines("Threads", "none", _by("instance, thread", "min", "rejoinder_thread_alive")),
    _lines("Releases", "none", _by("role, version", "count", "rejoinder_info")),
)

ROWS: Final[dict[str, tuple[Panel, ...]]] = {
    "Is all well?": _WELL,
    "Lag": _LAG,
    "Order confirmations": _WORK,
    "Commit": _COMMIT,
    "Partitions, restore and store": _STORE,
    "E-mail and orders services": _SERVICES,
    "Processes": _PROCESSES,
}
