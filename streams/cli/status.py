"""``rejoinder status``: the whole at a glance."""

from __future__ import annotations

import json
import time
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.markup import escape

from streams import settings as settings_module
from streams.cli.arguments import plain, spoken
from streams.cli.lag import counted, show_waiting, style_of
from streams.durations import parse_duration_ms
from streams.errors import ConfigurationError
from streams.monitor.group_offsets import GroupLooker
from streams.monitor.lag import History, Place
from streams.overview import (
    ask_all,
    dead_letters,
    members_of,
    picture_of,
    waiting_of,
    with_statuses,
    worker_group,
)
from streams.settings import Settings

LOOKS: Final = 3
EVERY_S: Final = 0.5


def status(
    since: Annotated[str, typer.Option(help="Dead letters since then.")] = "24h",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show all at a glance: members, their partitions and releases, lag, who waits for what, and dead letters."""
    settings = settings_module.load()
    try:
        since_ms = int(parse_duration_ms(since))
    except ValueError as exc:
        raise ConfigurationError(f"--since {exc}") from exc
    found = _found(settings, since_ms)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    _show(found, since)


def _found(settings: Settings, since_ms: int) -> dict[str, Any]:
    looker = GroupLooker(settings)
    histories: dict[Place, History] = {}
    try:
        for number in range(LOOKS):
            if number:
                time.sleep(EVERY_S)
            last = looker.look()
            for place, look in last.looks.items():
                histories.setdefault(place, History()).add(look)
    finally:
        looker.close()
    statuses = ask_all(settings, members_of(last), "/status")
    group = worker_group(settings)
    workers = {url: statuses[url] for url in members_of(last, [group])}
    picture = with_statuses(picture_of(last, histories, *waiting_of(last, group, workers)), statuses)
    return picture | {"dead_letters": dead_letters(settings, since_ms)}


def _show(found: dict[str, Any], since: str) -> None:
    console = Console(highlight=False, soft_wrap=True)
    for group in found["groups"]:
        status = group["status"] or "-"
        behind = max((partition["seconds"] for partition in group["partitions"]), default=0.0)
        unowned = sum(partition["member"] is None for partition in group["partitions"])
        console.print(
            f"[bold]{escape(group['group'])}[/]: [{style_of(group)}]{status}[/], lag {counted(group['lag'])}, "
            f"{spoken(behind)} behind" + (f", [red]{unowned} partitions that nobody has[/]" if unowned else "")
        )
        if not group["members"]:
            console.print("  [red]no member[/]")
        for member in group["members"]:
            _show_member(console, member)
    console.print()
    show_waiting(console, found["waiting"], found["unanswered"])
    letters = ", ".join(f"{escape(plain(str(reason)))} {count}" for reason, count in found["dead_letters"].items())
    console.print(f"dead letters, last {escape(since)}: {letters or 'none'}")


def _show_member(console: Console, member: dict[str, Any]) -> None:
    url, status = escape(plain(member["client_id"])), member["status"]
    if "error" in status:
        console.print(f"  {url}  [red]{escape(plain(status['error']))}[/]")
        return
    phases: dict[str, list[str]] = {}
    for number, phase in status["partitions"].items():
        phases.setdefault(phase, []).append(number)
    listed = "; ".join(f"{phase} {', '.join(numbers)}" for phase, numbers in phases.items()) or "no partition"
    what = f"{status['instance']}, release {status['version']}: {listed}"
    console.print(f"  {url}  {escape(plain(what))}")
    for at in status["held"]:
        record = f"{at['topic']}/{at['partition']}/{at['offset']}"
        console.print(
            f"    [red]held at {escape(plain(record))}[/]: our code fails on it; see the log, `rejoinder skip`"
        )
