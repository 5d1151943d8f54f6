"""
Every alert on series that promtool makes up: when it fires, when it doesn't, and that nothing else fires beside it.

A scenario is a healthy system of two workers and the services over an hour, with some series of its own.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
import yaml

from streams.alerts import ALERTS
from tests.deploy.prometheus import filled, promtool
from tests.deploy.tools import ROOT
from tools import monitoring

pytestmark = pytest.mark.deploy

Series = dict[str, str]

_W0: Final = 'job="rejoinder", instance="worker-0"'
_W1: Final = 'job="rejoinder", instance="worker-1"'
_EMAIL: Final = 'job="rejoinder", instance="email-0"'
_PLACE: Final = 'consumergroup="rejoinder-worker", topic="order-confirmation.commands", partition="0"'
_TOPIC: Final = 'topic="order-confirmation.commands", partition="0"'
_UP: Final = f"up{{{_W0}}}"
_WORKERS: Final = {f'rejoinder_info{{{who}, role="worker", version="1"}}': "1x60" for who in (_W0, _W1)}
_MEMBERS: Final = f'kafka_consumergroup_members{{{_W0}, consumergroup="rejoinder-worker"}}'
_SECONDS: Final = f"kafka_consumergroup_lag_seconds{{{_W0}, {_PLACE}}}"
_STALL: Final = f'rejoinder_lag_status{{{_W0}, {_PLACE}, status="STALL"}}'
_LOOK: Final = f"rejoinder_lag_look_age_seconds{{{_W0}}}"
_TURN: Final = f"rejoinder_session_turn_age_seconds{{{_W0}}}"
_THREAD: Final = f'rejoinder_thread_alive{{{_W0}, thread="lag"}}'
_FREE: Final = f"rejoinder_state_disk_free_bytes{{{_W0}}}"
_HELD: Final = f'rejoinder_partitions{{{_W0}, phase="held"}}'
_WAITING: Final = f'rejoinder_partitions{{{_W0}, phase="waiting"}}'
_BACKING: Final = f'rejoinder_partitions{{{_W0}, phase="backing off"}}'
_LEFT: Final = f'rejoinder_restore_left{{{_W0}, partition="0"}}'
_FAILING: Final = f'rejoinder_restore_failing{{{_W0}, partition="0"}}'
_OLDEST: Final = f'rejoinder_processes_oldest_seconds{{{_W0}, step="awaiting details", partition="0"}}'
_ABORTS: Final = f"rejoinder_aborts_total{{{_W0}}}"
_SESSIONS: Final = f"rejoinder_sessions_total{{{_W0}}}"
_LETTERS: Final = f'rejoinder_dead_letters_total{{{_W0}, reason="null"}}'
_DOUBT: Final = f'rejoinder_mails_in_doubt_total{{{_EMAIL}, then="hold"}}'
_END: Final = f"kafka_topic_partition_current_offset{{{_W0}, {_TOPIC}}}"
_STABLE: Final = f"kafka_topic_partition_last_stable_offset{{{_W0}, {_TOPIC}}}"

HEALTHY: Final[Series] = _WORKERS | {
    'rejoinder_info{job="rejoinder", instance="orders-0", role="orders", version="1"}': "1x60",
    f'rejoinder_info{{{_EMAIL}, role="email", version="1"}}': "1x60",
    _UP: "1x60",
    _MEMBERS: "2x60",
    _SECONDS: "0.2x60",
    _STALL: "0x60",
    f'rejoinder_lag_status{{{_W0}, {_PLACE}, status="OK"}}': "1x60",
    _LOOK: "7x60",
    _TURN: "0.1x60",
    _THREAD: "1x60",
    _FREE: "50x60",
    f"rejoinder_state_disk_bytes{{{_W0}}}": "100x60",
    _HELD: "0x60",
    _WAITING: "0x60",
    _BACKING: "0x60",
    f'rejoinder_partitions{{{_W0}, phase="running"}}': "4x60",
    _OLDEST: "2x60",
    _ABORTS: "0x60",
    _SESSIONS: "1x60",
    _LETTERS: "3x60",  # Of days ago.
    _END: "100+600x60",
    _STABLE: "90+600x60",  # A transaction is always under way.
}


class Scenario(NamedTuple):
    """*series* replace healthy ones; *fires* has, by minute, all that fires then: name and severity."""

    series: Series
    fires: dict[int, list[str]]
    without: tuple[str, ...] = ()


def _once(name: str, severity: str, series: Series, *, quiet_at: int, fires_at: int, **more: Any) -> Scenario:
    return Scenario(series, {quiet_at: [], fires_at: [f"{name} {severity}"]}, **more)


SCENARIOS: Final = {
    "healthy": Scenario({}, {20: [], 40: [], 59: []}),
    # What must wake nobody.
    "a topic on which nothing happens": Scenario(
        {_END: "5000x60", _STABLE: "5000x60", _SESSIONS: "1x60", _SECONDS: "0x60"}, {30: [], 59: []}
    ),
    "the first transaction after a quiet hour": Scenario(
        {_END: "5000x40 5010x1 5600+600x18", _STABLE: "5000x40 5000x1 5590+600x18"}, {41: [], 45: [], 59: []}
    ),
    "a rebalance": Scenario(
        {
            _MEMBERS: "2x20 1x1 2x38",
            _WAITING: "0x20 4x1 0x38",
            _SECONDS: "0.2x20 50 40 0.2x37",
            _STALL: "0x20 1x2 0x37",
            _ABORTS: "0x20 1x39",
        },
        {minute: [] for minute in (21, 22, 24, 26, 31)},
    ),
    "a rolling restart": Scenario(
        {
            _UP: "1x20 0x2 1x37",
            f'rejoinder_info{{{_W0}, role="worker", version="1"}}': "1x20 _x2 1x37",
            _LETTERS: "3x20 _x39",
            _SECONDS: "0.2x20 _x2 70x2 0.2x35",
            _WAITING: "0x20 _x2 4x3 0x34",
            _LEFT: "_x22 9000 4000 1000 _x34",
            _SESSIONS: "1x20 _x2 1x37",
            _ABORTS: "1x20 _x2 0x37",
        },
        {minute: [] for minute in (21, 23, 25, 27, 30, 40)},
    ),
    "a long restore that gets on": Scenario({_WAITING: "0x10 4x49", _LEFT: "_x10 900000-10000x49"}, {30: [], 59: []}),
    "a flood that is worked off": Scenario({_SECONDS: "0.2x20 30 50 55 40 20 5 0.2x33"}, {23: [], 27: []}),
    "a batch of mails that takes three minutes": Scenario(
        {_TURN: "0.1x20 60+60x3 0.1x35", _STALL: "0x20 1x3 0x36"}, {23: [], 26: []}
    ),
    "the first orders after a start": Scenario({_SESSIONS: "_x15 1x44"}, {17: [], 20: [], 30: []}),
    "groups of others": Scenario(
        {
            'kafka_consumergroup_members{job="kafka-exporter", consumergroup="theirs"}': "0x60",
            'kafka_consumergroup_lag_seconds{job="kafka-exporter", consumergroup="theirs"}': "90000x60",
            'up{job="kafka-exporter"}': "0x60",
        },
        {59: []},
    ),
    # What must be told.
    "no worker": _once(
        "RejoinderRoleMissing", "critical",
        dict.fromkeys(_WORKERS, "1x20 _x39"), quiet_at=22, fires_at=35,
    ),
    "a worker doesn't answer": _once(
        "RejoinderTargetDown", "warning", {_UP: "1x20 0x39"}, quiet_at=24, fires_at=27
    ),
    "nobody in the group": _once(
        "RejoinderGroupEmpty", "critical", {_MEMBERS: "2x20 0x39"}, quiet_at=24, fires_at=27
    ),
    "a dead thread": _once(
        "RejoinderProcessStuck", "critical", {_THREAD: "1x20 0x39"}, quiet_at=20, fires_at=24
    ),
    "a turn without end": _once(
        "RejoinderProcessStuck", "critical", {_TURN: "0.1x20 60+60x38"}, quiet_at=34, fires_at=39
    ),
    "a disk that fills up": Scenario(
        {_FREE: "50x10 10x20 4x29"},
        {
            20: [],
            27: ["RejoinderDiskFilling warning"],
            40: ["RejoinderDiskFilling critical", "RejoinderDiskFilling warning"],
        },
    ),
    "a held partition": _once(
        "RejoinderPartitionHeld", "critical", {_HELD: "0x20 1x39"}, quiet_at=20, fires_at=23
    ),
    "a registry that is away": _once(
        "RejoinderPartitionBackingOff", "warning", {_BACKING: "0x20 4 0 4 4 0 4 0 0 4 4 4 0 4 4 0 4 4x20"},
        quiet_at=29, fires_at=33,
    ),
    "a restore that fails": _once(
        "RejoinderRestoreStuck", "critical", {_FAILING: "0x20 1x39", _LEFT: "900-1x60"}, quiet_at=29, fires_at=33
    ),
    "a restore that stands still": _once(
        "RejoinderRestoreStuck", "critical", {_WAITING: "0x20 1x39", _LEFT: "_x20 5000x39"}, quiet_at=30, fires_at=40
    ),
    "partitions that nobody restores": _once(
        "RejoinderPartitionWaiting", "critical", {_WAITING: "0x20 4x39"}, quiet_at=34, fires_at=38
    ),
    "a flood": Scenario(
        {_SECONDS: "0.2x20 100+100x39"},
        {24: [], 28: ["RejoinderLagging warning"], 45: ["RejoinderLagging critical", "RejoinderLagging warning"]},
    ),
    "a partition that stalls": _once(
        "RejoinderStalled", "critical", {_STALL: "0x20 1x39"}, quiet_at=29, fires_at=33
    ),
    "a stalled partition that moves to another worker": _once(
        "RejoinderStalled", "critical",
        {_STALL: "0x20 1x5 _x34", f'rejoinder_lag_status{{{_W1}, {_PLACE}, status="STALL"}}': "_x26 1x33"},
        quiet_at=29, fires_at=33,
    ),
    "brokers that don't answer": _once(
        "RejoinderLagUnknown", "warning", {_LOOK: "7x20 60+60x38"}, quiet_at=28, fires_at=32
    ),
    "a hanging transaction, behind which nothing is counted as lag": _once(
        "RejoinderTransactionHanging", "critical",
        {_END: "100+600x20 12200x39", _STABLE: "90+600x20 12100x39", _SECONDS: "0x60"}, quiet_at=28, fires_at=40,
    ),
    "a hanging transaction of a partition that moves": _once(
        "RejoinderTransactionHanging", "critical",
        {
            _END: "600x30 _x29", _STABLE: "490+1x20 510x9 _x29",
            f"kafka_topic_partition_current_offset{{{_W1}, {_TOPIC}}}": "_x31 600x28",
            f"kafka_topic_partition_last_stable_offset{{{_W1}, {_TOPIC}}}": "_x31 510x28",
        },
        quiet_at=33, fires_at=38,
    ),
    "commits that fail": _once(
        "RejoinderCommitsFailing", "warning", {_ABORTS: "0x20 1+1x38"}, quiet_at=28, fires_at=34
    ),
    "a session that begins again and again": _once(
        "RejoinderCommitsFailing", "warning", {_SESSIONS: "1x20 2+1x38"}, quiet_at=28, fires_at=38
    ),
    "an answer that never comes": Scenario(
        {_OLDEST: "2x10 3700+60x9 50000+60x39"},
        {
            15: [],
            22: ["RejoinderProcessOld warning"],
            35: ["RejoinderProcessOld critical", "RejoinderProcessOld warning"],
        },
    ),
    "a first dead letter": Scenario(
        {f'rejoinder_dead_letters_total{{{_W1}, reason="key-mismatch"}}': "_x21 1x38"},
        {20: [], 22: ["RejoinderDeadLetters warning"], 40: []},
    ),
    "more dead letters": Scenario({_LETTERS: "3x20 5x39"}, {20: [], 22: ["RejoinderDeadLetters warning"], 40: []}),
    "a mail in doubt": Scenario({_DOUBT: "_x21 1x38"}, {20: [], 22: ["RejoinderMailsInDoubt warning"], 40: []}),
}  # fmt: skip


def _samples(fires: list[str]) -> list[dict[str, Any]]:
    return [
        {"labels": f'{{alertname="{name}", severity="{severity}"}}', "value": 1}
        for name, _, severity in (one.partition(" ") for one in fires)
    ]


def _test(name: str, scenario: Scenario) -> dict[str, Any]:
    series = HEALTHY | scenario.series
    return {
        "name": name,
        "interval": "1m",
        "input_series": [{"series": one, "values": values} for one, values in series.items()],
        "promql_expr_test": [
            {
                "expr": 'group by (alertname, severity) (ALERTS{alertstate="firing"})',
                "eval_time": f"{minute}m",
                "exp_samples": _samples(fires),
            }
            for minute, fires in scenario.fires.items()
        ],
    }


def _run(tmp_path: Path, tests: list[dict[str, Any]]) -> None:
    rules = str(ROOT / monitoring.RULES)
    document = {"rule_files": [rules], "evaluation_interval": "1m", "tests": tests}
    (tmp_path / "alerts.yml").write_text(yaml.safe_dump(document, sort_keys=False))
    promtool("test", "rules", "alerts.yml", at=tmp_path)


@pytest.mark.parametrize("name", SCENARIOS)
def test_what_fires(name: str, tmp_path: Path) -> None:
    """Just that, and when."""
    _run(tmp_path, [_test(name, SCENARIOS[name])])


def test_a_wrong_expectation_is_noticed(tmp_path: Path) -> None:
    """Else the tests above would mean nothing."""
    with pytest.raises(AssertionError, match="RejoinderStalled"):
        _run(tmp_path, [_test("wrong", SCENARIOS["a partition that stalls"]._replace(fires={33: []}))])


def test_every_alert_has_a_scenario() -> None:
    """At each of its severities."""
    told = {one for scenario in SCENARIOS.values() for fires in scenario.fires.values() for one in fires}
    assert {f"{alert.name} {alert.severity}" for some in ALERTS.values() for alert in some} == told


def test_rules_are_well_formed(tmp_path: Path) -> None:
    """Templates included: promtool expands them."""
    assert "SUCCESS" in promtool("check", "rules", str(ROOT / monitoring.RULES), at=tmp_path)


def test_annotations_say_what_is_seen(tmp_path: Path) -> None:
    """With values, for a person who reads no PromQL."""
    test = _test("texts", Scenario({_SECONDS: "0.2x10 100x49"}, {}))
    del test["promql_expr_test"]
    test["alert_rule_test"] = [
        {
            "eval_time": "20m",
            "alertname": "RejoinderLagging",
            "exp_alerts": [
                {
                    "exp_labels": {"severity": "warning", "job": "rejoinder", "consumergroup": "rejoinder-worker"},
                    "exp_annotations": {
                        "summary": "A group is behind.",
                        "description": "rejoinder-worker is 1m 40s behind.",
                        "runbook_url": "docs/runbooks/RejoinderLagging.md",
                    },
                }
            ],
        }
    ]
    _run(tmp_path, [test])


def test_queries_of_the_dashboard_are_promql(tmp_path: Path) -> None:
    """Each is a rule's expression, once its variables have values."""
    board = json.loads((ROOT / monitoring.DASHBOARD).read_text())
    rules = [
        {"record": f"panel:{number}", "expr": filled(target["expr"])}
        for number, target in enumerate(target for panel in board["panels"] for target in panel.get("targets", []))
    ]
    assert len(rules) > len(board["panels"]) / 2
    (tmp_path / "panels.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    promtool("check", "rules", "panels.yml", at=tmp_path)
