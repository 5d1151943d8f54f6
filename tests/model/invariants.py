"""
What must be true of every decision. `check` goes through `RULES`; a broken promise is a `Violation`.

What must be true of all decisions about one command together is `history`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any, Final

from tests.model.described import REASONS, RECORDED_BY, Seen, email_id, expected_step, given_up, meant, query_id
from topology import events
from topology.events import Event
from topology.messages import (
    Action,
    CancelOrderConfirmation,
    DeadlinePassed,
    EmailSent,
    GetOrderDetails,
    OrderConfirmationFailed,
    OrderConfirmationSent,
    OrderDetailsRetrieved,
    SendEmail,
    SendOrderConfirmationEmail,
)
from topology.policy import NEVER_ASK
from topology.state import FINISHED, NEVER_MS, Process, Step

FOLDED: Final = (
    "step", "received_ms", "changed_ms", "query_attempt", "missing_attempt", "missing_count", "email_attempt",
    "reason", "note",
)  # fmt: skip
"""What of a process follows from its recorded events alone."""

KEPT: Final = (*FOLDED, "order_id", "command_id", "due_ms", "traceparent", "command", "order")
"""What of a process outlives a crash, besides its timeline."""

folded: Final[Callable[[Process], tuple[Any, ...]]] = attrgetter(*FOLDED)
kept: Final[Callable[[Process], tuple[Any, ...]]] = attrgetter(*KEPT)


class Violation(AssertionError):
    """A promise was broken: which, and how."""


def require(promise: str, is_kept: bool, *shown: object) -> None:
    """
    Go on if the promise is kept.

    Raises:
        Violation: it isn't; *shown* is what can be seen of it.
    """
    if not is_kept:
        raise Violation(f"{promise}: {', '.join(map(repr, shown))}")


def check(seen: Seen) -> None:
    """
    Check all rules on one decision.

    Raises:
        Violation: one is broken.
    """
    for rule in RULES:
        rule(seen)


def steps_are_the_described_ones(seen: Seen) -> None:
    """Each process stands where the description leads it, and fails for the described reason."""
    for command_id in seen.before.processes.keys() | seen.after.processes.keys() | _named(seen):
        before, after = seen.was(command_id), seen.after.processes.get(command_id)
        step, expected = after.step if after else Step.ABSENT, expected_step(before, seen)
        require("a process goes where the description says", expected is step, command_id, before.step, expected, step)
        if after and step is Step.FAILED and before.step is not Step.FAILED:
            reason = REASONS.get((type(seen.message), before.step))
            require("a process fails for the described reason", after.reason is reason, reason, after.reason)


def _named(seen: Seen) -> set[str]:
    message = seen.message
    if isinstance(message, SendOrderConfirmationEmail | CancelOrderConfirmation):
        return {message.command_id}
    return set()


def others_stay_as_they_were(seen: Seen) -> None:
    """A process that the message isn't about doesn't change, and who writes nothing down doesn't either."""
    for command_id, before in seen.before.processes.items():
        after = seen.after.processes.get(command_id)
        if after is None or (command_id in seen.recorded and meant(before, seen)):
            continue
        require("others record nothing", command_id not in seen.recorded, command_id, seen.recorded)
        shown = [kept(before), kept(after)]
        if isinstance(seen.message, DeadlinePassed) and before.step is Step.AWAITING_DETAILS and meant(before, seen):
            # Asking was switched off meanwhile.
            due_ms = before.received_ms + seen.policy.give_up_after_ms
            require("who can't ask any more waits until give_up_after", after.due_ms == due_ms, due_ms, after.due_ms)
            shown = [values[: KEPT.index("due_ms")] + values[KEPT.index("due_ms") + 1 :] for values in shown]
        require("what records nothing doesn't change", shown[0] == shown[1], *shown)


def records_fit_their_message(seen: Seen) -> None:
    """Nothing is recorded that the message doesn't say, and all of it at the decision's instant, with its cause."""
    for command_id, recorded in seen.recorded.items():
        for event in recorded:
            allowed = type(seen.message) in RECORDED_BY[type(event)]
            require("an event is recorded because of its message", allowed, event, seen.message)
            if not isinstance(event, events.OrderDetailsRetrieved):
                require("an event has its decision's instant and cause", event[:2] == (seen.now_ms, seen.cause), event)
        kinds = [type(event) for event in recorded]
        require("one decision records nothing twice", len(set(kinds)) == len(kinds), command_id, kinds)


def actions_are_recorded(seen: Seen) -> None:
    """Exactly what was written down last is owed: no action without its event, no such event without its action."""
    owed: dict[str, list[Action]] = {command_id: [] for command_id in seen.recorded}
    for process, action in seen.decision.owed:
        require("an action has its recorded event", process.command_id in owed, action)
        owed[process.command_id].append(action)
    for command_id, recorded in seen.recorded.items():
        after = seen.after.processes.get(command_id)
        require("who records something stays", after is not None, command_id, recorded)
        assert after is not None
        expected = _expected_actions(seen.was(command_id), after, recorded[-1])
        shown = [_shown(action) for action in owed[command_id]]
        require("an event has its action, with derived ids", expected == shown, recorded, expected, shown)


def _expected_actions(was: Process, process: Process, last: Event) -> list[tuple[object, ...]]:
    order_id, command_id = process.order_id, process.command_id
    match last:
        case events.EmailRequested(attempt=attempt):
            require("SendEmails are counted one by one", attempt == was.email_attempt + 1, was.email_attempt, attempt)
            # The bodies are dropped only with the process's end, which is no SendEmail.
            return [(SendEmail, order_id, email_id(command_id, order_id), process.command, process.order)]
        case events.OrderDetailsQueried(at_ms=at_ms, attempt=attempt):
            require("queries are counted one by one", attempt == was.query_attempt + 1, was.query_attempt, attempt)
            return [(GetOrderDetails, order_id, query_id(command_id, attempt, order_id), attempt, at_ms)]
        case events.EmailSent(at_ms=at_ms):
            return [(OrderConfirmationSent, order_id, command_id, email_id(command_id, order_id), at_ms)]
        case events.ConfirmationFailed(at_ms=at_ms, reason=reason):
            return [(OrderConfirmationFailed, order_id, command_id, reason, at_ms)]
    return []


def _shown(action: Action) -> tuple[object, ...]:
    """Return *action* without what is for people only."""
    if isinstance(action, OrderConfirmationFailed):
        return OrderConfirmationFailed, action.order_id, action.command_id, action.reason, action.ended_at_ms
    return type(action), *action


def bodies_are_those_that_came(seen: Seen) -> None:
    """A process holds its command's first body, and the newest details of the instant when it first used some."""
    for command_id, after in seen.after.processes.items():
        if after.step in FINISHED:
            require("a finished process holds no bodies", not (after.command or after.order), command_id)
            continue
        was, message = seen.was(command_id), seen.message
        if was.step is Step.ABSENT:
            assert isinstance(message, SendOrderConfirmationEmail)
            came = message.body, message.traceparent
            require("the command is kept as it came", came == (after.command, after.traceparent), after.command)
        else:
            require("the command stays what it was", was.command == after.command, was.command, after.command)
        if was.order is not None:
            require("the order in the mail stays what it was", was.order == after.order, was.order, after.order)
        elif after.order is not None:
            newest = seen.after.details
            require("the mail holds the newest details", newest is not None and newest.body == after.order, newest)


def asking_and_retrying_end(seen: Seen) -> None:
    """No query where `ask` says never; no query and no repeated mail after `give_up_after`, nor too many mails."""
    for process, action in seen.decision.owed:
        if isinstance(action, GetOrderDetails):
            require("never means never", seen.policy.ask_after_ms != NEVER_ASK, action)
            require("no query after give_up_after", not given_up(process, seen), action)
        if isinstance(action, SendEmail) and isinstance(seen.message, DeadlinePassed):
            require("no repeated mail after give_up_after", not given_up(process, seen), action)
            require("no more than email_attempts", process.email_attempt <= seen.policy.email_attempts, action)


def details_only_grow_newer(seen: Seen) -> None:
    """An older version never replaces a newer one; only their own deadline forgets details."""
    before, after, message = seen.before.details, seen.after.details, seen.message
    if isinstance(message, OrderDetailsRetrieved) and (before is None or message.version >= before.version):
        came = (message.version, message.body, seen.now_ms, seen.cause)
        require("newer details are kept as they came", came == after, came, after)
        return
    if isinstance(message, DeadlinePassed) and before and before.seen_ms + seen.policy.details_ttl_ms <= seen.now_ms:
        before = None
    require("only newer details replace details, only details_ttl forgets them", before == after, before, after)


def remembered_mails_are_those_reported(seen: Seen) -> None:
    """An EmailSent without a process is remembered, until its command comes or `finished_ttl` is over."""
    expected, message, order_id = dict(seen.before.remembered), seen.message, seen.before.order_id
    if isinstance(message, EmailSent):
        if all(email_id(command_id, order_id) != message.email_id for command_id in seen.before.processes):
            expected.setdefault(message.email_id, seen.now_ms)
    elif isinstance(message, SendOrderConfirmationEmail):
        if seen.was(message.command_id).step in {Step.ABSENT, Step.CANCELLED_EARLY}:
            expected.pop(email_id(message.command_id, order_id), None)
    elif isinstance(message, DeadlinePassed):
        ttl_ms = seen.policy.finished_ttl_ms
        expected = {id_: seen_ms for id_, seen_ms in expected.items() if seen_ms + ttl_ms > seen.now_ms}
    require("reports without a process are remembered", expected == seen.after.remembered, seen.after.remembered)


def everything_waits_with_a_deadline(seen: Seen) -> None:
    """Each process is looked at again, a finished one after `finished_ttl`; a deadline that passed is over."""
    for command_id, process in seen.after.processes.items():
        require("a process waits with a deadline", process.due_ms < NEVER_MS, command_id, process.step)
        if isinstance(seen.message, DeadlinePassed):
            require("a deadline that passed is over", process.due_ms > seen.now_ms, process.due_ms, seen.now_ms)
        if command_id in seen.recorded:
            # So a timeline never goes back, though a deadline may be decided as of an instant before now.
            require("no deadline lies before what set it", process.due_ms >= seen.now_ms, process.due_ms, seen.now_ms)
        if process.step in FINISHED and command_id in seen.recorded:
            due_ms = seen.now_ms + seen.policy.finished_ttl_ms
            require("a finished process is remembered for finished_ttl", due_ms == process.due_ms, process.due_ms)


def state_is_the_fold(seen: Seen) -> None:
    """Where a process stands follows from where it stood and what it wrote down: a replay gives the same state."""
    for command_id, recorded in seen.recorded.items():
        replayed, was = Process(seen.before.order_id, command_id), seen.was(command_id)
        for name in FOLDED:
            setattr(replayed, name, getattr(was, name))
        for event in recorded:
            replayed.record(event)
        shown = folded(replayed), folded(seen.after.processes[command_id])
        require("the state is the fold of what was recorded", shown[0] == shown[1], *shown)


RULES: Final[tuple[Callable[[Seen], None], ...]] = (
    steps_are_the_described_ones,
    others_stay_as_they_were,
    records_fit_their_message,
    actions_are_recorded,
    bodies_are_those_that_came,
    asking_and_retrying_end,
    details_only_grow_newer,
    remembered_mails_are_those_reported,
    everything_waits_with_a_deadline,
    state_is_the_fold,
)
