"""
Strict readers, compiled from schemas.

`source` writes the Python source of one function for one schema. The function walks over a value's lengths and numbers
without making objects of them, takes out only the fields asked for, and accepts exactly the values of which
`diagnosis.examine` finds nothing wrong. `compile_reader` executes it, unless it stands in `readers` already: those of
the contract's records are there, to be read, and to be compiled ahead. What the function costs is a large part of what
a join costs (bench/codec.py), hence the tricks in it:

- Bounds cost nothing: a read beyond the end is an IndexError, a length that jumps beyond it ends there too, at the next
  read or at the test that the end was met exactly. What jumps without a read (fixed, double) tests for itself.
- ``SKIP[byte]`` is the way over a string with a one-byte length; 0 sends to the long form, a negative length jumps
  beyond any end.
- Text is tested by the run: everything since ``s``, where the last number of several bytes ended. Numbers of one byte
  are ASCII, and an ASCII byte parts UTF-8 texts, so the run is UTF-8 exactly if each string in it is.
- A UUID is compared in the shape that it has when each hex digit is written as 0, together with its length.

Source: Apache Avro specification 1.12, "Binary Encoding".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from schemas import reading
from schemas.diagnosis import EMPTY_ITEMS_MAX, SIZES, refuse
from schemas.readers import READERS
from schemas.reading import Reader
from schemas.record_schema import PRIMITIVES, Definition, RecordSchema, Schema

__all__ = ["Reader", "compile_reader", "source"]

_INDENT_MAX: Final = 12
"""What is nested deeper becomes a function of its own: Python limits blocks within blocks."""

_ONE_BYTE_INDICES: Final = 64
"""Indices below this take one byte."""


def compile_reader(schema: RecordSchema, fields: Sequence[str] = (), start: int = 0) -> Reader:
    """
    Return the strict reader of *schema*.

    Args:
        schema: What the value was written with.
        fields: Dotted paths through records, such as "order.version". A string comes as str (a UUID in lower case), a
            long or int as int, a boolean as bool, a record as its bytes.
        start: Where in the value the record begins; positions in errors count from the value's first byte.

    Raises:
        ValueError: a field isn't there, or is of a type that isn't taken out.
    """
    bind = READERS.get((schema.digest, tuple(fields), start))
    if bind is None:
        scope: dict[str, Any] = {name: getattr(reading, name) for name in reading.__all__}
        written = source(schema, fields, start, "bind")
        exec(compile(written, f"<reader of {schema.name}>", "exec"), scope)  # noqa: S102 - nothing in it is a record's.
        bind = scope["bind"]
    return bind(partial(refuse, schema, start))


def source(schema: RecordSchema, fields: Sequence[str], start: int, name: str) -> str:
    """
    Return the source of the function *name*, which makes the reader of *schema*: see `compile_reader`.

    It wants a `Refuse`, and the names of `reading`.
    """
    written, taken = _Source(schema, fields).function(start, name)
    if missing := set(fields) - taken:
        raise ValueError(f"{schema.name}: no such field, or none of a kind that can be taken out: {sorted(missing)}")
    return written


class _Source:
    """
    The source of one reader.

    In it, ``b`` is the value, ``e`` its length, ``p`` the position, ``s`` where the text run begins.
    """

    def __init__(self, schema: RecordSchema, fields: Sequence[str]) -> None:
        self._schema = schema
        self._slots = {path: f"v{slot}" for slot, path in enumerate(fields)}
        self._lines: list[str] = []
        self._indent = 0
        self._variables = 0
        self._declared_to = 0
        """Those up to this number are declared, in functions that were written before."""
        self._dirty = False
        """Whether the run may hold text that nothing has tested yet."""
        self._functions: dict[str, str] = {}
        self._pending: list[tuple[str, Schema]] = []
        self._taken: set[str] = set()

    def function(self, start: int, name: str) -> tuple[str, set[str]]:
        """Return the source, whose function is *name*, and the fields that it takes out."""
        self._add(f"def {name}(refuse: Refuse) -> Reader:")
        self._indent = 1
        self._add("def read(b: bytes) -> tuple[Any, ...]:")
        self._indent += 1
        at = len(self._lines)
        self._add("try:")
        self._indent += 1
        self._add("e = len(b)", f"p = s = {start}")
        self._record(self._schema.schema, "")
        self._test_text()
        self._require("p == e")
        self._add(f"return ({''.join(f'{slot}, ' for slot in self._slots.values())})")
        self._indent -= 1
        # A UnicodeDecodeError is a ValueError.
        self._add("except (IndexError, ValueError, RecursionError) as exc:", "    raise refuse(b, exc) from None")
        self._indent -= 1
        self._add("return read")
        self._lines[at:at] = self._declared(2, "e", "p", "s")
        while self._pending:
            self._helper(*self._pending.pop())
        return "\n".join(self._lines) + "\n", self._taken

    def _declared(self, indent: int, *names: str) -> list[str]:
        """Return lines that say which variables are positions and lengths: machine integers where it is compiled."""
        names = (*names, *(f"x{number + 1}" for number in range(self._declared_to, self._variables)))
        self._declared_to = self._variables
        return [f"{'    ' * indent}{name}: i64" for name in names]

    def _add(self, *lines: str) -> None:
        self._lines += [f"{'    ' * self._indent}{line}" for line in lines]

    def _require(self, condition: str) -> None:
        self._add(f"if not ({condition}): raise ValueError")

    def _variable(self) -> str:
        self._variables += 1
        return f"x{self._variables}"

    def _test_text(self) -> None:
        if self._dirty:
            self._add("if not b[s:p].isascii(): b[s:p].decode()")

    # One method a kind of type. *path* is None where nothing may be taken out.

    def _type(self, schema: Schema, path: str | None) -> None:
        if isinstance(schema, list):
            self._union(schema)
            return
        definition = {"type": schema} if isinstance(schema, str) else schema
        kind = definition["type"]
        if kind in self._schema.named:
            self._reference(kind, path)
        else:
            _KINDS[kind](self, definition, path)

    def _null(self, _definition: Definition, _path: str | None) -> None:
        pass

    def _record(self, schema: Definition, path: str | None) -> None:
        slot = self._variable() if path and path in self._slots else None
        if slot:
            self._add(f"{slot} = p")
        for field in schema["fields"]:
            below = None if path is None else f"{path}.{field['name']}".lstrip(".")
            self._type(field["type"], below)
        if slot:
            self._add(f"{self._slot(path)} = b[{slot}:p]")

    def _slot(self, path: str | None) -> str:
        """Return the variable of a field that is taken out."""
        assert path
        self._taken.add(path)
        return self._slots[path]

    def _reference(self, name: str, path: str | None) -> None:
        """Read a type that was defined elsewhere: in place if something of it is taken out, else by a function."""
        if path and any(wanted == path or wanted.startswith(f"{path}.") for wanted in self._slots):
            self._type(self._schema.named[name], path)
        else:
            self._call(name, self._schema.named[name])

    def _call(self, key: str, schema: Schema) -> None:
        if key not in self._functions:
            self._functions[key] = f"read_{len(self._functions)}"
            self._pending.append((self._functions[key], schema))
        self._add(f"p, s = {self._functions[key]}(b, e, p, s)")
        self._dirty = True

    def _helper(self, name: str, schema: Schema) -> None:
        self._indent = 0
        self._dirty = True  # Its caller may have left text in the run.
        self._add("", "", f"def {name}(b: bytes, e: i64, p: i64, s: i64) -> tuple[i64, i64]:")
        at = len(self._lines)
        self._indent = 1
        self._type(schema, None)
        self._add("return p, s")
        self._lines[at:at] = self._declared(1)

    def _string(self, definition: Definition, path: str | None) -> None:
        wanted = path in self._slots
        if definition.get("logicalType") == "uuid":
            self._require("b[p:p + 37].translate(SHAPES) == UUID")
            if wanted:
                self._add(f"{self._slot(path)} = b[p + 1:p + 37].decode().lower()")
            self._add("p += 37")
            return
        size = self._variable()
        self._add(f"{size} = SKIP[b[p]]", f"if {size}:")
        if wanted:  # Its decoding tests it.
            self._add(f"    {size} += p", f"    {self._slot(path)} = b[p + 1:{size}].decode()", f"    p = {size}")
        else:
            self._add(f"    p += {size}")
        self._add("else:")
        self._indent += 1
        self._test_text()
        self._add(f"{size}, s = length_at(b, p)", f"p = s + {size}")
        if wanted:
            self._add(f"{self._slot(path)} = b[s:p].decode()")
        self._indent -= 1
        self._dirty = self._dirty or not wanted

    def _bytes(self, _definition: Definition, _path: str | None) -> None:
        self._test_text()
        self._add(f"{(size := self._variable())}, p = length_at(b, p)", f"p = s = p + {size}")
        self._dirty = False

    def _sized(self, definition: Definition, _path: str | None) -> None:
        size = SIZES.get(definition["type"]) or definition["size"]
        self._test_text()
        self._add(f"p = s = p + {size}")
        self._require("p <= e")
        self._dirty = False

    def _number(self, definition: Definition, path: str | None) -> None:
        kind = definition["type"]
        if path in self._slots:
            value = self._slot(path)
            self._add(f"{value} = b[p]", f"if {value} < 128:")
            self._add("    p += 1", f"    {value} = {value} >> 1 ^ -({value} & 1)", "else:")
            self._indent += 1
            self._test_text()
            self._add(f"{value}, p = long_at(b, p)", "s = p")
            if kind == "int":
                self._require(f"-{1 << 31} <= {value} < {1 << 31}")
            self._indent -= 1
            return
        last, most = (9, 1) if kind == "long" else (4, 15)
        self._add("if b[p] < 128:", "    p += 1", "else:")
        self._indent += 1
        self._test_text()
        self._add("s = p", "p += 1", "while b[p] > 127: p += 1")
        self._add(f"if not b[p] or p - s >= {last} and (p - s > {last} or b[p] > {most}): raise ValueError")
        self._add("p += 1", "s = p")
        self._indent -= 1

    def _boolean(self, _definition: Definition, path: str | None) -> None:
        self._require("b[p] < 2")
        if path in self._slots:
            self._add(f"{self._slot(path)} = b[p] == 1")
        self._add("p += 1")

    def _enum(self, definition: Definition, _path: str | None) -> None:
        self._index(len(definition["symbols"]))

    def _index(self, count: int) -> str:
        """Read the index of one of *count* branches or symbols; return the variable that is twice it."""
        index = self._variable()
        if count <= _ONE_BYTE_INDICES:
            self._add(f"{index} = b[p]", "p += 1")
            self._require(f"{index} < {2 * count} and not {index} & 1")
        else:
            self._test_text()
            self._add(f"{index}, p = long_at(b, p)", "s = p")
            self._require(f"0 <= {index} < {count}")
            self._add(f"{index} *= 2")
        return index

    def _union(self, branches: list[Any]) -> None:
        if self._indent > _INDENT_MAX:
            self._call(str(id(branches)), branches)
            return
        index = self._index(len(branches))
        before, after = self._dirty, False
        for number, branch in enumerate(branches):
            self._add(f"{'el' if number else ''}if {index} == {2 * number}:")
            self._indent += 1
            self._add("pass")
            self._dirty = before
            self._type(branch, None)
            after = after or self._dirty
            self._indent -= 1
        self._dirty = after

    def _blocks(self, schema: Definition, _path: str | None) -> None:
        if self._indent > _INDENT_MAX:
            self._call(str(id(schema)), schema)
            return
        items, end, left = self._variable(), self._variable(), self._variable()
        item = schema["items"] if schema["type"] == "array" else schema["values"]
        empty = schema["type"] == "array" and self._takes_nothing(item, set())
        self._dirty = True  # A second turn finds what the first has left.
        if empty:
            self._add(f"{left} = {EMPTY_ITEMS_MAX}")
        self._add("while b[p]:")
        self._indent += 1
        self._add(f"{items} = b[p]", f"if {items} > 127 or {items} & 1:")
        self._add("    if not b[s:p].isascii(): b[s:p].decode()")
        self._add(f"    {items}, p, {end} = block_at(b, p)", "    s = p")
        self._add("else:", f"    p += 1; {items} >>= 1; {end} = -1")
        if empty:
            self._add(f"{left} -= {items}")
            self._require(f"{left} >= 0")
        else:
            self._add(f"for _ in range({items}):")
            self._indent += 1
            if schema["type"] == "map":
                self._string({"type": "string"}, None)
            self._type(item, None)
            self._dirty = True
            self._indent -= 1
        self._require(f"{end} < 0 or p == {end}")
        self._indent -= 1
        self._add("p += 1")

    def _takes_nothing(self, schema: Schema, within: set[str]) -> bool:
        """Return whether every value of *schema* takes no bytes."""
        if isinstance(schema, list):
            return False
        if isinstance(schema, str):
            if schema in PRIMITIVES or schema in within:
                return schema == "null"
            return self._takes_nothing(self._schema.named[schema], within | {schema})
        if schema["type"] in ("record", "error"):
            within = within | {schema["name"]}
            return all(self._takes_nothing(field["type"], within) for field in schema["fields"])
        return bool(schema["type"] == "null" or (schema["type"] == "fixed" and schema["size"] == 0))


_KINDS: Final[dict[str, Callable[[_Source, Definition, str | None], None]]] = {
    "null": _Source._null,
    "boolean": _Source._boolean,
    "int": _Source._number,
    "long": _Source._number,
    "float": _Source._sized,
    "double": _Source._sized,
    "fixed": _Source._sized,
    "bytes": _Source._bytes,
    "string": _Source._string,
    "record": _Source._record,
    "error": _Source._record,
    "enum": _Source._enum,
    "array": _Source._blocks,
    "map": _Source._blocks,
}
