"""Random Avro schemas, and random encodings of their values, written by the specification and not by a library."""

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
    return _Declaration(draw).record(3)


class _Declaration:
    """A declaration in the making."""

    def __init__(self, draw: Draw) -> None:
        self._draw = draw
        self._names: list[str] = []

    def record(self, depth: int) -> dict[str, Any]:
        fields = self._draw(st.integers(0, 4))
        return {
            **self._named("record"),
            "fields": [{"name": f"f{number}", "type": self._any(depth)} for number in range(fields)],
        }

    def _named(self, kind: str) -> dict[str, Any]:
        self._names.append(f"N{len(self._names)}")
        return {"type": kind, "name": self._names[-1]}

    def _any(self, depth: int) -> Any:
        makers: list[Callable[[], Any]] = [self._primitive, self._primitive, lambda: UUID, self._enum, self._fixed]
        if depth:
            makers += [
                lambda: {"type": "array", "items": self._any(depth - 1)},
                lambda: {"type": "map", "values": self._any(depth - 1)},
                lambda: self.record(depth - 1),
                lambda: self._union(depth - 1),
            ]
        if self._names:
            # Only where the data may end: a record that always holds itself has no values.
            makers.append(lambda: ["null", self._draw(st.sampled_from(self._names))])
        return self._draw(st.sampled_from(makers))()

    def _primitive(self) -> str:
        return str(self._draw(st.sampled_from(PRIMITIVES)))

    def _enum(self) -> dict[str, Any]:
        # More than 64 symbols take an index of two bytes.
        count = self._draw(st.sampled_from([1, 3, 64, 65, 200]))
        return {**self._named("enum"), "symbols": [f"S{number}" for number in range(count)]}

    def _fixed(self) -> dict[str, Any]:
        return {**self._named("fixed"), "size": self._draw(st.sampled_from([1, 16]))}

    def _union(self, depth: int) -> list[Any]:
        branches = self._draw(st.lists(st.sampled_from(PRIMITIVES), unique=True, min_size=1, max_size=4))
        return [*branches, self.record(depth)] if self._draw(st.booleans()) else branches


@st.composite
def encodings(draw: Draw, schema: RecordSchema) -> bytes:
    """Return the encoding of a value of *schema*."""
    return _Encoding(draw, schema).of(schema.schema)


class _Encoding:
    """An encoding in the making; after *budget* values it comes to its end."""

    def __init__(self, draw: Draw, schema: RecordSchema) -> None:
        self._draw = draw
        self._named = schema.named
        self._budget = 60

    def of(self, kind: Any) -> bytes:
        self._budget -= 1
        if isinstance(kind, list):
            # Out of budget, the first branch: null where a record would go on without end.
            branch = self._draw(st.integers(0, len(kind) - 1)) if self._budget > 0 else 0
            return number(branch) + self.of(kind[branch])
        definition = self._named.get(kind, {"type": kind}) if isinstance(kind, str) else kind
        makers: dict[str, Callable[[Any], bytes]] = {
            "null": lambda _: b"",
            "boolean": lambda _: bytes([self._draw(st.integers(0, 1))]),
            "int": lambda _: number(self._draw(st.integers(-(1 << 31), (1 << 31) - 1))),
            "long": lambda _: number(self._draw(st.integers(-(1 << 63), (1 << 63) - 1))),
            "float": lambda _: struct.pack("<f", self._draw(st.floats(width=32, allow_nan=False))),
            "double": lambda _: struct.pack("<d", self._draw(st.floats(allow_nan=False))),
            "bytes": lambda _: self._bytes(self._draw(st.binary(max_size=80))),
            "string": self._string,
            "record": lambda record: b"".join(self.of(field["type"]) for field in record["fields"]),
            "enum": lambda enum: number(self._draw(st.integers(0, len(enum["symbols"]) - 1))),
            "fixed": lambda fixed: self._draw(st.binary(min_size=fixed["size"], max_size=fixed["size"])),
            "array": lambda array: self._blocks(lambda: self.of(array["items"])),
            "map": lambda map_: self._blocks(lambda: self._string({}) + self.of(map_["values"])),
        }
        return makers[definition["type"]](definition)

    def _bytes(self, data: bytes) -> bytes:
        return number(len(data)) + data

    def _string(self, definition: dict[str, Any]) -> bytes:
        if definition.get("logicalType") == "uuid":
            written = str(self._draw(st.uuids()))
            return text(written.upper() if self._draw(st.booleans()) else written)
        # Long enough for a length of two bytes, now and then.
        return text(self._draw(st.text(max_size=6)) * self._draw(st.sampled_from([1, 1, 1, 30])))

    def _blocks(self, item: Callable[[], bytes]) -> bytes:
        written = b""
        while self._budget > 0 and self._draw(st.booleans()):
            count = self._draw(st.integers(1, 3))
            items = b"".join(item() for _ in range(count))
            sized = self._draw(st.booleans())
            written += (number(-count) + number(len(items)) if sized else number(count)) + items
        return written + b"\0"


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
