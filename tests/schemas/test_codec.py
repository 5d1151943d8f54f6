"""Records to messages, actions to records, and versions of schemas side by side."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest

from schemas.catalog import RECORDS, Catalog, UnknownSchema, current_text, releases
from schemas.codec import Codec, Reason, Undecodable, frame
from schemas.record_schema import RecordSchema
from tests.schemas.avro_bytes import number, text
from topology.messages import (
    Body,
    CancelOrderConfirmation,
    EmailFailed,
    EmailSent,
    Message,
    OrderConfirmationSent,
    OrderDetailsNotFound,
    OrderDetailsRetrieved,
    SendEmail,
    SendOrderConfirmationEmail,
)
from topology.topics import COMMANDS, DETAILS, EMAIL_EVENTS, TOPICS

ORDER: Final = "order-ä"
KEY: Final = ORDER.encode()
ID: Final = "84cb5261-7fa3-5e40-bcde-776adb8b06ba"
OTHER_ID: Final = "8fdfd854-c805-5c5f-ac1e-70b901ae72df"
NOW_MS: Final = 1_764_000_000_000

COMMAND: Final = "communications.SendOrderConfirmationEmail"
CANCEL: Final = "communications.CancelOrderConfirmation"
RETRIEVED: Final = "orders.OrderDetailsRetrieved"
NOT_FOUND: Final = "orders.OrderDetailsNotFound"
SEND: Final = "communications.SendEmail"
SENT: Final = "communications.EmailSent"
FAILED: Final = "communications.EmailFailed"
IDS: Final = {release.record: release.id for release in releases()}

COMMAND_FIELDS: Final[dict[str, Any]] = {
    "command_id": ID,
    "order_id": ORDER,
    "requested_at": NOW_MS,
    "requested_by": "shop",
    "locale": "de",
}
ORDER_FIELDS: Final[dict[str, Any]] = {
    "order_id": ORDER,
    "version": 3,
    "placed_at": NOW_MS - 1,
    "customer": {"customer_id": "c-1", "name": "Jürgen", "email": "j@example.com"},
    "currency": "EUR",
    "lines": [{"sku": "sku-1", "name": "Tee", "quantity": 200, "unit_price": -995}],
    "total": 199_000,
    "shipping_address": "Straße 1, " * 20,
}
RETRIEVED_FIELDS: Final[dict[str, Any]] = {"query_id": None, "retrieved_at": NOW_MS, "order": ORDER_FIELDS}
NEWER_ID: Final = 1_000


@pytest.fixture
def codec() -> Codec:
    """Return the codec of the committed schemas."""
    return Codec(Catalog.from_files())


def body(value: bytes) -> bytes:
    """Return *value* without its frame."""
    return value[5:]


def changed(record: str, *path: str, fields: list[dict[str, Any]] | None = None, **attributes: Any) -> str:
    """Return *record*'s schema with *attributes* of the type at *path* instead, or with more *fields* in it."""
    schema = json.loads(current_text(record))
    inner = schema
    for name in path:
        inner = next(field["type"] for field in inner["fields"] if field["name"] == name)
    inner["fields"] += fields or []
    inner.update(attributes)
    return json.dumps(schema)


def codec_with(schema_id: int, schema_json: str) -> Codec:
    """Return the committed schemas' codec, which knows one more id."""
    catalog = Catalog.from_files()
    catalog.add(schema_id, schema_json)
    return Codec(catalog)


def codec_after(release: dict[str, str]) -> Codec:
    """Return the codec of a later release: these records' schemas have changed, with ids from `NEWER_ID` on."""
    catalog = Catalog([RecordSchema.parse(release.get(name, current_text(name))) for name in RECORDS])
    for old in releases():
        catalog.add(old.id, old.text)
        if old.record not in release:
            catalog.write_with(old.record, old.id)
    for schema_id, (name, schema_json) in enumerate(release.items(), NEWER_ID):
        catalog.add(schema_id, schema_json)
        catalog.write_with(name, schema_id)
    return Codec(catalog)


def refused(codec: Codec, value: bytes, key: bytes = KEY, records: tuple[str, ...] = COMMANDS.records) -> Undecodable:
    """Return why *codec* refuses *value*."""
    with pytest.raises(Undecodable) as found:
        codec.decode(records, key, value)
    return found.value


# What comes in.

BARE: Final = Body(0, b"")
INPUTS: Final[list[tuple[str, dict[str, Any], Message]]] = [
    (COMMAND, COMMAND_FIELDS, SendOrderConfirmationEmail(ORDER, ID, BARE, "trace")),
    (CANCEL, {"command_id": ID.upper(), "order_id": ORDER, "requested_at": 0}, CancelOrderConfirmation(ORDER, ID)),
    (RETRIEVED, RETRIEVED_FIELDS, OrderDetailsRetrieved(ORDER, 3, BARE)),
    (NOT_FOUND, {"query_id": OTHER_ID, "order_id": ORDER, "answered_at": 1}, OrderDetailsNotFound(ORDER, OTHER_ID)),
    (SENT, {"email_id": ID, "order_id": ORDER, "message_id": "<1@x>", "sent_at": 1}, EmailSent(ORDER, ID)),
    (
        FAILED,
        {"email_id": ID, "order_id": ORDER, "permanent": True, "reason": "öd", "failed_at": 1},
        EmailFailed(ORDER, ID, permanent=True, reason="öd"),
    ),
]


@pytest.mark.parametrize(("record", "fields", "expected"), INPUTS, ids=[record for record, _, _ in INPUTS])
def test_record_becomes_its_message(codec: Codec, record: str, fields: dict[str, Any], expected: Message) -> None:
    """Every input of the process manager, written by fastavro."""
    records = next(topic.records for topic in TOPICS if record in topic.records)

    message = codec.decode(records, KEY, codec.encode_record(record, fields), "trace")

    assert type(expected) is type(message)
    if isinstance(message, SendOrderConfirmationEmail | OrderDetailsRetrieved):
        message = message._replace(body=BARE)
    assert expected == message


def test_bodies_are_what_came_byte_for_byte(codec: Codec) -> None:
    """The command whole, of the details the nested order; both with the id to read them by."""
    command, retrieved = codec.encode_record(COMMAND, COMMAND_FIELDS), codec.encode_record(RETRIEVED, RETRIEVED_FIELDS)

    first = codec.decode(COMMANDS.records, KEY, command)
    second = codec.decode(DETAILS.records, KEY, retrieved)

    assert isinstance(first, SendOrderConfirmationEmail)
    assert isinstance(second, OrderDetailsRetrieved)
    assert Body(IDS[COMMAND], body(command)) == first.body
    # Before the order: no query id (1 byte), and an instant of 6 bytes.
    assert Body(IDS[RETRIEVED], body(retrieved)[7:]) == second.body


@pytest.mark.parametrize("value", [b"", b"\0\0\0\1", b"\1\0\0\0\1", b'{"order_id": 1}'])
def test_value_without_frame_is_refused(codec: Codec, value: bytes) -> None:
    """Empty, too short, another magic byte, JSON."""
    assert Reason.NOT_FRAMED == refused(codec, value).reason


def test_unknown_id_is_no_fault_of_the_record(codec: Codec) -> None:
    """Nobody knows yet whether it is broken; once the id is known the same call works."""
    value = frame(NEWER_ID) + body(codec.encode_record(COMMAND, COMMAND_FIELDS))
    with pytest.raises(UnknownSchema) as unknown:
        codec.decode(COMMANDS.records, KEY, value)
    assert NEWER_ID == unknown.value.schema_id
    assert "schema id 1000: not among the known ids" == str(unknown.value)

    learned = codec_with(NEWER_ID, current_text(COMMAND))

    assert isinstance(learned.decode(COMMANDS.records, KEY, value), SendOrderConfirmationEmail)


def test_record_on_the_wrong_topic_is_refused(codec: Codec) -> None:
    """An e-mail's outcome among commands, and a record that the process manager never reads."""
    sent = codec.encode_record(SENT, dict(INPUTS[4][1]))
    outcome = codec.encode(OrderConfirmationSent(ORDER, ID, ID, NOW_MS))

    assert EmailSent(ORDER, ID) == codec.decode(EMAIL_EVENTS.records, KEY, sent)
    assert [Reason.UNEXPECTED_RECORD] * 2 == [refused(codec, value).reason for value in (sent, outcome)]
    assert "a communications.EmailSent, where there are only communications.Send" in refused(codec, sent).detail


def test_record_we_dont_have_is_refused() -> None:
    """Known to the registry, and nothing to us."""
    codec = codec_with(NEWER_ID, json.dumps({"type": "record", "name": "their.Thing", "fields": []}))

    assert Reason.UNEXPECTED_RECORD == refused(codec, frame(NEWER_ID)).reason
    with pytest.raises(Undecodable, match=r"unexpected-record: a their\.Thing"):
        codec.decode_record(frame(NEWER_ID))


@pytest.mark.parametrize("key", [b"order-1", b"", KEY + b" ", b"\xff"])
def test_key_must_be_the_bodys_order(codec: Codec, key: bytes) -> None:
    """Else the record would be decided upon with another order's state."""
    assert Reason.KEY_MISMATCH == refused(codec, codec.encode_record(COMMAND, COMMAND_FIELDS), key).reason


def test_broken_body_says_where(codec: Codec) -> None:
    """The detail is for the person who reads the dead letter; bytes are counted from the value's first."""
    value = codec.encode_record(COMMAND, COMMAND_FIELDS)

    assert "communications.SendOrderConfirmationEmail at byte" in refused(codec, value + b"!").detail
    wrong = refused(codec, value[:5] + text("x" * 36) + value[42:])
    assert (Reason.BAD_UUID, "communications.SendOrderConfirmationEmail.command_id at byte 5") == (
        wrong.reason,
        wrong.detail.partition(":")[0],
    )


# Versions side by side.


def test_schema_of_equal_encoding_is_the_current_one() -> None:
    """Another documentation, no logical types: same bytes, and the checks are still ours."""
    plain = json.loads(current_text(COMMAND)) | {"doc": "by another team"}
    plain["fields"][0]["type"] = "string"
    codec = codec_with(NEWER_ID, json.dumps(plain))
    value = frame(NEWER_ID) + body(codec.encode_record(COMMAND, COMMAND_FIELDS))

    message = codec.decode(COMMANDS.records, KEY, value)

    assert isinstance(message, SendOrderConfirmationEmail)
    assert Body(IDS[COMMAND], body(value)) == message.body
    bad = frame(NEWER_ID) + text("no uuid") + text(ORDER) + number(1) + text("") + text("")
    assert Reason.BAD_UUID == refused(codec, bad).reason
    with pytest.raises(Undecodable, match="bad-uuid"):
        codec.decode_record(bad)


def test_newer_writers_field_is_dropped() -> None:
    """A producer upgraded before us: what we pass on is of our schema."""
    newer = changed(COMMAND, fields=[{"name": "channel", "type": "string", "default": "web"}])
    codec = codec_with(NEWER_ID, newer)
    ours = codec.encode_record(COMMAND, COMMAND_FIELDS)

    message = codec.decode(COMMANDS.records, KEY, frame(NEWER_ID) + body(ours) + text("app"))

    assert isinstance(message, SendOrderConfirmationEmail)
    assert Body(IDS[COMMAND], body(ours)) == message.body
    # Strictly by the writer's schema, before anything is resolved.
    assert Reason.TRUNCATED == refused(codec, frame(NEWER_ID) + body(ours)).reason


def test_older_writers_missing_field_gets_its_default() -> None:
    """A producer not upgraded yet, in a nested record: the order's bytes are made anew, default included."""
    newer = changed(RETRIEVED, "order", fields=[{"name": "gift", "type": "boolean", "default": True}])
    value = Codec(Catalog.from_files()).encode_record(RETRIEVED, RETRIEVED_FIELDS)

    message = codec_after({RETRIEVED: newer}).decode(DETAILS.records, KEY, value)

    assert isinstance(message, OrderDetailsRetrieved)
    assert Body(NEWER_ID, body(value)[7:] + b"\x01") == message.body


def test_version_that_cant_be_resolved_is_refused() -> None:
    """An incompatible schema that somebody registered all the same."""
    lacking = json.loads(current_text(COMMAND))
    del lacking["fields"][2]
    value = frame(NEWER_ID) + text(ID) + text(ORDER) + text("shop") + text("en")

    assert Reason.UNRESOLVABLE == refused(codec_with(NEWER_ID, json.dumps(lacking)), value).reason


# What goes out.


def email_of(codec: Codec, other: Codec | None = None) -> SendEmail:
    """Return a SendEmail whose halves *other* (or *codec*) decoded and stored."""
    reader = other or codec
    command = reader.decode(COMMANDS.records, KEY, reader.encode_record(COMMAND, COMMAND_FIELDS))
    details = reader.decode(DETAILS.records, KEY, reader.encode_record(RETRIEVED, RETRIEVED_FIELDS))
    assert isinstance(command, SendOrderConfirmationEmail)
    assert isinstance(details, OrderDetailsRetrieved)
    return SendEmail(ORDER, OTHER_ID, command.body, details.body)


EMAIL_FIELDS: Final = {
    "email_id": OTHER_ID,
    "template": "order-confirmation",
    "command": COMMAND_FIELDS,
    "order": ORDER_FIELDS,
}


def test_splice_equals_the_whole_record_written() -> None:
    """The concatenation of the parts is the encoding of the whole."""
    codec = Codec(Catalog.from_files())

    assert codec.encode_record(SEND, EMAIL_FIELDS) == codec.encode(email_of(codec))
    assert (SEND, EMAIL_FIELDS) == codec.decode_record(codec.encode(email_of(codec)))


@pytest.mark.parametrize(("record", "field", "path"), [(COMMAND, "command", ()), (RETRIEVED, "order", ("order",))])
def test_half_stored_before_an_upgrade_is_resolved(record: str, field: str, path: tuple[str, ...]) -> None:
    """
    Stored by the old release, sent by the new one whose SendEmail has a new field in that half.

    Spliced as it is, the mail would be unreadable, or silently another one.
    """
    note = {"name": "note", "type": "string", "default": "none"}
    before = Codec(Catalog.from_files())
    after = codec_after({record: changed(record, *path, fields=[note]), SEND: changed(SEND, field, fields=[note])})

    for _ in range(2):  # The second goes by what the first has learned.
        _, fields = after.decode_record(after.encode(email_of(before)))

        assert EMAIL_FIELDS | {field: EMAIL_FIELDS[field] | {"note": "none"}} == fields  # type: ignore[operator]


def test_half_newer_than_the_contract_of_send_email_is_resolved() -> None:
    """The command has a new field, and SendEmail isn't released with it yet."""
    note = {"name": "note", "type": "string", "default": "none"}
    codec = codec_after({COMMAND: changed(COMMAND, fields=[note])})

    assert (SEND, EMAIL_FIELDS) == codec.decode_record(codec.encode(email_of(codec)))


def test_new_field_of_send_email_itself_gets_its_default() -> None:
    """What comes after the spliced fields is written too."""
    codec = codec_after({SEND: changed(SEND, fields=[{"name": "priority", "type": "int", "default": 5}])})

    _, fields = codec.decode_record(codec.encode(email_of(codec)))

    assert EMAIL_FIELDS | {"priority": 5} == fields


def test_send_email_of_another_order_of_fields_is_refused_at_the_start() -> None:
    """It couldn't be spliced; no e-mail shall be the first to find out."""
    schema = json.loads(current_text(SEND))
    schema["fields"].reverse()

    with pytest.raises(ValueError, match="must begin with the fields email_id, template, command, order"):
        codec_after({SEND: json.dumps(schema)})


def test_stored_half_of_unknown_id_is_resolvable_later(codec: Codec) -> None:
    """Stored by a worker of another release, which knew the id."""
    action = email_of(codec)

    with pytest.raises(UnknownSchema):
        codec.encode(action._replace(command=Body(NEWER_ID, action.command.data)))


def test_stored_half_with_another_records_id_is_refused(codec: Codec) -> None:
    """The state directory was written with another registry's ids."""
    action = email_of(codec)

    with pytest.raises(ValueError, match="written with another schema registry's ids"):
        codec.encode(action._replace(command=Body(IDS[SENT], action.command.data)))
