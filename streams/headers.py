"""
Headers of what we produce: CloudEvents in Kafka's binary mode, and W3C trace context passed through.

Source: CloudEvents 1.0.2 and its Kafka protocol binding; W3C Trace Context.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

from streams.batch import Headers, ReadHeaders, Record

CE_ID: Final = "ce_id"
CE_CORRELATION_ID: Final = "ce_correlationid"
TRACEPARENT: Final = "traceparent"

# Of a dead letter, after the record's own: where it was, when, and why it was refused.
ERRORS: Final = "__streams.errors."
"""What the names of Kafka Streams' dead letter headers (KIP-1034) begin with."""
REASON: Final = "rejoinder.reason"
TIMESTAMP: Final = "rejoinder.timestamp"
LEFT_OUT: Final = "rejoinder.left-out-bytes"

# Of a record that was put back from the dead letters.
REDRIVEN_FROM: Final = "rejoinder.redriven-from"
REDRIVE_COUNT: Final = "rejoinder.redrive-count"
ORIGINAL_TIMESTAMP: Final = "rejoinder.original-timestamp"

_DIGITS_MAX: Final = 15
"""Of a number in a header: Unix milliseconds for the next 30,000 years."""

COPIED_CHARS_MAX: Final = 256
"""A longer value of somebody else's isn't passed on: outputs must stay within what their topics take."""


def cloud_event_headers(
    *,
    id: str,  # noqa: A002 - CloudEvents' own names.
    source: str,
    type: str,  # noqa: A002
    time_ms: int,
    correlation_id: str | None = None,
    causation_id: str | None = None,
    traceparent: str | None = None,
) -> Headers:
    """
    Return the headers of one event or command; what is None has no header.

    Args:
        id: Unique within *source*; what is produced twice has the same.
        source: Who produces, a URI reference: "/orders".
        type: The record's full name.
        time_ms: When it came about, Unix milliseconds.
        correlation_id: The command_id that all this is about.
        causation_id: The id of what brought it about.
        traceparent: As the command had it.
    """
    # On the way of every output: what repeats is made once, the rest is one list.
    headers = [*fixed(source, type), ("ce_time", rfc3339(time_ms)), (CE_ID, id.encode())]
    if correlation_id is not None and len(correlation_id) <= COPIED_CHARS_MAX:
        headers.append((CE_CORRELATION_ID, correlation_id.encode()))
    if causation_id is not None and len(causation_id) <= COPIED_CHARS_MAX:
        headers.append(("ce_causationid", causation_id.encode()))
    if traceparent is not None and len(traceparent) <= COPIED_CHARS_MAX:
        headers.append((TRACEPARENT, traceparent.encode()))
    return headers


def header(headers: ReadHeaders | None, name: str) -> str | None:
    """Return the first value of header *name* as text, None when it isn't there or is null."""
    for key, value in headers or ():
        if key == name:
            return None if value is None else value.decode(errors="replace")
    return None


def about(record: Record) -> dict[str, Any]:
    """
    Return the fields by which a log line about *record* is found: its coordinates, its order, and what it belongs to.

    What the record doesn't say has no field: its own id (``event_id``), the command's (``command_id``) and the trace.
    """
    found: dict[str, Any] = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
    if record.key is not None:
        found["order_id"] = record.key.decode(errors="replace")
    said = {
        "event_id": header(record.headers, CE_ID),
        "command_id": header(record.headers, CE_CORRELATION_ID),
        # W3C's: version, trace, parent, flags.
        "trace_id": (header(record.headers, TRACEPARENT) or "").partition("-")[2].partition("-")[0],
    }
    # Anybody may have written them.
    return found | {name: value[:COPIED_CHARS_MAX] for name, value in said.items() if value}


def number(value: bytes | None) -> int | None:
    """Return the whole number that a header's *value* is, None if it is none."""
    return int(value) if value is not None and value.isdigit() and len(value) <= _DIGITS_MAX else None


def original_ms(record: Record) -> int:
    """
    Return when *record* first came, Unix milliseconds: the broker's timestamp, or the earlier one a redrive has kept.

    Anybody may write that header, so it only ever makes a record older: nobody makes an expired one young by it, and
    a redrive, which keeps it, doesn't bring back what may have been carried out and forgotten.
    """
    if not record.headers:
        return record.timestamp_ms
    kept = [number(value) for name, value in record.headers if name == ORIGINAL_TIMESTAMP]
    return min([record.timestamp_ms, *(ms for ms in kept if ms is not None)])


@lru_cache(maxsize=256)
def rfc3339(time_ms: int) -> bytes:
    """Return *time_ms* (Unix milliseconds) as RFC 3339 UTC text; a batch has one clock value, so it's mostly cached."""
    second, millisecond = divmod(time_ms, 1_000)
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}.{millisecond:03}Z".encode()


@lru_cache(maxsize=256)
def fixed(source: str, type_: str) -> tuple[tuple[str, bytes], ...]:
    """Return the headers that all records of one type from one source begin with."""
    return ("ce_specversion", b"1.0"), ("ce_source", source.encode()), ("ce_type", type_.encode())
