"""
An order's state to bytes and back: rows of the table and values of its changelog.

Version 1, big-endian, without padding:

    head        version (1 byte), due_ms (8), whether details follow (1), how many bodies, processes and remembered
                e-mails follow (2 each)
    body        schema id (4), length (4), data
    details     version (8), body (2), seen_ms (8), cause: topic (1), offset (8), topic's name if it is none of ours
    process     step, reason (1 each), received_ms, changed_ms, due_ms (8 each), query attempt, missing attempt, missing
                count, e-mail attempt (4 each), command, order (2 each), lengths of command id (2), note, traceparent
                (-1: none) and timeline (4 each), and then these four
    remembered  seen_ms (8), length of e-mail id (1), e-mail id

A body is stored once, and referred to by its number from 1; 0 is none. The version and ``due_ms`` stay where they are
in all versions. A timeline is `timeline`'s, appended to and never read on the way of a record.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from struct import error as struct_error
from typing import Final

from schemas import timeline_codec
from schemas.corrupt_row import CorruptRow, RowTooNew
from topology.events import Event
from topology.messages import Body, FailureReason
from topology.state import Details, Order, Process, Step

__all__ = ["UPCASTERS", "VERSION", "CorruptRow", "RowTooNew", "decode", "due_of", "encode", "may_wait", "timeline"]

VERSION: Final = 1

UPCASTERS: Final[dict[int, Callable[[bytes], bytes]]] = {}
"""For each older version, what makes a row of the next one."""

# Also of `straight_rows`.
HEAD: Final[Struct] = Struct(">Bq?HHH")
_BODIES_AT: Final = 10
"""Where the head says how many bodies there are."""
_DUE_MS: Final = Struct(">q")
BODY: Final[Struct] = Struct(">II")
DETAILS: Final[Struct] = Struct(">qHqBq")
PROCESS: Final[Struct] = Struct(">BBqqqIIIIHHHIiI")
_REMEMBERED: Final = Struct(">qB")

_VERSION: Final = bytes([VERSION])
_BODY_BYTES: Final = BODY.size
_PROCESS_BYTES: Final = PROCESS.size
_pack_head: Final = HEAD.pack
_pack_body: Final = BODY.pack
_pack_details: Final = DETAILS.pack
_pack_process: Final = PROCESS.pack
_unpack_head: Final = HEAD.unpack_from
_unpack_body: Final = BODY.unpack_from
_unpack_details: Final = DETAILS.unpack_from
_unpack_process: Final = PROCESS.unpack_from

# Stored by index: append only.
_STEPS: Final = tuple(Step)
_REASONS: Final = (
    None,
    FailureReason.ORDER_NOT_FOUND,
    FailureReason.ORDER_DETAILS_TIMED_OUT,
    FailureReason.EMAIL_REJECTED,
    FailureReason.EMAIL_OUTCOME_UNKNOWN,
    FailureReason.CANCELLED,
)
_REASON_INDEX: Final = {reason: index for index, reason in enumerate(_REASONS)}

_new: Final = tuple.__new__


def due_of(row: bytes) -> int:
    """
    Return when *row* is due, Unix milliseconds, without decoding it.

    Raises:
        CorruptRow: it is too short.
    """
    try:
        due_ms: int = _DUE_MS.unpack_from(row, 1)[0]
    except struct_error as exc:
        raise CorruptRow(1, str(exc)) from exc
    return due_ms


def may_wait(row: bytes) -> bool:
    """Return False of a row without any process that waits: one that does has its command's body."""
    return row[:1] != _VERSION or row[_BODIES_AT : _BODIES_AT + 2] != b"\0\0"


def encode(order: Order, due_ms: int) -> bytes | None:
    """
    Return the row of *order*, None (a tombstone) when nothing is remembered of it.

    *due_ms* is when something of it is due next, `topology.state.NEVER_MS` if nothing is. What was recorded since the
    order was loaded becomes a part of the row; *order* stays as it is.
    """
    details, processes, remembered = order.details, order.processes, order.remembered
    if not (processes or details or remembered):
        return None
    bodies: list[Body] = []
    parts: list[bytes] = []
    if details is not None:
        version, newest, seen_ms, (topic, offset) = details
        topic_index, topic_text = timeline_codec.pack_topic(topic)
        parts.append(_pack_details(version, _number(newest, bodies), seen_ms, topic_index, offset))
        parts.append(topic_text)
    for process in processes.values():
        command_id, note, traceparent = process.command_id.encode(), process.note.encode(), process.traceparent
        trace = b"" if traceparent is None else traceparent.encode()
        past = process.past
        if process.recorded:
            past += timeline_codec.encode(process.recorded)
        parts.append(
            _pack_process(
                process.step, _REASON_INDEX[process.reason],
                process.received_ms, process.changed_ms, process.due_ms,
                process.query_attempt, process.missing_attempt, process.missing_count, process.email_attempt,
                _number(process.command, bodies), _number(process.order, bodies),
                len(command_id), len(note), -1 if traceparent is None else len(trace), len(past),
            )
        )  # fmt: skip
        parts += (command_id, note, trace, past)
    for email_id, seen_ms in remembered.items():
        text = email_id.encode()
        parts += (_REMEMBERED.pack(seen_ms, len(text)), text)
    head = [_pack_head(VERSION, due_ms, details is not None, len(bodies), len(processes), len(remembered))]
    for schema_id, data in bodies:
        head += (_pack_body(schema_id, len(data)), data)
    return b"".join(head + parts)


def _number(body: Body | None, bodies: list[Body]) -> int:
    """Return the number of *body* among *bodies*, which it joins if it is a new one; 0 for none."""
    if body is None:
        return 0
    if body in bodies:  # There are few, and most often it is the very same.
        return bodies.index(body) + 1
    bodies.append(body)
    return len(bodies)


def decode(order_id: str, row: bytes) -> Order:
    """
    Return the order whose row this is.

    Raises:
        CorruptRow: it isn't one.
        RowTooNew: a newer release wrote it.
    """
    if row[:1] != _VERSION:
        row = _upcast(row)
    order = Order(order_id)
    bodies: list[Body | None] = [None]
    at = 0
    try:
        _, _, has_details, bodies_count, processes_count, remembered_count = _unpack_head(row)
        at = HEAD.size
        for _ in range(bodies_count):
            schema_id, size = _unpack_body(row, at)
            end = at + _BODY_BYTES + size
            bodies.append(_new(Body, (schema_id, row[at + _BODY_BYTES : end])))
            at = end
        if has_details:
            version, number, seen_ms, topic_index, offset = _unpack_details(row, at)
            if not number:
                raise CorruptRow(at, "details without a body")
            cause, at = timeline_codec.unpack_cause(topic_index, offset, row, at + DETAILS.size)
            order.details = _new(Details, (version, bodies[number], seen_ms, cause))
        processes = order.processes
        for _ in range(processes_count):
            process, at = _process(order_id, row, at, bodies)
            processes[process.command_id] = process
        if remembered_count:
            at = _remembered(order, row, at, remembered_count)
    except (struct_error, IndexError, UnicodeDecodeError) as exc:
        raise CorruptRow(at, str(exc)) from exc
    if at != len(row):
        raise CorruptRow(at, f"the row ends at byte {len(row)}")
    return order


def timeline(process: Process) -> list[Event]:
    """
    Return all that *process* wrote down, stored and since.

    Raises:
        CorruptRow: what was stored can't be read; the position is that in the timeline.
    """
    return timeline_codec.decode(process.past) + process.recorded


def _upcast(row: bytes) -> bytes:
    while True:
        if not row:
            raise CorruptRow(0, "the row is empty")
        if row[0] == VERSION:
            return row
        if row[0] > VERSION:
            raise RowTooNew(row[0], VERSION)
        if row[0] not in UPCASTERS:
            raise CorruptRow(0, f"there never was a version {row[0]}")
        row = UPCASTERS[row[0]](row)


def _remembered(order: Order, row: bytes, at: int, count: int) -> int:
    """Take *count* remembered e-mails from *at* on into *order*; return the position after them."""
    for _ in range(count):
        seen_ms, size = _REMEMBERED.unpack_from(row, at)
        end = at + _REMEMBERED.size + size
        order.remembered[row[end - size : end].decode()] = seen_ms
        at = end
    return at


def _process(order_id: str, row: bytes, at: int, bodies: list[Body | None]) -> tuple[Process, int]:
    """Return the process at *at* and the position after it."""
    (
        step, reason, received_ms, changed_ms, due_ms,
        query_attempt, missing_attempt, missing_count, email_attempt,
        command, order, id_bytes, note_bytes, trace_bytes, past_bytes,
    ) = _unpack_process(row, at)  # fmt: skip
    if not step:
        raise CorruptRow(at, "a process that is absent")
    at += _PROCESS_BYTES
    end = at + id_bytes
    process = Process(order_id, row[at:end].decode())
    process.step = _STEPS[step]
    process.reason = _REASONS[reason]
    process.received_ms, process.changed_ms, process.due_ms = received_ms, changed_ms, due_ms
    process.query_attempt, process.email_attempt = query_attempt, email_attempt
    process.missing_attempt, process.missing_count = missing_attempt, missing_count
    process.command = bodies[command]
    process.order = bodies[order]
    at = end + note_bytes
    if note_bytes:
        process.note = row[end:at].decode()
    if trace_bytes >= 0:
        process.traceparent = row[at : at + trace_bytes].decode()
        at += trace_bytes
    end = at + past_bytes
    process.past = row[at:end]
    return process, end
