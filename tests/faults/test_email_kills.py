"""SIGKILL of the e-mail service at each step of its ledger, counted at the mail server by Message-ID."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from streams.local.kafka import LocalKafka
from streams.services.email.ledger import Status
from tests.broker.harness import wait_for
from tests.faults.mailing import SENT, Mailing

MAILS = 5
AT = 3
"""Of the steps that each mail goes through: the third mail's."""
KILLED_S = 60.0


class Expected(NamedTuple):
    """What a kill at a step comes to: the mails in doubt, and how many of these arrive twice."""

    in_doubt: int
    twice: int
    at: int = AT


STEPS = {
    "before the claim's commit": Expected(0, 0, at=1),
    "after the claim's commit": Expected(0, 0, at=1),
    "before the connection": Expected(0, 0),
    "before the dot's note": Expected(0, 0),
    "after the dot's note": Expected(1, 0),
    "within the message": Expected(1, 0),
    "after the dot, before the answer": Expected(1, 1),
    "after the answer, before its note": Expected(1, 1),
    "after the answer's note": Expected(0, 0),
    "before the settle's commit": Expected(0, 0, at=1),
    "after the settle's commit": Expected(0, 0, at=1),
    "after the settle's store write": Expected(0, 0, at=1),
}
ALWAYS = {"after the dot, before the answer"}
"""The step that the default tests take; the others are in the chaos tier."""

Make = Callable[..., Mailing]


@pytest.fixture
def mailing(kafka: LocalKafka, unique: str, tmp_path: Path) -> Iterator[Make]:
    """Return a maker of the service and its mail server, which ends them."""
    made: list[Mailing] = []

    def make(**settings: str) -> Mailing:
        made.append(Mailing(kafka, tmp_path, unique, **settings))
        return made[-1]

    yield make
    for one in made:
        one.close()


def kill_at(mailing: Mailing, step: str, at: int) -> list[str]:
    """Let the service kill itself at *step*, the *at*th time; return the e-mail ids that it was to send."""
    email_ids = mailing.command(MAILS)
    mailing.service.faults = {"FAULT_KILL": step, "FAULT_KILL_AT": str(at)}
    mailing.service.start()
    mailing.service.wait_killed(KILLED_S)
    mailing.service.faults = {}
    return email_ids


@pytest.mark.parametrize(
    "step", [step if step in ALWAYS else pytest.param(step, marks=pytest.mark.chaos) for step in STEPS]
)
def test_kill_at_each_step(mailing: Make, step: str) -> None:
    """None is missing; only a mail in doubt comes twice, and it is in ledger, metric and log."""
    expected = STEPS[step]
    here = mailing()
    email_ids = kill_at(here, step, expected.at)
    here.service.start()
    here.wait_settled(email_ids)
    assert set(email_ids) == set(here.arrivals())
    assert {Status.ACCEPTED} == {row.status for row in here.rows().values()}
    said = [(email_id, name) for email_id, events in here.events().items() for name, _ in events]
    assert Counter((email_id, SENT) for email_id in email_ids) == Counter(said)
    doubts = here.doubts()
    again = here.arrivals() - Counter(email_ids)
    assert (expected.in_doubt, expected.twice) == (doubts.total(), again.total())
    assert again <= doubts
    wait_for(lambda: here.counted_doubts("resend") == expected.in_doubt, "the metric counts it", 10)
    assert all(here.warned(email_id, "resend") for email_id in doubts)


@pytest.mark.parametrize(
    "step", ["after the claim's commit", pytest.param("after the answer's note", marks=pytest.mark.chaos)]
)
def test_kill_and_loss_of_the_local_notes(mailing: Make, step: str) -> None:
    """With the disk gone every mail that was claimed is in doubt; none is missing, those sent before come twice."""
    here = mailing()
    email_ids = kill_at(here, step, STEPS[step].at)
    claimed = {email_id for email_id, row in here.rows().items() if row.status is Status.SENDING}
    arrived = here.arrivals()
    assert claimed
    shutil.rmtree(here.directory / "email-0" / "email")
    here.service.start()
    here.wait_settled(email_ids)
    assert Counter(email_ids) + arrived == here.arrivals()
    assert dict.fromkeys(claimed, 1) == here.doubts()
    assert {Status.ACCEPTED} == {row.status for row in here.rows().values()}
    wait_for(lambda: here.counted_doubts("resend") == len(claimed), "the metric counts them", 10)


@pytest.mark.chaos
@pytest.mark.parametrize(
    "step",
    ["before the dot's note", "after the dot's note", "after the dot, before the answer", "after the answer's note"],
)
def test_kill_at_each_step_with_doubtful_mails_held(mailing: Make, step: str) -> None:
    """With in_doubt=hold no mail comes twice: the doubtful one waits for a person, nothing is said of it."""
    expected = STEPS[step]
    here = mailing(in_doubt="hold")
    email_ids = kill_at(here, step, expected.at)
    here.service.start()
    here.wait_settled(email_ids)
    rows = here.rows()
    held = {email_id for email_id, row in rows.items() if row.status is Status.DOUBTFUL}
    assert expected.in_doubt == len(held)
    assert {Status.ACCEPTED} == {rows[email_id].status for email_id in set(email_ids) - held}
    arrivals = here.arrivals()
    assert {1} == set(arrivals.values())
    missing = set(email_ids) - set(arrivals)
    assert missing <= held
    assert (expected.twice == 0) == (missing == held)
    assert set(email_ids) - held == set(here.events())
    assert dict.fromkeys(held, 1) == here.doubts()
    wait_for(lambda: here.counted_doubts("hold") == len(held), "the metric counts it", 10)
