"""Golden bytes that fuzzing begins with: what the code itself writes, and what earlier releases wrote."""

from __future__ import annotations

import functools
import json
import uuid
from pathlib import Path
from typing import Any, Final

from schemas import state_codec
from schemas.catalog import RECORDS, Catalog
from schemas.codec import Codec
from streams.services.email import ledger
from tests.streams.manager import Manager, command_fields, order_fields

KEY: Final = b"order-7"
EMAIL_ID: Final = "0b5c1f7e-2222-5333-8444-555566667777"
_ID: Final = "84cb5261-7fa3-5e40-bcde-776adb8b06ba"
_GOLDEN: Final = Path(__file__).parents[1] / "schemas" / "golden"
_CODEC: Final = Codec(Catalog.from_files())

_FIELDS: Final[dict[str, dict[str, Any]]] = {
    "communications.SendOrderConfirmationEmail": command_fields(),
    "communications.CancelOrderConfirmation": {"command_id": _ID, "order_id": "order-7", "requested_at": 1},
    "orders.GetOrderDetails": {"query_id": _ID, "order_id": "order-7", "attempt": 1, "asked_at": 1},
    "orders.OrderDetailsRetrieved": {"query_id": _ID, "retrieved_at": 1, "order": order_fields()},
    "orders.OrderDetailsNotFound": {"query_id": _ID, "order_id": "order-7", "answered_at": -1},
    "communications.SendEmail": {
        "email_id": EMAIL_ID, "template": "order-confirmation", "command": command_fields(), "order": order_fields(),
    },
    "communications.EmailSent": {"email_id": _ID, "order_id": "order-7", "message_id": "<m@x>", "sent_at": 1 << 62},
    "communications.EmailFailed": {
        "email_id": _ID, "order_id": "order-7", "permanent": True, "reason": "550 öd", "failed_at": 1,
    },
    "communications.OrderConfirmationSent": {
        "command_id": _ID, "order_id": "order-7", "email_id": EMAIL_ID, "ended_at": 1,
    },
    "communications.OrderConfirmationFailed": {
        "command_id": _ID, "order_id": "order-7", "reason": "CANCELLED", "detail": "", "ended_at": 1,
    },
}  # fmt: skip


def value(record: str) -> bytes:
    """Return a value of *record*."""
    return _CODEC.encode_record(record, _FIELDS[record])


def command() -> bytes:
    """Return a command's value."""
    return value("communications.SendOrderConfirmationEmail")


def details() -> bytes:
    """Return the value of an order's details."""
    return value("orders.OrderDetailsRetrieved")


@functools.cache
def values() -> list[bytes]:
    """Return a value of each record that there is."""
    return [value(record) for record in RECORDS]


@functools.cache
def rows() -> list[bytes]:
    """Return rows of the table: golden ones of each version, and one with much in it."""
    golden = [
        bytes.fromhex(case["row"])
        for path in sorted(_GOLDEN.glob("rows.*.json"))
        for case in json.loads(path.read_text("utf-8"))
        if case["row"]
    ]
    manager = Manager()
    manager.run(manager.details(), *(manager.command(command_id=str(uuid.UUID(int=n))) for n in range(3)))
    manager.run(manager.sent(), manager.failed(permanent=False), manager.cancel())
    return [*golden, *manager.rows.values()]


@functools.cache
def timelines() -> list[bytes]:
    """Return the pasts of the processes in `rows`."""
    orders = [state_codec.decode("order-ä", row) for row in rows()]
    return [process.past for order in orders for process in order.processes.values() if process.past]


@functools.cache
def ledger_rows() -> list[bytes]:
    """Return a row of each status."""
    return [
        ledger.encode(
            ledger.Row(status, 1, 2, 3, 4, 5, 6, b"0123456789abcdef", "order-ä", f"<{EMAIL_ID}@x>", "because")
        )
        for status in ledger.Status
    ]


@functools.cache
def headers() -> list[bytes]:
    """Return headers in `targets`' form: key, value, names and values, with 0xFE between them."""
    names = (
        "ce_id", "traceparent", "rejoinder.original-timestamp", "rejoinder.redrive-count", "rejoinder.redriven-from",
        "rejoinder.reason", "rejoinder.timestamp", "rejoinder.left-out-bytes", "rejoinder.doubtful",
        "__streams.errors.topic", "__streams.errors.partition", "__streams.errors.offset", "__streams.errors.message",
    )  # fmt: skip
    texts = (b"1", b"1769999999999", b"ada@example.com", b"")
    return [
        b"\xfe".join([KEY, b"value", *(part for name in names for part in (name.encode(), text))]) for text in texts
    ]
