"""Answers to queries for order details: one look-up for a whole batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

from streams.batch import Batch, Headers, ReadHeaders, Record, Refusal
from streams.headers import CE_CORRELATION_ID, CE_ID, TRACEPARENT, cloud_event_headers, header
from streams.services.orders.database import Database
from streams.services.records import Reader
from topology.ids import uuid5
from topology.topics import DETAILS

SOURCE: Final = "/orders"
RETRIEVED: Final = "orders.OrderDetailsRetrieved"
NOT_FOUND: Final = "orders.OrderDetailsNotFound"
_QUERY: Final = "orders.GetOrderDetails"
Carried: TypeAlias = Callable[[Record, str], str | None]
"""What the answer to a query, whose event id is given, carries as its traceparent."""
ANSWER_BYTES_MAX: Final = DETAILS.record_bytes_max - 16_384
"""What the topic takes, less the headers and Kafka's own."""


def pass_on(record: Record, _event_id: str) -> str | None:
    """Return the traceparent that *record*, a query, carries."""
    return header(record.headers, TRACEPARENT)


def answer(
    batch: Batch, database: Database, reader: Reader, *, with_headers: bool = True, carried: Carried = pass_on
) -> None:
    """
    Answer each query of *batch* with its order's details or that there is no such order; refuse what is no query.

    Raises:
        Unavailable: the database or the schema registry doesn't answer; nothing is answered, try the batch again.
    """
    queries: list[tuple[Record, dict[str, Any]]] = []
    for record in batch:
        query = reader.read(record, _QUERY, lambda body: (body["order_id"],))
        if isinstance(query, Refusal):
            batch.refuse(*query)
        else:
            queries.append((record, query))
    details = database.details_of([query["order_id"] for _, query in queries])
    for record, query in queries:
        query_id, order_id = query["query_id"], query["order_id"]
        order = details.get(order_id)
        if order is None:
            name, event_id = NOT_FOUND, uuid5(f"{query_id}/not-found/{order_id}")
            body = {"query_id": query_id, "order_id": order_id, "answered_at": batch.now_ms}
        else:
            # The version is a part of the id: an answer to the same query at another time may be another event.
            name, event_id = RETRIEVED, uuid5(f"{query_id}/retrieved/{order['version']}/{order_id}")
            body = {"query_id": query_id, "retrieved_at": batch.now_ms, "order": order}
        value = reader.codec.encode_record(name, body)
        if len(order_id.encode()) + len(value) > ANSWER_BYTES_MAX:
            batch.refuse(record, "answer-too-large", f"order {order_id!r} takes {len(value)} bytes as a record")
            continue
        headers = []
        if with_headers:
            headers = _headers(event_id, name, batch.now_ms, query_id, record.headers, carried(record, event_id))
        batch.send(DETAILS.name, order_id.encode(), value, headers)


def _headers(
    event_id: str, name: str, now_ms: int, query_id: str, asked: ReadHeaders | None, traceparent: str | None
) -> Headers:
    return cloud_event_headers(
        id=event_id,
        source=SOURCE,
        type=name,
        time_ms=now_ms,
        correlation_id=header(asked, CE_CORRELATION_ID),
        causation_id=header(asked, CE_ID) or query_id,
        traceparent=traceparent,
    )
