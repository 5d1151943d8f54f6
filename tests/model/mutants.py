"""
Mutants of `decide`: the shipped code with one bug each, which the explorer must find.

Most change a cell of the table, and run the shipped `decide` by it; the others meddle before or after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import FunctionType
from typing import Any, Final, cast
from uuid import uuid4

from tests.model import world
from tests.model.trial import OTHER_CLOCK_MS, Decide
from topology import ids, process
from topology.cases import EFFECTS, GUARDS, Case
from topology.events import Cause
from topology.messages import (
    CancelOrderConfirmation,
    DeadlinePassed,
    EmailFailed,
    EmailSent,
    GetOrderDetails,
    Message,
    OrderConfirmationSent,
    OrderDetailsNotFound,
    OrderDetailsRetrieved,
    SendEmail,
    SendOrderConfirmationEmail,
)
from topology.policy import NEVER_ASK, Policy
from topology.process import Decision, Owed, TooManyProcesses, decide
from topology.state import NEVER_MS, Details, Order, Process, Step
from topology.transitions import Branch, Then, When


def by_cell(message: type[Message], steps: Sequence[Step], *cases: tuple[When, Then, Step]) -> Decide:
    """Return the shipped `decide` with other cases in these cells of its table."""

    def case(when: When, then: Then, to: Step) -> Case:
        return GUARDS.get(when), EFFECTS.get(then), Branch(when, then, to, "a bug")

    concerned, cells = process._DECIDED_BY[message]
    changed = cells | {step: tuple(case(*one) for one in cases) for step in steps}
    names = vars(process) | {"_DECIDED_BY": process._DECIDED_BY | {message: (concerned, changed)}}
    return cast("Decide", FunctionType(cast("Any", process.decide).__code__, names))


def sends_to_a_random_id(order: Order, message: Message, cause: Cause, now_ms: int, policy: Policy) -> Decision:
    """Make e-mail ids by chance."""
    owed, taken = decide(order, message, cause, now_ms, policy)
    for at, (owner, action) in enumerate(owed):
        if isinstance(action, SendEmail):
            owed[at] = Owed(owner, action._replace(email_id=str(uuid4())))
    return Decision(owed, taken)


def retries_with_the_newest_details(
    order: Order, message: Message, cause: Cause, now_ms: int, policy: Policy
) -> Decision:
    """Put newer details into a mail that is sent again."""
    for one in order.processes.values():
        if isinstance(message, DeadlinePassed) and one.step is Step.RETRYING_EMAIL and order.details is not None:
            one.order = order.details.body
    return decide(order, message, cause, now_ms, policy)


def takes_whatever_version_comes_last(
    order: Order, message: Message, cause: Cause, now_ms: int, policy: Policy
) -> Decision:
    """Replace newer details by older ones."""
    decision = decide(order, message, cause, now_ms, policy)
    if isinstance(message, OrderDetailsRetrieved):
        order.details = Details(message.version, message.body, now_ms, cause)
    return decision


def waits_for_ever(order: Order, message: Message, cause: Cause, now_ms: int, policy: Policy) -> Decision:
    """Set no deadline for the e-mail's outcome."""
    decision = decide(order, message, cause, now_ms, policy)
    for one in order.processes.values():
        if one.step is Step.AWAITING_EMAIL:
            one.due_ms = NEVER_MS
    return decision


def sends_unrecorded(order: Order, message: Message, cause: Cause, now_ms: int, policy: Policy) -> Decision:
    """Emit the mail again when its command comes again, and write nothing down."""
    decision = decide(order, message, cause, now_ms, policy)
    for one in order.processes.values():
        known = one.command and one.order and isinstance(message, SendOrderConfirmationEmail) and not decision.owed
        if known and one.command_id == message.command_id:  # type: ignore[union-attr]
            assert one.command is not None
            assert one.order is not None
            email = SendEmail(order.order_id, ids.email_id(order.order_id, one.command_id), one.command, one.order)
            decision.owed.append(Owed(one, email))
    return decision


def knows_duplicates_by_memory(order: Order, message: Message, cause: Cause, now_ms: int, policy: Policy) -> Decision:
    """Take a second "not found" of one query for a new one, unless the first is still in memory."""
    for one in order.processes.values():
        if isinstance(message, OrderDetailsNotFound) and not one.recorded and one.step is Step.AWAITING_DETAILS:
            one.missing_attempt = 0
    return decide(order, message, cause, now_ms, policy)


def counts_unrecorded(order: Order, message: Message, cause: Cause, now_ms: int, policy: Policy) -> Decision:
    """Count an attempt outside the recorded events."""
    decision = decide(order, message, cause, now_ms, policy)
    for owner, action in decision.owed:
        if isinstance(action, SendEmail):
            owner.missing_count += 1
    return decision


def marks_what_comes_too_late(order: Order, message: Message, cause: Cause, now_ms: int, policy: Policy) -> Decision:
    """Note a cancel that comes too late, and write nothing down."""
    for one in order.processes.values():
        if isinstance(message, CancelOrderConfirmation) and one.step is Step.AWAITING_EMAIL:
            one.note = "somebody cancelled"
    return decide(order, message, cause, now_ms, policy)


def decides_by_the_clock(order: Order, message: Message, cause: Cause, now_ms: int, policy: Policy) -> Decision:
    """Ask by day only."""
    if now_ms > OTHER_CLOCK_MS:
        policy = policy._replace(ask_after_ms=NEVER_ASK)
    return decide(order, message, cause, now_ms, policy)


def forgets_reports(order: Order, message: Message, cause: Cause, now_ms: int, policy: Policy) -> Decision:
    """Remember no mail that was reported sent before its command came."""
    decision = decide(order, message, cause, now_ms, policy)
    order.remembered.clear()
    return decision


def mails_after_the_end(order: Order, message: Message, cause: Cause, now_ms: int, policy: Policy) -> Decision:
    """Send newer details after a mail that was sent, by a process that writes it down."""
    decision = decide(order, message, cause, now_ms, policy)
    for one in order.processes.values():
        if isinstance(message, OrderDetailsRetrieved) and one.step is Step.SENT:
            email = ids.email_id(order.order_id, one.command_id)
            decision.owed.append(
                Owed(one, SendEmail(order.order_id, email, world.command(one.command_id).body, message.body))
            )
    return decision


def asks_what_nobody_needs(order: Order, message: Message, cause: Cause, now_ms: int, policy: Policy) -> Decision:
    """Ask for the newest details before a mail is sent again."""
    decision = decide(order, message, cause, now_ms, policy)
    for one in order.processes.values():
        if isinstance(message, EmailFailed) and one.step is Step.RETRYING_EMAIL:
            query_id = ids.query_id(order.order_id, one.command_id, 1)
            decision.owed.append(Owed(one, GetOrderDetails(order.order_id, query_id, 1, now_ms)))
    return decision


def answers_for_nobody(order: Order, message: Message, cause: Cause, now_ms: int, policy: Policy) -> Decision:
    """Say that a mail was sent whose command nobody knows."""
    before = len(order.remembered)
    decision = decide(order, message, cause, now_ms, policy)
    if isinstance(message, EmailSent) and len(order.remembered) > before:
        command_id = world.COMMAND_IDS[0]
        said = OrderConfirmationSent(order.order_id, command_id, message.email_id, now_ms)
        decision.owed.append(Owed(Process(order.order_id, command_id), said))
    return decision


def refuses_half(order: Order, message: Message, cause: Cause, now_ms: int, policy: Policy) -> Decision:
    """Refuse every command after it was taken in."""
    decision = decide(order, message, cause, now_ms, policy)
    if isinstance(message, SendOrderConfirmationEmail):
        raise TooManyProcesses
    return decision


_ALWAYS: Final = When.ALWAYS
_NOWHERE, _EARLY, _DETAILS, _EMAIL, _RETRY, _SENT, _FAILED = Step

MUTANTS: Final[dict[str, Decide]] = {
    "sends again when the outcome is late": by_cell(DeadlinePassed, [_EMAIL], (_ALWAYS, Then.SEND_AGAIN, _EMAIL)),
    "revives what failed": by_cell(OrderDetailsRetrieved, [_FAILED], (_ALWAYS, Then.SEND, _EMAIL)),
    "forgets a cancel": by_cell(CancelOrderConfirmation, [_DETAILS], (_ALWAYS, Then.COUNT, _DETAILS)),
    "forgets a cancel that came first": by_cell(
        SendOrderConfirmationEmail, [_EARLY], (_ALWAYS, Then.START_ASKING, _DETAILS)
    ),
    "cancels what was sent": by_cell(CancelOrderConfirmation, [_EMAIL], (_ALWAYS, Then.CANCEL, _FAILED)),
    "cancels what failed": by_cell(CancelOrderConfirmation, [_FAILED], (_ALWAYS, Then.CANCEL, _FAILED)),
    "corrects every failure": by_cell(EmailSent, [_FAILED], (_ALWAYS, Then.FINISH_SENT, _SENT)),
    "says sent twice": by_cell(EmailSent, [_SENT], (_ALWAYS, Then.FINISH_SENT, _SENT)),
    "says sent of what is only late": by_cell(DeadlinePassed, [_EMAIL], (_ALWAYS, Then.FINISH_SENT, _SENT)),
    "sends what was sent": by_cell(EmailSent, [_DETAILS], (_ALWAYS, Then.COUNT, _DETAILS)),
    "sends again at once when refused twice": by_cell(EmailFailed, [_RETRY], (_ALWAYS, Then.SEND_AGAIN, _EMAIL)),
    "sends again for ever": by_cell(DeadlinePassed, [_RETRY], (_ALWAYS, Then.SEND_AGAIN, _EMAIL)),
    "believes any not found": by_cell(
        OrderDetailsNotFound,
        [_DETAILS],
        (When.LAST_MISSING, Then.FAIL_NOT_FOUND, _FAILED),
        (_ALWAYS, Then.WAIT_TO_ASK, _DETAILS),
    ),
    "forgets what waits": by_cell(DeadlinePassed, [_DETAILS], (_ALWAYS, Then.FORGET, _NOWHERE)),
    "never forgets": by_cell(DeadlinePassed, [_FAILED], (_ALWAYS, Then.COUNT, _FAILED)),
    "sends to a random id": sends_to_a_random_id,
    "sends the newest details again": retries_with_the_newest_details,
    "takes whatever version comes last": takes_whatever_version_comes_last,
    "waits for ever": waits_for_ever,
    "sends unrecorded": sends_unrecorded,
    "counts unrecorded": counts_unrecorded,
    "marks what comes too late": marks_what_comes_too_late,
    "knows duplicates by memory": knows_duplicates_by_memory,
    "decides by the clock": decides_by_the_clock,
    "forgets reports": forgets_reports,
    "mails after the end": mails_after_the_end,
    "asks what nobody needs": asks_what_nobody_needs,
    "answers for nobody": answers_for_nobody,
    "refuses half": refuses_half,
}
