"""
What decoding, encoding and the table's rows cost, beside fastavro and the official avro package, in one run.

    python -m bench.codec

Medians of repeated runs in microseconds a call, on one core. A pair is one SendOrderConfirmationEmail and one
OrderDetailsRetrieved of two lines: what one join decodes. fastavro and avro only decode; strict is ours alone.
"""

from __future__ import annotations

import statistics
import timeit
from collections.abc import Callable
from io import BytesIO
from typing import Any, Final

import avro.io
import avro.schema
from fastavro import schemaless_reader

from schemas import state_codec
from schemas.catalog import Catalog, current_text
from schemas.checker import compile_reader
from schemas.codec import FRAME_BYTES, Codec
from topology.events import Cause
from topology.messages import OrderDetailsRetrieved, SendEmail, SendOrderConfirmationEmail
from topology.policy import Policy
from topology.process import decide
from topology.state import NEVER_MS, Order
from topology.topics import COMMANDS, DETAILS

COMMAND: Final = "communications.SendOrderConfirmationEmail"
RETRIEVED: Final = "orders.OrderDetailsRetrieved"
NOW_MS: Final = 1_764_000_000_000
KEY: Final = b"order-1234567"
COMMAND_ID: Final = "0b5e7a4c-9a55-4f0e-8d0a-3c1f6d2b9e01"
COMMAND_FIELDS: Final[dict[str, Any]] = {
    "command_id": COMMAND_ID,
    "order_id": KEY.decode(),
    "requested_at": NOW_MS,
    "requested_by": "shop",
    "locale": "en",
}
RETRIEVED_FIELDS: Final[dict[str, Any]] = {
    "query_id": "8fdfd854-c805-5c5f-ac1e-70b901ae72df",
    "retrieved_at": NOW_MS,
    "order": {
        "order_id": KEY.decode(),
        "version": 3,
        "placed_at": NOW_MS - 10_000,
        "customer": {"customer_id": "customer-123", "name": "Ada Lovelace", "email": "ada@example.com"},
        "currency": "EUR",
        "lines": [
            {"sku": "sku-1", "name": "Analytical engine", "quantity": 1, "unit_price": 129_900},
            {"sku": "sku-2", "name": "Punched cards", "quantity": 12, "unit_price": 250},
        ],
        "total": 132_900,
        "shipping_address": "12 St James's Square, London SW1Y 4JH, United Kingdom",
    },
}
REPEATS: Final = 9
RUN_S: Final = 0.1


def median_us(call: Callable[[], object]) -> float:
    """Return the median cost of *call* over `REPEATS` runs of about `RUN_S` seconds."""
    timer = timeit.Timer(call)
    number, took_s = timer.autorange()
    number = max(1, int(number * RUN_S / took_s))
    return statistics.median(timer.repeat(REPEATS, number)) / number * 1e6


def codecs() -> dict[str, Callable[[], object]]:
    """Return the calls to compare for the topics' records."""
    catalog = Catalog.from_files()
    codec = Codec(catalog)
    command, retrieved = codec.encode_record(COMMAND, COMMAND_FIELDS), codec.encode_record(RETRIEVED, RETRIEVED_FIELDS)
    bodies = [value[FRAME_BYTES:] for value in (command, retrieved)]
    read_command = compile_reader(catalog.current(COMMAND), ("order_id", "command_id"), FRAME_BYTES)
    read_retrieved = compile_reader(
        catalog.current(RETRIEVED), ("order.order_id", "order.version", "order"), FRAME_BYTES
    )
    plain = [catalog.current(record).plain for record in (COMMAND, RETRIEVED)]
    official = [avro.io.DatumReader(avro.schema.parse(current_text(record))) for record in (COMMAND, RETRIEVED)]
    first = codec.decode(COMMANDS.records, KEY, command)
    second = codec.decode(DETAILS.records, KEY, retrieved)
    assert isinstance(first, SendOrderConfirmationEmail)
    assert isinstance(second, OrderDetailsRetrieved)
    email = SendEmail(KEY.decode(), COMMAND_ID, first.body, second.body)

    def decode() -> None:
        codec.decode(COMMANDS.records, KEY, command)
        codec.decode(DETAILS.records, KEY, retrieved)

    return {
        "pair, strict check and fields taken out": lambda: (read_command(command), read_retrieved(retrieved)),
        "pair to messages (Codec.decode)": decode,
        "pair by fastavro": lambda: [
            schemaless_reader(BytesIO(body), schema, None) for body, schema in zip(bodies, plain, strict=True)
        ],
        "pair by avro": lambda: [
            reader.read(avro.io.BinaryDecoder(BytesIO(body))) for body, reader in zip(bodies, official, strict=True)
        ],
        "SendEmail spliced (Codec.encode)": lambda: codec.encode(email),
    }


def rows() -> dict[str, Callable[[], object]]:
    """Return the calls to measure for the table's rows."""
    policy = Policy()
    from_order, from_details = Cause(COMMANDS.name, 1_000_000), Cause(DETAILS.name, 1_000_000)
    catalog = Catalog.from_files()
    codec = Codec(catalog)
    command = codec.decode(COMMANDS.records, KEY, codec.encode_record(COMMAND, COMMAND_FIELDS))
    retrieved = codec.decode(DETAILS.records, KEY, codec.encode_record(RETRIEVED, RETRIEVED_FIELDS))
    order_id = KEY.decode()

    details, waiting = Order(order_id), Order(order_id)
    decide(details, retrieved, from_details, NOW_MS, policy)
    decide(waiting, command, from_order, NOW_MS, policy)
    details_row, waiting_row = state_codec.encode(details, NEVER_MS), state_codec.encode(waiting, NEVER_MS)
    assert details_row is not None
    assert waiting_row is not None
    joined = state_codec.decode(order_id, waiting_row)
    decide(joined, retrieved, from_details, NOW_MS, policy)
    return {
        "row of details: encode": lambda: state_codec.encode(details, NEVER_MS),
        "row of details: decode": lambda: state_codec.decode(order_id, details_row),
        "row of a new process, 2 events: encode": lambda: state_codec.encode(waiting, NEVER_MS),
        "row of a new process: decode": lambda: state_codec.decode(order_id, waiting_row),
        "row of a join, 2 more events: encode": lambda: state_codec.encode(joined, NEVER_MS),
        "due_of": lambda: state_codec.due_of(waiting_row),
    }


def main() -> None:
    """Print the medians."""
    for title, call in (codecs() | rows()).items():
        print(f"{median_us(call):8.2f} µs  {title}")


if __name__ == "__main__":
    main()
