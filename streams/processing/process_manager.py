"""
The process manager as a batch function: records to messages, rows to orders, `decide`, and back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

from schemas import state_codec
from schemas.catalog import UnknownSchema
from schemas.codec import Codec
from schemas.undecodable import Undecodable
from streams import metrics
from streams.batch import Batch, Failure, Headers, Record
from streams.headers import TRACEPARENT, cloud_event_headers, header, original_ms, rfc3339
from streams.processing import straight, waiting
from streams.processing.kernel_facts import Kernel, facts, kernel
from streams.transport.partitioner import partition_of
from topology import ids
from topology.events import DEADLINE, Cause
from topology.messages import (
    Action,
    DeadlinePassed,
    GetOrderDetails,
    Message,
    OrderConfirmationFailed,
    OrderConfirmationSent,
    SendEmail,
)
from topology.policy import Policy
from topology.process import Owed, TooManyProcesses, decide
from topology.state import NEVER_MS, Order
from topology.topics import (
    COMMANDS,
    DETAILS,
    EMAIL_COMMANDS,
    EMAIL_EVENTS,
    KEY_BYTES_MAX,
    OUTCOMES,
    PROCESSES_CHANGELOG,
    QUERIES,
    RECORD_BYTES_MAX,
)
from topology.transitions import TABLE, Branch

_new: Final = tuple.__new__
"""See `topology.process`."""

SOURCE: Final = "/rejoinder/process-manager"

ROW_BYTES_MAX: Final = PROCESSES_CHANGELOG.record_bytes_max - RECORD_BYTES_MAX
"""A row this large takes no further message: what one more may add would not fit into the changelog."""

TRACEPARENT_CHARS: Final = 55
"""W3C's length of version 00; a longer one would be carried along for as long as its process is remembered."""

SLICE_RECORDS: Final = 250
"""
So many are decided before their rows are encoded: what a slice makes stays in the processor's cache. With 10,000 at a
time, a join took nearly twice as long.
"""

INPUTS: Final = (COMMANDS, DETAILS, EMAIL_EVENTS)

_TOPIC: Final[dict[type[Action], tuple[str, str]]] = {
    GetOrderDetails: (QUERIES.name, "orders.GetOrderDetails"),
    SendEmail: (EMAIL_COMMANDS.name, "communications.SendEmail"),
    OrderConfirmationSent: (OUTCOMES.name, "communications.OrderConfirmationSent"),
    OrderConfirmationFailed: (OUTCOMES.name, "communications.OrderConfirmationFailed"),
}
"""Where an action goes, and the full name of its record."""

_GROWING: Final = frozenset({COMMANDS.name, DETAILS.name})
"""Inputs whose bodies are remembered; what became of an e-mail is never refused for its order's size."""

_RECORDS: Final = {topic.name: topic.records for topic in INPUTS}
_BRANCHES: Final = {
    id(branch): (message.__name__, step.title, branch.says)
    for message, steps in TABLE.items()
    for step, cell in steps.items()
    for branch in cell
}


class Refused(Exception):
    """A record that goes to the dead letters."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


class ProcessManager:
    """
    Decides batches.

    *resolve* learns a schema id that the codec doesn't know: from then on the codec does. *resolve_stored* does the
    same for ids in rows of ours; None: there is no difference. *straightly*: take the short way (`straight`) where
    there is one; *natively*: that of the kernel, where it is compiled. The result is the same.

    Raises from calls:
        Unavailable: *resolve* gets no answer; the batch may be tried again.
    """

    def __init__(
        self,
        codec: Codec,
        resolve: Callable[[int], None],
        policy: Policy,
        partitions: int,
        with_headers: bool = True,
        resolve_stored: Callable[[int], None] | None = None,
        straightly: bool = True,
        natively: bool = True,
    ) -> None:
        self._codec = codec
        self._resolve = resolve
        self._resolve_stored = resolve_stored or resolve
        self._policy = policy
        self._partitions = partitions
        self._with_headers = with_headers
        self._straightly = straightly and policy.processes_max > 0
        self._kernel: Kernel | None = None
        if self._straightly and natively:
            self._kernel = kernel(
                lambda: facts(
                    codec, policy, partitions, SOURCE, _TOPIC, straight.BRANCHES, ROW_BYTES_MAX, TRACEPARENT_CHARS,
                    with_headers=with_headers,
                )
            )  # fmt: skip

    def __call__(self, batch: Batch) -> None:
        """Decide *batch*: fills its outputs, refusals and rows."""
        taken: list[Branch] = []
        records = batch.records
        for begin in range(0, len(records), SLICE_RECORDS):
            self._decide_some(batch, begin, min(begin + SLICE_RECORDS, len(records)), taken)
        self._decide_due(batch, taken)
        for branch_id, times in Counter(map(id, taken)).items():
            metrics.DECISIONS.labels(*_BRANCHES[branch_id]).inc(times)

    def _decide_some(self, batch: Batch, begin: int, end: int, taken: list[Branch]) -> None:
        """Decide the records from index *begin* to *end*, and put their rows."""
        records = batch.records
        batch.load(list({record.key for record in records[begin:end] if record.key is not None}))
        orders: dict[bytes, Order] = {}
        sizes: dict[bytes, int] = {}
        at = begin
        while at < end:
            if self._kernel is not None:
                at = self._decide_natively(self._kernel, batch, at, end, orders, taken)
                if at == end:
                    break
            batch.at = at
            self._decide_one(batch, records[at], orders, sizes, taken)
            at += 1
        batch.at = len(records)
        self._put(batch, orders)

    def _decide_natively(
        self, kernel: Kernel, batch: Batch, at: int, end: int, orders: dict[bytes, Order], taken: list[Branch]
    ) -> int:
        """Decide what the kernel can; return the index of the first record that it can't, or *end*."""
        records = batch.records if isinstance(batch.records, list) else list(batch.records)
        loaded, rows = batch.known()
        time, now_ms = rfc3339(batch.now_ms), batch.now_ms
        try:
            return kernel.decide(
                records, at, end, now_ms, time, loaded, rows, orders, batch.moved, batch.outputs, taken
            )
        except BaseException:
            batch.at = kernel.at
            raise

    def _decide_one(
        self, batch: Batch, record: Record, orders: dict[bytes, Order], sizes: dict[bytes, int], taken: list[Branch]
    ) -> None:
        now_ms, policy = batch.now_ms, self._policy
        try:
            message = self._read(batch, record)
            row = self._row(batch, record, orders)
            if self._straightly and record.key not in orders:
                decided = straight.decide(batch, record, message, row, policy, ROW_BYTES_MAX)
                if decided is not None:
                    branch, action, command_id, traceparent = decided
                    taken.append(branch)
                    if action is not None:
                        self._send_one(batch, record.key or b"", action, command_id, traceparent, record)
                    return
            order = self._open(batch, record, message, row, orders, sizes)
            decision = decide(order, message, _new(Cause, (record[0], record[2])), now_ms, policy)
        except Refused as exc:
            batch.refuse(record, exc.reason, exc.detail)
        except TooManyProcesses as full:
            batch.refuse(record, "too-many-processes", str(full))
        else:
            owed, branches = decision
            if owed:
                self._send(batch, record.key or b"", owed, record)
            taken += branches

    def _put(self, batch: Batch, orders: dict[bytes, Order]) -> None:
        details_ttl_ms, finished_ttl_ms = self._policy.details_ttl_ms, self._policy.finished_ttl_ms
        for key, order in orders.items():
            waiting.add(batch.moved, order, 1)
            batch.put(key, state_codec.encode(order, order.next_due_ms(details_ttl_ms, finished_ttl_ms)))

    def _decide_due(self, batch: Batch, taken: list[Branch]) -> None:
        batch.load(batch.due)
        orders: dict[bytes, Order] = {}
        for key in batch.due:
            order = self._order(batch, key, orders)
            decision = decide(order, DeadlinePassed(order.order_id), DEADLINE, batch.due_ms, self._policy)
            self._send(batch, key, decision.owed, None)
            taken += decision.taken
        self._put(batch, orders)

    def _read(self, batch: Batch, record: Record) -> Message:
        """Return what *record* says."""
        key, value = record.key, record.value
        if key is None or value is None:
            raise Refused("null", f"the {'key' if key is None else 'value'} is null; both must be there")
        if len(key) > KEY_BYTES_MAX:
            raise Refused("key-too-long", f"{len(key)} bytes, of {KEY_BYTES_MAX} at most")
        if len(value) > RECORD_BYTES_MAX:
            # The topic was set to take more: two such halves would not fit into a SendEmail.
            raise Refused("too-large", f"{len(value)} bytes, of {RECORD_BYTES_MAX} at most")
        age_ms = batch.now_ms - original_ms(record)
        if age_ms > self._policy.finished_ttl_ms:
            raise Refused("expired", f"{age_ms // 86_400_000} days old: its process may have been forgotten already")
        return self._decode(record, key, value)

    def _row(self, batch: Batch, record: Record, orders: dict[bytes, Order]) -> bytes | None:
        """Return the row of *record*'s order; one of *orders* is newer than its row."""
        key = record.key or b""
        row = batch.get(key)
        if row is None and key not in orders and (right := partition_of(key, self._partitions)) != record.partition:
            # Only where no row is: a key whose first record was let in belongs here.
            raise Refused("wrong-partition", f"this key belongs to partition {right}: produce with murmur2")
        return row

    def _open(
        self,
        batch: Batch,
        record: Record,
        message: Message,  # noqa: ARG002 - for those who trace.
        row: bytes | None,
        orders: dict[bytes, Order],
        sizes: dict[bytes, int],
    ) -> Order:
        """Return the order that *message*, which *record* says, is about; *row* is its row."""
        key, value = record.key or b"", record.value or b""
        order = self._order(batch, key, orders)
        if record.topic in _GROWING:
            size = sizes.get(key) or len(row or b"")
            if size + len(value) > ROW_BYTES_MAX:
                # Summed up, duplicates and replaced details count too; so it is looked at before it is refused.
                size = sizes[key] = len(state_codec.encode(order, NEVER_MS) or b"")
            if size + len(value) > ROW_BYTES_MAX:
                raise Refused("row-too-large", f"what is remembered of this order would exceed {ROW_BYTES_MAX} bytes")
            sizes[key] = size + len(value)
        return order

    def _decode(self, record: Record, key: bytes, value: bytes) -> Message:
        traceparent = header(record.headers, TRACEPARENT) if record.headers else None
        if traceparent is not None and len(traceparent) > TRACEPARENT_CHARS:
            traceparent = None
        try:
            try:
                return self._codec.decode(_RECORDS[record.topic], key, value, traceparent)
            except UnknownSchema as exc:
                self._resolve(exc.schema_id)
                return self._codec.decode(_RECORDS[record.topic], key, value, traceparent)
        except UnknownSchema as unknown:
            raise Refused("unknown-schema", str(unknown)) from unknown
        except Undecodable as broken:
            raise Refused(broken.reason, broken.detail) from broken

    @staticmethod
    def _order(batch: Batch, key: bytes, orders: dict[bytes, Order]) -> Order:
        order = orders.get(key)
        if order is None:
            row = batch.get(key)
            order = orders[key] = Order(key.decode()) if row is None else state_codec.decode(key.decode(), row)
            waiting.add(batch.moved, order, -1)
        return order

    def _send(self, batch: Batch, key: bytes, owed: list[Owed], record: Record | None) -> None:
        for process, action in owed:
            self._send_one(batch, key, action, process.command_id, process.traceparent, record)

    def _send_one(
        self,
        batch: Batch,
        key: bytes,
        action: Action,
        command_id: str,
        traceparent: str | None,
        record: Record | None,
    ) -> None:
        topic, full_name = _TOPIC[type(action)]
        headers: Headers = []
        if self._with_headers:
            headers = cloud_event_headers(
                id=_id(action),
                source=SOURCE,
                type=full_name,
                time_ms=batch.now_ms,
                correlation_id=command_id,
                causation_id=_causation(record),
                traceparent=traceparent,
            )
        batch.send(topic, key, self._encode(action), headers)
        if type(action) is OrderConfirmationFailed:
            batch.failures.append(Failure(action.order_id, action.command_id, action.reason.value, batch.now_ms))

    def _encode(self, action: Action) -> bytes:
        try:
            return self._codec.encode(action)
        except UnknownSchema as exc:
            # A half that another worker stored, which knew a newer schema already.
            self._resolve_stored(exc.schema_id)
            return self._codec.encode(action)


def _id(action: Action) -> str:
    """Return the event id of *action*: derived, the same if it is produced twice."""
    match action:
        case SendEmail():
            return action.email_id
        case GetOrderDetails():
            return action.query_id
        case _:
            return ids.outcome_id(action.order_id, action.command_id, type(action).__name__)


def _causation(record: Record | None) -> str:
    """Return the id of what caused an action: its event id, else its coordinates."""
    if record is None:
        return "deadline"
    return header(record.headers, "ce_id") or f"{record.topic}/{record.partition}/{record.offset}"
