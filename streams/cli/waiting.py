"""``rejoinder waiting``: the processes that wait, and for how long."""

from __future__ import annotations

import heapq
import json
import time
import urllib.parse
from collections.abc import Iterator
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.markup import escape

from streams import settings as settings_module
from streams.cli.arguments import plain, spoken
from streams.durations import parse_duration_ms
from streams.errors import ConfigurationError, Unavailable
from streams.peers import ask
from streams.processing.waiting import WAITING
from streams.settings import Settings
from streams.transport.assignment import owners_of
from streams.transport.topics import partitions_of
from topology.topics import COMMANDS

LIMIT: Final = 50
LOOK_S: Final = 15.0


def waiting(
    step: Annotated[
        str | None, typer.Option(help=f"At this step only: {', '.join(step.title for step in WAITING)}.")
    ] = None,
    older_than: Annotated[str, typer.Option(help="Whose command came before that, such as 90m or 2d.")] = "0s",
    limit: Annotated[int, typer.Option(min=1, help="Show the oldest so many; all are counted.")] = LIMIT,
    as_json: Annotated[bool, typer.Option("--json", help="Print all of them, one JSON object a line.")] = False,
) -> None:
    """List the processes that wait for an answer, the oldest first; asks every worker."""
    settings = settings_module.load()
    try:
        older_ms = int(parse_duration_ms(older_than))
    except ValueError as exc:
        raise ConfigurationError(f"--older-than {exc}") from exc
    titles = [step.title for step in WAITING]
    if step is not None and step not in titles:
        raise ConfigurationError(f"--step {step!r}: allowed: {', '.join(titles)}")
    processes = _waiting(settings, step, older_ms)
    if as_json:
        for process in processes:
            typer.echo(json.dumps(process))
        return
    count = 0
    oldest: list[tuple[int, int, dict[str, Any]]] = []
    for count, process in enumerate(processes, 1):
        entry = (-process["received_ms"], -count, process)
        if len(oldest) < limit:
            heapq.heappush(oldest, entry)
        else:
            heapq.heappushpop(oldest, entry)
    _show(sorted(oldest, reverse=True), count)


def _waiting(settings: Settings, step: str | None, older_ms: int) -> Iterator[dict[str, Any]]:
    """
    Yield them, partition by partition.

    Raises:
        Unavailable: nobody has a partition, or its worker doesn't answer.
    """
    owners = owners_of(settings, f"{settings.application_id}-worker")
    for number in range(partitions_of(settings, COMMANDS)):
        if number not in owners:
            raise Unavailable(f"no worker owns partition {number} now; is one running? Try again")
        query = {"older_than_ms": str(older_ms)} | ({"step": step} if step is not None else {})
        while True:
            path = f"/waiting/{number}?{urllib.parse.urlencode(query)}"
            answer = ask(settings, owners[number], path, timeout_s=LOOK_S)
            yield from ({**process, "partition": number} for process in answer["processes"])
            if answer["after"] is None:
                break
            query["after"] = answer["after"]


def _show(oldest: list[tuple[int, int, dict[str, Any]]], count: int) -> None:
    console = Console(highlight=False, soft_wrap=True)
    now_ms = time.time_ns() // 1_000_000
    for _, _, process in oldest:
        attempts = f"query {process['query_attempt']}, e-mail {process['email_attempt']}"
        console.print(
            f"[bold]{escape(plain(process['order_id']))}[/]  {process['command_id']}  {escape(process['state'])} for "
            f"{spoken((now_ms - process['received_ms']) / 1000)} ({attempts}), next deadline "
            f"{process['next_deadline_at']}"
        )
    more = f"; {count - len(oldest):,} younger ones aren't shown: --limit" if count > len(oldest) else ""
    console.print(f"[bold]{count:,}[/] wait{more}")
    if count:
        console.print("[dim]rejoinder explain ORDER_ID says everything about one[/]")
