"""
Changed orders, published unasked: the transactional outbox.

`Database.change` writes an outbox row in the order's own transaction. Whoever publishes takes `publications`, produces
and commits them, then calls `Database.mark_published`. A crash in between publishes again: at least once, which the
order's version makes harmless, as no version replaces a newer one or itself.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import structlog

from schemas.codec import Codec
from streams.batch import Output
from streams.headers import cloud_event_headers
from streams.services.orders.answer import ANSWER_BYTES_MAX, RETRIEVED, SOURCE
from streams.services.orders.database import Database
from topology.ids import uuid5
from topology.topics import DETAILS

log = structlog.get_logger(__name__)


class Publications(NamedTuple):
    """
    Records to produce, partitioned by their key, and the changes that are then published.

    Several changes of one order are one record: only its newest version is of use. An order that can't be published
    is logged and has no record, but its changes count as published: they would hold up all others for ever.
    """

    outputs: list[Output]
    outbox_ids: list[int]


def publications(
    database: Database, codec: Codec, limit: int, now_ms: int, *, with_headers: bool = True
) -> Publications:
    """
    Return what the oldest *limit* unpublished changes come to; empty when there are none.

    Raises:
        Unavailable: the database doesn't answer.
    """
    changes = database.unpublished(limit)
    # Read after the changes: each order's details hold that change or a newer one.
    details = database.details_of([order_id for _, order_id in changes])
    outputs = []
    for order_id, order in details.items():
        value = _encoded(codec, order, now_ms)
        if value is None:
            continue
        event_id = uuid5(f"published/{order['version']}/{order_id}")
        headers = (
            cloud_event_headers(id=event_id, source=SOURCE, type=RETRIEVED, time_ms=now_ms) if with_headers else []
        )
        outputs.append(Output(DETAILS.name, order_id.encode(), value, headers))
    return Publications(outputs, [outbox_id for outbox_id, _ in changes])


def _encoded(codec: Codec, order: dict[str, Any], now_ms: int) -> bytes | None:
    """Return the record's value, None if there can't be one."""
    order_id, version = order["order_id"], order["version"]
    try:
        value = codec.encode_record(RETRIEVED, {"query_id": None, "retrieved_at": now_ms, "order": order})
    except ValueError as exc:
        # Not the error's text, which may quote the customer.
        log.error("order isn't published, mend it", order_id=order_id, version=version, because=type(exc).__name__)
        return None
    if (size := len(order_id.encode()) + len(value)) > ANSWER_BYTES_MAX:
        log.error("order isn't published: too large as a record", order_id=order_id, version=version, bytes=size)
        return None
    return value
