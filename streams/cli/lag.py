"""``rejoinder lag``: the table that Kafka's own tool prints, with what it can't know beside it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, NamedTuple

import typer
from rich.console import Console
from rich.markup import escape

from streams import settings as settings_module
from streams.cli.arguments import plain, spoken
from streams.durations import parse_duration_ms
from streams.errors import ConfigurationError, RejoinderError
from streams.monitor.group_offsets import Found, GroupLooker
from streams.monitor.lag import WINDOW, History, Place, Status
from streams.overview import ask_all, members_of, picture_of, waiting_of, worker_group
from streams.settings import Settings
from streams.transport.topics import ROLES

ROLES_: Final = tuple(ROLES.values())
_STYLES: Final = {Status.OK: "green", Status.WARN: "yellow"}
_HEAD: Final = (
    "GROUP", "TOPIC", "PARTITION", "CURRENT-OFFSET", "LOG-END-OFFSET", "LAG", "UNSTABLE", "SECONDS", "RATE/S", "ETA",
    "STATUS", "CONSUMER-ID", "HOST", "CLIENT-ID",
)  # fmt: skip


class OverThreshold(RejoinderError):
    """Something is more than the command line allows."""

    exit_code = 2


class Limits(NamedTuple):
    """What is still well; None: whatever it is. Durations are seconds."""

    lag: int | None
    age_s: float | None
    wait_s: float | None
    status: bool

    def over(self, picture: Mapping[str, Any]) -> list[str]:
        """Return what of *picture* is over them, a line each."""
        found = []
        for group in picture["groups"]:
            if self.status and not group["members"]:
                found.append(f"{group['group']} has no member")
            elif self.status and group["status"] != Status.OK.value:
                found.append(f"{group['group']} is {group['status'] or 'of no known status, for too few looks'}")
            for at in group["partitions"]:
                where = f"{at['topic']}/{at['partition']} of {group['group']}"
                if self.lag is not None and (at["lag"] is None or at["lag"] > self.lag):
                    found.append(f"{where}: lag {'unknown' if at['lag'] is None else at['lag']}, of {self.lag} at most")
                if self.age_s is not None and at["seconds"] > self.age_s:
                    found.append(f"{where}: {at['seconds']:.1f} s behind, of {self.age_s:g} s at most")
        if self.wait_s is not None:
            found += [
                f"{step['step']}: one waits for {step['oldest_s']:.0f} s, of {self.wait_s:g} s at most"
                for step in picture["waiting"]
                if step["oldest_s"] > self.wait_s
            ]
        if self.wait_s is not None and picture["unanswered"]:
            found.append(f"who waits isn't known: {'; '.join(picture['unanswered'])}")
        return found


def lag(
    group: Annotated[
        list[str] | None,
        typer.Option("--group", help=f"Of this group only ({', '.join(ROLES_)}); may be repeated.", show_default=False),
    ] = None,
    looks: Annotated[int, typer.Option(min=1, max=60, help="Looks at the cluster; rate and status need two.")] = 5,
    every: Annotated[str, typer.Option(help="From one look to the next.")] = "1s",
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on, until Ctrl-C; the last look decides the exit code.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON; with --watch a line for each look.")] = False,
    max_lag: Annotated[int | None, typer.Option(min=0, help="Exit code 2 if a partition's lag is more.")] = None,
    max_age: Annotated[str | None, typer.Option(help="The same, if a record isn't read yet for longer.")] = None,
    max_wait: Annotated[str | None, typer.Option(help="The same, if a process waits for longer.")] = None,
    fail: Annotated[bool, typer.Option("--fail", help="The same, if a group's status isn't OK.")] = False,
) -> None:
    """
    Say how far each group is behind, for how long, when it will have caught up, and how many processes wait for what.

    LAG is of what a reader of committed records can get; UNSTABLE waits for an open transaction. A status is Burrow's.
    """
    settings = settings_module.load()
    if fail and looks == 1 and not watch:
        raise ConfigurationError("--fail needs two looks to judge by: --looks 2 or more")
    limits = Limits(max_lag, _seconds(max_age), _seconds(max_wait), status=fail)
    every_s = _seconds(every) or 0.0
    looker = GroupLooker(settings, _roles(group))
    histories: dict[Place, History] = {}
    console = Console(highlight=False, soft_wrap=True)
    over: list[str] = []
    try:
        for number in range(1, looks + 1) if not watch else iter(int, 1):
            if histories:
                time.sleep(every_s)
            found = _look(looker, histories)
            if watch or number == looks:
                picture = _picture(settings, found, histories)
                over = limits.over(picture)
                _show(console, picture, as_json=as_json, clear=watch, over=over if watch else ())
    except KeyboardInterrupt:
        # The usual end of --watch: what was over at the last look decides as it does at the end of one run.
        if not watch:
            raise
    finally:
        looker.close()
    if over:
        raise OverThreshold("; ".join(over))


def _roles(groups: list[str] | None) -> tuple[str, ...]:
    if unknown := set(groups or ()) - set(ROLES_):
        raise ConfigurationError(f"--group {', '.join(sorted(unknown))}: allowed: {', '.join(ROLES_)}")
    return tuple(groups or ROLES_)


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return int(parse_duration_ms(text)) / 1000
    except ValueError as exc:
        raise ConfigurationError(f"{text!r}: {exc}") from exc


def _look(looker: GroupLooker, histories: dict[Place, History]) -> Found:
    found = looker.look()
    for place, look in found.looks.items():
        histories.setdefault(place, History(WINDOW)).add(look)
    return found


def _picture(settings: Settings, found: Found, histories: Mapping[Place, History]) -> dict[str, Any]:
    group = worker_group(settings)
    statuses = ask_all(settings, members_of(found, [group]), "/status")
    return picture_of(found, histories, *waiting_of(found, group, statuses))


def _show(
    console: Console, picture: Mapping[str, Any], *, as_json: bool, clear: bool, over: Sequence[str] = ()
) -> None:
    """Print *picture*, on a cleared screen if it is one of many, and what of it is *over* the limits."""
    if as_json:
        typer.echo(json.dumps({**picture, "over": [*over]} if clear else picture, indent=None if clear else 2))
        return
    if clear:
        console.clear()
    rows = [(group["group"], *_cells(partition)) for group in picture["groups"] for partition in group["partitions"]]
    widths = [max(len(row[column]) for row in [_HEAD, *rows]) for column in range(len(_HEAD))]
    for row in [_HEAD, *rows]:
        console.print(escape("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()))
    console.print()
    for group in picture["groups"]:
        status = group["status"] or "-"
        style = style_of(group)
        console.print(
            f"[bold]{escape(group['group'])}[/]: [{style}]{status}[/], lag {counted(group['lag'])}, "
            + (f"members: {len(group['members'])}" if group["members"] else "[red]no member[/]")
        )
    show_waiting(console, picture["waiting"], picture["unanswered"])
    for line in over:
        console.print(f"[bold red]over[/]: {escape(plain(line))}")


def style_of(group: Mapping[str, Any]) -> str:
    """Return how a group's status is printed; nobody is well without a member."""
    if group["status"] is None:
        return "bold"
    return _STYLES.get(Status(group["status"]), "red") if group["members"] else "red"


def counted(lag: int | None) -> str:
    """Return a group's lag in words."""
    return "unknown: there are partitions without a position" if lag is None else f"{lag:,}"


def show_waiting(console: Console, waiting: list[dict[str, Any]], unanswered: list[str]) -> None:
    """Print who waits, and what isn't known of it."""
    for step in waiting:
        oldest = spoken(step["oldest_s"])
        console.print(f"[bold]{escape(step['step'])}[/]: {step['processes']:,} processes, the oldest for {oldest}")
    if not waiting and not unanswered:
        console.print("no process waits for anything")
    for line in unanswered:
        console.print(f"[yellow]who waits isn't all known[/]: {escape(plain(line))}")


def _cells(at: Mapping[str, Any]) -> tuple[str, ...]:
    member = at["member"] or {"consumer_id": "-", "host": "-", "client_id": "-"}
    return (
        at["topic"],
        str(at["partition"]),
        _number(at["committed"]),
        _number(at["end"]),
        _number(at["lag"]),
        str(at["unstable"]),
        f"{at['seconds']:.1f}",
        "-" if at["rate"] is None else f"{at['rate']:,.1f}",
        "-" if at["eta_s"] is None else spoken(at["eta_s"]),
        at["status"] or "-",
        # Of whoever joined the group: nothing in it does anything to a terminal.
        plain(member["consumer_id"]),
        plain(member["host"]),
        plain(member["client_id"]),
    )


def _number(value: int | None) -> str:
    return "-" if value is None else str(value)
