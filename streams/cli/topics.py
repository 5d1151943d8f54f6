"""``rejoinder topics``: make the cluster's topics as they are declared."""

from __future__ import annotations

import typer
from rich.console import Console
from rich.table import Table

from streams import settings as settings_module
from streams.transport.topics import Cluster, Difference
from topology.topics import TOPICS

app = typer.Typer(
    add_completion=False,
    help="The topics: create them, compare them with the declaration, list them.",
    no_args_is_help=True,
)


@app.command()
def apply() -> None:
    """Create missing topics, set what differs, and give new consumer groups their positions. Safe to repeat."""
    changed = Cluster(settings_module.load()).apply()
    _show(changed)
    typer.echo(f"{len(changed)} changed, all {len(TOPICS)} topics are as declared")


@app.command()
def diff() -> None:
    """Show what differs from the declaration; exit code 1 if anything does."""
    differences = Cluster(settings_module.load()).differences()
    _show(differences)
    if differences:
        raise typer.Exit(1)
    typer.echo(f"all {len(TOPICS)} topics are as declared")


@app.command()
def show() -> None:
    """List the declared topics; needs no broker."""
    settings = settings_module.load()
    table = Table(box=None)
    for column in ("topic", "records", "from", "to", "kept", "largest record"):
        table.add_column(column, overflow="fold")
    for topic in TOPICS:
        records = "\n".join(name.rpartition(".")[2] for name in topic.records) or "our own"
        days = topic.retention_ms // 86_400_000
        kept = "compacted" if topic.config["cleanup.policy"] == "compact" else f"{days} days"
        producers = ", ".join(producer.value for producer in topic.producers)
        size = f"{topic.record_bytes_max // 1024} KiB"
        table.add_row(settings.topic(topic.name), records, producers, topic.consumer.value, kept, size)
    Console().print(table)


def _show(differences: list[Difference]) -> None:
    for difference in differences:
        was = f" (was {difference.actual or 'not set'})" if difference.what != "missing" else ""
        typer.echo(f"{difference.topic.name}: {difference.what}: {difference.declared}{was}")
