"""The process manager over a table in memory: real codecs, and transactions that always come true."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Final, Self

from schemas import state_codec
from schemas.catalog import Catalog, UnknownSchema, current_text
from schemas.codec import Codec
from streams.batch import Batch, Headers, Output, Record
from streams.processing.process_manager import ProcessManager
from tests.schemas.avro_bytes import Official
from topology import ids
from topology.policy import Policy
from topology.state import Order, Process
from topology.topics import COMMANDS, DETAILS, EMAIL_EVENTS

NOW_MS: Final = 1_770_000_000_000
ORDER_ID: Final = "order-7"
COMMAND_ID: Final = "0b5c1f7e-2222-4333-8444-555566667777"
EMAIL_ID: Final = ids.email_id(ORDER_ID, COMMAND_ID)
TRACEPARENT: Final = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

COMMAND: Final = "communications.SendOrderConfirmationEmail"
CANCEL: Final = "communications.CancelOrderConfirmation"
RETRIEVED: Final = "orders.OrderDetailsRetrieved"
NOT_FOUND: Final = "orders.OrderDetailsNotFound"
SENT: Final = "communications.EmailSent"
FAILED: Final = "communications.EmailFailed"
SEND_EMAIL: Final = "communications.SendEmail"


def refuse_to_resolve(schema_id: int) -> None:
    """Know no further schema."""
    raise UnknownSchema(schema_id)


class Manager:
    """A process manager of partition *partition*, its rows, and makers of the records it reads."""

    def __init__(
        self,
        policy: Policy | None = None,
        *,
        resolve: Callable[[int], None] = refuse_to_resolve,
        partitions: int = 1,
        partition: int = 0,
        with_headers: bool = True,
        straightly: bool = True,
        natively: bool = True,
    ) -> None:
        self.policy = policy or Policy()
        self.codec = Codec(Catalog.from_files())
        self.rows: dict[bytes, bytes] = {}
        self.loads: list[Sequence[bytes]] = []
        self._partition = partition
        self._decide = ProcessManager(
            self.codec, resolve, self.policy, partitions, with_headers, straightly=straightly, natively=natively
        )
        self._offset = 0

    def meet(self) -> Self:
        """Let the codec meet what the kernel reads: each schema's first value is Python's to decode."""
        self.decide(self.command(), self.details(), self.sent())
        return self

    # Records.

    def record(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers | None = None) -> Record:
        """Return the topic's next record; offsets go on over all topics."""
        self._offset += 1
        return Record(topic, self._partition, self._offset, NOW_MS, key, value, headers)

    def command(
        self, order_id: str = ORDER_ID, command_id: str = COMMAND_ID, headers: Headers | None = None, by: str = "shop"
    ) -> Record:
        """Return a command."""
        fields = {**command_fields(order_id, command_id), "requested_by": by}
        return self.record(COMMANDS.name, order_id.encode(), self.codec.encode_record(COMMAND, fields), headers)

    def cancel(self, order_id: str = ORDER_ID, command_id: str = COMMAND_ID) -> Record:
        """Return a command's cancel."""
        fields = {"command_id": command_id, "order_id": order_id, "requested_at": 1}
        return self.record(COMMANDS.name, order_id.encode(), self.codec.encode_record(CANCEL, fields))

    def details(self, order_id: str = ORDER_ID, version: int = 3, headers: Headers | None = None) -> Record:
        """Return an order's details."""
        fields = {"retrieved_at": NOW_MS, "order": order_fields(order_id, version)}
        return self.record(DETAILS.name, order_id.encode(), self.codec.encode_record(RETRIEVED, fields), headers)

    def not_found(self, attempt: int) -> Record:
        """Return the answer to the *attempt*-th query that there is no such order."""
        query_id = ids.query_id(ORDER_ID, COMMAND_ID, attempt)
        fields = {"query_id": query_id, "order_id": ORDER_ID, "answered_at": 1}
        return self.record(DETAILS.name, ORDER_ID.encode(), self.codec.encode_record(NOT_FOUND, fields))

    def sent(self, email_id: str = EMAIL_ID) -> Record:
        """Return the report that a mail was taken."""
        fields = {"email_id": email_id, "order_id": ORDER_ID, "message_id": "<m@example.com>", "sent_at": 1}
        return self.record(EMAIL_EVENTS.name, ORDER_ID.encode(), self.codec.encode_record(SENT, fields))

    def failed(self, *, permanent: bool) -> Record:
        """Return the report that a mail was refused."""
        fields = {
            "email_id": EMAIL_ID, "order_id": ORDER_ID, "permanent": permanent, "reason": "550 no [/] such user",
            "failed_at": 1,
        }  # fmt: skip
        return self.record(EMAIL_EVENTS.name, ORDER_ID.encode(), self.codec.encode_record(FAILED, fields))

    # Batches.

    def decide(
        self, *records: Record, due: Sequence[bytes] = (), now_ms: int = NOW_MS, due_ms: int | None = None
    ) -> Batch:
        """Decide a batch whose transaction is never committed."""

        def load(keys: Sequence[bytes]) -> Sequence[bytes | None]:
            self.loads.append(keys)
            return [self.rows.get(key) for key in keys]

        batch = Batch(self._partition, records, now_ms, load, due, due_ms)
        self._decide(batch)
        return batch

    def run(
        self, *records: Record, due: Sequence[bytes] = (), now_ms: int = NOW_MS, due_ms: int | None = None
    ) -> Batch:
        """Decide a batch and commit it."""
        batch = self.decide(*records, due=due, now_ms=now_ms, due_ms=due_ms)
        for change in batch.changes:
            if change.new is None:
                del self.rows[change.key]
            else:
                self.rows[change.key] = change.new
        return batch

    # What came of it.

    def names(self, batch: Batch) -> list[str]:
        """Return the outputs' records, without namespaces."""
        return [self.codec.decode_record(output.value or b"")[0].rpartition(".")[2] for output in batch.outputs]

    def fields(self, output: Output) -> dict[str, Any]:
        """Return an output's fields."""
        return self.codec.decode_record(output.value or b"")[1]

    def order(self, order_id: str = ORDER_ID) -> Order:
        """Return what the table remembers."""
        return state_codec.decode(order_id, self.rows[order_id.encode()])

    def process(self) -> Process:
        """Return the process of `COMMAND_ID`."""
        return self.order().processes[COMMAND_ID]

    def due_ms(self) -> int:
        """Return when the row of `ORDER_ID` is due."""
        return state_codec.due_of(self.rows[ORDER_ID.encode()])


def command_fields(order_id: str = ORDER_ID, command_id: str = COMMAND_ID) -> dict[str, Any]:
    """Return the body of a command."""
    return {
        "command_id": command_id,
        "order_id": order_id,
        "requested_at": 1_767_601_861_000,
        "requested_by": "shop",
        "locale": "de",
    }


def order_fields(order_id: str = ORDER_ID, version: int = 3) -> dict[str, Any]:
    """Return the details of an order."""
    return {
        "order_id": order_id,
        "version": version,
        "placed_at": 1_767_601_861_000,
        "customer": {"customer_id": "customer-7", "name": "Jürgen Müller", "email": "juergen@example.com"},
        "currency": "EUR",
        "lines": [
            {"sku": "TEA-1", "name": "Tea & <biscuits>", "quantity": 2, "unit_price": 1_295},
            {"sku": "日本", "name": "", "quantity": 1, "unit_price": -1},
        ],
        "total": 2_589,
        "shipping_address": "Jürgen Müller\nKönigstraße 1\n70173 Stuttgart",
    }


def official(record: str, value: bytes | None) -> tuple[Any, int]:
    """Return what the official Avro implementation reads in a framed *value*, and how many bytes it leaves over."""
    assert value is not None
    return Official(json.loads(current_text(record))).read(value[5:])
