"""
The small world: one order, a few commands, its details in several versions; every message as it comes off the wire.

The messages are records that were encoded and decoded by the codec, so that a SendEmail made of them can be spliced.
A tick is one millisecond: waits are a few ticks, so that what can be reached is finite.
"""

from __future__ import annotations

from typing import Any, Final
from uuid import NAMESPACE_DNS, uuid5

from schemas.catalog import Catalog
from schemas.codec import Codec
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
from topology.policy import NEVER_ASK, Policy
from topology.topics import COMMANDS, DETAILS, EMAIL_EVENTS

ORDER: Final = "order-1"
COMMAND_IDS: Final = tuple(f"0b5e7a4c-9a55-4f0e-8d0a-3c1f6d2b9e0{number}" for number in range(1, 4))
VERSIONS: Final = (1, 2)
REASON: Final = "mailbox full"

NAMESPACE: Final = uuid5(NAMESPACE_DNS, "rejoinder")

TOPIC_OF: Final[dict[type[Message], str]] = {
    SendOrderConfirmationEmail: COMMANDS.name,
    CancelOrderConfirmation: COMMANDS.name,
    OrderDetailsRetrieved: DETAILS.name,
    OrderDetailsNotFound: DETAILS.name,
    EmailSent: EMAIL_EVENTS.name,
    EmailFailed: EMAIL_EVENTS.name,
}
"""The input topic that carries a message; a deadline comes from none."""

CODEC: Final = Codec(Catalog.from_files())

_RECORDS: Final = {topic.name: topic.records for topic in (COMMANDS, DETAILS, EMAIL_EVENTS)}


def email_id(command_id: str, order_id: str = ORDER) -> str:
    """Return the id of a command's e-mail, by the standard library's own derivation."""
    return str(uuid5(NAMESPACE, f"{command_id}/email/{order_id}"))


def query_id(command_id: str, attempt: int, order_id: str = ORDER) -> str:
    """Return the id of a command's *attempt*-th query, by the standard library's own derivation."""
    return str(uuid5(NAMESPACE, f"{command_id}/query/{attempt}/{order_id}"))


def _read(topic: str, record: str, order_id: str, fields: dict[str, Any]) -> Any:
    return CODEC.decode(_RECORDS[topic], order_id.encode(), CODEC.encode_record(record, fields))


def command(command_id: str, order_id: str = ORDER) -> SendOrderConfirmationEmail:
    """Return the command to send *command_id*'s e-mail."""
    fields = {"command_id": command_id, "order_id": order_id, "requested_at": 0, "requested_by": "shop"}
    record = "communications.SendOrderConfirmationEmail"
    message: SendOrderConfirmationEmail = _read(COMMANDS.name, record, order_id, fields)
    return message


def cancel(command_id: str, order_id: str = ORDER) -> CancelOrderConfirmation:
    """Return the cancel of *command_id*."""
    fields = {"command_id": command_id, "order_id": order_id, "requested_at": 0}
    record = "communications.CancelOrderConfirmation"
    message: CancelOrderConfirmation = _read(COMMANDS.name, record, order_id, fields)
    return message


def details(version: int, order_id: str = ORDER) -> OrderDetailsRetrieved:
    """Return the order's details in this version, each with a body of its own."""
    order = {
        "order_id": order_id,
        "version": version,
        "placed_at": 0,
        "customer": {"customer_id": "1", "name": "Ada", "email": "ada@example.com"},
        "currency": "EUR",
        "lines": [{"sku": "1", "name": "engine", "quantity": version, "unit_price": 1}],
        "total": version,
        "shipping_address": "",
    }
    fields = {"query_id": None, "retrieved_at": 0, "order": order}
    message: OrderDetailsRetrieved = _read(DETAILS.name, "orders.OrderDetailsRetrieved", order_id, fields)
    return message


def not_found(command_id: str, attempt: int, order_id: str = ORDER) -> OrderDetailsNotFound:
    """Return the answer to *command_id*'s *attempt*-th query that there is no such order."""
    fields = {"query_id": query_id(command_id, attempt, order_id), "order_id": order_id, "answered_at": 0}
    message: OrderDetailsNotFound = _read(DETAILS.name, "orders.OrderDetailsNotFound", order_id, fields)
    return message


def sent(command_id: str, order_id: str = ORDER) -> EmailSent:
    """Return the report that the mail server took *command_id*'s mail."""
    fields = {"email_id": email_id(command_id, order_id), "order_id": order_id, "message_id": "m", "sent_at": 0}
    message: EmailSent = _read(EMAIL_EVENTS.name, "communications.EmailSent", order_id, fields)
    return message


def failed(command_id: str, order_id: str = ORDER, *, permanent: bool) -> EmailFailed:
    """Return the report that *command_id*'s mail wasn't taken."""
    fields = {
        "email_id": email_id(command_id, order_id), "order_id": order_id, "permanent": permanent, "reason": REASON,
        "failed_at": 0,
    }  # fmt: skip
    message: EmailFailed = _read(EMAIL_EVENTS.name, "communications.EmailFailed", order_id, fields)
    return message


DEADLINE_PASSED: Final = DeadlinePassed(ORDER)

POLICY: Final = Policy(
    ask_after_ms=0,
    details_max_age_ms=1,
    details_ttl_ms=3,
    retry_first_ms=2,  # By jitter half of it and a bit: 1.
    retry_most_ms=2,
    not_found_attempts=2,
    give_up_after_ms=3,
    email_attempts=2,
    email_outcome_wait_ms=2,
    finished_ttl_ms=4,
)
"""Production's order of waits, in ticks: each wait ends at, before or after each other one."""

SHORT: Final = POLICY._replace(
    details_ttl_ms=2, not_found_attempts=1, give_up_after_ms=2, email_outcome_wait_ms=1, finished_ttl_ms=2
)
"""The shortest waits that still differ: of several commands all states can be visited."""

ASKS: Final = {"at once": 0, "later": 1, "never": NEVER_ASK}
"""Settings of `ask`, in ticks."""
