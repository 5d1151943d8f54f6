"""
Strict readers as programs: the operations by which a kernel in C walks over a value.

`program` writes for one schema what `checker.source` writes as Python: numbers to be read one after the other, each
operation followed by its argument. A program accepts a part of what the reader accepts, and takes the same out of it:
arrays and maps in blocks that say their size in bytes are left to the reader, and so are values that are broken.

    string, uuid, long, int SLOT    a value of this type, taken out into SLOT (-1: not)
    boolean 0
    index COUNT                     a number below COUNT, as of an enum's symbols
    union COUNT SIZES… BRANCHES…    each branch's size in numbers, then the branches' operations
    blocks SIZE ITEM…               an array's or map's items, ITEM being SIZE numbers
    bytes 0
    sized BYTES                     float, double and fixed
    begin SLOT, end SLOT            what lies between is taken out, as bytes

Source: Apache Avro specification 1.12, "Binary Encoding".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from schemas.diagnosis import SIZES
from schemas.record_schema import Definition, RecordSchema, Schema

OPERATIONS: Final = {
    "string": 1, "uuid": 2, "long": 3, "int": 4, "boolean": 5, "index": 6, "union": 7, "blocks": 8, "bytes": 9,
    "sized": 10, "begin": 11, "end": 12,
}  # fmt: skip

_COUNT_MAX: Final = 63
"""Of branches and symbols: their number then takes one byte."""
_TAKEN: Final = frozenset({"string", "long"})
"""Of which a value can be taken out."""


def program(schema: RecordSchema, fields: Sequence[str]) -> list[int] | None:
    """
    Return the operations that read *schema*'s values; None if they aren't expressive enough for it.

    Args:
        schema: What the value was written with.
        fields: Dotted paths through records, as `checker.compile_reader` has them; the first goes into slot 0.

    Raises:
        ValueError: a field isn't there, or is of a type that isn't taken out.
    """
    written = _Program(schema, fields)
    try:
        operations = written.type(schema.schema, "", frozenset())
    except _Inexpressible:
        return None
    if missing := set(fields) - written.taken:
        raise ValueError(f"{schema.name}: no such field, or none of a kind that can be taken out: {sorted(missing)}")
    return operations


class _Inexpressible(Exception):
    """There are no operations for this."""


class _Program:
    def __init__(self, schema: RecordSchema, fields: Sequence[str]) -> None:
        self._schema = schema
        self._slots = {path: slot for slot, path in enumerate(fields)}
        self.taken: set[str] = set()

    def _slot(self, path: str | None) -> int:
        """Return where the value at *path* goes, -1 if nowhere."""
        if path is None or path not in self._slots:
            return -1
        self.taken.add(path)
        return self._slots[path]

    def type(self, schema: Schema, path: str | None, within: frozenset[str]) -> list[int]:
        """Return the operations of *schema*, inside of the records *within*; *path* is None where none is taken out."""
        if isinstance(schema, list):
            return self._union(schema, within)
        definition: Definition = {"type": schema} if isinstance(schema, str) else schema
        kind = definition["type"]
        if kind in self._schema.named:
            return self.type(self._schema.named[kind], path, within)
        match kind:
            case "null":
                operations = []
            case "record" | "error":
                operations = self._record(definition, path, within)
            case "array":
                operations = self._blocks(self.type(definition["items"], None, within))
            case "map":
                operations = self._blocks([OPERATIONS["string"], -1, *self.type(definition["values"], None, within)])
            case "enum":
                operations = self._counted("index", len(definition["symbols"]))
            case "float" | "double" | "fixed":
                operations = [OPERATIONS["sized"], SIZES.get(kind) or definition["size"]]
            case "boolean" | "bytes":
                operations = [OPERATIONS[kind], 0]
            case _:
                operation = "uuid" if definition.get("logicalType") == "uuid" else kind
                operations = [OPERATIONS[operation], self._slot(path) if kind in _TAKEN else -1]
        return operations

    def _record(self, definition: Definition, path: str | None, within: frozenset[str]) -> list[int]:
        if definition["name"] in within:
            raise _Inexpressible  # It holds itself, so its operations would have no end.
        within |= {definition["name"]}
        slot = self._slot(path or None)
        operations = [OPERATIONS["begin"], slot] if slot >= 0 else []
        for field in definition["fields"]:
            below = None if path is None else f"{path}.{field['name']}".lstrip(".")
            operations += self.type(field["type"], below, within)
        return operations + ([OPERATIONS["end"], slot] if slot >= 0 else [])

    @staticmethod
    def _counted(operation: str, count: int) -> list[int]:
        if count > _COUNT_MAX:
            raise _Inexpressible
        return [OPERATIONS[operation], count]

    def _union(self, branches: list[Any], within: frozenset[str]) -> list[int]:
        operations = [self.type(branch, None, within) for branch in branches]
        sizes = [len(some) for some in operations]
        return self._counted("union", len(branches)) + sizes + [number for some in operations for number in some]

    @staticmethod
    def _blocks(item: list[int]) -> list[int]:
        return [OPERATIONS["blocks"], len(item), *item]
