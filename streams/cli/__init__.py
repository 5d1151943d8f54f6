"""
The command ``rejoinder``.

A command's module is loaded when the command is asked for: a worker that starts again has better things to do than to
wait for the libraries of the demo.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup
from typer.main import get_command

from streams.errors import RejoinderError

_COMMANDS: Final = {
    "demo": "demo:demo",
    "worker": "roles:worker",
    "orders": "roles:orders",
    "email": "roles:email",
    "send": "commands:send",
    "cancel": "commands:cancel",
    "explain": "explain:explain",
    "health": "health:health",
    "status": "status:status",
    "lag": "lag:lag",
    "waiting": "waiting:waiting",
    "skip": "skip:skip",
    "doubtful": "doubtful:app",
    "replay": "replay:replay",
    "export": "replay:export",
    "settings": "settings:settings",
    "dead-letters": "dead_letters:app",
    "topics": "topics:app",
    "acls": "acls:app",
    "schemas": "schemas:app",
    "examples": "examples:examples",
    "kafka": "kafka:app",
}
"""In the order in which the help lists them: module and function, or module and group."""


class _Commands(TyperGroup):
    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 -- what it is called with.
        """Return the commands' names."""
        return list(_COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        """Load a command; None if there is none of this name."""
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name].partition(":")
        found = getattr(import_module(f"streams.cli.{module}"), name)
        if not isinstance(found, typer.Typer):
            function, found = found, typer.Typer(add_completion=False, pretty_exceptions_enable=False)
            found.command()(function)
        command = get_command(found)
        command.name = cmd_name
        return command


app = typer.Typer(
    cls=_Commands,
    name="rejoinder",
    help="Answers each SendOrderConfirmationEmail command on Kafka with exactly one e-mail, or one clear failure.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


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
