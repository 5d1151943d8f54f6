"""
Records as bytes, put together from parts: some microseconds each, where a codec would take tens.

Independent of the code under test: only the ids of the schemas come from there. tests/chaos/test_plan.py compares them
with fastavro's, field by field.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any, Final, NamedTuple

from fastavro import schemaless_writer

from schemas.catalog import Catalog

_CATALOG: Final = Catalog.from_files()
_UUID: Final = b"\x48"
"""A UUID's length, 36, as Avro writes it."""
BASE_MS: Final = 1_770_000_000_000
_VARIANTS: Final = 64
LOCALES: Final = ("en", "de", "fr", "nl")


def _frame(record: str) -> bytes:
    return b"\0" + _CATALOG.id_of(record).to_bytes(4, "big")


COMMAND: Final = _frame("communications.SendOrderConfirmationEmail")
CANCEL: Final = _frame("communications.CancelOrderConfirmation")
QUERY: Final = _frame("orders.GetOrderDetails")
DETAILS: Final = _frame("orders.OrderDetailsRetrieved")
NOT_FOUND: Final = _frame("orders.OrderDetailsNotFound")
SEND_EMAIL: Final = _frame("communications.SendEmail")
SENT: Final = _frame("communications.EmailSent")
FAILED: Final = _frame("communications.EmailFailed")
ENDED_SENT: Final = _frame("communications.OrderConfirmationSent")
ENDED_FAILED: Final = _frame("communications.OrderConfirmationFailed")
FRAME_BYTES: Final = 5
ID_AT: Final = FRAME_BYTES + 1
"""Where the UUID begins with which all of our records but details begin."""
ID_END: Final = ID_AT + 36

REASONS: Final = (
    "ORDER_NOT_FOUND",
    "ORDER_DETAILS_TIMED_OUT",
    "EMAIL_REJECTED",
    "EMAIL_OUTCOME_UNKNOWN",
    "CANCELLED",
    "OTHER",
)


def number(value: int) -> bytes:
    """Return *value* as Avro writes an int or long: zigzag, seven bits a byte."""
    value = (value << 1) ^ (value >> 63)
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_number(data: bytes, at: int) -> tuple[int, int]:
    """Return the int or long at *at*, and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return (value >> 1) ^ -(value & 1), at
        shift += 7


def text(value: str) -> bytes:
    """Return *value* as Avro writes a string."""
    data = value.encode()
    return number(len(data)) + data


# The fields of the two halves, for the n-th order.


def command_fields(order_id: str, command_id: str, n: int) -> dict[str, Any]:
    """Return a command's fields."""
    return {
        "command_id": command_id,
        "order_id": order_id,
        "requested_at": BASE_MS + n % _VARIANTS,
        "requested_by": f"till {n % _VARIANTS}",
        "locale": LOCALES[n % len(LOCALES)],
    }


def order_fields(order_id: str, n: int, version: int) -> dict[str, Any]:
    """Return the fields of an order's details."""
    return {"order_id": order_id, "version": version} | _rest_fields((n + version) % _VARIANTS)


def _rest_fields(variant: int) -> dict[str, Any]:
    lines = [
        {"sku": f"sku-{line}", "name": "Téa, green" if line % 2 else "Cup", "quantity": line + 1, "unit_price": 250}
        for line in range(variant % 4 + 1)
    ]
    return {
        "placed_at": BASE_MS - 1_000 * variant,
        "customer": {"customer_id": f"c{variant}", "name": "Ana Müller", "email": f"ana{variant}@example.com"},
        "currency": "EUR",
        "lines": lines,
        "total": sum(line["quantity"] * 250 for line in lines),
        "shipping_address": f"{variant} High Street",
    }


def _rest(variant: int) -> bytes:
    """Return what follows an order's id and version."""
    schema = _CATALOG.current("orders.OrderDetailsRetrieved").nested("order").plain
    fields = _rest_fields(variant)
    encoded = BytesIO()
    schemaless_writer(encoded, schema, {"order_id": "", "version": 0} | fields)
    return encoded.getvalue()[2:]


_RESTS: Final = tuple(map(_rest, range(_VARIANTS)))
_INSTANTS: Final = tuple(number(BASE_MS + n) for n in range(_VARIANTS))
_COMMAND_RESTS: Final = tuple(
    _INSTANTS[n] + text(f"till {n}") + text(LOCALES[n % len(LOCALES)]) for n in range(_VARIANTS)
)


def command_body(order_id: str, command_id: str, n: int) -> bytes:
    """Return a command without its frame."""
    return _UUID + command_id.encode() + text(order_id) + _COMMAND_RESTS[n % _VARIANTS]


def command(order_id: str, command_id: str, n: int) -> bytes:
    """Return SendOrderConfirmationEmail."""
    return COMMAND + command_body(order_id, command_id, n)


def cancel(order_id: str, command_id: str, n: int) -> bytes:
    """Return CancelOrderConfirmation."""
    return CANCEL + _UUID + command_id.encode() + text(order_id) + _INSTANTS[n % _VARIANTS]


def order_body(order_id: str, n: int, version: int) -> bytes:
    """Return OrderDetails, the nested record."""
    return text(order_id) + number(version) + _RESTS[(n + version) % _VARIANTS]


def details(order_id: str, n: int, version: int, query_id: str | None = None) -> bytes:
    """Return OrderDetailsRetrieved."""
    asked = b"\0" if query_id is None else b"\2" + _UUID + query_id.encode()
    return DETAILS + asked + _INSTANTS[n % _VARIANTS] + order_body(order_id, n, version)


def not_found(order_id: str, query_id: str, n: int) -> bytes:
    """Return OrderDetailsNotFound."""
    return NOT_FOUND + _UUID + query_id.encode() + text(order_id) + _INSTANTS[n % _VARIANTS]


def send_email(email_id: str, order_id: str, command_id: str, n: int, version: int) -> bytes:
    """Return SendEmail."""
    return b"".join(
        (
            SEND_EMAIL,
            _UUID,
            email_id.encode(),
            _TEMPLATE,
            command_body(order_id, command_id, n),
            order_body(order_id, n, version),
        )
    )


_TEMPLATE: Final = text("order-confirmation")
COMMAND_ID_AT: Final = ID_END + len(_TEMPLATE) + 1
"""Where the command's id is in SendEmail."""

EARLY: Final = "early"
"""The Message-ID of a mail that is reported sent before its command was seen."""


def sent(email_id: str, order_id: str, n: int, *, early: bool = False) -> bytes:
    """Return EmailSent."""
    message_id = text(EARLY if early else f"<{email_id}@chaos>")
    return SENT + _UUID + email_id.encode() + text(order_id) + message_id + _INSTANTS[n % _VARIANTS]


def failed(email_id: str, order_id: str, n: int, *, permanent: bool) -> bytes:
    """Return EmailFailed."""
    flag = b"\1" if permanent else b"\0"
    return FAILED + _UUID + email_id.encode() + text(order_id) + flag + _REFUSED + _INSTANTS[n % _VARIANTS]


_REFUSED: Final = text("451 try later")


# What the process manager writes.


class Query(NamedTuple):
    """GetOrderDetails."""

    query_id: str
    order_id: str
    attempt: int
    asked_at_ms: int


def read_query(value: bytes) -> Query:
    """
    Return what *value* asks.

    Raises:
        ValueError, IndexError: it is no query.
    """
    id_, at = _id(value, QUERY)
    order_id, at = _text(value, at)
    attempt, at = read_number(value, at)
    asked_at_ms, at = read_number(value, at)
    _check_end(value, at)
    return Query(id_, order_id, attempt, asked_at_ms)


class Ended(NamedTuple):
    """OrderConfirmationSent (*reason* is empty) or OrderConfirmationFailed (*email_id* is empty)."""

    command_id: str
    order_id: str
    email_id: str
    reason: str
    ended_at_ms: int


def read_ended(value: bytes) -> Ended:
    """
    Return which process ended, and how.

    Raises:
        ValueError, IndexError: it is no outcome.
    """
    email_id = reason = ""
    if value[:FRAME_BYTES] == ENDED_SENT:
        id_, at = _id(value, ENDED_SENT)
        order_id, at = _text(value, at)
        email_id, at = _text(value, at)
    else:
        id_, at = _id(value, ENDED_FAILED)
        order_id, at = _text(value, at)
        index, at = read_number(value, at)
        reason = REASONS[index]
        _, at = _text(value, at)
    ended_at_ms, at = read_number(value, at)
    _check_end(value, at)
    return Ended(id_, order_id, email_id, reason, ended_at_ms)


def _id(value: bytes, frame: bytes) -> tuple[str, int]:
    if value[:FRAME_BYTES] != frame or value[FRAME_BYTES:ID_AT] != _UUID:
        raise ValueError(f"{value[:ID_AT]!r}: another record is expected here")
    return value[ID_AT:ID_END].decode(), ID_END


def _text(value: bytes, at: int) -> tuple[str, int]:
    length, at = read_number(value, at)
    return value[at : at + length].decode(), at + length


def _check_end(value: bytes, at: int) -> None:
    if at != len(value):
        raise ValueError(f"{len(value)} bytes, of which {at} are the record")
