"""
A process's recorded events to bytes and back; what is recorded later is appended.

An event is its kind (1 byte), at_ms (8), its cause's topic (1) and offset (8), and then what the kind adds:

    attempt 4, version 8, reason 1, permanent 1 and its text's length 4

after that the topic's length (2) and name if the topic is none of `TOPICS` (255 stands for it), and the text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from struct import Struct
from struct import error as struct_error
from typing import Any, Final

from schemas.corrupt_row import CorruptRow
from topology import events
from topology.events import Cause, Event
from topology.messages import FailureReason
from topology.topics import COMMANDS, DETAILS, EMAIL_EVENTS

# Stored by index: append only.
TOPICS: Final = ("", COMMANDS.name, DETAILS.name, EMAIL_EVENTS.name)
"""Topics of causes; the first is a deadline's."""

_REASONS: Final = (
    FailureReason.ORDER_NOT_FOUND,
    FailureReason.ORDER_DETAILS_TIMED_OUT,
    FailureReason.EMAIL_REJECTED,
    FailureReason.EMAIL_OUTCOME_UNKNOWN,
    FailureReason.CANCELLED,
)
KINDS: Final[tuple[tuple[type[Event], Struct], ...]] = (
    (events.CommandReceived, Struct(">BqBq")),
    (events.CancelReceived, Struct(">BqBq")),
    (events.OrderDetailsQueried, Struct(">BqBqI")),
    (events.OrderDetailsMissing, Struct(">BqBqI")),
    (events.OrderDetailsRetrieved, Struct(">BqBqq")),
    (events.EmailRequested, Struct(">BqBqI")),
    (events.EmailSent, Struct(">BqBq")),
    (events.EmailFailed, Struct(">BqBq?I")),
    (events.ConfirmationFailed, Struct(">BqBqB")),
)

_new: Final = tuple.__new__
_OTHER_TOPIC: Final = 255
_TOPIC_INDEX: Final = {topic: (index, b"") for index, topic in enumerate(TOPICS)}
_REASON_INDEX: Final = {reason: index for index, reason in enumerate(_REASONS)}
_TEXT_BYTES: Final = Struct(">H")
_PLAIN_FIELDS: Final = 2
"""Of an event that adds nothing: when, and because of what."""


def _email_failed(event: Any) -> tuple[tuple[int, int], bytes]:
    text = event.reason.encode()
    return (event.permanent, len(text)), text


def _confirmation_failed(event: Any) -> tuple[tuple[int], bytes]:
    return (_REASON_INDEX[event.reason],), b""


_CONVERT: Final[dict[type[Event], Callable[[Any], tuple[Iterable[int], bytes]]]] = {
    events.EmailFailed: _email_failed,
    events.ConfirmationFailed: _confirmation_failed,
}
"""Kinds whose values aren't all numbers: what is packed of them, and the text that follows."""

_PACK: Final = {event: (kind, layout.pack, _CONVERT.get(event)) for kind, (event, layout) in enumerate(KINDS)}


def encode(recorded: Iterable[Event]) -> bytes:
    """Return the bytes of *recorded*, to be appended to those of what was recorded before."""
    parts: list[bytes] = []
    for event in recorded:
        kind, pack, convert = _PACK[type(event)]
        topic, offset = event[1]
        topic_index, after = pack_topic(topic)
        if convert is not None:
            added, text = convert(event)
            parts.append(pack(kind, event[0], topic_index, offset, *added))
            after += text
        elif len(event) == _PLAIN_FIELDS:
            parts.append(pack(kind, event[0], topic_index, offset))
        else:
            parts.append(pack(kind, event[0], topic_index, offset, event[2]))
        if after:
            parts.append(after)
    return b"".join(parts)


def decode(stored: bytes) -> list[Event]:
    """
    Return the events of *stored*.

    Raises:
        CorruptRow: they can't be read.
    """
    recorded: list[Event] = []
    at = 0
    try:
        while at < len(stored):
            event, at = _event(stored, at)
            recorded.append(event)
    except (struct_error, IndexError, UnicodeDecodeError) as exc:
        raise CorruptRow(at, f"no event of a timeline: {exc}") from exc
    if at != len(stored):
        raise CorruptRow(at, f"the timeline ends at byte {len(stored)}")
    return recorded


def _event(stored: bytes, at: int) -> tuple[Event, int]:
    """Return the event at *at* and the position after it."""
    kind, layout = KINDS[stored[at]]
    _, at_ms, topic_index, offset, *rest = layout.unpack_from(stored, at)
    cause, at = unpack_cause(topic_index, offset, stored, at + layout.size)
    values: list[Any] = list(rest)
    if kind is events.EmailFailed:
        end = at + values[1]
        values[1] = stored[at:end].decode()
        at = end
    elif kind is events.ConfirmationFailed:
        values[0] = _REASONS[values[0]]
    return kind(at_ms, cause, *values), at


def pack_topic(topic: str) -> tuple[int, bytes]:
    """Return what stands for *topic*, and the bytes to follow if it is none of `TOPICS`."""
    known = _TOPIC_INDEX.get(topic)
    if known is not None:
        return known
    name = topic.encode()
    return _OTHER_TOPIC, _TEXT_BYTES.pack(len(name)) + name


def unpack_cause(topic_index: int, offset: int, stored: bytes, at: int) -> tuple[Cause, int]:
    """Return the cause whose topic's name may follow at *at*, and the position after it."""
    if topic_index != _OTHER_TOPIC:
        return _new(Cause, (TOPICS[topic_index], offset)), at
    at, end = at + _TEXT_BYTES.size, at + _TEXT_BYTES.size + _TEXT_BYTES.unpack_from(stored, at)[0]
    return Cause(stored[at:end].decode(), offset), end
