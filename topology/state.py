"""
What is remembered of one order: its newest details, and a process for each command.

An `Order` is loaded, decided upon in place, and stored; whoever loads it throws it away when the store of it fails.
Its processes change by recorded events only: `Process.record` is the fold.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, NamedTuple

from topology import events
from topology.events import Cause, Event
from topology.messages import Body, FailureReason

NEVER_MS: Final = (1 << 63) - 1
"""The due time of what waits for nothing."""


class Step(IntEnum):
    """Where a process stands; the columns of the table. The numbers are stored: append only."""

    ABSENT = 0
    CANCELLED_EARLY = 1
    AWAITING_DETAILS = 2
    AWAITING_EMAIL = 3
    RETRYING_EMAIL = 4
    SENT = 5
    FAILED = 6

    @property
    def title(self) -> str:
        """The step's name for people."""
        return _TITLES[self]


# Plain names for the hot path: Python 3.11 looks a member up by way of a property, at five times the price.
_ABSENT, _EARLY, _DETAILS, _EMAIL, _RETRY, _SENT, _FAILED = Step

_TITLES: Final = {
    Step.ABSENT: "absent",
    Step.CANCELLED_EARLY: "cancelled early",
    Step.AWAITING_DETAILS: "awaiting details",
    Step.AWAITING_EMAIL: "awaiting e-mail",
    Step.RETRYING_EMAIL: "e-mail to be retried",
    Step.SENT: "sent",
    Step.FAILED: "failed",
}

FINISHED: Final = frozenset({Step.CANCELLED_EARLY, Step.SENT, Step.FAILED})
"""Steps in which nothing is owed any more and the bodies are dropped."""


class Details(NamedTuple):
    """The newest known details of an order; *seen_ms* and *cause*: when and with which record they came."""

    version: int
    body: Body
    seen_ms: int
    cause: Cause


class Process:
    """
    One command's life, identified by (order_id, command_id).

    ``past`` is the stored timeline, opaque here; ``recorded`` are the events since it was loaded. Everything else is
    the fold of both, but for the bodies (what to send) and ``due_ms`` (when the policy wants it looked at again).
    """

    __slots__ = (
        "order_id",
        "command_id",
        "step",
        "received_ms",
        "changed_ms",
        "due_ms",
        "query_attempt",
        "missing_attempt",
        "missing_count",
        "email_attempt",
        "reason",
        "note",
        "traceparent",
        "command",
        "order",
        "past",
        "recorded",
    )

    def __init__(self, order_id: str, command_id: str, traceparent: str | None = None) -> None:
        self.order_id = order_id
        self.command_id = command_id
        self.step = _ABSENT
        self.received_ms = 0
        self.changed_ms = 0
        self.due_ms = NEVER_MS
        self.query_attempt = 0
        self.missing_attempt = 0
        self.missing_count = 0
        self.email_attempt = 0
        self.reason: FailureReason | None = None
        self.note = ""
        self.traceparent = traceparent
        self.command: Body | None = None
        self.order: Body | None = None
        self.past = b""
        self.recorded: list[Event] = []

    def record(self, event: Event) -> None:
        """Write *event* down: the one way in which a process changes."""
        self.recorded.append(event)
        self.changed_ms = event.at_ms
        _FOLD[type(event)](self, event)  # type: ignore[operator]

    @property
    def finished(self) -> bool:
        """Whether nothing is owed any more."""
        return self.step in FINISHED

    def _finish(self, step: Step) -> None:
        self.step = step
        self.command = self.order = None

    # The fold, an event each.

    def _command_received(self, event: events.CommandReceived) -> None:
        self.received_ms = event.at_ms
        if self.step is _ABSENT:
            self.step = _DETAILS

    def _cancel_received(self, _: events.CancelReceived) -> None:
        if self.step is _ABSENT:
            self._finish(_EARLY)

    def _queried(self, event: events.OrderDetailsQueried) -> None:
        self.query_attempt = event.attempt

    def _missing(self, event: events.OrderDetailsMissing) -> None:
        self.missing_attempt = event.attempt
        self.missing_count += 1

    def _retrieved(self, _: events.OrderDetailsRetrieved) -> None:
        """Nothing moves: what they are used for is an event of its own."""

    def _requested(self, event: events.EmailRequested) -> None:
        self.step = _EMAIL
        self.email_attempt = event.attempt

    def _sent(self, _: events.EmailSent) -> None:
        self.reason = None
        self._finish(_SENT)

    def _email_failed(self, event: events.EmailFailed) -> None:
        self.step = _RETRY
        self.note = event.reason

    def _failed(self, event: events.ConfirmationFailed) -> None:
        self.reason = event.reason
        self._finish(_FAILED)


_FOLD: Final = {
    events.CommandReceived: Process._command_received,
    events.CancelReceived: Process._cancel_received,
    events.OrderDetailsQueried: Process._queried,
    events.OrderDetailsMissing: Process._missing,
    events.OrderDetailsRetrieved: Process._retrieved,
    events.EmailRequested: Process._requested,
    events.EmailSent: Process._sent,
    events.EmailFailed: Process._email_failed,
    events.ConfirmationFailed: Process._failed,
}


class Order:
    """
    All that is remembered under one key: the table's row.

    ``processes`` by command id; ``remembered``: e-mails that were reported sent before their command was seen (the
    e-mail id, and when the report came).
    """

    __slots__ = ("order_id", "details", "processes", "remembered")

    def __init__(self, order_id: str) -> None:
        self.order_id = order_id
        self.details: Details | None = None
        self.processes: dict[str, Process] = {}
        self.remembered: dict[str, int] = {}

    @property
    def empty(self) -> bool:
        """Whether nothing is remembered: the row is then a tombstone."""
        return not (self.processes or self.details or self.remembered)

    def next_due_ms(self, details_ttl_ms: int, finished_ttl_ms: int) -> int:
        """Return the earliest instant at which something of this order is due, `NEVER_MS` if nothing is."""
        due_ms = NEVER_MS
        for process in self.processes.values():
            due_ms = min(due_ms, process.due_ms)
        if self.details is not None:
            due_ms = min(due_ms, self.details.seen_ms + details_ttl_ms)
        for seen_ms in self.remembered.values():
            due_ms = min(due_ms, seen_ms + finished_ttl_ms)
        return due_ms
