"""The ledger's rows, and what they make of a SendEmail."""

from __future__ import annotations

import pytest

from streams.errors import ConfigurationError, Corrupt
from streams.services.email.ledger import (
    Answer,
    CorruptRow,
    Drop,
    Hold,
    Plan,
    Row,
    Send,
    Status,
    Verdict,
    claimed,
    decode,
    encode,
    plan,
    settled,
)
from streams.services.email.notes import Mark, Note
from streams.services.email.outcome import InDoubt, Outcome, Refused, Sent
from streams.settings import InDoubt as Setting

HERE, ELSEWHERE = b"h" * 16, b"e" * 16
ROW = Row(Status.SENDING, 99, 10, 11, 2, 1, 7, HERE, "order-7", "<id@example.com>", "")
GOLDEN = bytes.fromhex(
    "01"  # Version.
    "0000000000000063"  # Due.
    "04"  # Failed permanently.
    "000000000000000a000000000000000b"  # Claimed, changed.
    "0000000200000001"  # Attempts, doubts.
    "0000000000000007"  # Offset.
    "68686868686868686868686868686868"  # Store.
    "000000070000001000000004"  # Lengths.
    "6f726465722d373c6964406578616d706c652e636f6d3e6ec3b662"
)


def test_golden_bytes_of_version_1() -> None:
    """Rows that are stored somewhere are read for ever."""
    row = ROW._replace(status=Status.FAILED_PERMANENTLY, reason="nöb")
    assert GOLDEN == encode(row)
    assert row == decode(GOLDEN)


@pytest.mark.parametrize("status", list(Status))
def test_row_survives_its_bytes(status: Status) -> None:
    """Every status, long texts, negative instants."""
    row = ROW._replace(status=status, due_ms=-1, order_id="ü" * 70_000, reason="x" * 500)
    assert row == decode(encode(row))


@pytest.mark.parametrize("data", [b"", GOLDEN[:9], GOLDEN[:-1], GOLDEN + b"x", GOLDEN[:9] + b"\x63" + GOLDEN[10:]])
def test_damaged_row_is_corrupt(data: bytes) -> None:
    """Cut short, too long, of no status that there is; a store isn't wiped for it, as its changelog has the same."""
    with pytest.raises(CorruptRow) as raised:
        decode(data)
    assert not isinstance(raised.value, Corrupt)


def test_row_of_a_later_release_names_the_remedy() -> None:
    """Restoring it again would bring the same bytes."""
    with pytest.raises(ConfigurationError, match=r"version 2.*run the release that wrote it"):
        decode(b"\x02" + GOLDEN[1:])


@pytest.mark.parametrize("setting", list(Setting))
@pytest.mark.parametrize(
    ("row", "note", "expected"),
    [
        (None, None, Send(0, doubted=False)),
        (ROW, None, Send(1, doubted=False)),
        (ROW, Note(Mark.REFUSED, 5), Send(1, doubted=False)),
        (ROW, Note(Mark.ACCEPTED, 5), Answer(Sent(5))),
        (ROW._replace(status=Status.ACCEPTED), None, Answer(Sent(11))),
        (ROW._replace(status=Status.ACCEPTED, store_id=ELSEWHERE), Note(Mark.DOT, 5), Answer(Sent(11))),
        (ROW._replace(status=Status.FAILED), Note(Mark.DOT, 5), Send(1, doubted=False)),
        (
            ROW._replace(status=Status.FAILED_PERMANENTLY, reason="no"),
            None,
            Answer(Refused(permanent=True, reason="no")),
        ),
        (ROW._replace(status=Status.DROPPED), None, Drop()),
    ],
)
def test_plan_where_nothing_is_in_doubt(setting: Setting, row: Row | None, note: Note | None, expected: Plan) -> None:
    """The setting makes no difference."""
    assert expected == plan(row, setting, HERE, note)


@pytest.mark.parametrize(
    ("row", "note"),
    [(ROW, Note(Mark.DOT, 5)), (ROW._replace(store_id=ELSEWHERE), None), (ROW._replace(store_id=b"\0" * 16), None)],
)
def test_plan_of_a_mail_in_doubt_is_the_settings(row: Row, note: Note | None) -> None:
    """Noted but not answered, or noted where nobody can read: sent again and counted, or held."""
    assert Send(2, doubted=True) == plan(row, Setting.RESEND, HERE, note)
    assert isinstance(plan(row, Setting.HOLD, HERE, note), Hold)


@pytest.mark.parametrize("status", [Status.DOUBTFUL, Status.DROPPED])
@pytest.mark.parametrize("setting", list(Setting))
def test_a_persons_verdict_goes_before_the_setting(status: Status, setting: Setting) -> None:
    """Its doubt was counted when the mail became doubtful."""
    row = ROW._replace(status=status, reason="why")
    assert Send(1, doubted=True) == plan(row, setting, HERE, None, Verdict.RESEND)
    assert Drop() == plan(row, setting, HERE, None, Verdict.DROP)


def test_doubtful_mail_without_a_verdict_follows_the_setting() -> None:
    """Put back as it was, under a setting that may have been changed."""
    row = ROW._replace(status=Status.DOUBTFUL, reason="why")
    assert Hold("why") == plan(row, Setting.HOLD, HERE, None)
    assert Send(1, doubted=True) == plan(row, Setting.RESEND, HERE, None)


@pytest.mark.parametrize("verdict", list(Verdict))
def test_verdict_changes_nothing_about_a_mail_that_isnt_doubtful(verdict: Verdict) -> None:
    """A verdict that comes late sends nothing twice."""
    assert Answer(Sent(11)) == plan(ROW._replace(status=Status.ACCEPTED), Setting.RESEND, HERE, None, verdict)
    assert Send(1, doubted=False) == plan(ROW, Setting.RESEND, HERE, None, verdict)


def claim(row: Row | None, send: Send, message_id: str, offset: int) -> Row:
    """Claim at 1 s, kept for 100 ms."""
    return claimed(
        row, send, order_id="order-7", message_id=message_id, offset=offset, store_id=HERE, now_ms=1_000, ttl_ms=100
    )


def test_claim_of_a_new_mail() -> None:
    """The first attempt, whose time is the mail's Date."""
    expected = Row(Status.SENDING, 1_100, 1_000, 1_000, 1, 0, 7, HERE, "order-7", "<a@b>", "")
    assert expected == claim(None, Send(0, doubted=False), message_id="<a@b>", offset=7)


def test_claim_again_keeps_date_and_message_id() -> None:
    """The same mail, whatever the domain is set to now."""
    row = ROW._replace(status=Status.FAILED, reason="later", store_id=ELSEWHERE)
    expected = Row(Status.SENDING, 1_100, 10, 1_000, 3, 2, 8, HERE, "order-7", "<id@example.com>", "")
    assert expected == claim(row, Send(2, doubted=True), message_id="<other@b>", offset=8)


@pytest.mark.parametrize(
    ("outcome", "setting", "expected"),
    [
        (Sent(500), Setting.RESEND, (Status.ACCEPTED, 500, 1, "")),
        (Refused(permanent=True, reason="no"), Setting.RESEND, (Status.FAILED_PERMANENTLY, 1_000, 1, "no")),
        (Refused(permanent=False, reason="no"), Setting.RESEND, (Status.FAILED, 1_000, 1, "no")),
        (InDoubt("gone"), Setting.RESEND, (Status.FAILED, 1_000, 2, "in doubt: gone")),
        (InDoubt("gone"), Setting.HOLD, (Status.DOUBTFUL, 1_000, 2, "gone")),
        (Hold("gone"), Setting.HOLD, (Status.DOUBTFUL, 1_000, 2, "gone")),
    ],
)
def test_outcome_of_a_claimed_mail(
    outcome: Outcome | Hold, setting: Setting, expected: tuple[Status, int, int, str]
) -> None:
    """A mail in doubt is counted once, whether it fails, so that it is asked for again, or is held."""
    status, changed_ms, doubts, reason = expected
    row = ROW._replace(status=status, due_ms=1_100, changed_ms=changed_ms, doubts=doubts, reason=reason)
    assert row == settled(ROW, outcome, setting, 1_000, 100)


@pytest.mark.parametrize("status", [Status.ACCEPTED, Status.FAILED_PERMANENTLY, Status.DOUBTFUL, Status.DROPPED])
def test_settled_row_stays_as_it_is(status: Status) -> None:
    """What is said again is the same, and its time to be forgotten doesn't move."""
    row = ROW._replace(status=status)
    assert row == settled(row, Sent(500), Setting.RESEND, 1_000, 100)


def test_dropped_mail_says_so() -> None:
    """Of a doubtful mail that a person decided about."""
    row = ROW._replace(status=Status.DOUBTFUL)
    assert Status.DROPPED is settled(row, Drop(), Setting.HOLD, 1_000, 100).status


def test_long_reason_is_cut() -> None:
    """A mail server may say a lot."""
    assert 500 == len(settled(ROW, InDoubt("ü" * 9_000), Setting.HOLD, 1_000, 100).reason)
