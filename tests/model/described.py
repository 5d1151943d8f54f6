"""
The process as its description tells it, said a second time and not by the table: which step follows, and why.

Written as plain cases on purpose: it shares no code with the core but for the messages and the state.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final, NamedTuple

from tests.model import world
from topology import events
from topology.events import Cause, Event
from topology.messages import (
    CancelOrderConfirmation,
    DeadlinePassed,
    EmailFailed,
    EmailSent,
    FailureReason,
    Message,
    OrderDetailsNotFound,
    OrderDetailsRetrieved,
    SendOrderConfirmationEmail,
)
from topology.policy import NEVER_ASK, Policy
from topology.process import Decision
from topology.state import FINISHED, Order, Process, Step

email_id: Final = lru_cache(world.email_id)
query_id: Final = lru_cache(world.query_id)


class Seen(NamedTuple):
    """One decision: the order before it and after it, and what came of it."""

    before: Order
    message: Message
    cause: Cause
    now_ms: int
    policy: Policy
    decision: Decision
    after: Order
    recorded: dict[str, list[Event]]
    """What each process wrote down, by command id; only of those that did."""

    def was(self, command_id: str) -> Process:
        """Return the command's process as it stood before; not to be changed."""
        return self.before.processes.get(command_id) or Process(self.before.order_id, command_id)


REASONS: Final[dict[tuple[type[Message], Step], FailureReason]] = {
    (SendOrderConfirmationEmail, Step.CANCELLED_EARLY): FailureReason.CANCELLED,
    (CancelOrderConfirmation, Step.AWAITING_DETAILS): FailureReason.CANCELLED,
    (CancelOrderConfirmation, Step.RETRYING_EMAIL): FailureReason.CANCELLED,
    (OrderDetailsNotFound, Step.AWAITING_DETAILS): FailureReason.ORDER_NOT_FOUND,
    (EmailFailed, Step.AWAITING_EMAIL): FailureReason.EMAIL_REJECTED,
    (DeadlinePassed, Step.AWAITING_DETAILS): FailureReason.ORDER_DETAILS_TIMED_OUT,
    (DeadlinePassed, Step.AWAITING_EMAIL): FailureReason.EMAIL_OUTCOME_UNKNOWN,
    (DeadlinePassed, Step.RETRYING_EMAIL): FailureReason.EMAIL_REJECTED,
}
"""Why a process fails, by the message and the step that it comes in."""

RECORDED_BY: Final[dict[type[Event], frozenset[type[Message]]]] = {
    events.CommandReceived: frozenset({SendOrderConfirmationEmail}),
    events.CancelReceived: frozenset({CancelOrderConfirmation}),
    events.OrderDetailsQueried: frozenset({SendOrderConfirmationEmail, DeadlinePassed}),
    events.OrderDetailsMissing: frozenset({OrderDetailsNotFound}),
    events.OrderDetailsRetrieved: frozenset({OrderDetailsRetrieved, SendOrderConfirmationEmail}),
    events.EmailRequested: frozenset({OrderDetailsRetrieved, SendOrderConfirmationEmail, DeadlinePassed}),
    events.EmailSent: frozenset({EmailSent, SendOrderConfirmationEmail}),
    events.EmailFailed: frozenset({EmailFailed}),
    events.ConfirmationFailed: frozenset(message for message, _ in REASONS),
}
"""Because of which messages an event may be written down."""


def given_up(process: Process, seen: Seen) -> bool:
    """Return whether `give_up_after` is over for *process*."""
    return seen.now_ms >= process.received_ms + seen.policy.give_up_after_ms


def usable(seen: Seen) -> bool:
    """Return whether a new command needs no query: details are known, and young or not to be asked for."""
    details, policy = seen.before.details, seen.policy
    if details is None:
        return False
    return policy.ask_after_ms == NEVER_ASK or seen.now_ms - details.seen_ms < policy.details_max_age_ms


def meant(process: Process, seen: Seen) -> bool:
    """Return whether the message is about *process*."""
    match seen.message:
        case SendOrderConfirmationEmail(command_id=command_id) | CancelOrderConfirmation(command_id=command_id):
            return command_id == process.command_id
        case EmailSent(email_id=id_) | EmailFailed(email_id=id_):
            return id_ == email_id(process.command_id, process.order_id)
        case OrderDetailsRetrieved():
            return process.step is Step.AWAITING_DETAILS
        case OrderDetailsNotFound(query_id=id_):
            # The answer to the query that is waited for, and the first one.
            attempt = process.query_attempt
            waits = process.step is Step.AWAITING_DETAILS and process.missing_attempt < attempt
            return waits and id_ == query_id(process.command_id, attempt, process.order_id)
        case DeadlinePassed():
            return process.due_ms <= seen.now_ms


def expected_step(process: Process, seen: Seen) -> Step:
    """Return where the message leads *process*, which stands as it did before."""
    return _STEP_AFTER[type(seen.message)](process, seen) if meant(process, seen) else process.step


def _of_command(process: Process, seen: Seen) -> Step:
    if process.step not in {Step.ABSENT, Step.CANCELLED_EARLY}:
        return process.step
    if email_id(process.command_id, process.order_id) in seen.before.remembered:
        return Step.SENT
    if process.step is Step.CANCELLED_EARLY:
        return Step.FAILED
    return Step.AWAITING_EMAIL if usable(seen) else Step.AWAITING_DETAILS


def _of_cancel(process: Process, _: Seen) -> Step:
    if process.step is Step.ABSENT:
        return Step.CANCELLED_EARLY
    in_time = process.step in {Step.AWAITING_DETAILS, Step.RETRYING_EMAIL}
    return Step.FAILED if in_time else process.step


def _of_missing(process: Process, seen: Seen) -> Step:
    return Step.FAILED if process.missing_count + 1 >= seen.policy.not_found_attempts else process.step


def _of_sent(process: Process, _: Seen) -> Step:
    failed_for_good = process.step is Step.FAILED and process.reason is not FailureReason.EMAIL_OUTCOME_UNKNOWN
    return process.step if failed_for_good or process.step is Step.ABSENT else Step.SENT


def _of_refusal(process: Process, seen: Seen) -> Step:
    if process.step is not Step.AWAITING_EMAIL:
        return process.step
    assert isinstance(seen.message, EmailFailed)
    return Step.FAILED if seen.message.permanent else Step.RETRYING_EMAIL


def _of_deadline(process: Process, seen: Seen) -> Step:
    if process.step in FINISHED:
        return Step.ABSENT
    over = given_up(process, seen)
    if process.step is Step.AWAITING_DETAILS:
        return Step.FAILED if over else Step.AWAITING_DETAILS
    if process.step is Step.RETRYING_EMAIL and not over and process.email_attempt < seen.policy.email_attempts:
        return Step.AWAITING_EMAIL
    return Step.FAILED


_STEP_AFTER: Final[dict[type[Message], Callable[[Process, Seen], Step]]] = {
    SendOrderConfirmationEmail: _of_command,
    CancelOrderConfirmation: _of_cancel,
    OrderDetailsRetrieved: lambda *_: Step.AWAITING_EMAIL,
    OrderDetailsNotFound: _of_missing,
    EmailSent: _of_sent,
    EmailFailed: _of_refusal,
    DeadlinePassed: _of_deadline,
}
