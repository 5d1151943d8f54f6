"""
Records to messages and actions to records, in Confluent's wire format.

That is byte 0, the schema's id as 4 bytes big-endian, and Avro binary. The two bodies that are joined are never
understood here, only checked: what the process manager passes on is what came, byte for byte, unless its writer's
schema isn't the current one; then it is resolved, defaults included.

Sources: Confluent, "Wire format"; Apache Avro specification 1.12, "Schema Resolution".
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from io import BytesIO
from typing import Any, Final, NamedTuple, TypeAlias, cast

from fastavro import schemaless_reader, schemaless_writer
from fastavro.read import SchemaResolutionError

from schemas.catalog import Catalog, UnknownSchema
from schemas.checker import Reader, compile_reader
from schemas.record_schema import RecordSchema, Schema
from schemas.undecodable import Reason, Undecodable
from topology.messages import (
    Action,
    Body,
    CancelOrderConfirmation,
    EmailFailed,
    EmailSent,
    GetOrderDetails,
    Message,
    OrderConfirmationFailed,
    OrderConfirmationSent,
    OrderDetailsNotFound,
    OrderDetailsRetrieved,
    SendEmail,
    SendOrderConfirmationEmail,
)

__all__ = ["Codec", "Reason", "Undecodable", "UnknownSchema"]

TEMPLATE: Final = "order-confirmation"
FRAME_BYTES: Final = 5

_SEND_EMAIL: Final = "communications.SendEmail"
_COMMAND: Final = "communications.SendOrderConfirmationEmail"
_DETAILS: Final = "orders.OrderDetailsRetrieved"

_new: Final = tuple.__new__
"""Makes a named tuple at half the price of calling its class, which counts for what is made a million times."""

Build: TypeAlias = Callable[[tuple[Any, ...], int, bytes, str | None], Message]
"""Makes the message of a value: from the fields taken out, the value's schema id, the value, and the traceparent."""


class _Input(NamedTuple):
    """How a record becomes a message: *fields* are taken out, the order's id first."""

    fields: tuple[str, ...]
    build: Build


def _command(found: tuple[Any, ...], schema_id: int, value: bytes, traceparent: str | None) -> Message:
    order_id, command_id = found
    return _new(
        SendOrderConfirmationEmail, (order_id, command_id, _new(Body, (schema_id, value[FRAME_BYTES:])), traceparent)
    )


def _details(found: tuple[Any, ...], schema_id: int, _value: bytes, _traceparent: str | None) -> Message:
    order_id, version, data = found
    return _new(OrderDetailsRetrieved, (order_id, version, _new(Body, (schema_id, data))))


def _plain(message: type[Message]) -> Build:
    """Return what makes a *message* of just the fields that are taken out."""

    def build(found: tuple[Any, ...], _schema_id: int, _value: bytes, _traceparent: str | None) -> Message:
        return _new(message, found)

    return build


INPUTS: Final[dict[str, _Input]] = {
    _COMMAND: _Input(("order_id", "command_id"), _command),
    "communications.CancelOrderConfirmation": _Input(("order_id", "command_id"), _plain(CancelOrderConfirmation)),
    _DETAILS: _Input(("order.order_id", "order.version", "order"), _details),
    "orders.OrderDetailsNotFound": _Input(("order_id", "query_id"), _plain(OrderDetailsNotFound)),
    "communications.EmailSent": _Input(("order_id", "email_id"), _plain(EmailSent)),
    "communications.EmailFailed": _Input(("order_id", "email_id", "permanent", "reason"), _plain(EmailFailed)),
}


class _Decoder(NamedTuple):
    """What is done with values of one schema id; *resolve* is None where the current schema has the same encoding."""

    record: str
    resolve: Callable[[bytes], bytes] | None
    read: Reader
    build: Build
    schema_id: int


class Spliced(NamedTuple):
    """A SendEmail is *head*, e-mail id, *template*, command, order, *tail*; bodies have these schema ids."""

    head: bytes
    template: bytes
    tail: bytes
    command_schema: int
    order_schema: int


def frame(schema_id: int) -> bytes:
    """Return what a value of this schema begins with."""
    return b"\0" + schema_id.to_bytes(4, "big")


class Codec:
    """Decodes and encodes by the schemas of a `Catalog`, which may learn ids while it is in use."""

    def __init__(self, catalog: Catalog) -> None:
        """
        Prepare what is written.

        Raises:
            ValueError: SendEmail doesn't begin with the fields that are spliced.
            KeyError: this record has no id to write it with.
        """
        self._catalog = catalog
        self._frames = {record: frame(catalog.id_of(record)) for record in catalog.records}
        # By the value's first 5 bytes, so that the hot path looks once.
        self._decoders: dict[bytes, _Decoder] = {}
        self._record_decoders: dict[bytes, tuple[str, Callable[[bytes], dict[str, Any]]]] = {}
        self._writers: dict[str, _Writer] = {}
        self._splice = _Splice(catalog)
        self.as_is: dict[bytes, str] = {}
        """The record of each beginning of a value that was met and has the current encoding: its first 5 bytes."""

    def decode(
        self, topic_records: Collection[str], key: bytes, value: bytes, traceparent: str | None = None
    ) -> Message:
        """
        Return what the record (*key*, *value*) says to the process manager.

        Args:
            topic_records: Full names of the records that its topic carries.
            key: The order's id, as UTF-8.
            value: Framed Avro binary.
            traceparent: The record's header, kept with a command.

        Raises:
            UnknownSchema: no schema is known by the value's id; once the catalog has it, the same call works.
            Undecodable: the record is broken, or not one for this topic.
        """
        decoder = self._decoders.get(value[:FRAME_BYTES])
        if decoder is None:
            decoder = self._learn(value, topic_records)
        record, resolve, read, build, schema_id = decoder
        if record not in topic_records:
            raise _unexpected(record, topic_records)
        if resolve is not None:
            value = resolve(value)
        found = read(value)
        if found[0].encode() != key:
            raise Undecodable(Reason.KEY_MISMATCH, f"the key is {key[:99]!r} and the body's order_id {found[0][:99]!r}")
        return build(found, schema_id, value, traceparent)

    def decode_record(self, value: bytes) -> tuple[str, dict[str, Any]]:
        """
        Return the full name and the fields of any of our records, whole, in the current schema.

        UUIDs are text as it came, instants Unix milliseconds.

        Raises:
            UnknownSchema: no schema is known by the value's id; once the catalog has it, the same call works.
            Undecodable: the value is broken, or no record of ours.
        """
        decoder = self._record_decoders.get(value[:FRAME_BYTES])
        if decoder is None:
            prefix, schema = self._schema_of(value)
            if schema.name not in self._catalog:
                raise _unexpected(schema.name, ())
            resolver = _Resolver(schema, self._catalog.current(schema.name))
            decoder = self._record_decoders[prefix] = schema.name, resolver.fields
        record, fields_of = decoder
        return record, fields_of(value)

    def encode(self, action: Action) -> bytes:
        """
        Return *action* as a framed value.

        Raises:
            UnknownSchema: a SendEmail's body was written with a schema that the catalog doesn't know yet.
        """
        match action:
            case SendEmail():
                return self._splice(action)
            case GetOrderDetails(order_id, query_id, attempt, asked_at_ms):
                fields = {"query_id": query_id, "order_id": order_id, "attempt": attempt, "asked_at": asked_at_ms}
                return self._writer("orders.GetOrderDetails")(fields)
            case OrderConfirmationSent(order_id, command_id, email_id, ended_at_ms):
                fields = {
                    "command_id": command_id, "order_id": order_id, "email_id": email_id, "ended_at": ended_at_ms,
                }  # fmt: skip
                return self._writer("communications.OrderConfirmationSent")(fields)
            case OrderConfirmationFailed(order_id, command_id, reason, detail, ended_at_ms):
                fields = {
                    "command_id": command_id, "order_id": order_id, "reason": reason.name, "detail": detail,
                    "ended_at": ended_at_ms,
                }  # fmt: skip
                return self._writer("communications.OrderConfirmationFailed")(fields)

    def encode_record(self, record: str, fields: dict[str, Any]) -> bytes:
        """
        Return *fields* as a framed value of the record with this full name; left-out fields get their defaults.

        Raises:
            ValueError: a field is missing, unknown, or not of its type; or a UUID isn't one.
        """
        writer = self._writer(record)
        try:
            value = writer(fields, strict=True)
            writer.check(value)
        except Undecodable as exc:
            raise ValueError(exc.detail) from exc
        except (TypeError, AttributeError, OverflowError) as wrong:
            raise ValueError(f"{record}: {wrong}") from wrong
        return value

    def current(self, record: str) -> RecordSchema:
        """Return the schema of the values in `as_is` that are a *record*'s, or one of the same encoding."""
        return self._catalog.current(record)

    def spliced(self) -> Spliced | None:
        """Return how a SendEmail of bodies in their current schemas is put together; None if one must be resolved."""
        return self._splice.parts()

    def plain(self, record: str, fields: Sequence[tuple[str, Schema]]) -> bytes:
        """
        Return what a value of *record* begins with, for who writes its *fields* (names, types) by himself.

        Raises:
            ValueError: the record's fields are others.
        """
        types = [(field["name"], field["type"]) for field in self._catalog.current(record).plain["fields"]]
        declared = [(name, type_["type"] if isinstance(type_, dict) else type_) for name, type_ in types]
        if declared != list(fields):
            raise ValueError(f"{record} has the fields {declared}, and is written as {list(fields)}")
        return self._frames[record]

    def _writer(self, record: str) -> _Writer:
        writer = self._writers.get(record)
        if writer is None:
            writer = self._writers[record] = _Writer(self._catalog.current(record), self._frames[record])
        return writer

    def _schema_of(self, value: bytes) -> tuple[bytes, RecordSchema]:
        """Return the value's first 5 bytes and the schema that they name."""
        prefix = value[:FRAME_BYTES]
        if len(prefix) < FRAME_BYTES or prefix[0] != 0:
            raise Undecodable(
                Reason.NOT_FRAMED,
                f"the value begins with {prefix.hex(' ') or 'nothing'}, not with byte 0 and a schema id of 4 bytes",
            )
        return prefix, self._catalog[int.from_bytes(prefix[1:], "big")]

    def _learn(self, value: bytes, topic_records: Collection[str]) -> _Decoder:
        """Prepare the decoder of *value*'s schema."""
        prefix, schema = self._schema_of(value)
        if schema.name not in INPUTS:
            raise _unexpected(schema.name, topic_records)
        fields, build = INPUTS[schema.name]
        current = self._catalog.current(schema.name)
        resolve = None if schema.canonical == current.canonical else _Resolver(schema, current)
        # The current schema's reader even where the writer's has the same encoding: only ours says what is a UUID.
        read = compile_reader(current, fields, FRAME_BYTES)
        decoder = _Decoder(schema.name, resolve, read, build, self._catalog.id_of(schema.name))
        self._decoders[prefix] = decoder
        if resolve is None:
            self.as_is[prefix] = schema.name
        return decoder


def _unexpected(record: str, expected: Collection[str]) -> Undecodable:
    carried = " and ".join(expected) or "our own records"
    return Undecodable(Reason.UNEXPECTED_RECORD, f"a {record}, where there are only {carried}")


class _Resolver:
    """Reads what was written with one schema as another one, after the strict check by the writer's."""

    def __init__(self, writer: RecordSchema, reader: RecordSchema, start: int = FRAME_BYTES) -> None:
        same = writer.canonical == reader.canonical
        self._writer = writer
        self._reader = reader
        self._resolved = None if same else reader.plain
        self._start = start
        # Of two schemas with one encoding the reader's is asked: only ours says what is a UUID.
        self._check = compile_reader(reader if same else writer, start=start)

    def __call__(self, value: bytes) -> bytes:
        """Return *value*, whose first bytes stay as they are, in the reader's schema."""
        resolved = BytesIO()
        resolved.write(value[: self._start])
        schemaless_writer(resolved, self._reader.plain, self.fields(value))
        return resolved.getvalue()

    def fields(self, value: bytes) -> dict[str, Any]:
        """
        Return the fields of *value* in the reader's schema.

        Raises:
            Undecodable: it is broken, or can't be read so.
        """
        self._check(value)
        try:
            fields = schemaless_reader(BytesIO(value[self._start :]), self._writer.plain, self._resolved)
        except SchemaResolutionError as exc:
            raise Undecodable(Reason.UNRESOLVABLE, f"{self._writer.name}: {exc}") from exc
        return cast("dict[str, Any]", fields)


class _Writer:
    """Writes records of one schema."""

    def __init__(self, schema: RecordSchema, framed_by: bytes) -> None:
        self._plain = schema.plain
        self._frame = framed_by
        self.check = compile_reader(schema, start=FRAME_BYTES)

    def __call__(self, fields: dict[str, Any], *, strict: bool = False) -> bytes:
        """Return *fields* as a framed value."""
        value = BytesIO()
        value.write(self._frame)
        schemaless_writer(value, self._plain, fields, strict_allow_default=strict)
        return value.getvalue()


class _Splice:
    """SendEmail, made of its own fields and the bytes of the two records that it holds."""

    _FIRST = ("email_id", "template", "command", "order")

    def __init__(self, catalog: Catalog) -> None:
        schema = catalog.current(_SEND_EMAIL)
        fields = schema.schema["fields"]
        if tuple(field["name"] for field in fields[: len(self._FIRST)]) != self._FIRST:
            raise ValueError(f"{_SEND_EMAIL} must begin with the fields {', '.join(self._FIRST)}: they are spliced")
        # A UUID's length (36, as zigzag) is a part of what stands before it.
        self._head = frame(catalog.id_of(_SEND_EMAIL)) + b"\x48"
        self._template = bytes([2 * len(TEMPLATE)]) + TEMPLATE.encode()
        self._tail = _defaults(schema, len(self._FIRST))
        self._command = _Half(catalog, _COMMAND, None, schema.nested("command"))
        self._order = _Half(catalog, _DETAILS, "order", schema.nested("order"))
        self._ids = catalog.id_of(_COMMAND), catalog.id_of(_DETAILS)

    def parts(self) -> Spliced | None:
        """See `Codec.spliced`."""
        command, order = self._ids
        if not (self._command.as_is(command) and self._order.as_is(order)):
            return None
        return Spliced(self._head, self._template, self._tail, command, order)

    def __call__(self, action: SendEmail) -> bytes:
        """Return *action* as a framed value."""
        _, email_id, command, order = action
        return b"".join(
            (self._head, email_id.encode(), self._template, self._command(command), self._order(order), self._tail)
        )


def _defaults(schema: RecordSchema, skipped: int) -> bytes:
    """Return the defaults of *schema*'s fields after the first *skipped* ones, encoded."""
    rest = {**schema.plain, "fields": schema.plain["fields"][skipped:]}
    encoded = BytesIO()
    schemaless_writer(encoded, rest, {})
    return encoded.getvalue()


class _Half:
    """One of the two records in SendEmail, from a body of any of its record's schemas."""

    def __init__(self, catalog: Catalog, record: str, field: str | None, target: RecordSchema) -> None:
        self._catalog = catalog
        self._record = record
        self._field = field
        self._target = target
        self._as_is: set[int] = set()
        self._resolvers: dict[int, _Resolver] = {}

    def __call__(self, body: Body) -> bytes:
        """Return *body* in the schema that SendEmail nests."""
        if self.as_is(body.schema_id):
            return body.data
        return self._resolvers[body.schema_id](body.data)

    def as_is(self, schema_id: int) -> bool:
        """Return whether bodies of *schema_id* are taken as they are."""
        return schema_id in self._as_is or (schema_id not in self._resolvers and not self._learn(schema_id))

    def _learn(self, schema_id: int) -> bool:
        """Find out whether bodies of *schema_id* must be resolved."""
        schema = self._catalog[schema_id]
        if schema.name != self._record:
            raise ValueError(
                f"a stored {self._record} has schema id {schema_id}, which is {schema.name}: the state was written"
                " with another schema registry's ids"
            )
        writer = schema if self._field is None else schema.nested(self._field)
        if writer.canonical == self._target.canonical:
            self._as_is.add(schema_id)
            return False
        self._resolvers[schema_id] = _Resolver(writer, self._target, start=0)
        return True
