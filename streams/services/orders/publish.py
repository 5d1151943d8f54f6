"""
Changed orders, published unasked: the transactional outbox.

`Database.change` writes an outbox row in the order's own transaction. Whoever publishes takes `publications`, produces
and commits them, then calls `Database.mark_published`. A crash in between publishes again: at least once, which the
order's version makes harmless, as no version replaces a newer one or itself.
"""

from __future__ import annotations

from typing import NamedTuple

from schemas.codec import Codec
from streams.batch import Output
from streams.headers import cloud_event_headers
from streams.services.orders.answer import RETRIEVED, SOURCE
from streams.services.orders.database import Database
from topology.ids import uuid5
from topology.topics import DETAILS


class Publications(NamedTuple):
    """
    Records to produce, partitioned by their key, and the changes that are then published.

    Several changes of one order are one record: only its newest version is of use.
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
        event_id = uuid5(f"published/{order['version']}/{order_id}")
        headers = (
            cloud_event_headers(id=event_id, source=SOURCE, type=RETRIEVED, time_ms=now_ms) if with_headers else []
        )
        value = codec.encode_record(RETRIEVED, {"query_id": None, "retrieved_at": now_ms, "order": order})
        outputs.append(Output(DETAILS.name, order_id.encode(), value, headers))
    return Publications(outputs, [outbox_id for outbox_id, _ in changes])
