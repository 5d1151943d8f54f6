"""
What the two Python peers do alike: read a record whole, remember it with its order, make the e-mail.

As a good engineer in a hurry for speed would: fastavro reads the records, the e-mail is made of the bytes as they came.
"""

from __future__ import annotations

import functools
import json
import struct
import time
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any, Final, NamedTuple

import fastavro

from topology.ids import email_id

FRAME_BYTES: Final = 5
ID_BYTES: Final = 36

_SCHEMAS: Final = Path(__file__).parent.parent.parent / "schemas"
_IDS: Final = {entry["record"]: entry["id"] for entry in json.loads((_SCHEMAS / "ids.json").read_text("utf-8"))}


def _frame(record: str) -> bytes:
    return b"\0" + int(_IDS[record]).to_bytes(4, "big")


def _schema(record: str) -> Any:
    return fastavro.parse_schema(json.loads((_SCHEMAS / f"{record.rpartition('.')[2]}.avsc").read_text("utf-8")))


_COMMAND: Final = "communications.SendOrderConfirmationEmail"
_DETAILS: Final = "orders.OrderDetailsRetrieved"
_COMMAND_FRAME: Final = _frame(_COMMAND)
_DETAILS_FRAME: Final = _frame(_DETAILS)
_COMMAND_SCHEMA: Final = _schema(_COMMAND)
_DETAILS_SCHEMA: Final = _schema(_DETAILS)
_TEMPLATE: Final = b"\x24order-confirmation"
_EMAIL_START: Final = _frame("communications.SendEmail") + b"\x48"

# A row: the details' version and length (-1: none), how many ids of commands follow whose e-mail was sent, then how
# many that wait.
_HEAD: Final = struct.Struct(">qiii")
_LENGTH: Final = struct.Struct(">i")


class Half(NamedTuple):
    """A record that was read: a command with its id, or an order with its version; and its bytes."""

    order_id: str
    command_id: str | None
    version: int
    body: bytes


class Email(NamedTuple):
    """An e-mail to be sent."""

    value: bytes
    email_id: str
    command_id: str


def read(key: bytes, value: bytes) -> Half | None:
    """Return what a record says, None if it is another one."""
    frame, file = value[:FRAME_BYTES], BytesIO(value)
    file.seek(FRAME_BYTES)
    if frame == _COMMAND_FRAME:
        command: Any = fastavro.schemaless_reader(file, _COMMAND_SCHEMA, None)
        half = Half(command["order_id"], str(command["command_id"]), 0, value[FRAME_BYTES:])
    elif frame == _DETAILS_FRAME:
        order: Any = fastavro.schemaless_reader(file, _DETAILS_SCHEMA, None)["order"]  # type: ignore[call-overload, index]
        half = Half(order["order_id"], None, order["version"], value[_order_at(value) :])
    else:
        return None
    if half.order_id.encode() != key:
        raise ValueError(f"the key isn't {half.order_id}")
    return half


def _order_at(value: bytes) -> int:
    """Return where the nested order begins: after the query's id, if there is one, and an instant."""
    at = FRAME_BYTES + 1 + (1 + ID_BYTES if value[FRAME_BYTES] else 0)
    while value[at] & 0x80:
        at += 1
    return at + 1


def advance(row: bytes | None, half: Half) -> tuple[bytes | None, list[Email]]:
    """Return an order's row after *half*, None if it stays as it is; and the e-mails that are due."""
    version, details, sent, waiting = _unpack(row)
    if half.command_id is not None:
        if half.command_id in sent or any(half.command_id == command for command, _ in waiting):
            return None, []
        waiting.append((half.command_id, half.body))
    else:
        if details is not None and version >= half.version:
            return None, []
        version, details = half.version, half.body
    due: list[Email] = []
    if details is not None:
        due = [_email(half.order_id, command, body, details) for command, body in waiting]
        sent += [command for command, _ in waiting]
        waiting = []
    return _pack(version, details, sent, waiting), due


def _email(order_id: str, command_id: str, command: bytes, details: bytes) -> Email:
    made = email_id(order_id, command_id)
    return Email(b"".join((_EMAIL_START, made.encode(), _TEMPLATE, command, details)), made, command_id)


def _unpack(row: bytes | None) -> tuple[int, bytes | None, list[str], list[tuple[str, bytes]]]:
    if row is None:
        return -1, None, [], []
    version, length, sent_count, waiting_count = _HEAD.unpack_from(row)
    at, details = _HEAD.size, None
    if length >= 0:
        details = row[at : at + length]
        at += length
    sent = [row[i : i + ID_BYTES].decode() for i in range(at, at + sent_count * ID_BYTES, ID_BYTES)]
    at += sent_count * ID_BYTES
    waiting = []
    for _ in range(waiting_count):
        command_id = row[at : at + ID_BYTES].decode()
        (size,) = _LENGTH.unpack_from(row, at + ID_BYTES)
        at += ID_BYTES + _LENGTH.size
        waiting.append((command_id, row[at : at + size]))
        at += size
    return version, details, sent, waiting


def _pack(version: int, details: bytes | None, sent: list[str], waiting: list[tuple[str, bytes]]) -> bytes:
    parts = [_HEAD.pack(version, -1 if details is None else len(details), len(sent), len(waiting)), details or b""]
    parts += [command_id.encode() for command_id in sent]
    for command_id, body in waiting:
        parts += command_id.encode(), _LENGTH.pack(len(body)), body
    return b"".join(parts)


def headers(email: Email, topic: str, partition: int, offset: int) -> list[tuple[str, bytes]]:
    """Return the headers of an e-mail that the record at these coordinates brought about."""
    return [
        ("ce_specversion", b"1.0"),
        ("ce_source", b"/rejoinder/process-manager"),
        ("ce_type", b"communications.SendEmail"),
        ("ce_time", _rfc3339(time.time_ns() // 1_000_000)),
        ("ce_id", email.email_id.encode()),
        ("ce_correlationid", email.command_id.encode()),
        ("ce_causationid", f"{topic}/{partition}/{offset}".encode()),
    ]


@functools.lru_cache(maxsize=64)
def _rfc3339(time_ms: int) -> bytes:
    second, millisecond = divmod(time_ms, 1_000)
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}.{millisecond:03}Z".encode()
