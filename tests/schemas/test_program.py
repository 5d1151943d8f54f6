"""Programs: what the kernel reads by them, the strict reader reads too, with the same taken out."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.catalog import RECORDS, current_text
from schemas.checker import compile_reader
from schemas.codec import FRAME_BYTES, INPUTS
from schemas.program import OPERATIONS, program
from schemas.record_schema import RecordSchema
from schemas.undecodable import Undecodable
from streams.processing.kernel_facts import kernel_module
from tests.schemas.avro_bytes import UUID, broken, declarations, encodings, extractable, number, parsed, record, text

KERNEL: Final = kernel_module()
compiled = pytest.mark.skipif(KERNEL is None, reason="runs where the kernel is compiled (./dev native)")
CONTRACT: Final = [json.loads(current_text(name)) for name in RECORDS]
UUID_TEXT: Final = "84CB5261-7fa3-5e40-bcde-776adb8b06ba"
SLOTS: Final = 4


def taken_out(schema: RecordSchema) -> dict[str, bool]:
    """Return the paths that a program takes out of *schema*, and whether each is a number."""
    found = {}
    for path, kind in extractable(schema).items():
        name = kind["type"] if isinstance(kind, dict) else kind
        if name in ("string", "long", "record"):
            found[path] = name == "long"
    return dict(list(found.items())[:SLOTS])


def both(schema: RecordSchema, value: bytes) -> tuple[Any, Any]:
    """Return what the program and the reader take out of *value*, as bytes and numbers; None: it is refused."""
    taken = taken_out(schema)
    operations = program(schema, tuple(taken))
    if operations is None:
        return None, None
    by_program = KERNEL.read(operations, value, 0, list(taken.values()))
    try:
        found = compile_reader(schema, tuple(taken))(value)
    except Undecodable:
        return by_program, None
    by_reader = tuple(some.encode() if isinstance(some, str) else some for some in found)
    uuids = [kind == UUID for path, kind in extractable(schema).items() if path in taken]
    if by_program is not None:
        # The reader says a UUID in lower case, the program what is there.
        by_program = tuple(some.lower() if uuid else some for some, uuid in zip(by_program, uuids, strict=True))
    return by_program, by_reader


@compiled
@settings(max_examples=400, deadline=None)
@given(st.data())
def test_what_a_program_reads_the_reader_reads_too(data: st.DataObject) -> None:
    """Of any schema, whole or broken: it takes out the same, or leaves the value to the reader."""
    schema = parsed(data.draw(declarations() | st.sampled_from(CONTRACT)))
    value = data.draw(encodings(schema))
    for some in (value, data.draw(broken(value)), value + b"\0"):
        by_program, by_reader = both(schema, some)
        assert by_program is None or by_program == by_reader


@compiled
@pytest.mark.parametrize(
    ("kind", "value", "read"),
    [
        ("string", text("plain, for more than eight bytes"), True),
        ("string", text("ä, 日本, 🫖"), True),
        ("string", text("12345678ä"), True),
        ("string", b"\x02\xff", False),
        ("string", b"\x04\xed\xa0", False),
        ("string", b"\x06\xed\xa0\x80", False),
        ("string", b"\x04\xc0\x80", False),
        ("string", b"\x01", False),
        ("string", b"\x04a", False),
        ("string", number(2**62) + b"a", False),
        (UUID, text(UUID_TEXT), True),
        (UUID, text(UUID_TEXT.replace("-", "0")), False),
        (UUID, text(UUID_TEXT[:-1] + "g"), False),
        (UUID, text(UUID_TEXT)[:-1], False),
        ("long", number(2**63 - 1), True),
        ("long", number(-(2**63)), True),
        ("long", b"\xff" * 9 + b"\x02", False),
        ("long", b"\xff" * 10 + b"\x00", False),
        ("long", b"\x80\x00", False),
        ("long", b"\x80", False),
        ("int", number(2**31 - 1), True),
        ("int", number(-(2**31)), True),
        ("int", number(2**31), False),
        ("boolean", b"\x01", True),
        ("boolean", b"\x02", False),
        (["null", "string"], b"\x00", True),
        (["null", "string"], b"\x02" + text("a"), True),
        (["null", "string"], b"\x04", False),
        (["null", "string"], b"\x01", False),
        ({"type": "array", "items": "long"}, number(2) + number(1) + number(-1000) + b"\0", True),
        ({"type": "array", "items": "long"}, number(2) + number(1), False),
        ({"type": "array", "items": "null"}, number(2) + b"\0", False),
        ({"type": "map", "values": "long"}, number(1) + text("key") + number(7) + b"\0", True),
        ({"type": "enum", "name": "E", "symbols": ["A", "B"]}, b"\x02", True),
        ({"type": "enum", "name": "E", "symbols": ["A", "B"]}, b"\x04", False),
        ({"type": "fixed", "name": "F", "size": 3}, b"abc", True),
        ({"type": "fixed", "name": "F", "size": 3}, b"ab", False),
        ("bytes", text("\0"), True),
        ("double", bytes(8), True),
        ("double", bytes(7), False),
    ],
)
def test_each_operation_at_its_bounds(kind: Any, value: bytes, read: bool) -> None:
    """One value of each type, the last that is one and the first that isn't, or is left to the reader."""
    operations = program(parsed(record(kind)), ())
    assert operations is not None
    assert read == (KERNEL.read(operations, value, 0, []) is not None)


@compiled
@pytest.mark.parametrize("name", INPUTS)
@settings(max_examples=100, deadline=None)
@given(st.data())
def test_inputs_are_read_by_program(name: str, data: st.DataObject) -> None:
    """Of what the process manager reads nothing is left to the reader, but for blocks that say their size."""
    schema = parsed(json.loads(current_text(name)))
    value = data.draw(encodings(schema))
    by_program, by_reader = both(schema, value)
    assert by_reader is not None
    assert by_program == by_reader or "array" in schema.canonical


def test_what_there_are_no_operations_for_has_no_program() -> None:
    """A record that holds itself, and a union of more branches than one byte counts."""
    assert program(parsed(record(["null", "R"])), ()) is None
    many = [{"type": "fixed", "name": f"F{size}", "size": size} for size in range(64)]
    assert program(parsed(record(many)), ()) is None
    assert program(parsed(record(many[:63])), ()) is not None


def test_field_that_cannot_be_taken_out_is_said() -> None:
    """It isn't there, or a number that programs don't take out."""
    with pytest.raises(ValueError, match="f1"):
        program(parsed(record("string")), ("f0", "f1"))
    with pytest.raises(ValueError, match="f0"):
        program(parsed(record("int")), ("f0",))


def test_program_is_what_its_module_says() -> None:
    """One record as numbers, so that another kernel could be written by the module's text."""
    code = OPERATIONS
    nested = {"type": "record", "name": "Inner", "fields": [{"name": "n", "type": "long"}]}
    schema = parsed(record("string", ["null", UUID], {"type": "array", "items": "int"}, nested))
    assert [
        *(code["string"], 0),
        *(code["union"], 2, 0, 2, code["uuid"], -1),
        *(code["blocks"], 2, code["int"], -1),
        *(code["begin"], 2, code["long"], 1, code["end"], 2),
    ] == program(schema, ("f0", "f3.n", "f3"))


def test_a_value_is_read_from_where_its_record_begins() -> None:
    """The frame before it isn't the program's."""
    assert FRAME_BYTES == 5
    if KERNEL is not None:
        operations = program(parsed(record("string")), ("f0",))
        assert (b"a",) == KERNEL.read(operations, b"frame" + text("a"), FRAME_BYTES, [False])
