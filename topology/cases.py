"""
The cases of the table, as code: how each is told (`GUARDS`), and what it does (`EFFECTS`).

An effect changes its process by recorded events, and sets what is no event: the bodies, and when to look again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from topology import events, ids
from topology.events import Cause
from topology.messages import EmailFailed, FailureReason, Message, OrderDetailsNotFound, SendOrderConfirmationEmail
from topology.policy import NEVER_ASK, Policy
from topology.state import Order, Process, Step
from topology.transitions import TABLE, Branch, Table, Then, When

_new: Final = tuple.__new__
"""See `process`."""

REASON_CHARS_MAX: Final = 500
"""Of a refused mail's reason, which is remembered and passed on; whoever wrote it may have written a megabyte."""


class Situation:
    """All that a case may look at, besides its process."""

    __slots__ = ("order", "message", "cause", "now_ms", "policy")

    def __init__(self, order: Order, message: Message, cause: Cause, now_ms: int, policy: Policy) -> None:
        self.order = order
        self.message = message
        self.cause = cause
        self.now_ms = now_ms
        self.policy = policy


Guard: TypeAlias = Callable[[Process, Situation], bool]
Effect: TypeAlias = Callable[[Process, Situation], None]


# How the table's cases are told.


def _heard_sent(process: Process, situation: Situation) -> bool:
    remembered = situation.order.remembered
    return bool(remembered) and ids.email_id(process.order_id, process.command_id) in remembered


def _details_usable(_: Process, situation: Situation) -> bool:
    details, policy = situation.order.details, situation.policy
    if details is None:
        return False
    # Where nothing is ever asked, nothing younger would come of waiting.
    return policy.ask_after_ms == NEVER_ASK or situation.now_ms - details.seen_ms < policy.details_max_age_ms


def _current_missing(process: Process, situation: Situation) -> bool:
    message, attempt = situation.message, process.query_attempt
    assert isinstance(message, OrderDetailsNotFound)
    return attempt > process.missing_attempt and message.query_id == ids.query_id(
        process.order_id, process.command_id, attempt
    )


def _last_missing(process: Process, situation: Situation) -> bool:
    return process.missing_count + 1 >= situation.policy.not_found_attempts and _current_missing(process, situation)


def _permanent(_: Process, situation: Situation) -> bool:
    assert isinstance(situation.message, EmailFailed)
    return situation.message.permanent


def _give_up_at_ms(process: Process, policy: Policy) -> int:
    return process.received_ms + policy.give_up_after_ms


def _given_up(process: Process, situation: Situation) -> bool:
    return situation.now_ms >= _give_up_at_ms(process, situation.policy)


def _may_retry(process: Process, situation: Situation) -> bool:
    return process.email_attempt < situation.policy.email_attempts and not _given_up(process, situation)


GUARDS: Final[dict[When, Guard]] = {
    When.HEARD_SENT: _heard_sent,
    When.DETAILS_USABLE: _details_usable,
    When.ASK_AT_ONCE: lambda _, situation: situation.policy.ask_after_ms == 0,
    When.LAST_MISSING: _last_missing,
    When.CURRENT_MISSING: _current_missing,
    When.PERMANENT: _permanent,
    When.OUTCOME_WAS_UNKNOWN: lambda process, _: process.reason is FailureReason.EMAIL_OUTCOME_UNKNOWN,
    When.GIVEN_UP: _given_up,
    When.ASKING: lambda _, situation: situation.policy.ask_after_ms != NEVER_ASK,
    When.MAY_RETRY: _may_retry,
}


# What the table's cases do.


def _start(process: Process, situation: Situation) -> None:
    message = situation.message
    assert isinstance(message, SendOrderConfirmationEmail)
    process.traceparent = message.traceparent
    process.command = message.body
    process.record(_new(events.CommandReceived, (situation.now_ms, situation.cause)))


def _start_sent(process: Process, situation: Situation) -> None:
    _start(process, situation)
    del situation.order.remembered[ids.email_id(process.order_id, process.command_id)]
    _finish_sent(process, situation)


def _start_sending(process: Process, situation: Situation) -> None:
    _start(process, situation)
    _send(process, situation)


def _start_asking(process: Process, situation: Situation) -> None:
    _start(process, situation)
    _ask_again(process, situation)


def _start_waiting(process: Process, situation: Situation) -> None:
    _start(process, situation)
    policy = situation.policy
    _wait_on(process, situation)
    if policy.ask_after_ms != NEVER_ASK:
        process.due_ms = min(process.due_ms, situation.now_ms + policy.ask_after_ms)


def _wait_on(process: Process, situation: Situation) -> None:
    process.due_ms = _give_up_at_ms(process, situation.policy)


def _start_cancelled(process: Process, situation: Situation) -> None:
    _start(process, situation)
    _fail(process, situation, FailureReason.CANCELLED)


def _cancel_early(process: Process, situation: Situation) -> None:
    process.record(events.CancelReceived(situation.now_ms, situation.cause))
    _finished(process, situation)


def _cancel(process: Process, situation: Situation) -> None:
    process.record(events.CancelReceived(situation.now_ms, situation.cause))
    _fail(process, situation, FailureReason.CANCELLED)


def _send(process: Process, situation: Situation) -> None:
    details = situation.order.details
    assert details is not None
    process.order = details.body
    process.record(_new(events.OrderDetailsRetrieved, (details.seen_ms, details.cause, details.version)))
    _send_again(process, situation)


def _send_again(process: Process, situation: Situation) -> None:
    attempt = process.email_attempt + 1
    process.record(_new(events.EmailRequested, (situation.now_ms, situation.cause, attempt)))
    process.due_ms = situation.now_ms + situation.policy.email_outcome_wait_ms


def _ask_again(process: Process, situation: Situation) -> None:
    attempt = process.query_attempt + 1
    process.record(_new(events.OrderDetailsQueried, (situation.now_ms, situation.cause, attempt)))
    _wait(process, situation, process.query_attempt)


def _wait_to_ask(process: Process, situation: Situation) -> None:
    process.record(events.OrderDetailsMissing(situation.now_ms, situation.cause, process.query_attempt))
    _wait(process, situation, process.query_attempt)


def _wait_to_send(process: Process, situation: Situation) -> None:
    _email_failed(process, situation)
    if process.email_attempt < situation.policy.email_attempts:
        _wait(process, situation, process.email_attempt)
    else:
        process.due_ms = situation.now_ms  # Nothing to wait for: it fails with the next look at the deadlines.


def _wait(process: Process, situation: Situation, attempt: int) -> None:
    policy = situation.policy
    again_ms = situation.now_ms + policy.backoff_ms(process.command_id, attempt)
    # Never before now: a deadline may be decided as of an instant that is past, but not before what set it.
    process.due_ms = max(min(again_ms, _give_up_at_ms(process, policy)), situation.now_ms)


def _email_failed(process: Process, situation: Situation) -> None:
    message = situation.message
    assert isinstance(message, EmailFailed)
    reason = message.reason[:REASON_CHARS_MAX]
    process.record(events.EmailFailed(situation.now_ms, situation.cause, message.permanent, reason))


def _fail_rejected(process: Process, situation: Situation) -> None:
    _email_failed(process, situation)
    _fail(process, situation, FailureReason.EMAIL_REJECTED)


def _fail_not_found(process: Process, situation: Situation) -> None:
    process.record(events.OrderDetailsMissing(situation.now_ms, situation.cause, process.query_attempt))
    _fail(process, situation, FailureReason.ORDER_NOT_FOUND)


def _fail(process: Process, situation: Situation, reason: FailureReason) -> None:
    process.record(events.ConfirmationFailed(situation.now_ms, situation.cause, reason))
    _finished(process, situation)


def _finish_sent(process: Process, situation: Situation) -> None:
    process.record(_new(events.EmailSent, (situation.now_ms, situation.cause)))
    _finished(process, situation)


def _finished(process: Process, situation: Situation) -> None:
    process.due_ms = situation.now_ms + situation.policy.finished_ttl_ms


def _forget(process: Process, situation: Situation) -> None:
    del situation.order.processes[process.command_id]


EFFECTS: Final[dict[Then, Effect]] = {
    Then.START_SENT: _start_sent,
    Then.START_SENDING: _start_sending,
    Then.START_ASKING: _start_asking,
    Then.START_WAITING: _start_waiting,
    Then.START_CANCELLED: _start_cancelled,
    Then.CANCEL_EARLY: _cancel_early,
    Then.CANCEL: _cancel,
    Then.SEND: _send,
    Then.SEND_AGAIN: _send_again,
    Then.ASK_AGAIN: _ask_again,
    Then.WAIT_ON: _wait_on,
    Then.WAIT_TO_ASK: _wait_to_ask,
    Then.WAIT_TO_SEND: _wait_to_send,
    Then.FINISH_SENT: _finish_sent,
    Then.FAIL_NOT_FOUND: _fail_not_found,
    Then.FAIL_DETAILS_TIMED_OUT: lambda p, s: _fail(p, s, FailureReason.ORDER_DETAILS_TIMED_OUT),
    Then.FAIL_REJECTED: _fail_rejected,
    Then.FAIL_RETRIES_OVER: lambda p, s: _fail(p, s, FailureReason.EMAIL_REJECTED),
    Then.FAIL_OUTCOME_UNKNOWN: lambda p, s: _fail(p, s, FailureReason.EMAIL_OUTCOME_UNKNOWN),
    Then.FORGET: _forget,
}


Case: TypeAlias = tuple[Guard | None, Effect | None, Branch]
"""A branch of the table and its code: None where nothing is to be asked, or done."""


def bind(table: Table) -> dict[type[Message], dict[Step, tuple[Case, ...]]]:
    """
    Return *table* with each branch's code beside it, looked up once and not for every message.

    Raises:
        ValueError: a branch is bound to no code; it mustn't wait for its first message to be found out.
    """

    def case(branch: Branch) -> Case:
        if branch.when not in GUARDS.keys() | {When.ALWAYS} or branch.then not in EFFECTS.keys() | {Then.COUNT}:
            raise ValueError(f"bind {branch.when} in GUARDS and {branch.then} in EFFECTS: the table names them")
        return GUARDS.get(branch.when), EFFECTS.get(branch.then), branch

    return {message: {step: tuple(map(case, cell)) for step, cell in cells.items()} for message, cells in table.items()}


CASES: Final = bind(TABLE)
