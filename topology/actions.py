"""
What a process owes: reported as values, or executed through two clients.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from topology import ids
from topology.messages import (
    Action,
    FailureReason,
    GetOrderDetails,
    OrderConfirmationFailed,
    OrderConfirmationSent,
    SendEmail,
)
from topology.state import Process, Step

_new: Final = tuple.__new__
"""See `process`."""


def actions(process: Process) -> list[Action]:
    """
    Report what *process* owes the world until the event that answers it arrives; of a finished one, its outcome.

    The same process always reports the same values: ids are derived, instants are those of its events.
    """
    owed = _OWED.get(process.step)
    return owed(process) if owed else []


def _query(process: Process) -> list[Action]:
    order_id, attempt = process.order_id, process.query_attempt
    if attempt == process.missing_attempt:  # Answered, or not asked yet.
        return []
    return [GetOrderDetails(order_id, ids.query_id(order_id, process.command_id, attempt), attempt, process.changed_ms)]


def _email(process: Process) -> list[Action]:
    order_id, command, order = process.order_id, process.command, process.order
    assert command is not None
    assert order is not None
    return [_new(SendEmail, (order_id, ids.email_id(order_id, process.command_id), command, order))]


def _sent(process: Process) -> list[Action]:
    order_id, command_id = process.order_id, process.command_id
    return [OrderConfirmationSent(order_id, command_id, ids.email_id(order_id, command_id), process.changed_ms)]


def _failed(process: Process) -> list[Action]:
    reason = process.reason
    assert reason is not None
    detail = _DETAIL[reason](process)
    return [OrderConfirmationFailed(process.order_id, process.command_id, reason, detail, process.changed_ms)]


_OWED: Final[dict[Step, Callable[[Process], list[Action]]]] = {
    Step.AWAITING_DETAILS: _query,
    Step.AWAITING_EMAIL: _email,
    Step.SENT: _sent,
    Step.FAILED: _failed,
}

_DETAIL: Final[dict[FailureReason, Callable[[Process], str]]] = {
    FailureReason.ORDER_NOT_FOUND: lambda p: f"the orders service knows no such order; queries: {p.query_attempt}",
    FailureReason.ORDER_DETAILS_TIMED_OUT: lambda p: f"no order details came in time; queries: {p.query_attempt}",
    FailureReason.EMAIL_REJECTED: lambda p: f"not accepted; tries: {p.email_attempt}, last answer: {p.note}",
    FailureReason.EMAIL_OUTCOME_UNKNOWN: lambda _: "the e-mail was requested, but what became of it wasn't reported",
    FailureReason.CANCELLED: lambda _: "cancelled before the e-mail was requested or while it waited to be retried",
}


class OrderDetailsClient(Protocol):
    """Who can be asked for an order's details."""

    def get_order_details(self, query: GetOrderDetails) -> None:
        """Ask; the answer comes as OrderDetailsRetrieved or OrderDetailsNotFound."""


class EmailClient(Protocol):
    """Who sends e-mails."""

    def send_email(self, command: SendEmail) -> None:
        """Send; the outcome comes as EmailSent or EmailFailed."""


def act(process: Process, order_details_client: OrderDetailsClient, email_client: EmailClient) -> None:
    """
    Execute what *process* owes; idempotent as far as the clients honour the derived ids.

    An outcome is nobody's to execute: it is there to be read, in `actions`.
    """
    for action in actions(process):
        if isinstance(action, GetOrderDetails):
            order_details_client.get_order_details(action)
        elif isinstance(action, SendEmail):
            email_client.send_email(action)
