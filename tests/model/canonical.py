"""
Rows that behave alike, as one.

Two rows are one if nothing that is said from now on can tell them apart: instants are counted from now, and left out
are timelines, causes and what a process in its step doesn't look at again. That this is so is tested by long ways that
are walked without it.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from schemas import state_codec
from tests.model.world import ORDER
from topology.events import Cause
from topology.policy import Policy
from topology.state import NEVER_MS, Order, Process, Step

NOW_MS: Final = 1_000
"""The instant that all canonical rows are seen at."""

_NO_CAUSE: Final = Cause("", 0)

Row: TypeAlias = bytes | None


def load(row: Row, order_id: str = ORDER) -> Order:
    """Return the order whose row this is."""
    return Order(order_id) if row is None else state_codec.decode(order_id, row)


def store(order: Order, policy: Policy) -> Row:
    """Return the row of *order*, as the process manager writes it."""
    return state_codec.encode(order, order.next_due_ms(policy.details_ttl_ms, policy.finished_ttl_ms))


def canonical(order: Order, now_ms: int, policy: Policy, overdue_ms_max: int) -> Row:
    """
    Change *order*, seen at *now_ms*, into what stands for all orders that behave alike from now on; return its row.

    *overdue_ms_max*: by how many milliseconds more two deadlines have passed makes no difference.
    """
    earliest_ms = NOW_MS - overdue_ms_max

    def moved(at_ms: int) -> int:
        return max(at_ms - now_ms + NOW_MS, earliest_ms)

    if order.details is not None:
        expiry_ms = moved(order.details.seen_ms + policy.details_ttl_ms)
        order.details = order.details._replace(seen_ms=expiry_ms - policy.details_ttl_ms, cause=_NO_CAUSE)
    for email_id, seen_ms in order.remembered.items():
        order.remembered[email_id] = moved(seen_ms + policy.finished_ttl_ms) - policy.finished_ttl_ms
    for process in order.processes.values():
        process.past, process.recorded = b"", []
        process.changed_ms = 0
        if process.due_ms != NEVER_MS:
            process.due_ms = moved(process.due_ms)
        if process.finished:
            process.received_ms = 0
        else:
            process.received_ms = moved(process.received_ms + policy.give_up_after_ms) - policy.give_up_after_ms
        _forget_what_is_over(process)
    if len(order.processes) > 1:
        order.processes = dict(sorted(order.processes.items()))
    if len(order.remembered) > 1:
        order.remembered = dict(sorted(order.remembered.items()))
    return store(order, policy)


def _forget_what_is_over(process: Process) -> None:
    if process.step is not Step.AWAITING_DETAILS:
        process.query_attempt = process.missing_attempt = process.missing_count = 0
    elif process.missing_attempt != process.query_attempt:
        process.missing_attempt = 0  # Of an earlier query, whichever.
    if process.finished:
        process.email_attempt = 0
        process.note = ""
        process.traceparent = None


def shifted(order: Order, by_ms: int) -> Order:
    """Move all instants of *order* by *by_ms*, but for its timelines; return it."""
    if order.details is not None:
        order.details = order.details._replace(seen_ms=order.details.seen_ms + by_ms)
    for email_id in order.remembered:
        order.remembered[email_id] += by_ms
    for process in order.processes.values():
        process.received_ms += by_ms
        process.changed_ms += by_ms
        if process.due_ms != NEVER_MS:
            process.due_ms += by_ms
    return order
