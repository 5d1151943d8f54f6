"""
What is wrong with a value: the plain walk over it, value by value, that says where and why.

The compiled readers (`checker`) only say that something is wrong, and leave the rest to this. It is also the statement
of what a valid value is; that both agree is a property test.

Stricter than other readers of Avro: numbers take as few bytes as they can and stay in their type's range, booleans are
0 or 1, UUIDs are canonical text, nothing follows the last field.

Source: Apache Avro specification 1.12, "Binary Encoding"; RFC 9562, section 4 (UUID format).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NoReturn

from schemas.record_schema import Definition, RecordSchema, Schema
from schemas.undecodable import Reason, Undecodable

EMPTY_ITEMS_MAX: Final = 1_000
"""Items of one array that take no bytes (nulls, records without fields): unbounded, few bytes would ask for 2^63."""

MORE: Final = 0x80
"""Set in each byte of a number but its last; the other 7 bits count."""
LONG_BYTES_MAX: Final = 10
LONG_LAST_BYTE_MAX: Final = 1

UUID_SHAPES: Final = bytes(0x30 if byte in b"0123456789abcdefABCDEF" else byte for byte in range(256))
"""Translates hex digits to 0, and nothing else to it."""
UUID_SHAPE: Final = b"\x48" + b"00000000-0000-0000-0000-000000000000"
"""A UUID's length, 36 in zigzag form, and its text translated by `UUID_SHAPES` (which leaves the length alone)."""

SIZES: Final = {"float": 4, "double": 8}

_BITS: Final = {"int": 32, "long": 64}


def refuse(schema: RecordSchema, start: int, value: bytes, exc: Exception) -> Undecodable:
    """Return why *value*, from *start* on, isn't a value of *schema*; *exc* is what a compiled reader met."""
    try:
        examine(schema, value, start)
    except Undecodable as found:
        return found
    except RecursionError:
        return Undecodable(Reason.TOO_DEEP, f"{schema.name}: nested deeper than can be followed")
    if isinstance(exc, RecursionError):
        return Undecodable(Reason.TOO_DEEP, f"{schema.name}: nested deeper than can be followed")
    raise AssertionError(f"the compiled reader of {schema.name} refuses a valid value") from exc


def examine(schema: RecordSchema, value: bytes, start: int = 0) -> None:
    """
    Walk over *value* from *start* to its end.

    Raises:
        Undecodable: it is no value of *schema*; says at which byte (counted from *value*'s first) and in which field.
    """
    walk = _Walk(schema, value, start)
    walk.value(schema.schema, "")
    if walk.at < len(value):
        walk.fail(Reason.TRAILING_BYTES, "", f"{len(value) - walk.at} bytes follow the last field")


class _Walk:
    """A position in a value."""

    def __init__(self, schema: RecordSchema, value: bytes, start: int) -> None:
        self._record = schema.name
        self._named = schema.named
        self._bytes = value
        self.at = start

    def fail(self, reason: Reason, path: str, what: str) -> NoReturn:
        """Refuse the value at this position."""
        where = f"{self._record}.{path}" if path else self._record
        raise Undecodable(reason, f"{where} at byte {self.at}: {what}")

    def value(self, schema: Schema, path: str) -> None:
        """Walk over one value of *schema*."""
        if isinstance(schema, list):
            self.value(schema[self._index(len(schema), path, "branches")], path)
            return
        definition = {"type": schema} if isinstance(schema, str) else schema
        kind = definition["type"]
        if kind in self._named:
            self.value(self._named[kind], path)
        else:
            _KINDS[kind](self, definition, path)

    def null(self, _definition: Definition, _path: str) -> None:
        """Nulls take no bytes."""

    def record(self, definition: Definition, path: str) -> None:
        """Walk over a record's fields, in their order."""
        for field in definition["fields"]:
            self.value(field["type"], f"{path}.{field['name']}".lstrip("."))

    def enum(self, definition: Definition, path: str) -> None:
        """Walk over the index of a symbol."""
        self._index(len(definition["symbols"]), path, "symbols")

    def sized(self, definition: Definition, path: str) -> None:
        """Walk over what always takes the same number of bytes."""
        self._take(SIZES.get(definition["type"]) or definition["size"], path)

    def data(self, _definition: Definition, path: str) -> None:
        """Walk over bytes."""
        self._take(self._length(path), path)

    def boolean(self, _definition: Definition, path: str) -> None:
        """Walk over a boolean."""
        byte = self._take(1, path)[0]
        if byte > 1:
            self.at -= 1
            self.fail(Reason.BAD_BOOLEAN, path, f"byte {byte} where a boolean is 0 or 1")

    def number(self, definition: Definition, path: str) -> None:
        """Walk over an int or a long."""
        self._number(path, _BITS[definition["type"]])

    def string(self, definition: Definition, path: str) -> None:
        """Walk over a text, which may have to be a UUID."""
        first = self.at
        text = self._take(self._length(path), path)
        try:
            text.decode()
        except UnicodeDecodeError as exc:
            self.at += exc.start - len(text)
            self.fail(Reason.BAD_TEXT, path, f"not UTF-8: {exc.reason}")
        if definition.get("logicalType") == "uuid" and text.translate(UUID_SHAPES) != UUID_SHAPE[1:]:
            self.at = first
            self.fail(Reason.BAD_UUID, path, f"{text.decode()[:40]!r} is no UUID in canonical form")

    def blocks(self, definition: Definition, path: str) -> None:
        """Walk over an array or a map."""
        below = f"{path}[]"
        empty = 0
        while count := self._number(below, 64):
            size = None
            if count < 0:
                count = -count
                size = self._length(below)
            first = self.at
            for _ in range(count):
                before = self.at
                if definition["type"] == "map":
                    self.string({"type": "string"}, below)
                    self.value(definition["values"], below)
                else:
                    self.value(definition["items"], below)
                empty += self.at == before
                if empty > EMPTY_ITEMS_MAX:
                    self.fail(Reason.BAD_BLOCK, path, f"more than {EMPTY_ITEMS_MAX} items that take no bytes")
            if size not in (None, self.at - first):
                self.fail(Reason.BAD_BLOCK, path, f"a block says {size} bytes and takes {self.at - first}")

    def _take(self, size: int, path: str) -> bytes:
        """Return the next *size* bytes."""
        rest = len(self._bytes) - self.at
        if size > rest:
            self.fail(Reason.TRUNCATED, path, f"needs {size} bytes and {rest} are left")
        self.at += size
        return self._bytes[self.at - size : self.at]

    def _number(self, path: str, bits: int) -> int:
        first = self.at
        zigzag = size = 0
        byte = MORE
        while byte >= MORE and size <= LONG_BYTES_MAX:
            byte = self._take(1, path)[0]
            zigzag |= (byte & ~MORE) << 7 * size
            size += 1
        end, self.at = self.at, first
        if byte >= MORE or zigzag >> bits:
            self.fail(Reason.BAD_NUMBER, path, f"a number beyond {bits} bits")
        if byte == 0 and size > 1:
            self.fail(Reason.BAD_NUMBER, path, "a number that takes more bytes than it needs")
        self.at = end
        return zigzag >> 1 ^ -(zigzag & 1)

    def _length(self, path: str) -> int:
        first = self.at
        length = self._number(path, 64)
        if length < 0:
            self.at = first
            self.fail(Reason.BAD_NUMBER, path, f"a length of {length}")
        return length

    def _index(self, count: int, path: str, what: str) -> int:
        first = self.at
        index = self._number(path, 64)
        if not 0 <= index < count:
            self.at = first
            self.fail(Reason.BAD_BRANCH, path, f"index {index} where there are {count} {what}")
        return index


_KINDS: Final[dict[str, Callable[[_Walk, Definition, str], None]]] = {
    "null": _Walk.null,
    "boolean": _Walk.boolean,
    "int": _Walk.number,
    "long": _Walk.number,
    "float": _Walk.sized,
    "double": _Walk.sized,
    "fixed": _Walk.sized,
    "bytes": _Walk.data,
    "string": _Walk.string,
    "record": _Walk.record,
    "error": _Walk.record,
    "enum": _Walk.enum,
    "array": _Walk.blocks,
    "map": _Walk.blocks,
}
