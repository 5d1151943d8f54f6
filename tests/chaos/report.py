"""What a run is summed up to: for people, for programs, and for docs/reliability.md."""

from __future__ import annotations

import os
import platform
import time
from importlib.metadata import version
from typing import Any, Final

import confluent_kafka
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from streams.local.kafka import KAFKA_VERSION
from tests.chaos.run import Result

CHECKS: Final = {
    "C1": "each command with details has a SendEmail",
    "C2": "at most one, and one more for each EmailFailed that wasn't permanent",
    "C3": "all that was produced equals the reference model",
    "C4": "inputs = ended + waiting + dead letters",
    "C5": "each local store equals a replay of its changelog",
    "C6": "lag zero, no open transaction",
}


def versions(result: Result) -> dict[str, str]:
    """Return what ran."""
    return {
        "Apache Kafka": KAFKA_VERSION,
        "librdkafka": confluent_kafka.libversion()[0],
        "confluent-kafka": version("confluent-kafka"),
        "RocksDB": f"{result.rocksdb} (rocksdict {version('rocksdict')})",
        "faust-streaming": version("faust-streaming"),
        "Python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    }


def summary(result: Result, command: str) -> dict[str, Any]:
    """Return everything, as JSON has it."""
    verdict, tally = result.verdict, result.verdict.tally
    faults: dict[str, dict[str, int]] = {}
    for event in result.events:
        kind = faults.setdefault(event.fault.value, {"scheduled": 0, "happened": 0})
        kind["scheduled"] += 1
        kind["happened"] += event.happened
    return {
        "command": command,
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "ok": not result.failures,
        "failures": result.failures,
        "orders": tally.orders,
        "commands": tally.commands,
        "inputs": tally.inputs,
        "send_emails": tally.emails,
        "queries": tally.queries,
        "outcomes": dict(tally.outcomes.most_common()),
        "corrected_outcomes": tally.corrections,
        "waiting": tally.waiting,
        "dead_letters": tally.dead_letters,
        "changelog_rows": tally.rows,
        "stores": tally.stores,
        "stale_stores": tally.stale_stores,
        "worker_kills": result.kills,
        "broker_kills": result.broker_kills,
        "workers_that_ended_by_themselves": len(result.ended_by_themselves),
        "workers_that_librdkafka_ended": result.ended_by_librdkafka,
        "faults": faults,
        "duplicates": {
            "allowed_after_a_failure": tally.resends,
            "of_these_for_a_failure_reported_twice": tally.resends_of_doubled,
            "forbidden": verdict.wrong.get("C2", 0),
        },
        "checks": {
            check: {"what": what, "checked": tally.checked[check], "violations": verdict.wrong.get(check, 0)}
            for check, what in CHECKS.items()
        },
        "violations": [violation._asdict() for violation in verdict.violations],
        "seconds": round(result.seconds, 1),
        "seconds_checking": round(result.seconds_checking, 1),
        "orders_per_second": round(tally.orders / result.seconds, 1),
        "events": [
            {"at_s": e.at_s, "seconds": e.seconds, "fault": e.fault.value, "observed": e.observed, "ok": e.happened}
            for e in result.events
        ],
        "versions": versions(result),
    }


def show(console: Console, told: dict[str, Any]) -> None:
    """Print the summary for people."""
    table = Table(box=None, show_header=False)
    for name, value in _figures(told).items():
        table.add_row(name, value)
    console.print(table)
    if told["faults"]:
        faults = Table("fault", "scheduled", "happened", box=None, header_style="bold")
        for name, times in sorted(told["faults"].items()):
            colour = "" if times["scheduled"] == times["happened"] else "[red]"
            faults.add_row(name, str(times["scheduled"]), f"{colour}{times['happened']}")
        console.print(faults)
    checks = Table("check", "", "looked at", "violations", box=None, header_style="bold")
    for name, check in told["checks"].items():
        mark = "[red]✗[/]" if check["violations"] else "[green]✓[/]"
        checks.add_row(f"{mark} {name}", check["what"], f"{check['checked']:,}", str(check["violations"]))
    console.print(checks)
    for violation in told["violations"][:20]:
        where = " ".join(violation["where"])
        told_of = f"[red]{violation['check']}[/] {violation['order_id']} {escape(violation['what'])}"
        console.print(f"{told_of}\n   {where}", soft_wrap=True)
    for failure in told["failures"]:
        console.print(f"[red]✗[/] {escape(failure)}", soft_wrap=True)
    console.print(", ".join(f"{name} {number}" for name, number in told["versions"].items()), style="dim")


def _figures(told: dict[str, Any]) -> dict[str, str]:
    """Return the summary's figures, for a table of any kind."""
    duplicates = told["duplicates"]
    return {
        "orders, commands": f"{told['orders']:,}, {told['commands']:,}",
        "input records": f"{told['inputs']:,}",
        "SendEmails": f"{told['send_emails']:,}",
        "outcomes": ", ".join(f"{name} {count:,}" for name, count in told["outcomes"].items()),
        "outcomes corrected": str(told["corrected_outcomes"]),
        "waiting, dead letters": f"{told['waiting']}, {told['dead_letters']:,}",
        "SendEmails repeated": f"{duplicates['allowed_after_a_failure']:,} after a failure (allowed; "
        f"{duplicates['of_these_for_a_failure_reported_twice']:,} of them for one that was reported twice), "
        f"{duplicates['forbidden']} forbidden",
        "workers killed": str(told["worker_kills"]),
        "brokers killed": str(told["broker_kills"]),
        "workers that ended by themselves": f"{told['workers_that_ended_by_themselves']}, "
        f"and {told['workers_that_librdkafka_ended']} ended by librdkafka",
        "stores compared": f"{told['stores']}, {told['stale_stores']} of them stale",
        "changelog rows replayed": f"{told['changelog_rows']:,}",
        "seconds": f"{told['seconds']} under load, {told['seconds_checking']} checking",
        "orders per second": f"{told['orders_per_second']:,}",
        "command": told["command"],
    }


def markdown(told: dict[str, Any]) -> str:
    """Return the summary as a page."""
    lines = [f"# Chaos: {'nothing lost, nothing twice' if told['ok'] else 'FAILED'}", "", told["at"], ""]
    lines += ["| | |", "|-|-|", *(f"| {name} | {value} |" for name, value in _figures(told).items()), ""]
    lines += ["| check | what | looked at | violations |", "|-|-|-|-|"]
    lines += [
        f"| {name} | {check['what']} | {check['checked']:,} | {check['violations']} |"
        for name, check in told["checks"].items()
    ]
    lines += ["", "| fault | scheduled | happened |", "|-|-|-|"]
    lines += [f"| {name} | {t['scheduled']} | {t['happened']} |" for name, t in sorted(told["faults"].items())]
    lines += ["", ", ".join(f"{name} {number}" for name, number in told["versions"].items()), ""]
    lines += [f"- FAILED: {failure}" for failure in told["failures"]]
    lines += [f"- {v['check']} {v['order_id']}: {v['what']} ({' '.join(v['where'])})" for v in told["violations"]]
    if told["events"]:
        lines += ["", "## Faults as they came", "", "| s | took | fault | seen |", "|-|-|-|-|"]
        lines += [
            f"| {e['at_s']} | {e['seconds']} | {e['fault']} | {e['observed'].replace('|', '/')} |"
            for e in told["events"]
        ]
    return "\n".join(lines) + "\n"
