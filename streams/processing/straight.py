"""
The short way: what most records are, decided straight from bytes to bytes, without an `Order` and without the table.

These are the cells of the happy path, for orders with one command at most:

    first details of an order            kept
    first command, no details yet        asked at once, or waited for
    first command, usable details        SendEmail
    details that one command waits for   SendEmail
    EmailSent of a requested e-mail      OrderConfirmationSent

The result is the table's, byte for byte: `topology.process.decide` and `schemas.state_codec` are what this is held
against, by tests that draw orders' histories, and by the simulator, whose workers decide this way and whose checker
decides again by the table. Each way here names its branch of the table, and doesn't load if that does something else.

It takes about half of the table's time, which makes objects of a whole row to change some of its numbers.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from schemas import straight_rows
from schemas.straight_rows import DETAILS_INDEX, DetailsRow
from streams.batch import Batch, Record
from streams.processing import waiting
from topology import ids
from topology.messages import (
    Action,
    EmailSent,
    GetOrderDetails,
    Message,
    OrderConfirmationSent,
    OrderDetailsRetrieved,
    SendEmail,
    SendOrderConfirmationEmail,
)
from topology.policy import NEVER_ASK, Policy
from topology.state import Step
from topology.transitions import TABLE, Branch, Then, When

_new: Final = tuple.__new__
"""See `topology.process`."""

_AWAITING_DETAILS, _AWAITING_EMAIL = int(Step.AWAITING_DETAILS), int(Step.AWAITING_EMAIL)


class Decided(NamedTuple):
    """The table's branch that was taken, what the process owes now, and of whom it is: for headers."""

    branch: Branch
    action: Action | None = None
    command_id: str = ""
    traceparent: str | None = None


def _branch(message: type[Message], step: Step, when: When, then: Then) -> Branch:
    """
    Return the branch of the table that one of the ways here stands for.

    Raises:
        ValueError: that branch does something else by now.
    """
    (branch,) = (branch for branch in TABLE[message][step] if branch.when is when)
    if branch.then is not then:
        raise ValueError(f"{message.__name__} × {step.title}: {branch.then} in the table, {then} in straight.py")
    return branch


_KEPT: Final = Decided(_branch(OrderDetailsRetrieved, Step.ABSENT, When.ALWAYS, Then.COUNT))
_AT_ONCE: Final = _branch(SendOrderConfirmationEmail, Step.ABSENT, When.DETAILS_USABLE, Then.START_SENDING)
_ASKED: Final = _branch(SendOrderConfirmationEmail, Step.ABSENT, When.ASK_AT_ONCE, Then.START_ASKING)
_WAITS: Final = Decided(_branch(SendOrderConfirmationEmail, Step.ABSENT, When.ALWAYS, Then.START_WAITING))
_MET: Final = _branch(OrderDetailsRetrieved, Step.AWAITING_DETAILS, When.ALWAYS, Then.SEND)
_SENT: Final = _branch(EmailSent, Step.AWAITING_EMAIL, When.ALWAYS, Then.FINISH_SENT)

BRANCHES: Final = (_KEPT.branch, _AT_ONCE, _ASKED, _WAITS.branch, _MET, _SENT)
"""In the order that the kernel has them in."""


def decide(
    batch: Batch, record: Record, message: Message, row: bytes | None, policy: Policy, row_bytes_max: int
) -> Decided | None:
    """
    Put the row and count who waits, as the table would; None leaves all to it.

    Args:
        batch: Where *record* is from, whose order it hasn't opened.
        record: What came.
        message: What it says.
        row: The order's row, None if there is none.
        policy: Waits and attempts; at least one process an order.
        row_bytes_max: A row that may grow beyond this is the table's, which refuses it.
    """
    if row is None:
        if type(message) is OrderDetailsRetrieved:
            return _first_details(batch, record, message, policy)
        if type(message) is SendOrderConfirmationEmail:
            return _first_command(batch, record, message, policy)
    elif type(message) is EmailSent:
        return _email_sent(batch, record, message, row, policy)
    elif len(row) + len(record.value or b"") <= row_bytes_max:
        if type(message) is OrderDetailsRetrieved:
            return _awaited_details(batch, record, message, row, policy)
        if type(message) is SendOrderConfirmationEmail:
            return _command_with_details(batch, record, message, row, policy)
    return None


def _first_details(batch: Batch, record: Record, message: OrderDetailsRetrieved, policy: Policy) -> Decided:
    now_ms = batch.now_ms
    details = _new(DetailsRow, (message.body, message.version, now_ms, DETAILS_INDEX, record.offset))
    batch.put(record.key or b"", straight_rows.encode_details(details, now_ms + policy.details_ttl_ms))
    return _KEPT


def _first_command(batch: Batch, record: Record, message: SendOrderConfirmationEmail, policy: Policy) -> Decided:
    order_id, command_id, body, traceparent = message
    now_ms, ask_after_ms = batch.now_ms, policy.ask_after_ms
    asked = ask_after_ms == 0
    due_ms = now_ms + policy.give_up_after_ms
    if asked:
        due_ms = max(min(now_ms + policy.backoff_ms(command_id, 1), due_ms), now_ms)
    elif ask_after_ms != NEVER_ASK:
        due_ms = min(due_ms, now_ms + ask_after_ms)
    row = straight_rows.encode_waiting(body, command_id, traceparent, record.offset, now_ms, due_ms, asked)
    batch.put(record.key or b"", row)
    waiting.add_one(batch.moved, _AWAITING_DETAILS, now_ms, 1)
    if not asked:
        return _WAITS
    query = _new(GetOrderDetails, (order_id, ids.query_id(order_id, command_id, 1), 1, now_ms))
    return _new(Decided, (_ASKED, query, command_id, traceparent))


def _command_with_details(
    batch: Batch, record: Record, message: SendOrderConfirmationEmail, row: bytes, policy: Policy
) -> Decided | None:
    known = straight_rows.decode_details(row)
    if known is None:
        return None
    order_id, command_id, body, traceparent = message
    now_ms, seen_ms = batch.now_ms, known.seen_ms
    if policy.ask_after_ms != NEVER_ASK and now_ms - seen_ms >= policy.details_max_age_ms:
        return None
    email_due_ms = now_ms + policy.email_outcome_wait_ms
    due_ms = min(email_due_ms, seen_ms + policy.details_ttl_ms)
    requested = straight_rows.encode_requested(
        known, body, command_id, traceparent, record.offset, now_ms, email_due_ms, due_ms
    )
    batch.put(record.key or b"", requested)
    waiting.add_one(batch.moved, _AWAITING_EMAIL, now_ms, 1)
    email = _new(SendEmail, (order_id, ids.email_id(order_id, command_id), body, known.body))
    return _new(Decided, (_AT_ONCE, email, command_id, traceparent))


def _awaited_details(
    batch: Batch, record: Record, message: OrderDetailsRetrieved, row: bytes, policy: Policy
) -> Decided | None:
    found = straight_rows.decode_waiting(row)
    if found is None:
        return None
    command, process = found
    order_id, version, body = message
    now_ms, command_id, received_ms = batch.now_ms, process.command_id, process.received_ms
    email_due_ms = now_ms + policy.email_outcome_wait_ms
    due_ms = min(email_due_ms, now_ms + policy.details_ttl_ms)
    details = _new(DetailsRow, (body, version, now_ms, DETAILS_INDEX, record.offset))
    met = straight_rows.encode_met(command, process, details, now_ms, email_due_ms, due_ms)
    batch.put(record.key or b"", met)
    waiting.add_one(batch.moved, _AWAITING_DETAILS, received_ms, -1)
    waiting.add_one(batch.moved, _AWAITING_EMAIL, received_ms, 1)
    email = _new(SendEmail, (order_id, ids.email_id(order_id, command_id), command, body))
    return _new(Decided, (_MET, email, command_id, process.traceparent))


def _email_sent(batch: Batch, record: Record, message: EmailSent, row: bytes, policy: Policy) -> Decided | None:
    requested = straight_rows.decode_requested(row)
    if requested is None:
        return None
    process = requested.process
    order_id, email_id = message
    command_id = process.command_id
    if ids.email_id(order_id, command_id) != email_id:
        return None
    now_ms = batch.now_ms
    process_due_ms = now_ms + policy.finished_ttl_ms
    due_ms = min(process_due_ms, requested.seen_ms + policy.details_ttl_ms)
    sent = straight_rows.encode_sent(requested, record.offset, now_ms, process_due_ms, due_ms)
    batch.put(record.key or b"", sent)
    waiting.add_one(batch.moved, _AWAITING_EMAIL, process.received_ms, -1)
    outcome = _new(OrderConfirmationSent, (order_id, command_id, email_id, now_ms))
    return _new(Decided, (_SENT, outcome, command_id, process.traceparent))
