"""Random Avro schemas, and for each random encodings of its values, written by the specification and not by a library."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from io import BytesIO
from typing import Any, Final

import avro.io
import avro.schema
from hypothesis import strategies as st

from schemas.record_schema import RecordSchema, _without

PRIMITIVES: Final = ("null", "boolean", "int", "long", "float", "double", "bytes", "string")
UUID: Final = {"type": "string", "logicalType": "uuid"}

Draw = Callable[[st.SearchStrategy[Any]], Any]


def number(value: int) -> bytes:
    """Return *value* as an int or long is written."""
    zigzag = value << 1 if value >= 0 else ((-value) << 1) - 1
    written = bytearray()
    while zigzag > 0x7F:
        written.append(zigzag & 0x7F | 0x80)
        zigzag >>= 7
    return bytes([*written, zigzag])


def text(value: str) -> bytes:
    """Return *value* as a string is written."""
    return number(len(value.encode())) + value.encode()


def record(*types: Any) -> dict[str, Any]:
    """Return the declaration of a record with fields f0, f1, … of these types."""
    return {"type": "record", "name": "R", "fields": [{"name": f"f{i}", "type": kind} for i, kind in enumerate(types)]}


def parsed(declared: Any) -> RecordSchema:
    """Return *declared* as the checker takes it."""
    return RecordSchema.parse(json.dumps(declared))


class Official:
    """The official implementation's reader of one schema, without logical types, as our values have none."""

    def __init__(self, declared: Any) -> None:
        self._reader = avro.io.DatumReader(avro.schema.parse(json.dumps(_without("logicalType", declared))))

    def read(self, value: bytes) -> tuple[Any, int]:
        """Return what *value* holds, and how many bytes it leaves unread."""
        stream = BytesIO(value)
        datum = self._reader.read(avro.io.BinaryDecoder(stream))
        return datum, len(value) - stream.tell()


@st.composite
def declarations(draw: Draw) -> dict[str, Any]:
    """Return a record's declaration; what it names is defined once and may be referred to, itself included."""
    names: list[str] = []

    def new_name() -> str:
        names.append(f"N{len(names)}")
        return names[-1]

    def a_type(depth: int) -> Any:
        kinds = [*PRIMITIVES, "uuid", "enum", "fixed"]
        if depth:
            kinds += ["array", "map", "record", "union", "union"]
        if names:
            kinds.append("reference")
        match draw(st.sampled_from(kinds)):
            case "uuid":
                return UUID
            case "enum":
                # More than 64 symbols take an index of two bytes.
                count = draw(st.sampled_from([1, 3, 64, 65, 200]))
                return {"type": "enum", "name": new_name(), "symbols": [f"S{i}" for i in range(count)]}
            case "fixed":
                return {"type": "fixed", "name": new_name(), "size": draw(st.sampled_from([1, 16]))}
            case "array":
                return {"type": "array", "items": a_type(depth - 1)}
            case "map":
                return {"type": "map", "values": a_type(depth - 1)}
            case "record":
                return a_record(depth - 1)
            case "union":
                kinds = draw(st.lists(st.sampled_from(PRIMITIVES), unique=True, max_size=4))
                return [*kinds, a_record(depth - 1)] if draw(st.booleans()) else [*kinds, "null"][: len(kinds) or 1]
            case "reference":
                # Only where the data may end: a record that always holds itself has no values.
                return ["null", draw(st.sampled_from(names))]
            case kind:
                return kind

    def a_record(depth: int) -> dict[str, Any]:
        name = new_name()
        count = draw(st.integers(0, 4))
        return {
            "type": "record",
            "name": name,
            "fields": [{"name": f"f{i}", "type": a_type(depth)} for i in range(count)],
        }

    return a_record(3)


@st.composite
def encodings(draw: Draw, schema: RecordSchema) -> bytes:
    """Return the encoding of a value of *schema*."""
    budget = [60]

    def of(kind: Any) -> bytes:
        budget[0] -= 1
        if isinstance(kind, list):
            # Out of budget, the first branch: null where a record would go on without end.
            branch = draw(st.integers(0, len(kind) - 1)) if budget[0] > 0 else 0
            return number(branch) + of(kind[branch])
        if isinstance(kind, str):
            return of(schema.named[kind]) if kind in schema.named else primitive(kind)
        match kind["type"]:
            case "record":
                return b"".join(of(field["type"]) for field in kind["fields"])
            case "enum":
                return number(draw(st.integers(0, len(kind["symbols"]) - 1)))
            case "fixed":
                return bytes(draw(st.binary(min_size=kind["size"], max_size=kind["size"])))
            case "array":
                return blocks(lambda: of(kind["items"]))
            case "map":
                return blocks(lambda: primitive("string") + of(kind["values"]))
            case _ if kind.get("logicalType") == "uuid":
                written = str(draw(st.uuids()))
                return text(written.upper() if draw(st.booleans()) else written)
        return of(kind["type"])

    def blocks(item: Callable[[], bytes]) -> bytes:
        written = b""
        while budget[0] > 0 and draw(st.booleans()):
            count = draw(st.integers(1, 3))
            items = b"".join(item() for _ in range(count))
            written += (number(-count) + number(len(items)) if draw(st.booleans()) else number(count)) + items
        return written + b"\0"

    def primitive(kind: str) -> bytes:
        match kind:
            case "null":
                return b""
            case "boolean":
                return bytes([draw(st.integers(0, 1))])
            case "int":
                return number(draw(st.integers(-(1 << 31), (1 << 31) - 1)))
            case "long":
                return number(draw(st.integers(-(1 << 63), (1 << 63) - 1)))
            case "float":
                return struct.pack("<f", draw(st.floats(width=32)))
            case "double":
                return struct.pack("<d", draw(st.floats()))
            case "bytes":
                data = draw(st.binary(max_size=80))
                return number(len(data)) + data
            case _:
                # Long enough for a length of two bytes, now and then.
                return text(draw(st.text(max_size=6)) * draw(st.sampled_from([1, 1, 1, 30])))

    return of(schema.schema)


@st.composite
def broken(draw: Draw, value: bytes) -> bytes:
    """Return *value* with a byte changed, inserted or removed, or its end cut off or lengthened."""
    at = draw(st.integers(0, len(value)))
    byte = bytes([draw(st.sampled_from([0, 1, 2, 3, 0x7F, 0x80, 0x81, 0xC3, 0xFF]) | st.integers(0, 255))])
    match draw(st.sampled_from(["change", "insert", "remove", "cut"])):
        case "change":
            return value[:at] + byte + value[at + 1 :]
        case "insert":
            return value[:at] + byte + value[at:]
        case "remove":
            return value[:at] + value[at + 1 :]
    return value[:at]


def extractable(schema: RecordSchema) -> dict[str, Any]:
    """Return the dotted paths of what a compiled reader can take out of *schema*, and their types."""
    found: dict[str, Any] = {}

    def below(definition: dict[str, Any], path: str) -> None:
        for field in definition["fields"]:
            kind, inner = field["type"], f"{path}{field['name']}"
            if kind in ("string", "int", "long", "boolean") or kind == UUID:
                found[inner] = kind
            elif isinstance(kind, dict) and kind["type"] == "record":
                found[inner] = kind
                below(kind, f"{inner}.")

    below(schema.schema, "")
    return found
