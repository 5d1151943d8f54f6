"""``rejoinder kafka``: a real Apache Kafka on this machine, without a container."""

import os
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from streams.local.detached import DetachedKafka
from streams.local.errors import LocalServerError

NOT_RUNNING = 3
"""Exit code of ``status`` when nothing runs, as of every init script."""

_START_S_MAX = 90.0
_STOP_S_MAX = 30.0
_ANSWER_S_MAX = 3.0

app = typer.Typer(
    add_completion=False, help="A real Apache Kafka on this machine, without a container.", no_args_is_help=True
)


def default_directory() -> Path:
    """Return ``rejoinder/kafka`` in the XDG state directory."""
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "rejoinder" / "kafka"


Directory = Annotated[
    Path,
    typer.Option("--dir", default_factory=default_directory, help="Where its data, settings and logs are."),
]


@app.command()
def up(
    directory: Directory,
    port: Annotated[int, typer.Option(help="Of the first broker; the others get the next ones.")] = 9092,
    brokers: Annotated[int, typer.Option(help="1 or 3.")] = 1,
) -> None:
    """Start it, wait until it can be used, and leave it running."""
    try:
        if running := DetachedKafka.find(directory):
            typer.echo(f"runs already: {running.bootstrap_servers}")
            return
        typer.echo(DetachedKafka.start(directory, port, brokers, _START_S_MAX).bootstrap_servers)
    except LocalServerError as error:
        _fail(error)


@app.command()
def down(directory: Directory) -> None:
    """Stop it; its data stays for the next start."""
    try:
        running = DetachedKafka.find(directory)
        killed = running.stop(_STOP_S_MAX) if running else 0
    except LocalServerError as error:
        _fail(error)
    if running is None:
        typer.echo("doesn't run")
    else:
        typer.echo(f"stopped, {killed} brokers had to be killed" if killed else "stopped")


@app.command()
def status(directory: Directory) -> None:
    """Say whether it runs and answers; exit with 3 when it doesn't run, with 1 when it doesn't answer."""
    try:
        running = DetachedKafka.find(directory)
    except LocalServerError as error:
        _fail(error)
    if running is None:
        typer.echo(f"doesn't run (in {directory})")
        raise typer.Exit(NOT_RUNNING)
    answers = _answering(running.bootstrap_servers)
    typer.echo(f"address: {running.bootstrap_servers}")
    typer.echo(f"version: Apache Kafka {running.version}")
    typer.echo(f"pid:     {', '.join(str(process.pid) for process in running.alive())}")
    typer.echo(f"answers: {answers} of {len(running.processes)} brokers")
    if answers < len(running.processes):
        raise typer.Exit(1)


def _answering(bootstrap_servers: str) -> int:
    """Return how many brokers the cluster knows to be up."""
    client: dict[str, Any] = {"bootstrap.servers": bootstrap_servers, "log_level": 0, "error_cb": lambda _: None}
    try:
        return len(AdminClient(client).list_topics(timeout=_ANSWER_S_MAX).brokers)
    except KafkaException:
        return 0


def _fail(error: LocalServerError) -> NoReturn:
    typer.echo(str(error), err=True)
    raise typer.Exit(error.exit_code) from error
