"""
One decision on trial: decided as the worker does it, from the stored row to the row to be stored, and checked.

Crashes need no budget here, because every decision is made as if there were one at each of its writes: it is thrown
away once and made again by another clock (crash before the commit), and goes on from what was committed (crash
before the store's write), which must be what went on in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

from schemas import state_codec
from tests.model.canonical import Row, canonical, load, shifted, store
from tests.model.described import Seen
from tests.model.invariants import Violation, check, kept, require
from topology.events import Cause
from topology.messages import Action, GetOrderDetails, Message, OrderConfirmationFailed, OrderConfirmationSent
from topology.policy import Policy
from topology.process import Decision, TooManyProcesses
from topology.state import NEVER_MS, Order
from topology.transitions import Branch

Decide: TypeAlias = Callable[[Order, Message, Cause, int, Policy], Decision]

OTHER_CLOCK_MS: Final = 1_764_000_000_000
"""By how much another worker's clock is ahead of the first one's."""


class Said(NamedTuple):
    """A message, which record it was, when it is decided and under which policy."""

    message: Message
    cause: Cause
    now_ms: int
    policy: Policy


class Result(NamedTuple):
    """What one decision brought about."""

    row: Row
    after: Order
    """Restored from ``row``."""
    owed: tuple[tuple[str, Action], ...]
    """The actions that became due, each with its command id."""
    taken: tuple[Branch, ...]
    refused: bool = False
    """The order had no room for the message."""


def attempt(decide: Decide, row: Row, before: Order, said: Said) -> Result:
    """
    Decide what is said on *row*, which is *before*, and check the decision.

    Raises:
        Violation: a rule is broken.
    """
    message, cause, now_ms, policy = said
    order = load(row, before.order_id)
    try:
        decision = decide(order, message, cause, now_ms, policy)
    except TooManyProcesses:
        require("who refuses a message stays as it was", store(order, policy) == store(before, policy), message)
        return Result(row, before, (), (), refused=True)
    except Exception as exc:
        raise Violation(f"decide takes every message: {exc!r}, of {message!r}") from exc
    stored = store(order, policy)
    require("an order of which nothing is remembered is a tombstone", (stored is None) == order.empty, stored)
    recorded = {id_: process.recorded for id_, process in order.processes.items() if process.recorded}
    after = before if stored == row else load(stored, order.order_id)
    require_same(order, after)
    check(Seen(before, message, cause, now_ms, policy, decision, after, recorded))
    owed = tuple((process.command_id, action) for process, action in decision.owed)
    return Result(stored, after, owed, tuple(decision.taken))


def decide_again(
    decide: Decide, row: Row, said: Said, result: Result, seen_ms: int, overdue_ms_max: int = NEVER_MS
) -> Row:
    """
    Decide once more, from the same row, as another worker does whose clock shows another time.

    Return what is remembered, in canonical form as of *seen_ms*, see `canonical`; *result*'s order takes this form.

    Raises:
        Violation: what is owed isn't what *result* says, or what is remembered isn't.
    """
    other = shifted(load(row, result.after.order_id), OTHER_CLOCK_MS)
    later = said._replace(now_ms=said.now_ms + OTHER_CLOCK_MS)
    again = attempt(decide, store(other, said.policy), other, later)
    owed = timeless(result, said), timeless(again, later)
    require("what is decided again owes the same", owed[0] == owed[1], *owed)
    after = canonical(result.after, seen_ms, said.policy, overdue_ms_max)
    twin = canonical(again.after, seen_ms + OTHER_CLOCK_MS, said.policy, overdue_ms_max)
    require("what is decided again is the same", after == twin, after, twin)
    return after


def timeless(result: Result, said: Said) -> tuple[tuple[str, Action], ...]:
    """Return the actions of *result*, with command ids, their instants counted from the decision's."""
    return tuple((command_id, _timeless(action, said.now_ms)) for command_id, action in result.owed)


def _timeless(action: Action, now_ms: int) -> Action:
    match action:
        case GetOrderDetails():
            return action._replace(asked_at_ms=action.asked_at_ms - now_ms)
        case OrderConfirmationSent() | OrderConfirmationFailed():
            return action._replace(ended_at_ms=action.ended_at_ms - now_ms)
    return action


def require_same(live: Order, restored: Order) -> None:
    """
    Compare what went on in memory with what was restored from its row.

    Raises:
        Violation: they differ.
    """
    promise = "what is restored is what was committed"
    require(promise, live.details == restored.details, live.details, restored.details)
    require(promise, live.remembered == restored.remembered, live.remembered, restored.remembered)
    require(promise, list(live.processes) == list(restored.processes), live.processes, restored.processes)
    for command_id, process in live.processes.items():
        twin = restored.processes[command_id]
        require(promise, kept(process) == kept(twin), kept(process), kept(twin))
        if process.recorded:
            timelines = state_codec.timeline(process), state_codec.timeline(twin)
            require(promise, timelines[0] == timelines[1], *timelines)


def known(order: Order) -> frozenset[str]:
    """Return the command ids and the ids of e-mails that *order* remembers."""
    return frozenset(order.processes).union(order.remembered)
