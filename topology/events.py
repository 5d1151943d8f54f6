"""
What a process writes down: its recorded events. Its state is the fold of these (`state.Process.record`).

Not the events of the topics: those are in `messages` and say what somebody else did. These say what this process saw
and decided, when, and because of which record.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from topology.messages import FailureReason


class Cause(NamedTuple):
    """The record that an event comes from; its partition is the order's own."""

    topic: str
    offset: int


DEADLINE = Cause("", -1)
"""The cause of what a deadline decides: no record, the passing of time."""


class CommandReceived(NamedTuple):
    """The command came: the process exists and owes an answer."""

    at_ms: int
    cause: Cause


class CancelReceived(NamedTuple):
    """A cancel came in time, perhaps before the command itself."""

    at_ms: int
    cause: Cause


class OrderDetailsQueried(NamedTuple):
    """The details were asked for, for the *attempt*-th time (from 1)."""

    at_ms: int
    cause: Cause
    attempt: int


class OrderDetailsMissing(NamedTuple):
    """The orders service answered the *attempt*-th query: no such order."""

    at_ms: int
    cause: Cause
    attempt: int


class OrderDetailsRetrieved(NamedTuple):
    """Details were there to be used; when and where they came from, which may be before the command did."""

    at_ms: int
    cause: Cause
    version: int


class EmailRequested(NamedTuple):
    """SendEmail was emitted for the *attempt*-th time (from 1)."""

    at_ms: int
    cause: Cause
    attempt: int


class EmailSent(NamedTuple):
    """The mail server took the mail."""

    at_ms: int
    cause: Cause


class EmailFailed(NamedTuple):
    """The mail was refused; ``permanent``: for ever."""

    at_ms: int
    cause: Cause
    permanent: bool
    reason: str


class ConfirmationFailed(NamedTuple):
    """The process ended without a sent mail."""

    at_ms: int
    cause: Cause
    reason: FailureReason


Event: TypeAlias = (
    CommandReceived
    | CancelReceived
    | OrderDetailsQueried
    | OrderDetailsMissing
    | OrderDetailsRetrieved
    | EmailRequested
    | EmailSent
    | EmailFailed
    | ConfirmationFailed
)
