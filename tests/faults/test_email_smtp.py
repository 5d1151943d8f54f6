"""The real e-mail service before a mail server that refuses, hangs or hangs up: events, ledger and arrivals agree."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from streams.local.kafka import LocalKafka
from streams.local.smtp import Misbehaviour, Reaction, Stage
from streams.services.email.ledger import Status
from tests.broker.harness import PARTITIONS, wait_for
from tests.faults.mailing import FAILED, SENT, Mailing

TRIES = 3
BEFORE_DOT = (Stage.MAIL, Stage.RCPT, Stage.DATA)
AFTER_DOT = (Stage.DOT, Stage.REPLY)


class Case(NamedTuple):
    """What the server does at a stage, how often, and what comes of it."""

    stage: Stage
    reaction: Reaction
    times: int = TRIES
    permanent: bool = False
    doubts: int = 0
    arrived: int = 0


CASES = [
    # The connection that is open is dropped first, so that there is a greeting.
    Case(Stage.HELLO, "421 closing"),
    *(Case(stage, "451 later") for stage in BEFORE_DOT),
    *(Case(stage, "421 closing") for stage in BEFORE_DOT),
    *(Case(stage, "550 never", 1, permanent=True) for stage in (*BEFORE_DOT, Stage.DOT)),
    *(Case(stage, "530 who are you") for stage in BEFORE_DOT),
    *(Case(stage, Misbehaviour.HANG, 1) for stage in BEFORE_DOT),
    *(Case(stage, Misbehaviour.DROP) for stage in BEFORE_DOT),
    Case(Stage.DOT, "452 full", 1),
    *(Case(stage, Misbehaviour.HANG, 1, doubts=1, arrived=int(stage is Stage.REPLY)) for stage in AFTER_DOT),
    *(Case(stage, Misbehaviour.DROP, 1, doubts=1, arrived=int(stage is Stage.REPLY)) for stage in AFTER_DOT),
]


def _name(case: Case) -> str:
    reaction = case.reaction.name if isinstance(case.reaction, Misbehaviour) else case.reaction.split()[0]
    return f"{case.stage.name}-{reaction}"


@pytest.fixture(scope="module")
def mailing(behind_proxy: tuple[LocalKafka, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mailing]:
    """Return the running service, one for all cases."""
    mailing = Mailing(behind_proxy[0], tmp_path_factory.mktemp("smtp"), "faults-smtp", smtp_timeout="3s")
    mailing.service.start()
    wait_for(lambda: mailing.service.partitions() == PARTITIONS, "the service is ready", 60)
    yield mailing
    mailing.close()


@pytest.mark.parametrize("case", CASES, ids=map(_name, CASES))
def test_mail_server_that_misbehaves(mailing: Mailing, case: Case) -> None:
    """One EmailFailed that says whether for ever; asked again, one EmailSent; only a mail in doubt comes twice."""
    counted = mailing.counted_doubts("resend")
    if case.stage is Stage.HELLO:
        mailing.smtp.react(Stage.MAIL, Misbehaviour.DROP)
    mailing.smtp.react(case.stage, case.reaction, case.times)
    [email_id] = mailing.command(1)
    mailing.wait_settled([email_id])
    mailing.smtp.forget()
    [(name, body)] = mailing.events()[email_id]
    assert (FAILED, case.permanent) == (name, body["permanent"])
    assert body["reason"].startswith("in doubt: ") == bool(case.doubts)
    assert (case.arrived, case.doubts) == (mailing.arrivals()[email_id], mailing.rows()[email_id].doubts)

    mailing.again([email_id])
    wait_for(lambda: len(mailing.events()[email_id]) == 2, "what is said the second time")
    row = mailing.rows()[email_id]
    if case.permanent:
        assert [FAILED, FAILED] == [name for name, _ in mailing.events()[email_id]]
        assert (Status.FAILED_PERMANENTLY, 0) == (row.status, mailing.arrivals()[email_id])
    else:
        assert [FAILED, SENT] == [name for name, _ in mailing.events()[email_id]]
        assert (Status.ACCEPTED, 1 + case.arrived) == (row.status, mailing.arrivals()[email_id])
    assert case.doubts == row.doubts
    assert case.doubts == mailing.counted_doubts("resend") - counted
