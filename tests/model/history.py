"""
What must be true of all decisions about one command together: how many SendEmails, which outcomes.

Of a command only as much is remembered as the promises need (`Told`), so that few histories differ.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from tests.model.described import email_id
from tests.model.invariants import require
from tests.model.world import CODEC
from topology.messages import (
    Action,
    CancelOrderConfirmation,
    EmailFailed,
    EmailSent,
    FailureReason,
    GetOrderDetails,
    Message,
    OrderConfirmationFailed,
    OrderConfirmationSent,
    SendEmail,
    SendOrderConfirmationEmail,
)

SENT: Final = "sent"
CORRECTED: Final = "unknown, then sent"
UNKNOWN: Final = FailureReason.EMAIL_OUTCOME_UNKNOWN.value


class Told(NamedTuple):
    """What the world knows of one command, from what it said and what it was told, never from the row."""

    came: bool = False
    mail: bytes | None = None
    """The first SendEmail's record."""
    mails_left: int = 1
    """How many SendEmails may follow: 1 + refusals for now − SendEmails."""
    cancelled: bool = False
    """A cancel came in time: before the mail was requested, or while it waited to be retried."""
    reported: bool = False
    """The mail was reported sent."""
    outcome: str = ""
    gone: bool = False
    """Everything about the command was forgotten again; neither it nor its cancel is said any more."""


NOTHING: Final = Told()
GONE: Final = Told(gone=True)


def told_after(told: Told, command_id: str, message: Message, owed: tuple[Action, ...], forgotten: bool) -> Told:
    """
    Return what is known of *command_id* after one decision.

    Args:
        told: What was known before.
        command_id: The command.
        message: What was said; of whatever command.
        owed: What became due of this command.
        forgotten: Whether the row forgot all about this command.

    Raises:
        Violation: a promise about the command is broken.
    """
    if told.gone:
        require("a forgotten command owes nothing", not owed, command_id, owed)
        return told
    told = _hear(told, command_id, message)
    for action in owed:
        told = _owe(told, command_id, action)
    if forgotten:
        require("a command has an outcome before it is forgotten", bool(told.outcome) or not told.came, command_id)
        return GONE
    if told.outcome:
        # No mail may follow; what only told whether one may is left out.
        return Told(came=True, mails_left=0, outcome=told.outcome)
    return told


def _hear(told: Told, command_id: str, message: Message) -> Told:
    match message:
        case SendOrderConfirmationEmail(command_id=id_) if id_ == command_id:
            return told._replace(came=True)
        case CancelOrderConfirmation(command_id=id_) if id_ == command_id and told.mails_left and not told.outcome:
            return told._replace(cancelled=True)
        case EmailSent(order_id=order_id, email_id=id_) if id_ == email_id(command_id, order_id):
            return told._replace(reported=True)
        case EmailFailed(order_id=order_id, email_id=id_, permanent=False) if id_ == email_id(command_id, order_id):
            # A second refusal of the same SendEmail is a duplicate.
            return told if told.outcome else told._replace(mails_left=1)
    return told


def _owe(told: Told, command_id: str, action: Action) -> Told:
    match action:
        case SendEmail():
            record = CODEC.encode(action)
            require("no SendEmail after the outcome", not told.outcome, command_id, told.outcome)
            require("SendEmails ≤ 1 + refusals for now", told.mails_left > 0, command_id)
            require("all SendEmails of a command are one record", told.mail in {None, record}, command_id, action)
            require("no SendEmail after a cancel that came in time", not told.cancelled, command_id)
            require("no SendEmail of a mail reported sent", not told.reported, command_id)
            return told._replace(mail=record, mails_left=told.mails_left - 1)
        case GetOrderDetails():
            needed = told.mail is None and not (told.cancelled or told.reported or told.outcome)
            require("no query whose answer nobody needs", needed, command_id, told)
            return told
        case OrderConfirmationSent():
            require("one outcome a process; only unknown is corrected", told.outcome in {"", UNKNOWN}, told.outcome)
            require("sent is only said of a mail reported sent", told.reported, command_id)
            return told._replace(outcome=CORRECTED if told.outcome else SENT)
        case OrderConfirmationFailed(reason=reason):
            require("one outcome a process", not told.outcome, told.outcome, reason)
            cancelled = reason is FailureReason.CANCELLED
            require("cancelled is what was cancelled in time", cancelled == told.cancelled, command_id, reason)
            return told._replace(outcome=reason.value)
