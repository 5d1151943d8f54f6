"""What one order's row says, for people and programs: state, timeline, what it waits for and until when."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from schemas import state_codec
from streams.masking import mask_addresses
from topology.events import Cause, Event
from topology.messages import FailureReason
from topology.policy import Policy
from topology.state import NEVER_MS, Order, Process, Step


def explain(order_id: str, row: bytes | None, partition: int, policy: Policy) -> dict[str, Any]:
    """
    Return the order as JSON-ready values; instants are ISO 8601 in UTC.

    *row* is the table's; None: nothing is remembered of this order.
    """
    order = Order(order_id) if row is None else state_codec.decode(order_id, row)
    details = order.details
    return {
        "order_id": order_id,
        "partition": partition,
        "known": row is not None,
        "details": details
        and {
            "version": details.version,
            "seen_at": instant(details.seen_ms),
            "cause": _cause(details.cause),
            "forgotten_at": instant(details.seen_ms + policy.details_ttl_ms),
        },
        "processes": [_process(process, policy) for process in order.processes.values()],
        "sent_before_their_command": [
            {"email_id": email_id, "heard_at": instant(seen_ms)} for email_id, seen_ms in order.remembered.items()
        ],
    }


def instant(at_ms: int) -> str:
    """Return Unix milliseconds as ISO 8601; as a number what no calendar has."""
    try:
        return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return f"{at_ms} ms"


def waits_for(step: Step) -> str | None:
    """Return what a process at *step* waits for, for people; None if for nothing."""
    return _WAITS_FOR[step]


def _process(process: Process, policy: Policy) -> dict[str, Any]:
    return {
        "command_id": process.command_id,
        "state": process.step.title,
        "reason": process.reason and process.reason.value,
        "waits_for": _WAITS_FOR[process.step],
        "query_attempt": process.query_attempt,
        "email_attempt": process.email_attempt,
        "next_deadline_at": None if process.due_ms == NEVER_MS else instant(process.due_ms),
        "next_try_at": _next_try(process, policy),
        "gives_up_at": _gives_up(process, policy),
        "traceparent": process.traceparent,
        "timeline": [_event(event) for event in state_codec.timeline(process)],
    }


def _next_try(process: Process, policy: Policy) -> str | None:
    """Return when it asks or sends again; None if it won't: its next deadline then is the end."""
    trying = process.step in (Step.AWAITING_DETAILS, Step.RETRYING_EMAIL)
    over = process.due_ms >= process.received_ms + policy.give_up_after_ms
    return instant(process.due_ms) if trying and not over else None


def _gives_up(process: Process, policy: Policy) -> str | None:
    if process.finished:
        return None
    if process.step is Step.AWAITING_EMAIL:  # Waits for an outcome, however long ago its command came.
        return instant(process.due_ms)
    return instant(process.received_ms + policy.give_up_after_ms)


_WAITS_FOR = {
    Step.CANCELLED_EARLY: "nothing, unless its command comes",
    Step.AWAITING_DETAILS: "order details",
    Step.AWAITING_EMAIL: "the e-mail's outcome",
    Step.RETRYING_EMAIL: "the time to send the e-mail again",
    Step.SENT: None,
    Step.FAILED: None,
}


def _event(event: Event) -> dict[str, Any]:
    fields = {name: _shown(name, value) for name, value in event._asdict().items() if name not in ("at_ms", "cause")}
    return {"at": instant(event.at_ms), "event": type(event).__name__, **fields, "cause": _cause(event.cause)}


def _shown(name: str, value: Any) -> Any:
    if isinstance(value, FailureReason):
        return value.value
    # A mail server's words, in a row that may be older than their masking.
    return mask_addresses(value) if name == "reason" and isinstance(value, str) else value


def _cause(cause: Cause) -> dict[str, Any]:
    return {"topic": cause.topic, "offset": cause.offset} if cause.topic else {"deadline": True}
