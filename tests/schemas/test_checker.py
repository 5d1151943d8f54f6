"""The strict reader: what it accepts, the official one accepts with the same value; and what it refuses beyond."""

from __future__ import annotations

import json
from typing import Any, Final, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.catalog import RECORDS, current_text
from schemas.checker import compile_reader
from schemas.diagnosis import EMPTY_ITEMS_MAX, examine
from schemas.record_schema import RecordSchema
from schemas.undecodable import Reason, Undecodable
from tests.schemas.avro_bytes import (
    UUID,
    Official,
    broken,
    declarations,
    encodings,
    extractable,
    number,
    parsed,
    record,
    text,
)

CONTRACT: Final = [json.loads(current_text(name)) for name in RECORDS]
UUID_TEXT: Final = "84cb5261-7fa3-5e40-bcde-776adb8b06ba"


def verdicts(schema: RecordSchema, value: bytes) -> tuple[Reason | None, Reason | None]:
    """Return why the compiled reader refuses *value*, and why the plain walk does; None: it doesn't."""
    found: list[Reason | None] = []
    for check in (compile_reader(schema), lambda value: examine(schema, value)):
        try:
            check(value)
            found.append(None)
        except Undecodable as exc:
            found.append(exc.reason)
    return found[0], found[1]


def assert_read_as_official(declared: Any, value: bytes) -> None:
    """Assert that the official reader accepts *value* whole, and that what we take out of it is the same."""
    schema = parsed(declared)
    fields = extractable(schema)
    datum, unread = Official(declared).read(value)
    assert 0 == unread
    for (path, kind), found in zip(fields.items(), compile_reader(schema, tuple(fields))(value), strict=True):
        expected = datum
        for name in path.split("."):
            expected = expected[name]
        if isinstance(kind, dict) and kind["type"] == "record":
            continue  # Its own fields are among those taken out.
        assert (expected.lower() if kind == UUID else expected) == found


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_value_of_any_schema_is_accepted_and_taken_out_right(data: st.DataObject) -> None:
    """Any schema that a producer may use, any way to write a value of it."""
    declared = data.draw(declarations() | st.sampled_from(CONTRACT))
    schema = parsed(declared)
    value = data.draw(encodings(schema))

    assert (None, None) == verdicts(schema, value)
    assert_read_as_official(declared, value)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_what_is_accepted_is_what_the_official_reader_accepts(data: st.DataObject) -> None:
    """Broken bytes: the compiled reader and the plain walk agree, and what they let through is a value to avro too."""
    declared = data.draw(declarations() | st.sampled_from(CONTRACT))
    schema = parsed(declared)
    value = data.draw(encodings(schema).flatmap(broken).flatmap(lambda once: st.just(once) | broken(once)))

    compiled, walked = verdicts(schema, value)

    assert walked == compiled
    if compiled is None:
        assert_read_as_official(declared, value)


def test_nested_record_is_taken_out_as_its_bytes() -> None:
    """The span is what is spliced later, so it must be the record's and nothing else's."""
    inner = {"type": "record", "name": "Inner", "fields": [{"name": "a", "type": "string"}]}
    read = compile_reader(parsed(record("long", inner, "string")), ("f1", "f1.a"), 2)

    assert (text("héllo"), "héllo") == read(b"\xff\xff" + number(1 << 40) + text("héllo") + text("after"))


def test_field_behind_a_name_is_taken_out() -> None:
    """A type that was defined before, and is only named where it is wanted."""
    inner = {"type": "record", "name": "Inner", "fields": [{"name": "a", "type": "string"}]}
    read = compile_reader(parsed(record(inner, "Inner")), ("f1.a",))

    assert ("second",) == read(text("first") + text("second"))


@pytest.mark.parametrize("field", ["f9", "f0.a", "f1", "f2"])
def test_field_that_cant_be_taken_out_is_an_error_at_once(field: str) -> None:
    """Not there, below a text, in a union, of a kind that has no use: found when compiled, not at the first record."""
    with pytest.raises(ValueError, match=field):
        compile_reader(parsed(record("string", ["null", "string"], "bytes")), (field,))


def test_deep_schema_compiles() -> None:
    """Deeper than Python nests blocks: the rest goes into functions."""
    kind: Any = "string"
    for depth in range(60):
        kind = {"type": "array", "items": kind} if depth % 2 else ["null", kind]

    schema = parsed(record(kind))

    assert (None, None) == verdicts(schema, b"\x02" * 60 + text("é") + b"\0" * 30)
    assert (Reason.BAD_TEXT, Reason.BAD_TEXT) == verdicts(schema, b"\x02" * 60 + b"\x02\xc3" + b"\0" * 30)


def test_deep_unions_compile() -> None:
    """Deeper than Python indents: records that are optional in records that are optional."""
    kind: Any = "string"
    for depth in range(40):
        kind = ["null", {"type": "record", "name": f"N{depth}", "fields": [{"name": "next", "type": kind}]}]

    assert (None, None) == verdicts(parsed(record(kind)), b"\x02" * 40 + text("é"))


def test_endless_nesting_is_refused() -> None:
    """A value that goes deeper than the stack, and a record that always holds itself."""
    linked = {"type": "record", "name": "R", "fields": [{"name": "next", "type": ["null", "R"]}]}
    endless = {"type": "record", "name": "R", "fields": [{"name": "next", "type": "R"}]}

    with pytest.raises(Undecodable, match="too-deep"):
        compile_reader(parsed(linked))(b"\x02" * 100_000 + b"\0")
    with pytest.raises(Undecodable, match="too-deep"):
        compile_reader(parsed(endless))(b"")


class Refused(NamedTuple):
    """
    A value that is refused.

    *official* is what the official reader makes of it: what it leaves unread, or None if it refuses too.
    """

    kind: Any
    value: bytes
    reason: Reason
    detail: str
    official: int | None


REFUSALS: Final = {
    "trailing bytes": Refused("int", b"\x02\x00", Reason.TRAILING_BYTES, "R at byte 1: 1 bytes follow", 1),
    "nothing where a number is": Refused("int", b"", Reason.TRUNCATED, "R.f0 at byte 0: needs 1 bytes and 0", None),
    "a string cut off": Refused("string", b"\x06ab", Reason.TRUNCATED, "R.f0 at byte 1: needs 3 bytes and 2", None),
    "bytes cut off": Refused("bytes", b"\x06ab", Reason.TRUNCATED, "needs 3 bytes and 2", None),
    "a double cut off": Refused("double", b"1234567", Reason.TRUNCATED, "needs 8 bytes and 7", None),
    "a string of negative length": Refused("string", b"\x01", Reason.BAD_NUMBER, "a length of -1", None),
    "a number of one zero too many": Refused("int", b"\x82\x00", Reason.BAD_NUMBER, "more bytes than it needs", 0),
    "a length of one zero too many": Refused("string", b"\x82\x00a", Reason.BAD_NUMBER, "more bytes than it", 0),
    "an int of 2^33": Refused("int", number(1 << 33), Reason.BAD_NUMBER, "beyond 32 bits", 0),
    "an int of 2^31": Refused("int", number(1 << 31), Reason.BAD_NUMBER, "beyond 32 bits", 0),
    "an int of -2^31-1": Refused("int", number(-(1 << 31) - 1), Reason.BAD_NUMBER, "beyond 32 bits", 0),
    "a long of 2^63": Refused("long", number(1 << 63), Reason.BAD_NUMBER, "beyond 64 bits", None),
    "a long without end": Refused("long", b"\x80" * 40, Reason.BAD_NUMBER, "beyond 64 bits", None),
    "boolean byte 2": Refused("boolean", b"\x02", Reason.BAD_BOOLEAN, "byte 2 where a boolean is 0 or 1", 0),
    "a string that isn't UTF-8": Refused("string", b"\x04\xc3(", Reason.BAD_TEXT, "R.f0 at byte 1: not UTF-8", None),
    "a string that ends within a character": Refused("string", b"\x02\xc3", Reason.BAD_TEXT, "unexpected end", None),
    "a surrogate": Refused("string", b"\x06\xed\xa0\x80", Reason.BAD_TEXT, "not UTF-8", None),
    "a UUID without hyphens": Refused(UUID, text("0" * 36), Reason.BAD_UUID, "is no UUID in canonical form", 0),
    "a UUID of 32 digits": Refused(UUID, text("0" * 32), Reason.BAD_UUID, "is no UUID in canonical form", 0),
    "a UUID in braces": Refused(UUID, text(f"{{{UUID_TEXT}}}"), Reason.BAD_UUID, "is no UUID", 0),
    "a UUID with a g": Refused(UUID, text("g" + UUID_TEXT[1:]), Reason.BAD_UUID, "is no UUID in canonical form", 0),
    "an empty UUID": Refused(UUID, text(""), Reason.BAD_UUID, "'' is no UUID in canonical form", 0),
    "a branch that isn't there": Refused(
        ["null", "int"], b"\x04", Reason.BAD_BRANCH, "index 2 where there are 2", None
    ),
    "a branch before the first": Refused(["null", "int"], b"\x01\x02", Reason.BAD_BRANCH, "index -1 where", None),
    "a symbol that isn't there": Refused(
        {"type": "enum", "name": "E", "symbols": ["A"]}, b"\x02", Reason.BAD_BRANCH, "index 1 where there are 1", None
    ),
    "a symbol before the first": Refused(
        {"type": "enum", "name": "E", "symbols": ["A"]}, b"\x01", Reason.BAD_BRANCH, "index -1 where there are 1", None
    ),
    "an array cut off": Refused({"type": "array", "items": "int"}, b"\x04\x02", Reason.TRUNCATED, "needs 1", None),
    "an array without its end": Refused({"type": "array", "items": "int"}, b"\x02\x02", Reason.TRUNCATED, "f0", None),
    "a block shorter than it says": Refused(
        {"type": "array", "items": "int"}, b"\x01\x04\x02\x00", Reason.BAD_BLOCK, "says 2 bytes and takes 1", 0
    ),
    "a block longer than it says": Refused(
        {"type": "map", "values": "int"}, b"\x01\x00\x02a\x02\x00", Reason.BAD_BLOCK, "says 0 bytes and takes 3", 0
    ),
    "a block of negative size": Refused(
        {"type": "array", "items": "int"}, b"\x01\x01\x02\x00", Reason.BAD_NUMBER, "a length of -1", 0
    ),
    "too many items that take no bytes": Refused(
        {"type": "array", "items": "null"},
        number(EMPTY_ITEMS_MAX + 1) + b"\0",
        Reason.BAD_BLOCK,
        "more than 1000 items that take no bytes",
        0,
    ),
    "2^62 items that take no bytes": Refused(
        {"type": "array", "items": {"type": "record", "name": "Empty", "fields": []}},
        number(1 << 62) + b"\0",
        Reason.BAD_BLOCK,
        "more than 1000 items that take no bytes",
        None,
    ),
    "2^62 items that jump without a read": Refused(
        {"type": "array", "items": {"type": "fixed", "name": "F", "size": 8}},
        number(1 << 62) + b"12345678",
        Reason.TRUNCATED,
        "needs 8 bytes and 0",
        None,
    ),
}


@pytest.mark.parametrize("refused", REFUSALS.values(), ids=REFUSALS.keys())
def test_refusal_says_what_and_where(refused: Refused) -> None:
    """Every way to be wrong, by reason, field and position."""
    schema = parsed(record(refused.kind))

    with pytest.raises(Undecodable) as found:
        compile_reader(schema)(refused.value)

    assert (refused.reason, refused.reason) == verdicts(schema, refused.value)
    assert refused.detail in found.value.detail
    assert "R" == found.value.detail[0]


@pytest.mark.parametrize(
    "refused",
    [refused for refused in REFUSALS.values() if refused.official is not None],
    ids=[name for name, refused in REFUSALS.items() if refused.official is not None],
)
def test_official_reader_is_laxer(refused: Refused) -> None:
    """The list of what only we refuse; the others it refuses too."""
    assert refused.official == Official(record(refused.kind)).read(refused.value)[1]


@pytest.mark.parametrize("kind", ["int", "long", "string"])
def test_taken_out_field_is_checked_as_the_others(kind: str) -> None:
    """Taking a field out mustn't let through what walking over it doesn't."""
    read = compile_reader(parsed(record(kind)), ("f0",))
    for refused in REFUSALS.values():
        if refused.kind == kind:
            with pytest.raises(Undecodable) as found:
                read(refused.value)
            assert refused.reason == found.value.reason


def test_text_is_checked_across_numbers_of_several_bytes() -> None:
    """The run of text ends at such a number and begins anew behind it, and none of both sides is forgotten."""
    schema = parsed(record("string", "long", "string", "string", "long"))
    big = number(1 << 40)
    good = text("é"), big, text("ü"), text("x" * 100), big
    for broken_one in (0, 2, 3):
        parts = list(good)
        parts[broken_one] = number(2) + b"\xc3("
        assert (Reason.BAD_TEXT, Reason.BAD_TEXT) == verdicts(schema, b"".join(parts))
    assert (None, None) == verdicts(schema, b"".join(good))


def test_upper_case_uuid_is_taken_out_in_lower_case() -> None:
    """Two spellings of one id are one id."""
    assert (UUID_TEXT,) == compile_reader(parsed(record(UUID)), ("f0",))(text(UUID_TEXT.upper()))
