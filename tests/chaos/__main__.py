"""
``./dev chaos``: break everything that can break while orders go through, and look whether each has its one e-mail.

    ./dev chaos --orders 20000 --kills 20 --seed 1 --brokers 3
"""

from __future__ import annotations

import json
import shlex
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.markup import escape

from streams.errors import RejoinderError
from tests.chaos import report
from tests.chaos.moments import Event, Waits
from tests.chaos.run import Result, Run
from tests.chaos.schedule import schedule
from tests.chaos.system import WORKERS, System

LONG_KILLS: Final = 50
"""From so many kills on, what lasts long lasts as long as in the long tier."""
SHOW_S: Final = 5.0


def chaos(
    orders: Annotated[int, typer.Option(min=1, help="How many orders.")] = 2_000,
    kills: Annotated[int, typer.Option(min=0, help="SIGKILLs of workers; with any, everything else breaks too.")] = 4,
    seed: Annotated[int, typer.Option(help="What happens to which order, and what breaks when.")] = 1,
    brokers: Annotated[int, typer.Option(help="1 or 3.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON; progress on stderr.")] = False,
    page: Annotated[Path | None, typer.Option("--report", help="Write the summary as Markdown.")] = None,
    keep: Annotated[Path | None, typer.Option(help="Where data and logs go; emptied first.")] = None,
) -> None:
    """Run, judge, and tell; exit code 1 on any violation, with the evidence and where the logs are."""
    console = Console(stderr=True, highlight=False)
    if keep:
        shutil.rmtree(keep, ignore_errors=True)
    where = keep.absolute() if keep else Path(tempfile.mkdtemp(prefix="rejoinder-chaos-"))
    command = "./dev chaos " + shlex.join(sys.argv[1:])
    try:
        result = run(console, where, orders, kills, seed, brokers)
    except RejoinderError as exc:
        console.print(f"[red]the run can't go on:[/] {escape(str(exc))}\nlogs: {where}", soft_wrap=True)
        raise typer.Exit(1) from exc
    told = report.summary(result, command)
    if page:
        page.write_text(report.markdown(told), encoding="utf-8")
    if as_json:
        typer.echo(json.dumps(told))
    else:
        report.show(Console(highlight=False), told)
    if result.failures:
        console.print(f"logs and data: {where}", soft_wrap=True)
        raise typer.Exit(1)
    if not keep:
        shutil.rmtree(where)


def run(console: Console, where: Path, orders: int, kills: int, seed: int, brokers: int) -> Result:
    """Do one run below *where*; tells *console* how far it is."""
    began_s = time.monotonic()
    shown_s = [0.0]

    def show(what: str | Event) -> None:
        at = f"{time.monotonic() - began_s:7.1f} s"
        if isinstance(what, Event):
            mark = "[green]✓[/]" if what.happened else "[red]✗[/]"
            console.print(f"{at} {mark} {what.fault.value} ({what.seconds} s): {escape(what.observed)}", soft_wrap=True)
        elif time.monotonic() - shown_s[0] > SHOW_S:
            shown_s[0] = time.monotonic()
            console.print(f"{at}   {what}", style="dim")

    waits = Waits(broker_down_s=60.0, cut_s=15.0) if kills >= LONG_KILLS else Waits()
    with System(where, brokers, WORKERS) as system:
        return Run(system, seed, orders, schedule(seed, kills, brokers), waits, show).execute()


if __name__ == "__main__":
    typer.run(chaos)
