"""The command line without a broker: what it shows, and how its errors end."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import streams.cli
from streams.cli import app
from streams.cli.explain import _show
from streams.errors import Bug, ConfigurationError, Corrupt, RejoinderError, Unavailable
from topology.topics import TOPICS

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.upper().startswith("REJOINDER_"):
            monkeypatch.delenv(name)


def _run(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "300", **environment})


def _nobody_listens() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


# Settings.


def test_page_of_settings_is_up_to_date() -> None:
    """docs/settings.md is what `rejoinder settings --markdown` prints; make it anew after a change."""
    assert PAGE.read_text() == _run("settings", "--markdown").stdout


def test_page_shows_defaults_whatever_the_environment() -> None:
    """Else it would differ on each machine."""
    assert PAGE.read_text() == _run("settings", "--markdown", REJOINDER_PARTITIONS="4").stdout


def test_settings_show_the_values_in_force() -> None:
    """As one would set them."""
    result = _run("settings", REJOINDER_PARTITIONS="4", REJOINDER_RETRY_FIRST="90s", REJOINDER_ASK="after 2m")
    values = {line.split("  ")[0].strip(): line for line in result.stdout.splitlines()}
    for name, value in (("PARTITIONS", "4"), ("RETRY_FIRST", "90s"), ("ASK", "after 2m"), ("IN_DOUBT", "resend")):
        assert f" {value} " in values[f"REJOINDER_{name}"]


def test_settings_show_no_secret() -> None:
    """Neither in URLs nor among librdkafka's properties; host and name stay readable."""
    result = _run(
        "settings",
        REJOINDER_DATABASE_URL="postgresql://shop:s3cr@t1@db/orders",
        REJOINDER_SMTP_URL="smtps://shop:s3cret2@mail",
        REJOINDER_SCHEMA_REGISTRY_URL="https://shop:s3cret3@registry/v7",
        REJOINDER_KAFKA_SASL_PASSWORD="s3cret4",  # noqa: S106
    )
    assert 0 == result.exit_code
    for shown in ("postgresql://***@db/orders", "smtps://***@mail", "https://***@registry/v7", "KAFKA_SASL_PASSWORD"):
        assert shown in result.stdout
    for secret in ("s3cr", "t1@", "shop:"):
        assert secret not in result.stdout


# Topics.


def test_topics_are_listed_without_a_broker() -> None:
    """Under the deployment's prefix, with their records, ends and times."""
    result = _run("topics", "show", REJOINDER_BOOTSTRAP_SERVERS=_nobody_listens(), REJOINDER_TOPIC_PREFIX="prod.")
    assert 0 == result.exit_code
    for topic in TOPICS:
        assert f"prod.{topic.name} " in result.stdout
    lines = {line.split()[0]: line for line in result.stdout.splitlines()}
    commands = lines["prod.order-confirmation.commands"]
    for text in ("SendOrderConfirmationEmail", "command source", "process manager", "7 days", "1024 KiB"):
        assert text in commands
    assert "compacted" in lines["prod.order-confirmation.processes-changelog"]


# Errors.


@pytest.mark.parametrize(
    "error", [RejoinderError("1"), ConfigurationError("2"), Unavailable("75"), Corrupt("70"), Bug("70")]
)
def test_error_is_one_line_and_an_exit_code(
    error: RejoinderError, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On standard error, without a traceback."""

    def fail() -> None:
        raise error

    monkeypatch.setattr(streams.cli, "app", fail)
    with pytest.raises(SystemExit) as ended:
        streams.cli.main()
    assert int(str(error)) == ended.value.code
    assert ("", f"rejoinder: {error}\n") == capsys.readouterr()


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "says"),
    [
        (["settings"], {"REJOINDER_PARTITION": "4"}, 2, "did you mean REJOINDER_PARTITIONS?"),
        (["topics", "diff"], {"REJOINDER_IN_DOUBT": "ask"}, 2, "REJOINDER_IN_DOUBT='ask'"),
        (["worker"], {"REJOINDER_KAFKA_NO_SUCH": "1"}, 2, "REJOINDER_KAFKA_NO_SUCH"),
        (["email"], {"REJOINDER_SMTP_URL": "http://mail"}, 2, "REJOINDER_SMTP_URL"),
        (["email"], {"REJOINDER_EMAIL_FROM": "nobody"}, 2, "REJOINDER_EMAIL_FROM"),
        (["worker"], {"REJOINDER_SCHEMA_REGISTRY_URL": "ftp://x"}, 2, "REJOINDER_SCHEMA_REGISTRY_URL"),
        (["orders"], {"REJOINDER_DATABASE_URL": "oracle://x"}, 2, "allowed: postgresql://"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    arguments: list[str],
    environment: dict[str, str],
    code: int,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Before anything starts: which setting, and what to do."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["rejoinder", *arguments])
    with pytest.raises(SystemExit) as ended:
        streams.cli.main()
    errors = capsys.readouterr().err
    assert (code, 1) == (ended.value.code, errors.count("\n"))
    assert says in errors


@pytest.mark.parametrize("arguments", [["topics", "diff"], ["explain", "order-1"]])
def test_silent_broker_is_unavailable(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 75, try again later, and which broker it was."""
    monkeypatch.setattr("streams.transport.topics.CALL_S", 0.3)
    servers = _nobody_listens()
    monkeypatch.setenv("REJOINDER_BOOTSTRAP_SERVERS", servers)
    monkeypatch.setattr(sys, "argv", ["rejoinder", *arguments])
    with pytest.raises(SystemExit) as ended:
        streams.cli.main()
    assert 75 == ended.value.code
    assert servers in capsys.readouterr().err


def test_command_id_must_be_a_uuid() -> None:
    """Nothing is produced that a worker would refuse."""
    result = _run("send", "order-1", "--command-id", "7")
    assert 2 == result.exit_code
    assert "uuid" in result.output.lower()


# Explain.


def test_explanation_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """Whole lines, and text of others is no markup."""
    command = {"topic": "order-confirmation.commands", "offset": 5}
    timeline = [
        {"at": "T1", "event": "CommandReceived", "cause": command},
        {"at": "T2", "event": "OrderDetailsQueried", "attempt": 2, "cause": {"deadline": True}},
        {"at": "T3", "event": "EmailFailed", "permanent": False, "reason": "4.2.2 [bold]full[/] " + "x" * 99,
         "cause": {"topic": "email.events", "offset": 6}},
    ]  # fmt: skip
    process = {
        "command_id": "c-1", "state": "e-mail to be retried", "reason": None, "waits_for": "the time",
        "next_deadline_at": "T4", "next_try_at": "T4", "query_attempt": 2, "email_attempt": 1, "gives_up_at": "T5",
        "timeline": timeline,
    }  # fmt: skip
    ended = {**process, "command_id": "c-2", "state": "failed", "reason": "CANCELLED", "waits_for": None,
             "gives_up_at": None, "next_try_at": None, "timeline": []}  # fmt: skip
    _show(
        {
            "order_id": "[red]7[/]", "partition": 3, "owner": "http://host:1",
            "owner_lag": [
                {"topic": "email.events", "lag": 0, "unstable": 0, "seconds": 0.0},
                {"topic": "order-details.events", "lag": 1200, "unstable": 3, "seconds": 65.2},
            ],
            "details": {"version": 2, "seen_at": "T0"}, "processes": [process, ended],
            "sent_before_their_command": [{"email_id": "e-9", "heard_at": "T9"}],
        }
    )  # fmt: skip
    expected = [
        "order [red]7[/], partition 3, owned by http://host:1",
        "  order-details.events: lag 1,200, 1m 5s behind, 3 more in an open transaction",
        "details: version 2, seen T0",
        "",
        "command c-1: e-mail to be retried",
        "waits for the time, next deadline T4",
        "tries again at T4, 2 queries and 1 e-mails so far",
        "gives up at T5",
        "  T1  CommandReceived                               order-confirmation.commands/3/5",
        "  T2  OrderDetailsQueried (attempt 2)               a deadline",
        f"  T3  EmailFailed (permanent False, reason 4.2.2 [bold]full[/] {'x' * 99})  email.events/3/6",
        "",
        "command c-2: failed (CANCELLED)",
        "",
        "e-mail e-9: reported sent T9, its command hasn't come",
    ]
    assert expected == capsys.readouterr().out.splitlines()
