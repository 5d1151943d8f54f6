"""What the services' tests share: the real codec, one SendEmail, and batches as the worker makes them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from schemas.catalog import Catalog
from schemas.codec import Codec
from streams.batch import Batch, Headers, Record
from streams.local.smtp import LocalSmtp
from streams.services.records import Reader
from tests.streams.services.world import ID, PARTITION, World, clock_ms
from topology.topics import EMAIL_COMMANDS

NOW_MS = 1_770_000_000_000
SEND_EMAIL: dict[str, Any] = {
    "email_id": "5f0c7e9e-1111-5222-8333-444455556666",
    "template": "order-confirmation",
    "command": {
        "command_id": "0b5c1f7e-2222-4333-8444-555566667777",
        "order_id": "order-7",
        "requested_at": 1_767_601_861_000,
        "requested_by": "shop",
        "locale": "en",
    },
    "order": {
        "order_id": "order-7",
        "version": 3,
        "placed_at": 1_767_601_861_000,
        "customer": {"customer_id": "customer-7", "name": "Jürgen Müller", "email": "juergen@example.com"},
        "currency": "EUR",
        "lines": [{"sku": "TEA-1", "name": "Tea & <biscuits>", "quantity": 2, "unit_price": 1_295}],
        "total": 2_590,
        "shipping_address": "Jürgen Müller\nKönigstraße 1\n70173 Stuttgart",
    },
}


@pytest.fixture
def now_ms() -> int:
    """Return the worker's clock."""
    return NOW_MS


@pytest.fixture(scope="session")
def codec() -> Codec:
    """Return the codec of the released schemas."""
    return Codec(Catalog.from_files())


@pytest.fixture
def reader(codec: Codec) -> Reader:
    """Return a reader that learns no further schemas."""
    return Reader(codec, lambda _: None)


@pytest.fixture
def send_email() -> dict[str, Any]:
    """Return a SendEmail that a test may change."""
    return copy.deepcopy(SEND_EMAIL)


@pytest.fixture
def record() -> Callable[..., Record]:
    """Return a maker of records of partition 3."""

    def make(
        topic: str,
        key: bytes | None,
        value: bytes | None,
        *,
        offset: int = 0,
        headers: Headers | None = None,
        timestamp_ms: int = NOW_MS,
    ) -> Record:
        return Record(topic, 3, offset, timestamp_ms, key, value, headers)

    return make


@pytest.fixture
def batch() -> Callable[..., Batch]:
    """Return a maker of batches of partition 3 over a table's rows."""

    def make(
        records: Sequence[Record],
        rows: Mapping[bytes, bytes] | None = None,
        due: Sequence[bytes] = (),
        now_ms: int = NOW_MS,
    ) -> Batch:
        known = rows or {}
        return Batch(3, records, now_ms, lambda keys: [known.get(key) for key in keys], due)

    return make


@pytest.fixture
def server() -> Iterator[LocalSmtp]:
    """Return a mail server."""
    with LocalSmtp(None) as running:
        yield running


@pytest.fixture
def world(codec: Codec, server: LocalSmtp, tmp_path: Path) -> World:
    """Return a world in which nothing has happened yet."""
    return World(codec, server, tmp_path)


@pytest.fixture
def command(codec: Codec, send_email: dict[str, Any]) -> Callable[..., Record]:
    """Return a maker of SendEmail records."""

    def make(email_id: str = ID, order_id: str = "order-7", email: str | None = None, **others: Any) -> Record:
        body = copy.deepcopy(send_email) | {"email_id": email_id}
        body["command"]["order_id"] = body["order"]["order_id"] = order_id
        body["order"]["customer"]["email"] = email or body["order"]["customer"]["email"]
        value = codec.encode_record("communications.SendEmail", body)
        known = (EMAIL_COMMANDS.name, PARTITION, 0, clock_ms(), order_id.encode(), value, None)
        return Record(*known)._replace(**others)

    return make
