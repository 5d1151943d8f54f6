"""
Decide: fold a message into an order and say what is due. This is the whole process manager.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, NamedTuple, TypeAlias

from topology import ids
from topology.actions import actions
from topology.cases import CASES, Situation
from topology.events import Cause
from topology.messages import (
    Action,
    CancelOrderConfirmation,
    DeadlinePassed,
    EmailFailed,
    EmailSent,
    Message,
    OrderDetailsNotFound,
    OrderDetailsRetrieved,
    SendOrderConfirmationEmail,
)
from topology.policy import Policy
from topology.state import Details, Order, Process
from topology.transitions import Branch

_new: Final = tuple.__new__
"""Makes a named tuple at half the price of calling its class, which counts on the way of every record."""


class TooManyProcesses(Exception):
    """One order has more commands, seen or reported sent, than `Policy.processes_max`; the message wasn't taken in."""


class Owed(NamedTuple):
    """An action that became due, and the process that owes it."""

    process: Process
    action: Action


class Decision(NamedTuple):
    """What one message brought about: actions to produce, and the table's branches that were taken, for counting."""

    owed: list[Owed]
    taken: list[Branch]


def decide(order: Order, message: Message, cause: Cause, now_ms: int, policy: Policy) -> Decision:
    """
    Take *message* in: change *order* in place and return what became due.

    Args:
        order: The order of the message's key.
        message: What happened.
        cause: The record that says so, `events.DEADLINE` for `DeadlinePassed`.
        now_ms: The worker's clock, Unix milliseconds; never less than at an earlier call for this order. Of
            `DeadlinePassed`, the instant up to which everything that came has been decided: it may be less, because
            whatever is due by then was set by then.
        policy: Waits and attempts.

    Raises:
        TooManyProcesses: the order has no room for one more command; *order* is as it was.
    """
    concerned, cells = _DECIDED_BY[type(message)]
    situation = Situation(order, message, cause, now_ms, policy)
    owed: list[Owed] = []
    taken: list[Branch] = []
    for process in concerned(situation):
        # A cell's last branch is for everything else (`transitions.check`), so that the loop always breaks.
        for guard, effect, branch in cells[process.step]:  # noqa: B007 # pragma: no branch
            if guard is None or guard(process, situation):
                break
        if effect is not None:
            recorded = len(process.recorded)
            effect(process, situation)
            if len(process.recorded) > recorded:  # What is due changes by what is written down, by nothing else.
                for action in actions(process):
                    owed.append(_new(Owed, (process, action)))  # noqa: PERF401 - in 3.11 a comprehension is a call.
        taken.append(branch)
    return _new(Decision, (owed, taken))


# Which processes a message concerns.


def _of_command(situation: Situation) -> Iterable[Process]:
    order, message = situation.order, situation.message
    assert isinstance(message, (SendOrderConfirmationEmail, CancelOrderConfirmation))
    process = order.processes.get(message.command_id)
    if process is None:
        if len(order.processes) >= situation.policy.processes_max:
            raise TooManyProcesses(
                f"order {order.order_id!r} has {len(order.processes)} commands, which is the most that one order may"
            )
        process = order.processes[message.command_id] = Process(order.order_id, message.command_id)
    return (process,)


def _all_or_none(order: Order) -> Iterable[Process]:
    return list(order.processes.values()) or _NOBODY


_NOBODY: Final = (Process("", ""),)
"""The stand-in whose step is ABSENT, for a message that meets no process: it never changes, as no such cell records."""


def _of_details(situation: Situation) -> Iterable[Process]:
    order, message = situation.order, situation.message
    assert isinstance(message, OrderDetailsRetrieved)
    # The same version seen again is as good as new: its age starts again.
    if order.details is None or message.version >= order.details.version:
        order.details = _new(Details, (message.version, message.body, situation.now_ms, situation.cause))
    return _all_or_none(order)


def _of_email(situation: Situation) -> Iterable[Process]:
    order, message = situation.order, situation.message
    assert isinstance(message, (EmailSent, EmailFailed))
    for process in order.processes.values():
        if ids.email_id(order.order_id, process.command_id) == message.email_id:
            return (process,)
    if isinstance(message, EmailSent) and message.email_id not in order.remembered:
        if len(order.remembered) >= situation.policy.processes_max:
            raise TooManyProcesses(
                f"order {order.order_id!r} has {len(order.remembered)} e-mails reported sent that no command asked"
                " for, which is the most that one order may"
            )
        order.remembered[message.email_id] = situation.now_ms
    return _NOBODY


def _of_deadline(situation: Situation) -> Iterable[Process]:
    order, now_ms, policy = situation.order, situation.now_ms, situation.policy
    concerned = [process for process in order.processes.values() if process.due_ms <= now_ms]
    if order.details is not None and order.details.seen_ms + policy.details_ttl_ms <= now_ms:
        order.details = None
        concerned += _NOBODY
    over = [id_ for id_, seen_ms in order.remembered.items() if seen_ms + policy.finished_ttl_ms <= now_ms]
    for email_id in over:
        del order.remembered[email_id]
        concerned += _NOBODY
    return concerned


_Concerned: TypeAlias = Callable[[Situation], Iterable[Process]]
_CONCERNED: Final[dict[type[Message], _Concerned]] = {
    SendOrderConfirmationEmail: _of_command,
    CancelOrderConfirmation: _of_command,
    OrderDetailsRetrieved: _of_details,
    OrderDetailsNotFound: lambda situation: _all_or_none(situation.order),
    EmailSent: _of_email,
    EmailFailed: _of_email,
    DeadlinePassed: _of_deadline,
}
_DECIDED_BY: Final = {message: (_CONCERNED[message], CASES[message]) for message in CASES}
