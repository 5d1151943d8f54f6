"""
Rows of the shapes that most orders have, straight from values to bytes and back.

They are the same bytes that `state_codec` makes by way of an `Order`, at a fifth of the price:

    details alone   an order of which nothing but its details has come
    waiting         an order of which nothing but its one command has come
    requested       an order whose one command has met its details: the e-mail is requested
    sent            the same, once the e-mail is reported sent

The layouts are those of `state_codec` and `timeline_codec`, put together. For whatever doesn't fit them, broken rows
included, what reads returns None, and leaves it to these.
"""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

from schemas.state_codec import BODY, DETAILS, HEAD, PROCESS, VERSION
from schemas.timeline_codec import KINDS, TOPICS
from topology import events
from topology.messages import Body
from topology.state import Step
from topology.topics import COMMANDS, EMAIL_EVENTS
from topology.topics import DETAILS as DETAILS_TOPIC

_LAYOUTS: Final = dict(KINDS)
_RECEIVED_LAYOUT: Final = _LAYOUTS[events.CommandReceived].format
_QUERIED_LAYOUT: Final = _LAYOUTS[events.OrderDetailsQueried].format
_RETRIEVED_LAYOUT: Final = _LAYOUTS[events.OrderDetailsRetrieved].format
_REQUESTED_LAYOUT: Final = _LAYOUTS[events.EmailRequested].format
_KINDS: Final = [kind for kind, _ in KINDS]
_RECEIVED: Final = _KINDS.index(events.CommandReceived)
_QUERIED: Final = _KINDS.index(events.OrderDetailsQueried)
_RETRIEVED: Final = _KINDS.index(events.OrderDetailsRetrieved)
_REQUESTED: Final = _KINDS.index(events.EmailRequested)
_SENT: Final = _KINDS.index(events.EmailSent)

# Several layouts as one: without the byte order that each begins with.
_HEAD_AND_BODY: Final = Struct(HEAD.format + BODY.format[1:])
_DETAILS_AND_PROCESS: Final = Struct(DETAILS.format + PROCESS.format[1:])
_ASKED_TIMELINE: Final = Struct(_RECEIVED_LAYOUT + _QUERIED_LAYOUT[1:])
_MET_TIMELINE: Final = Struct(_RETRIEVED_LAYOUT + _REQUESTED_LAYOUT[1:])
_WHOLE_TIMELINE: Final = Struct(_RECEIVED_LAYOUT + _RETRIEVED_LAYOUT[1:] + _REQUESTED_LAYOUT[1:])

_new: Final = tuple.__new__
_BODY_AT: Final = HEAD.size
_DATA_AT: Final = _HEAD_AND_BODY.size
_BODY_BYTES: Final = BODY.size
_DETAILS_BYTES: Final = DETAILS.size
_PROCESS_BYTES: Final = PROCESS.size
_MET_BYTES: Final = _MET_TIMELINE.size
_WHOLE_BYTES: Final = _WHOLE_TIMELINE.size
_SENT_BYTES: Final = _LAYOUTS[events.EmailSent].size
_TOPICS: Final = len(TOPICS)
_COMMANDS_INDEX: Final = TOPICS.index(COMMANDS.name)
_EMAIL_EVENTS_INDEX: Final = TOPICS.index(EMAIL_EVENTS.name)
DETAILS_INDEX: Final = TOPICS.index(DETAILS_TOPIC.name)

_pack_head_and_body: Final = _HEAD_AND_BODY.pack
_pack_body: Final = BODY.pack
_pack_head: Final = HEAD.pack
_pack_process: Final = PROCESS.pack
_pack_details: Final = DETAILS.pack
_pack_details_and_process: Final = _DETAILS_AND_PROCESS.pack
_pack_received: Final = _LAYOUTS[events.CommandReceived].pack
_pack_asked: Final = _ASKED_TIMELINE.pack
_pack_met: Final = _MET_TIMELINE.pack
_pack_whole: Final = _WHOLE_TIMELINE.pack
_pack_sent: Final = _LAYOUTS[events.EmailSent].pack
_unpack_body: Final = BODY.unpack_from
_unpack_details: Final = DETAILS.unpack_from
_unpack_process: Final = PROCESS.unpack_from

# What the head says behind version and due time: whether there are details, how many bodies, processes and remembered.
_COUNTS_AT: Final = 9
_DETAILS_ALONE: Final = HEAD.pack(0, 0, True, 1, 0, 0)[_COUNTS_AT:]
_WAITING: Final = HEAD.pack(0, 0, False, 1, 1, 0)[_COUNTS_AT:]
_REQUESTED_COUNTS: Final = HEAD.pack(0, 0, True, 2, 1, 0)[_COUNTS_AT:]

# A process's numbers, as they follow in its layout.
_STEP, _REASON, _RECEIVED_MS, _EMAIL = 0, 1, 2, 8
_COMMAND, _ORDER, _ID_BYTES, _NOTE_BYTES, _TRACE_BYTES, _PAST_BYTES = range(9, 15)
_AWAITING_DETAILS: Final = int(Step.AWAITING_DETAILS)
_AWAITING_EMAIL: Final = int(Step.AWAITING_EMAIL)
_STEP_SENT: Final = int(Step.SENT)


class DetailsRow(NamedTuple):
    """What a row of details alone says; *topic_index* (of `timeline_codec.TOPICS`) and *offset* are where they came."""

    body: Body
    version: int
    seen_ms: int
    topic_index: int
    offset: int


class ProcessPart(NamedTuple):
    """
    The one process of a row: its numbers as its layout has them, and the bytes that follow them.

    These are command id, note, traceparent and timeline.
    """

    numbers: tuple[int, ...]
    texts: bytes

    @property
    def command_id(self) -> str:
        """The command's id."""
        return self.texts[: self.numbers[_ID_BYTES]].decode()

    @property
    def traceparent(self) -> str | None:
        """The command's trace, None without one."""
        size = self.numbers[_TRACE_BYTES]
        begin = self.numbers[_ID_BYTES] + self.numbers[_NOTE_BYTES]
        return None if size < 0 else self.texts[begin : begin + size].decode()

    @property
    def received_ms(self) -> int:
        """When the command came, Unix milliseconds."""
        return self.numbers[_RECEIVED_MS]


class RequestedRow(NamedTuple):
    """A requested row in its parts: *seen_ms* is when the details came, *details* are they and their body as stored."""

    seen_ms: int
    body: bytes
    details: bytes
    process: ProcessPart


# Details alone.


def encode_details(details: DetailsRow, due_ms: int) -> bytes:
    """Return the row of an order of which only *details* are known, due (to be forgotten) at *due_ms*."""
    (schema_id, data), version, seen_ms, topic_index, offset = details
    return b"".join(
        (
            _pack_head_and_body(VERSION, due_ms, True, 1, 0, 0, schema_id, len(data)),
            data,
            _pack_details(version, 1, seen_ms, topic_index, offset),
        )
    )


def decode_details(row: bytes) -> DetailsRow | None:
    """Return what a row of details alone says."""
    if len(row) < _DATA_AT + _DETAILS_BYTES or row[0] != VERSION or row[_COUNTS_AT:_BODY_AT] != _DETAILS_ALONE:
        return None
    schema_id, size = _unpack_body(row, _BODY_AT)
    end = _DATA_AT + size
    if len(row) != end + _DETAILS_BYTES:
        return None
    version, number, seen_ms, topic_index, offset = _unpack_details(row, end)
    if number != 1 or topic_index >= _TOPICS:
        return None
    return _new(DetailsRow, (_new(Body, (schema_id, row[_DATA_AT:end])), version, seen_ms, topic_index, offset))


# A command alone.


def encode_waiting(
    command: Body, command_id: str, traceparent: str | None, offset: int, now_ms: int, due_ms: int, asked: bool
) -> bytes:
    """
    Return the row of an order whose one command came at *now_ms*, without details.

    Args:
        command: The command's body.
        command_id: Its id.
        traceparent: Its trace, None without one.
        offset: Where it stands in its partition of the commands.
        now_ms: The instant of the decision, Unix milliseconds.
        due_ms: When it is looked at again.
        asked: The details were asked for, for the first time.
    """
    schema_id, data = command
    id_bytes = command_id.encode()
    trace = b"" if traceparent is None else traceparent.encode()
    if asked:
        past = _pack_asked(_RECEIVED, now_ms, _COMMANDS_INDEX, offset, _QUERIED, now_ms, _COMMANDS_INDEX, offset, 1)
    else:
        past = _pack_received(_RECEIVED, now_ms, _COMMANDS_INDEX, offset)
    return b"".join(
        (
            _pack_head_and_body(VERSION, due_ms, False, 1, 1, 0, schema_id, len(data)),
            data,
            _pack_process(
                _AWAITING_DETAILS, 0, now_ms, now_ms, due_ms, asked, 0, 0, 0, 1, 0,
                len(id_bytes), 0, -1 if traceparent is None else len(trace), len(past),
            ),
            id_bytes,
            trace,
            past,
        )
    )  # fmt: skip


def decode_waiting(row: bytes) -> tuple[Body, ProcessPart] | None:
    """Return the command's body and the process of a waiting row."""
    if len(row) < _DATA_AT + _PROCESS_BYTES or row[0] != VERSION or row[_COUNTS_AT:_BODY_AT] != _WAITING:
        return None
    schema_id, size = _unpack_body(row, _BODY_AT)
    process = _process_at(row, _DATA_AT + size, _AWAITING_DETAILS, 1, 0)
    if process is None:
        return None
    return _new(Body, (schema_id, row[_DATA_AT : _DATA_AT + size])), process


def _process_at(row: bytes, at: int, step: int, command: int, order: int) -> ProcessPart | None:
    """Return the process at *at*, if *row* ends with it, and it stands at *step*, its bodies being these."""
    if len(row) < at + _PROCESS_BYTES:
        return None
    numbers = _unpack_process(row, at)
    at += _PROCESS_BYTES
    texts = numbers[_ID_BYTES] + numbers[_NOTE_BYTES] + max(numbers[_TRACE_BYTES], 0) + numbers[_PAST_BYTES]
    if len(row) != at + texts or numbers[_STEP] != step or numbers[_REASON]:
        return None
    if numbers[_COMMAND] != command or numbers[_ORDER] != order:
        return None
    return _new(ProcessPart, (numbers, row[at:]))


# Both.


def _head_and_bodies(due_ms: int, details: Body, command: Body) -> tuple[bytes, bytes, bytes, bytes]:
    """Return what a row begins with that has details, a process, and the bodies of both."""
    schema_id, data = details
    command_schema_id, command_data = command
    head = _pack_head_and_body(VERSION, due_ms, True, 2, 1, 0, schema_id, len(data))
    return head, data, _pack_body(command_schema_id, len(command_data)), command_data


def _moved_on(
    process: ProcessPart, step: int, now_ms: int, due_ms: int, email: int, command: int, order: int, past_bytes: int
) -> tuple[int, ...]:
    """Return *process*'s numbers with what an event changes; its timeline grows by *past_bytes*."""
    (
        _, _, received_ms, _, _, query, missing, missed, _, _, _, id_bytes, note_bytes, trace_bytes, past,
    ) = process.numbers  # fmt: skip
    return (
        step, 0, received_ms, now_ms, due_ms, query, missing, missed, email, command, order,
        id_bytes, note_bytes, trace_bytes, past + past_bytes,
    )  # fmt: skip


def encode_requested(
    details: DetailsRow,
    command: Body,
    command_id: str,
    traceparent: str | None,
    offset: int,
    now_ms: int,
    email_due_ms: int,
    due_ms: int,
) -> bytes:
    """
    Return the row of an order whose one command came at *now_ms* and met *details*, its e-mail just requested.

    Args:
        details: What was known.
        command: The command's body.
        command_id: Its id.
        traceparent: Its trace, None without one.
        offset: Where it stands in its partition of the commands.
        now_ms: The instant of the decision, Unix milliseconds.
        email_due_ms: Until when the e-mail's outcome is waited for.
        due_ms: When something of the order is due next.
    """
    _, version, seen_ms, topic_index, details_offset = details
    id_bytes = command_id.encode()
    trace = b"" if traceparent is None else traceparent.encode()
    return b"".join(
        (
            *_head_and_bodies(due_ms, details.body, command),
            _pack_details_and_process(
                version, 1, seen_ms, topic_index, details_offset,
                _AWAITING_EMAIL, 0, now_ms, now_ms, email_due_ms, 0, 0, 0, 1, 2, 1,
                len(id_bytes), 0, -1 if traceparent is None else len(trace), _WHOLE_BYTES,
            ),
            id_bytes,
            trace,
            _pack_whole(
                _RECEIVED, now_ms, _COMMANDS_INDEX, offset,
                _RETRIEVED, seen_ms, topic_index, details_offset, version,
                _REQUESTED, now_ms, _COMMANDS_INDEX, offset, 1,
            ),
        )
    )  # fmt: skip


def encode_met(
    command: Body, process: ProcessPart, details: DetailsRow, now_ms: int, email_due_ms: int, due_ms: int
) -> bytes:
    """
    Return the row of an order that waited with *command* and *process*, once *details* have come at *now_ms*.

    *email_due_ms* and *due_ms* are as in `encode_requested`.
    """
    _, version, seen_ms, topic_index, offset = details
    attempt = process.numbers[_EMAIL] + 1
    return b"".join(
        (
            *_head_and_bodies(due_ms, details.body, command),
            _pack_details_and_process(
                version, 1, seen_ms, topic_index, offset,
                *_moved_on(process, _AWAITING_EMAIL, now_ms, email_due_ms, attempt, 2, 1, _MET_BYTES),
            ),
            process.texts,
            _pack_met(
                _RETRIEVED, seen_ms, topic_index, offset, version,
                _REQUESTED, now_ms, topic_index, offset, attempt,
            ),
        )
    )  # fmt: skip


def decode_requested(row: bytes) -> RequestedRow | None:
    """Return the parts of a requested row."""
    if len(row) < _DATA_AT + _BODY_BYTES + _DETAILS_BYTES + _PROCESS_BYTES or row[0] != VERSION:
        return None
    if row[_COUNTS_AT:_BODY_AT] != _REQUESTED_COUNTS:
        return None
    at = _DATA_AT + _unpack_body(row, _BODY_AT)[1]
    body = row[_BODY_AT:at]
    end = at + _BODY_BYTES
    if len(row) >= end:
        end += _unpack_body(row, at)[1]
    if len(row) < end + _DETAILS_BYTES:
        return None
    _, number, seen_ms, topic_index, _ = _unpack_details(row, end)
    at = end + _DETAILS_BYTES
    process = _process_at(row, at, _AWAITING_EMAIL, 2, 1)
    if process is None or number != 1 or topic_index >= _TOPICS:
        return None
    return _new(RequestedRow, (seen_ms, body, row[end:at], process))


def encode_sent(row: RequestedRow, offset: int, now_ms: int, process_due_ms: int, due_ms: int) -> bytes:
    """
    Return the row of what *row* becomes once its e-mail is reported sent.

    Args:
        row: The requested row's parts.
        offset: Where the report stands in its partition of the e-mail events.
        now_ms: The instant of the decision, Unix milliseconds.
        process_due_ms: When the process is to be forgotten.
        due_ms: When something of the order is due next.
    """
    process = row.process
    numbers = _moved_on(process, _STEP_SENT, now_ms, process_due_ms, process.numbers[_EMAIL], 0, 0, _SENT_BYTES)
    return b"".join(
        (
            _pack_head(VERSION, due_ms, True, 1, 1, 0),
            row.body,
            row.details,
            _pack_process(*numbers),
            process.texts,
            _pack_sent(_SENT, now_ms, _EMAIL_EVENTS_INDEX, offset),
        )
    )
