"""The command ``rejoinder``."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from streams.cli import acls, dead_letters, kafka, schemas, topics
from streams.cli.commands import cancel, send
from streams.cli.demo import demo
from streams.cli.explain import explain
from streams.cli.roles import email, orders, worker
from streams.cli.settings import settings
from streams.errors import RejoinderError

app = typer.Typer(
    name="rejoinder",
    help="Answers each SendOrderConfirmationEmail command on Kafka with exactly one e-mail, or one clear failure.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(demo)
app.command()(worker)
app.command()(orders)
app.command()(email)
app.command()(send)
app.command()(cancel)
app.command()(explain)
app.command()(settings)
app.add_typer(dead_letters.app, name="dead-letters")
app.add_typer(topics.app, name="topics")
app.add_typer(acls.app, name="acls")
app.add_typer(schemas.app, name="schemas")
app.add_typer(kafka.app, name="kafka")


def _show_version(wanted: bool) -> None:
    if wanted:
        # Here, because no other command needs it.
        from importlib.metadata import version  # noqa: PLC0415

        typer.echo(version("rejoinder"))
        raise typer.Exit


@app.callback()
def root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Go on to the command."""


def main() -> None:
    """Run the command line; an error that a person can act on is one line, not a traceback."""
    try:
        app()
    except RejoinderError as exc:
        typer.secho(f"rejoinder: {exc}", fg=typer.colors.RED, err=True)
        sys.exit(exc.exit_code)
