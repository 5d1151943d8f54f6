"""
The state × message table: what every message does in every step, as data.

A process starts when its command arrives (or a cancel that overtook it), waits for the order's details, then for the
e-mail's outcome, and ends sent or failed. Messages may come twice, late, in any order across topics, and for processes
that are over; the table decides every such case, and an empty cell fails at import. How a case is told (`When`) and
what it does (`Then`) is code in `cases`; which case does what, and where it leads, stands only here. docs/process.md
is generated from it.

Details and what was heard of unknown e-mails belong to the order, not to a process: `process.decide` takes them in
before it looks a cell up. The column *absent* is the cell of a message that meets no process.
"""

from __future__ import annotations

from enum import Enum, auto
from itertools import product
from typing import Final, NamedTuple, TypeAlias, get_args

from topology.messages import (
    CancelOrderConfirmation,
    DeadlinePassed,
    EmailFailed,
    EmailSent,
    Message,
    OrderDetailsNotFound,
    OrderDetailsRetrieved,
    SendOrderConfirmationEmail,
)
from topology.state import Step


class When(Enum):
    """The cases that a cell tells apart, asked in the cell's order."""

    ALWAYS = auto()
    HEARD_SENT = auto()
    DETAILS_USABLE = auto()
    ASK_AT_ONCE = auto()
    LAST_MISSING = auto()
    CURRENT_MISSING = auto()
    PERMANENT = auto()
    OUTCOME_WAS_UNKNOWN = auto()
    GIVEN_UP = auto()
    ASKING = auto()
    MAY_RETRY = auto()


class Then(Enum):
    """What a case does to the process."""

    COUNT = auto()
    START_SENT = auto()
    START_SENDING = auto()
    START_ASKING = auto()
    START_WAITING = auto()
    START_CANCELLED = auto()
    CANCEL_EARLY = auto()
    CANCEL = auto()
    SEND = auto()
    SEND_AGAIN = auto()
    ASK_AGAIN = auto()
    WAIT_ON = auto()
    WAIT_TO_ASK = auto()
    WAIT_TO_SEND = auto()
    FINISH_SENT = auto()
    FAIL_NOT_FOUND = auto()
    FAIL_DETAILS_TIMED_OUT = auto()
    FAIL_REJECTED = auto()
    FAIL_RETRIES_OVER = auto()
    FAIL_OUTCOME_UNKNOWN = auto()
    FORGET = auto()


class Branch(NamedTuple):
    """One case of a cell. ``says`` is the case and its effect for people, and the label it is counted under."""

    when: When
    then: Then
    to: Step
    says: str


Cell: TypeAlias = tuple[Branch, ...]
Table: TypeAlias = dict[type[Message], dict[Step, Cell]]

_ABSENT, _EARLY, _DETAILS, _EMAIL, _RETRY, _SENT, _FAILED = Step


def _stays(says: str, *steps: Step) -> dict[Step, Cell]:
    """Return cells that record nothing and lead nowhere."""
    return {step: (Branch(When.ALWAYS, Then.COUNT, step, says),) for step in steps}


def _goes(then: Then, to: Step, says: str, *steps: Step) -> dict[Step, Cell]:
    """Return cells of one unconditional branch."""
    return {step: (Branch(When.ALWAYS, then, to, says),) for step in steps}


TABLE: Final[Table] = {
    SendOrderConfirmationEmail: {
        _ABSENT: (
            Branch(When.HEARD_SENT, Then.START_SENT, _SENT, "reported sent already: OrderConfirmationSent"),
            Branch(When.DETAILS_USABLE, Then.START_SENDING, _EMAIL, "details known and young enough: SendEmail"),
            Branch(When.ASK_AT_ONCE, Then.START_ASKING, _DETAILS, "GetOrderDetails, attempt 1"),
            Branch(When.ALWAYS, Then.START_WAITING, _DETAILS, "wait, asking later or never"),
        ),
        _EARLY: (
            Branch(When.HEARD_SENT, Then.START_SENT, _SENT, "reported sent already: OrderConfirmationSent"),
            Branch(When.ALWAYS, Then.START_CANCELLED, _FAILED, "OrderConfirmationFailed (CANCELLED)"),
        ),
        **_stays("duplicate", _DETAILS, _EMAIL, _RETRY, _SENT, _FAILED),
    },
    CancelOrderConfirmation: {
        **_goes(Then.CANCEL_EARLY, _EARLY, "cancelled before the command came", _ABSENT),
        **_goes(Then.CANCEL, _FAILED, "OrderConfirmationFailed (CANCELLED)", _DETAILS, _RETRY),
        **_stays("too late", _EMAIL, _SENT),
        **_stays("duplicate", _EARLY, _FAILED),
    },
    OrderDetailsRetrieved: {
        **_goes(Then.SEND, _EMAIL, "SendEmail", _DETAILS),
        **_stays("kept", _ABSENT, _EARLY, _SENT),
        **_stays("kept; the mail stays as it was", _EMAIL),
        **_stays("kept; the retry sends what was sent", _RETRY),
        **_stays("kept, never revives", _FAILED),
    },
    OrderDetailsNotFound: {
        _DETAILS: (
            Branch(
                When.LAST_MISSING,
                Then.FAIL_NOT_FOUND,
                _FAILED,
                "of the current attempt, for the not_found_attempts-th time: OrderConfirmationFailed (ORDER_NOT_FOUND)",
            ),
            Branch(
                When.CURRENT_MISSING,
                Then.WAIT_TO_ASK,
                _DETAILS,
                "of the current attempt, once an attempt: query again after the backoff",
            ),
            Branch(When.ALWAYS, Then.COUNT, _DETAILS, "of another attempt: counted"),
        ),
        **_stays("counted", _ABSENT, _EARLY, _EMAIL, _RETRY, _SENT, _FAILED),
    },
    EmailSent: {
        **_stays("remembered: a command that derives this e-mail id starts as sent", _ABSENT),
        **_goes(Then.FINISH_SENT, _SENT, "OrderConfirmationSent", _EARLY, _DETAILS, _EMAIL, _RETRY),
        **_stays("duplicate", _SENT),
        _FAILED: (
            Branch(When.OUTCOME_WAS_UNKNOWN, Then.FINISH_SENT, _SENT, "outcome was unknown: OrderConfirmationSent"),
            Branch(When.ALWAYS, Then.COUNT, _FAILED, "counted"),
        ),
    },
    EmailFailed: {
        **_stays("counted", _ABSENT, _EARLY, _DETAILS, _SENT, _FAILED),
        _EMAIL: (
            Branch(When.PERMANENT, Then.FAIL_REJECTED, _FAILED, "permanent: OrderConfirmationFailed (EMAIL_REJECTED)"),
            Branch(When.ALWAYS, Then.WAIT_TO_SEND, _RETRY, "not permanent: send again after the backoff"),
        ),
        **_stays("duplicate", _RETRY),
    },
    DeadlinePassed: {
        **_stays("details_ttl: forget the details; finished_ttl: forget what was remembered", _ABSENT),
        **_goes(Then.FORGET, _ABSENT, "finished_ttl: forget", _EARLY, _SENT, _FAILED),
        _DETAILS: (
            Branch(
                When.GIVEN_UP,
                Then.FAIL_DETAILS_TIMED_OUT,
                _FAILED,
                "give_up_after: OrderConfirmationFailed (ORDER_DETAILS_TIMED_OUT)",
            ),
            Branch(When.ASKING, Then.ASK_AGAIN, _DETAILS, "GetOrderDetails, the next attempt"),
            Branch(When.ALWAYS, Then.WAIT_ON, _DETAILS, "asking was switched off meanwhile: wait until give_up_after"),
        ),
        **_goes(
            Then.FAIL_OUTCOME_UNKNOWN,
            _FAILED,
            "email_outcome_wait: OrderConfirmationFailed (EMAIL_OUTCOME_UNKNOWN); nothing is sent again",
            _EMAIL,
        ),
        _RETRY: (
            Branch(When.MAY_RETRY, Then.SEND_AGAIN, _EMAIL, "the same SendEmail, byte for byte"),
            Branch(
                When.ALWAYS,
                Then.FAIL_RETRIES_OVER,
                _FAILED,
                "after email_attempts or give_up_after: OrderConfirmationFailed (EMAIL_REJECTED)",
            ),
        ),
    },
}


def check(table: Table) -> None:
    """
    Refuse a table with an empty cell, or one whose branches don't cover everything.

    Raises:
        ValueError: names the message and the step.
    """
    for message, step in product(get_args(Message), Step):
        cell = table.get(message, {}).get(step, ())
        if [branch.when is When.ALWAYS for branch in cell] != [False] * (len(cell) - 1) + [True]:
            raise ValueError(
                f"{message.__name__} × {step.title}: a cell ends with its one ALWAYS branch, this one is {cell}"
            )
        if any(branch.then is Then.COUNT and branch.to is not step for branch in cell):
            raise ValueError(f"{message.__name__} × {step.title}: a branch that only counts leads nowhere else")


check(TABLE)
