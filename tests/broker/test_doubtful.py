"""``rejoinder doubtful``: a mail that is held in doubt, and what a person says of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from streams.cli import app as cli
from streams.local.kafka import LocalKafka
from streams.local.smtp import Misbehaviour, Stage
from streams.services.email.ledger import Status
from tests.broker.harness import PARTITIONS, environment_of, wait_for
from tests.faults.mailing import Mailing

pytestmark = pytest.mark.system


@pytest.fixture
def mailing(kafka: LocalKafka, tmp_path: Path, unique: str) -> Iterator[Mailing]:
    """Return an e-mail service that holds mails in doubt."""
    here = Mailing(kafka, tmp_path, unique, in_doubt="hold")
    here.service.start()
    wait_for(lambda: here.service.partitions() == PARTITIONS, "the service is ready", 60)
    yield here
    here.close()


def _doubtful(mailing: Mailing, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["doubtful", *arguments], env=environment_of(mailing.settings))


def _list(mailing: Mailing) -> list[dict[str, Any]]:
    result = _doubtful(mailing, "list", "--json")
    assert 0 == result.exit_code, result.exception
    return [json.loads(line) for line in result.stdout.splitlines()]


def _status(mailing: Mailing, email_id: str) -> Status:
    return mailing.rows()[email_id].status


def test_mail_in_doubt_waits_for_a_person(mailing: Mailing) -> None:
    """Listed with its order and why; sent again under its Message-ID, or never; others aren't touched."""
    mailing.smtp.react(Stage.REPLY, Misbehaviour.DROP, 3)
    again, dropped, left = mailing.command(3)
    mailing.wait_settled([again, dropped, left])
    listed = {one["email_id"]: one for one in _list(mailing)}
    assert {again, dropped, left} == set(listed)
    assert {("order-0", 1)} == {(listed[again]["order_id"], listed[again]["attempts"])}
    assert listed[again]["message_id"] == mailing.rows()[again].message_id
    shown = _doubtful(mailing, "list").stdout
    assert again in shown
    assert "3 in doubt" in shown

    result = _doubtful(mailing, "resend", again)
    assert (0, [f"{again}: resend"]) == (result.exit_code, result.stdout.splitlines()[:1]), result.exception
    assert 0 == _doubtful(mailing, "drop", dropped.upper()).exit_code
    wait_for(lambda: _status(mailing, again) is Status.ACCEPTED, "the mail is sent again")
    wait_for(lambda: _status(mailing, dropped) is Status.DROPPED, "the mail is dropped")
    assert [left] == [one["email_id"] for one in _list(mailing)]
    # Kept by the mail server each time, though it never said so at first.
    assert {again: 2, dropped: 1, left: 1} == dict(mailing.arrivals())
    assert {again: ["communications.EmailSent"]} == {
        email_id: [name for name, _ in said] for email_id, said in mailing.events().items()
    }


def test_verdict_needs_a_mail_in_doubt(mailing: Mailing) -> None:
    """One that was accepted, one that isn't there, none, and some beside all."""
    (sent,) = mailing.command(1)
    mailing.wait_settled([sent])
    for arguments, code, says in [
        ([sent], 1, "not in doubt"),
        (["nobody"], 1, "not in doubt"),
        ([], 2, "which ones?"),
        ([sent, "--all"], 2, "which ones?"),
    ]:
        result = _doubtful(mailing, "resend", *arguments)
        assert (code, True) == (getattr(result.exception, "exit_code", None), says in str(result.exception))
    assert "0 told" in _doubtful(mailing, "resend", "--all").stdout
    assert {sent: 1} == dict(mailing.arrivals())
