"""``rejoinder explain``: one order's timeline, for a person at three in the morning."""

from __future__ import annotations

import json
import urllib.parse
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from streams import settings as settings_module
from streams.cli.arguments import OrderId, plain, spoken
from streams.errors import RejoinderError, Unavailable
from streams.monitor.group_offsets import GroupLooker
from streams.peers import NotFound, ask
from streams.settings import Settings
from streams.transport.assignment import owners_of
from streams.transport.partitioner import partition_of
from streams.transport.topics import ROLES, partitions_of
from topology.topics import COMMANDS


class UnknownOrder(RejoinderError):
    """Nothing is remembered of the order."""

    exit_code = 1


def explain(
    order_id: OrderId,
    as_json: Annotated[bool, typer.Option("--json", help="Print what the worker answers, as JSON.")] = False,
) -> None:
    """Say what happened to an order and when, what it waits for and until when, and who owns it."""
    settings = settings_module.load()
    found = _ask(settings, order_id)
    try:
        found["owner_lag"] = _owner_lag(settings, found["partition"])
    except RejoinderError as exc:
        # What is known of the order comes first.
        typer.secho(f"rejoinder: how far its owner is behind isn't known: {exc}", err=True)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    _show(found)


def _ask(settings: Settings, order_id: str) -> dict[str, Any]:
    partition = partition_of(order_id.encode(), partitions_of(settings, COMMANDS))
    owner = owners_of(settings, f"{settings.application_id}-worker").get(partition)
    if owner is None:
        raise Unavailable(f"no worker owns partition {partition} of order {order_id} now; is one running? Try again")
    try:
        return ask(settings, owner, f"/orders/{urllib.parse.quote(order_id, safe='')}")
    except NotFound as exc:
        unknown = f"nothing is remembered of order {order_id} (asked {owner})"
        raise UnknownOrder("; ".join([unknown, *_unread(settings, partition, owner)])) from exc


def _unread(settings: Settings, partition: int, owner: str) -> list[str]:
    """Return why its command may have come all the same: what isn't read yet of its partition, and where it is held."""
    try:
        found = [
            f"{at['topic']}/{partition} has {'unread records' if at['lag'] is None else at['lag']} still to be read"
            for at in _owner_lag(settings, partition)
            if at["lag"] != 0
        ]
        held = [at for at in ask(settings, owner, "/status")["held"] if at["partition"] == partition]
    except RejoinderError as exc:
        return [f"how far its partition has been read isn't known: {exc}"]
    records = [f"{at['topic']}/{at['partition']}/{at['offset']}" for at in held]
    return found + [f"its partition is held at {record}, where our own code fails" for record in records]


def _owner_lag(settings: Settings, partition: int) -> list[dict[str, Any]]:
    """Return how far the order's partition is behind, for each input: what came may not have been read yet."""
    looker = GroupLooker(settings, [ROLES[COMMANDS.consumer]])
    try:
        looks = looker.look().looks
    finally:
        looker.close()
    return [
        {"topic": place.topic, "lag": look.lag, "unstable": look.unstable, "seconds": look.age_s}
        for place, look in sorted(looks.items())
        if place.partition == partition
    ]


def _show(found: dict[str, Any]) -> None:
    console = Console(highlight=False, soft_wrap=True)
    # Escaped: an order id or a mail server's answer may look like markup.
    order_id = escape(plain(found["order_id"]))
    console.print(f"[bold]order {order_id}[/], partition {found['partition']}, owned by {found['owner']}")
    for at in found.get("owner_lag", ()):
        if at["lag"] != 0 or at["unstable"]:
            lag = "no position" if at["lag"] is None else f"lag {at['lag']:,}, {spoken(at['seconds'] or 0)} behind"
            console.print(f"  [yellow]{escape(at['topic'])}: {lag}, {at['unstable']} more in an open transaction[/]")
    if details := found["details"]:
        console.print(f"details: version {details['version']}, seen {details['seen_at']}")
    for process in found["processes"]:
        _show_process(console, process, found["partition"])
    for early in found["sent_before_their_command"]:
        console.print(f"\ne-mail {early['email_id']}: reported sent {early['heard_at']}, its command hasn't come")


def _show_process(console: Console, process: dict[str, Any], partition: int) -> None:
    reason = f" ({process['reason']})" if process["reason"] else ""
    console.print(f"\n[bold]command {process['command_id']}[/]: {process['state']}{reason}")
    if process["waits_for"]:
        console.print(f"waits for {process['waits_for']}, next deadline {process['next_deadline_at']}")
    if process["next_try_at"]:
        attempts = f"{process['query_attempt']} queries and {process['email_attempt']} e-mails so far"
        console.print(f"tries again at {process['next_try_at']}, {attempts}")
    if process["gives_up_at"]:
        console.print(f"gives up at {process['gives_up_at']}")
    for event in process["timeline"]:
        rest = ", ".join(f"{name} {value}" for name, value in event.items() if name not in ("at", "event", "cause"))
        what = f"{event['event']} ({rest})" if rest else event["event"]
        cause = event["cause"]
        because = "a deadline" if cause.get("deadline") else f"{cause['topic']}/{partition}/{cause['offset']}"
        console.print(f"  {event['at']}  {escape(plain(what)):<44}  {because}")
