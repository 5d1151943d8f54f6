"""
Commands, queries and events: what the process manager reads and what it produces.

The classes carry what decisions need, not every field of the record: the two bodies that are joined stay raw bytes
(`Body`), so that they can be passed on whole without being understood. All are named tuples, because millions are
made; don't compare two of different classes, they compare as tuples.

Instants are Unix milliseconds, ids are canonical lower-case UUID text.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple, TypeAlias


class Body(NamedTuple):
    """Avro binary as it came, and the id of the schema that wrote it (of the record that it was a part of)."""

    schema_id: int
    data: bytes


class FailureReason(Enum):
    """Why a process ended without a sent mail; the names are the contract's."""

    ORDER_NOT_FOUND = "ORDER_NOT_FOUND"
    ORDER_DETAILS_TIMED_OUT = "ORDER_DETAILS_TIMED_OUT"
    EMAIL_REJECTED = "EMAIL_REJECTED"
    EMAIL_OUTCOME_UNKNOWN = "EMAIL_OUTCOME_UNKNOWN"
    CANCELLED = "CANCELLED"


# What comes in.


class SendOrderConfirmationEmail(NamedTuple):
    """Command: send the confirmation e-mail of one order."""

    order_id: str
    command_id: str
    body: Body
    traceparent: str | None = None


class CancelOrderConfirmation(NamedTuple):
    """Command: if the e-mail of *command_id* has not been requested yet, never send it."""

    order_id: str
    command_id: str


class OrderDetailsRetrieved(NamedTuple):
    """Event: the details of one order; *body* is the nested OrderDetails record."""

    order_id: str
    version: int
    body: Body


class OrderDetailsNotFound(NamedTuple):
    """Event: the orders service knows no such order."""

    order_id: str
    query_id: str


class EmailSent(NamedTuple):
    """Event: the mail server took the mail."""

    order_id: str
    email_id: str


class EmailFailed(NamedTuple):
    """Event: the mail can't be sent; ``permanent``: never try again."""

    order_id: str
    email_id: str
    permanent: bool
    reason: str


class DeadlinePassed(NamedTuple):
    """The clock reached the order's earliest deadline; made by the worker, never a record."""

    order_id: str


Message: TypeAlias = (
    SendOrderConfirmationEmail
    | CancelOrderConfirmation
    | OrderDetailsRetrieved
    | OrderDetailsNotFound
    | EmailSent
    | EmailFailed
    | DeadlinePassed
)

# What goes out.


class GetOrderDetails(NamedTuple):
    """Query: answer with the details of one order; *attempt* counts from 1."""

    order_id: str
    query_id: str
    attempt: int
    asked_at_ms: int


class SendEmail(NamedTuple):
    """Command: send this e-mail once; holds the two bodies that were joined."""

    order_id: str
    email_id: str
    command: Body
    order: Body


class OrderConfirmationSent(NamedTuple):
    """Event: the process of one command ended well."""

    order_id: str
    command_id: str
    email_id: str
    ended_at_ms: int


class OrderConfirmationFailed(NamedTuple):
    """Event: the process of one command ended without a sent mail."""

    order_id: str
    command_id: str
    reason: FailureReason
    detail: str
    ended_at_ms: int


Action: TypeAlias = GetOrderDetails | SendEmail | OrderConfirmationSent | OrderConfirmationFailed
