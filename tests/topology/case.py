"""A case of the state × message table: its form, and what the cases share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from tests.topology.world import (
    COMMAND,
    COMMAND_BODY,
    DEADLINE_PASSED,
    EMAIL_ID,
    ORDER,
    ORDER_BODY,
    QUERY_IDS,
    cancel,
    command,
    details,
    refused,
    sent,
)
from topology.events import Cause, Event
from topology.messages import (
    Action,
    FailureReason,
    GetOrderDetails,
    Message,
    OrderConfirmationFailed,
    OrderConfirmationSent,
    SendEmail,
)
from topology.policy import DAY_MS, MINUTE_MS, NEVER_ASK, SECOND_MS, Policy
from topology.state import Step

ABSENT, EARLY, DETAILS, EMAIL, RETRY, SENT, FAILED = Step

DEFAULT: Final = Policy()
PLAIN_JOIN: Final = Policy(ask_after_ms=NEVER_ASK)
ASK_LATER: Final = Policy(ask_after_ms=MINUTE_MS)
FINISHED_TTL_MS: Final = 35 * DAY_MS
CANCELLED: Final = "cancelled before the e-mail was requested or while it waited to be retried"

SEND_EMAIL: Final = SendEmail(ORDER, EMAIL_ID, COMMAND_BODY, ORDER_BODY)

History = tuple[tuple[int, Message], ...]

# The shortest way to each step.
TO_EARLY: Final[History] = ((0, cancel()),)
TO_DETAILS: Final[History] = ((0, command()),)
TO_EMAIL: Final[History] = (*TO_DETAILS, (SECOND_MS, details()))
TO_RETRY: Final[History] = (*TO_EMAIL, (2 * SECOND_MS, refused()))
TO_SENT: Final[History] = (*TO_EMAIL, (2 * SECOND_MS, sent()))
TO_CANCELLED: Final[History] = (*TO_DETAILS, (SECOND_MS, cancel()))
TO_UNKNOWN: Final[History] = (*TO_EMAIL, (DAY_MS + SECOND_MS, DEADLINE_PASSED))
WAYS: Final[dict[Step, History]] = {
    ABSENT: (),
    EARLY: TO_EARLY,
    DETAILS: TO_DETAILS,
    EMAIL: TO_EMAIL,
    RETRY: TO_RETRY,
    SENT: TO_SENT,
    FAILED: TO_CANCELLED,
}


def at(topic: str, offset: int) -> Cause:
    """Return the record at *offset* of the input whose short name is *topic*."""
    return Cause({"commands": "order-confirmation.commands"}.get(topic, f"{topic}.events"), offset)


def get_order_details(attempt: int, asked_at_ms: int) -> GetOrderDetails:
    """Return the *attempt*-th query."""
    return GetOrderDetails(ORDER, QUERY_IDS[attempt - 1], attempt, asked_at_ms)


def confirmed(ended_at_ms: int) -> OrderConfirmationSent:
    """Return the good outcome."""
    return OrderConfirmationSent(ORDER, COMMAND, EMAIL_ID, ended_at_ms)


def unconfirmed(reason: FailureReason, detail: str, ended_at_ms: int) -> OrderConfirmationFailed:
    """Return the bad outcome."""
    return OrderConfirmationFailed(ORDER, COMMAND, reason, detail, ended_at_ms)


@dataclass(frozen=True)
class Case:
    """
    A branch of the table that does something.

    ``bodies``: whether the process still holds the command's and the order's body. ``due_ms``: None for a process
    that is forgotten.
    """

    name: str
    history: History
    now_ms: int
    message: Message
    step: Step
    branch: int
    to: Step
    recorded: tuple[Event, ...]
    owed: tuple[Action, ...]
    bodies: tuple[bool, bool]
    due_ms: int | None
    policy: Policy = field(default=DEFAULT)
    history_policy: Policy = field(default=DEFAULT)
