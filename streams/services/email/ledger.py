"""
The e-mail service's ledger: one row an email_id, and what a row says about a SendEmail that comes.

    absent ──▶ sending ──┬──▶ accepted            EmailSent
       ▲          ▲      ├──▶ failed, permanent   EmailFailed
       │          ├──────┼──▶ failed              EmailFailed, to be tried again
       │          └──────┴──▶ doubtful ──▶ dropped   nothing is said: a person decides (in_doubt = hold)
       └── all of them are forgotten `finished_ttl` after they were last written

`sending` is committed before SMTP begins, what became of it afterwards. A row that is *found* `sending` was left so by
a crash or an aborted transaction; the notes of this machine (`notes`) then tell how far the sending had come.

All decisions here are pure: no clock, no I/O.
"""

from __future__ import annotations

import struct
from enum import Enum, IntEnum
from typing import Final, NamedTuple, TypeAlias

from streams.errors import ConfigurationError
from streams.services.email.notes import Mark, Note
from streams.services.email.outcome import InDoubt, Outcome, Refused, Sent
from streams.settings import InDoubt as InDoubtSetting

VERSION: Final = 1
VERDICT: Final = "rejoinder.doubtful"
REASON_CHARS_MAX: Final = 500


class Status(IntEnum):
    """What is known of a mail. The numbers are stored: append only."""

    SENDING = 1
    ACCEPTED = 2
    FAILED = 3
    FAILED_PERMANENTLY = 4
    DOUBTFUL = 5
    DROPPED = 6


class CorruptRow(Exception):
    """
    Bytes that are no row of the ledger.

    No `errors.Corrupt`: the changelog holds the same bytes, so a restore would bring them again, for ever.
    """


class Verdict(Enum):
    """What a person decided about a doubtful mail: header `VERDICT` of a SendEmail that is put back."""

    RESEND = "resend"
    DROP = "drop"


class Row(NamedTuple):
    """
    One mail in the ledger. Instants are Unix milliseconds.

    Attributes:
        status: What is known of it.
        due_ms: When the row is forgotten.
        claimed_ms: When it was first claimed; the mail's Date, so that a mail sent again is the same mail.
        changed_ms: When ``status`` came about: of ACCEPTED, when the mail server took it.
        attempts: How often it was claimed to be sent; with the email_id the name of its note.
        doubts: How often it was in doubt: the mail may have arrived this many times more than once.
        offset: Of the SendEmail that was last claimed, in email.commands and the row's partition.
        store_id: The notes in which a SENDING row's note is, if there is one.
        order_id: The order, for people and for the key of what is said about it.
        message_id: The Message-ID header.
        reason: Why it failed or is in doubt, at most 500 characters.
    """

    status: Status
    due_ms: int
    claimed_ms: int
    changed_ms: int
    attempts: int
    doubts: int
    offset: int
    store_id: bytes
    order_id: str
    message_id: str
    reason: str


# The bytes of a row.

_HEAD: Final = struct.Struct(">Bq")  # Version and due time: at the same place in the rows of every table.
_FIXED: Final = struct.Struct(">BqqIIq16sIII")  # The rest, and the lengths of the three texts that follow.


def encode(row: Row) -> bytes:
    """Return the bytes of *row*."""
    texts = [text.encode() for text in (row.order_id, row.message_id, row.reason)]
    fixed = _FIXED.pack(
        row.status,
        row.claimed_ms,
        row.changed_ms,
        row.attempts,
        row.doubts,
        row.offset,
        row.store_id,
        *map(len, texts),
    )
    return b"".join((_HEAD.pack(VERSION, row.due_ms), fixed, *texts))


def decode(data: bytes) -> Row:
    """
    Return the row of *data*.

    Raises:
        CorruptRow: *data* is none.
        ConfigurationError: *data* was written by a later release.
    """
    try:
        version, due_ms = _HEAD.unpack_from(data)
        if version != VERSION:
            raise ConfigurationError(
                f"ledger row of version {version}, but this release reads {VERSION} only; run the release that wrote it"
            )
        status, claimed_ms, changed_ms, attempts, doubts, offset, store_id, *lengths = _FIXED.unpack_from(
            data, _HEAD.size
        )
        at = _HEAD.size + _FIXED.size
        if len(data) != at + sum(lengths):
            raise CorruptRow(f"ledger row of {len(data)} bytes, {at + sum(lengths)} expected: {data[:80].hex()}")
        texts = []
        for length in lengths:
            texts.append(data[at : at + length].decode())
            at += length
        return Row(Status(status), due_ms, claimed_ms, changed_ms, attempts, doubts, offset, store_id, *texts)
    except (struct.error, ValueError) as exc:
        raise CorruptRow(f"ledger row can't be read: {exc}: {data[:80].hex()}") from exc


# What is to be done about a SendEmail.


class Send(NamedTuple):
    """Claim the mail and send it; ``doubts`` as the row shall say, ``doubted``: one more than it said."""

    doubts: int
    doubted: bool


class Answer(NamedTuple):
    """Send nothing: it is known what became of the mail."""

    outcome: Outcome


class Hold(NamedTuple):
    """Send and say nothing: the mail is in doubt, and a person decides."""

    reason: str


class Drop(NamedTuple):
    """Send and say nothing: the mail was in doubt, and a person decided so."""


Plan: TypeAlias = Send | Answer | Hold | Drop


def plan(
    row: Row | None, setting: InDoubtSetting, store_id: bytes, note: Note | None, verdict: Verdict | None = None
) -> Plan:
    """
    Say what a SendEmail comes to.

    Args:
        row: The mail's row, None if there is none.
        setting: What is done with a mail in doubt.
        store_id: Of this process's notes.
        note: What they say of the row's last attempt, None if nothing.
        verdict: What a person decided, if the mail is a doubtful one.
    """
    if row is None:
        return Send(0, doubted=False)
    match row.status:
        case Status.ACCEPTED:
            return Answer(Sent(row.changed_ms))
        case Status.FAILED_PERMANENTLY:
            return Answer(Refused(permanent=True, reason=row.reason))
        case Status.FAILED:
            return Send(row.doubts, doubted=False)
        case Status.DOUBTFUL | Status.DROPPED:
            return _doubtful(row, setting, verdict)
        case Status.SENDING:
            return _left_sending(row, setting, store_id, note)


def _left_sending(row: Row, setting: InDoubtSetting, store_id: bytes, note: Note | None) -> Plan:
    if row.store_id != store_id:
        return _in_doubt(row, setting, "it was being sent when its worker's notes were lost or left behind")
    if note is None or note.mark is Mark.REFUSED:
        return Send(row.doubts, doubted=False)
    if note.mark is Mark.ACCEPTED:
        return Answer(Sent(note.at_ms))
    return _in_doubt(row, setting, "its worker ended between the message's final dot and the mail server's answer")


def _doubtful(row: Row, setting: InDoubtSetting, verdict: Verdict | None) -> Plan:
    # This doubt was counted when the row became doubtful.
    if verdict is Verdict.RESEND:
        return Send(row.doubts, doubted=True)
    if verdict is Verdict.DROP or row.status is Status.DROPPED:
        return Drop()
    return Send(row.doubts, doubted=True) if setting is InDoubtSetting.RESEND else Hold(row.reason)


def _in_doubt(row: Row, setting: InDoubtSetting, reason: str) -> Plan:
    if setting is InDoubtSetting.HOLD:
        return Hold(reason)
    return Send(row.doubts + 1, doubted=True)


# How the row goes on.


def claimed(
    row: Row | None,
    send: Send,
    *,
    order_id: str,
    message_id: str,
    offset: int,
    store_id: bytes,
    now_ms: int,
    ttl_ms: int,
) -> Row:
    """Return the row to commit before the mail is sent."""
    return Row(
        status=Status.SENDING,
        due_ms=now_ms + ttl_ms,
        claimed_ms=row.claimed_ms if row else now_ms,
        changed_ms=now_ms,
        attempts=row.attempts + 1 if row else 1,
        doubts=send.doubts,
        offset=offset,
        store_id=store_id,
        order_id=order_id,
        message_id=row.message_id if row else message_id,
        reason="",
    )


def settled(row: Row, outcome: Outcome | Hold | Drop, setting: InDoubtSetting, now_ms: int, ttl_ms: int) -> Row:
    """Return the row that says what became of the mail; one that says so already stays as it is."""
    if isinstance(outcome, Drop):
        return row._replace(status=Status.DROPPED)
    if row.status is not Status.SENDING:
        return row
    at_ms = now_ms
    doubts, reason = row.doubts, ""
    match outcome:
        case Sent(at_ms):
            status = Status.ACCEPTED
        case Refused(permanent, reason):
            status = Status.FAILED_PERMANENTLY if permanent else Status.FAILED
        case Hold(reason):
            status = Status.DOUBTFUL
            doubts += 1
        case InDoubt(reason) if setting is InDoubtSetting.HOLD:
            status = Status.DOUBTFUL
            doubts += 1
        case InDoubt(reason):
            status = Status.FAILED
            doubts += 1
            # EmailFailed carries it: whoever reads that the mail wasn't accepted is told that it may have been.
            reason = f"in doubt: {reason}"
    return row._replace(
        status=status, due_ms=now_ms + ttl_ms, changed_ms=at_ms, doubts=doubts, reason=reason[:REASON_CHARS_MAX]
    )
