"""What a newcomer reads: every command's help."""

from __future__ import annotations

from typing import Any, Final

import pytest
import typer.main
from typer.testing import CliRunner

from streams.cli import app

SAYS: Final = {
    (): ["exactly one e-mail", "demo", "worker", "topics", "--version"],
    ("demo",): ["a real Kafka", "--orders", "--kill", "--json", "--keep", "1000"],
    ("worker",): ["SIGTERM", "rejoinder settings", "--web-port", "REJOINDER_INSTANCE_ID"],
    ("orders",): ["REJOINDER_DATABASE_URL"],
    ("email",): ["REJOINDER_SMTP_URL"],
    ("send",): ["SendOrderConfirmationEmail", "ORDER_ID", "--command-id", "--locale"],
    ("cancel",): ["unless it was requested already"],
    ("explain",): ["what it waits for", "--json"],
    ("health",): ["--ready", "--web-port", "75 if nobody answers"],
    ("examples",): ["--orders", "Safe to repeat"],
    ("status",): ["at a glance", "members", "dead letters", "--since", "--json"],
    ("lag",): ["Burrow", "--watch", "--json", "--max-lag", "--max-age", "--max-wait", "--fail", "Exit code 2"],
    ("waiting",): ["--step", "--older-than", "--limit", "--json", "the oldest first"],
    ("skip",): ["TOPIC/PARTITION/OFFSET", "dead letters", "redrive"],
    ("doubtful",): ["list", "resend", "drop", "REJOINDER_IN_DOUBT=hold"],
    ("doubtful", "list"): ["the oldest first", "--json"],
    ("doubtful", "resend"): ["under the same Message-ID", "--all"],
    ("doubtful", "drop"): ["never sent again", "--all"],
    ("replay",): ["--from-topics", "--file", "--since", "--json", "Writes nothing", "Exit code 0"],
    ("export",): ["order_id", "--into", "--unmasked", "masked"],
    ("settings",): ["Passwords are not shown", "--markdown"],
    ("dead-letters",): ["list", "show", "redrive"],
    ("dead-letters", "list"): ["--reason", "--since", "--topic", "--json", "--limit", "newest"],
    ("dead-letters", "show"): ["TOPIC/PARTITION/OFFSET", "--raw"],
    ("dead-letters", "redrive"): ["--dry-run", "--rate", "--force", "--all", "once"],
    ("topics",): ["apply", "diff", "show"],
    ("topics", "apply"): ["Create missing topics", "Safe to repeat"],
    ("topics", "diff"): ["exit code 1"],
    ("topics", "show"): ["needs no broker"],
    ("acls",): ["apply", "show", "nothing beyond it"],
    ("acls", "apply"): ["--principal", "--prune", "--dry-run", "administrator", "Safe to repeat"],
    ("acls", "show"): ["needs no broker", "--markdown", "--role"],
    ("schemas",): ["register", "check"],
    ("schemas", "register"): ["before the workers"],
    ("schemas", "check"): ["exit code 1"],
    ("kafka",): ["without a container"],
    ("kafka", "up"): ["--port", "--brokers"],
    ("kafka", "down"): ["its data stays"],
    ("kafka", "status"): ["exit with 3"],
}  # fmt: skip


def _commands(command: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = [path]
    for name in command.list_commands(None) if hasattr(command, "list_commands") else ():
        found += _commands(command.get_command(None, name), (*path, name))
    return found


def test_every_command_is_known_here() -> None:
    """A new command needs a line above."""
    assert sorted(SAYS) == sorted(_commands(typer.main.get_command(app)))


@pytest.mark.parametrize("path", SAYS, ids=" ".join)
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_says_what_one_needs(path: tuple[str, ...], option: str) -> None:
    """Both spellings, and without a broker or any setting."""
    result = CliRunner().invoke(app, [*path, option], env={"COLUMNS": "300"})
    assert 0 == result.exit_code
    missing = [text for text in SAYS[path] if text not in result.output]
    assert [] == missing, result.output


@pytest.mark.parametrize("path", [(), ("dead-letters",), ("topics",), ("acls",), ("schemas",), ("kafka",)])
def test_no_arguments_show_the_help(path: tuple[str, ...]) -> None:
    """Exit code 2, as nothing was done."""
    result = CliRunner().invoke(app, list(path))
    assert 2 == result.exit_code
    assert "Usage:" in result.output


def test_version_is_printed() -> None:
    """The installed one."""
    from importlib.metadata import version  # noqa: PLC0415 - only here.

    assert version("rejoinder") == CliRunner().invoke(app, ["--version"]).stdout.strip()
