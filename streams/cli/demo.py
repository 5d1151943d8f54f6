"""``rejoinder demo``: the whole round trip on this machine, with real parts."""

from __future__ import annotations

import json
import shutil
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.table import Table

from streams import settings as settings_module
from streams.demo.run import Progress, Run, Summary
from streams.demo.system import System
from streams.errors import RejoinderError
from streams.local.apicurio import LocalRegistry
from streams.local.kafka import LocalKafka
from streams.local.smtp import LocalSmtp
from streams.registry import open_registry, register
from streams.secrets import SecretUrl
from streams.services.orders.database import Database
from streams.settings import PREFIX, Settings, Switch, as_environment
from streams.transport.topics import Cluster

PARTITIONS = 4


class NotExactlyOnce(RejoinderError):
    """A command has no mail, or two."""


def demo(
    orders: Annotated[int, typer.Option(min=1, help="How many orders, and commands.")] = 1_000,
    workers: Annotated[int, typer.Option(min=1, max=PARTITIONS, help="How many workers.")] = 2,
    kill: Annotated[bool, typer.Option("--kill", help="Kill a worker with SIGKILL now and then.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Leave all running afterwards, until Ctrl-C.")] = False,
    registry: Annotated[
        bool, typer.Option("--registry", help="Start a schema registry (Apicurio) and use it.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON; progress on stderr.")] = False,
    directory: Annotated[
        Path | None, typer.Option("--dir", help="Where mails, logs and data go; emptied first.", show_default=False)
    ] = None,
) -> None:
    """
    Run everything on this machine: a real Kafka, the orders service, the e-mail service, workers, a mail server.

    Sends a command for each of a thousand example orders, waits for the e-mails, and says what became of them.
    Exit code 1 if any command has no mail, or two.
    """
    console = Console(stderr=True, highlight=False)
    where = directory or settings_module.load().state_dir / "demo"
    shutil.rmtree(where, ignore_errors=True)
    where.mkdir(parents=True)
    # A supervisor's SIGTERM ends the demo as Ctrl-C does: with everything stopped.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with ExitStack() as stack:
        settings, system, smtp, order_ids = _start(stack, console, where, orders, workers, registry)
        run = Run(settings, open_registry(settings).codec, system, smtp, order_ids)
        summary = _watch(console, run, kill)
        mail = next((received.file for received in smtp.received), None)
        if as_json:
            typer.echo(json.dumps(summary._asdict()))
        else:
            _show(Console(highlight=False), summary, mail, where)
        if keep:
            _keep(console, settings, system, smtp)
    if not summary.exactly_once:
        raise NotExactlyOnce(f"not each of the {summary.commands} commands has one mail; logs are in {where}")


def _start(
    stack: ExitStack, console: Console, where: Path, orders: int, workers: int, registry: bool
) -> tuple[Settings, System, LocalSmtp, list[str]]:
    """Start everything, the last first to stop."""
    with console.status("starting Apache Kafka"):
        kafka = stack.enter_context(LocalKafka(where / "kafka"))
    console.print(f"[green]✓[/] Apache Kafka at {kafka.bootstrap_servers}")
    url = "file:"
    if registry:
        with console.status("starting Apicurio Registry"):
            url = stack.enter_context(LocalRegistry(where / "registry")).url
        console.print(f"[green]✓[/] schema registry at {url}")
    smtp = stack.enter_context(LocalSmtp(where / "mails"))
    console.print(f"[green]✓[/] mail server at {smtp.url}")
    chosen = {
        "bootstrap_servers": kafka.bootstrap_servers,
        "partitions": PARTITIONS,
        "replication_factor": 1,
        "schema_registry_url": SecretUrl(url),
        "database_url": SecretUrl(f"sqlite:///{where / 'orders.sqlite'}"),
        "smtp_url": SecretUrl(smtp.url),
        # `explain` and the page are a part of what is shown; all listens on the loopback only.
        "web_orders": Switch.ON,
        "web_page": Switch.ON,
        # Soon, so that an answer that a killed process owed is asked for again while somebody watches.
        "retry_first": 2_000,
        "transaction_timeout": 10_000,
        "log_format": "json",
    }
    settings = settings_module.load(**chosen)
    if registry:
        register(settings)
    Cluster(settings).apply()
    database = Database(settings.orders_url)
    database.create_schema()
    order_ids = database.seed(orders)
    console.print(f"[green]✓[/] {orders} orders in {settings.orders_url}", soft_wrap=True)
    environment = {f"{PREFIX}{name.upper()}": as_environment(name, value) for name, value in chosen.items()}
    system = System(where, environment, workers, PARTITIONS)
    stack.callback(system.stop)
    with console.status(f"starting {workers} workers, the orders service and the e-mail service"):
        system.start()
    console.print(f"[green]✓[/] {workers} workers, the orders service and the e-mail service")
    return settings, system, smtp, order_ids


def _watch(console: Console, run: Run, kill: bool) -> Summary:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bar(*columns, console=console) as bar:
        task = bar.add_task("mails", total=None)

        def show(progress: Progress) -> None:
            description = "mails"
            if progress.kills:
                description += f" ({progress.kills} kills)"
            if progress.failed:
                description += f" ({progress.failed} failed)"
            bar.update(task, description=description, total=progress.commands, completed=progress.delivered)

        return run.execute(show, kill)


def _show(console: Console, summary: Summary, mail: Path | None, where: Path) -> None:
    table = Table(box=None, show_header=False)
    table.add_row("commands", str(summary.commands))
    table.add_row("mails delivered", str(summary.delivered))
    table.add_row("failed", str(summary.failed))
    table.add_row("duplicates", str(summary.duplicates))
    table.add_row("lost", str(summary.lost))
    if summary.kills:
        table.add_row("workers killed", str(summary.kills))
    table.add_row("commands per second", f"{summary.per_second:,.0f}")
    table.add_row("command to mail", f"p50 {summary.latency_ms_p50:,.0f} ms, p99 {summary.latency_ms_p99:,.0f} ms")
    console.print(table)
    # Not in the table: a path that is cut off to fit can't be copied.
    console.print(f" one of the mails     {mail}\n logs                 {where}", soft_wrap=True)


def _keep(console: Console, settings: Settings, system: System, smtp: LocalSmtp) -> None:
    console.print(f"\nKafka        {settings.bootstrap_servers}")
    console.print(f"mail server  {smtp.url}")
    for process in system.processes:
        console.print(f"{process.name:<12} {process.url}")
    console.print(f"\nLook at it   {system.workers[0].url}")
    example = f"REJOINDER_BOOTSTRAP_SERVERS={settings.bootstrap_servers} rejoinder explain order-000001"
    console.print(f"\nAll is running; Ctrl-C stops it. Try:\n  {example}")
    try:
        signal.pause()
    except KeyboardInterrupt:
        console.print("stopping")
