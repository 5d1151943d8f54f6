"""
A record's Avro schema in the forms that the codec needs.

Source: Apache Avro specification 1.12, "Schema Declaration", "Parsing Canonical Form for Schemas".
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, TypeAlias

from fastavro import parse_schema
from fastavro.schema import SchemaParseException, UnknownType, to_parsing_canonical_form

Schema: TypeAlias = str | list[Any] | dict[str, Any]
"""A schema as JSON: a primitive's or a defined type's name, a union's branches, or a definition."""

Definition: TypeAlias = dict[str, Any]
"""A type's definition."""

PRIMITIVES: Final = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})


@dataclass(frozen=True, slots=True)
class RecordSchema:
    """
    One version of a record.

    Attributes:
        name: Full name.
        schema: Parsed: every name is a full one, every type is defined where it first occurs.
        named: Definitions of all its named types, by full name.
        plain: The same without logical types, parsed by fastavro: data read by it holds integers and strings only, so
            that nothing depends on time zones.
        canonical: Parsing Canonical Form; two schemas of the same form have the same encoding, byte for byte.
    """

    name: str
    schema: dict[str, Any]
    named: dict[str, dict[str, Any]]
    plain: dict[str, Any]
    canonical: str

    @classmethod
    def parse(cls, text: str) -> RecordSchema:
        """
        Read *text*, a schema as JSON.

        Raises:
            ValueError: it is no Avro schema, or not a record's.
        """
        return cls._of(json.loads(text))

    @classmethod
    def _of(cls, declared: Schema) -> RecordSchema:
        try:
            parsed = parse_schema(declared)
            plain = parse_schema(_without("logicalType", declared))
        except (SchemaParseException, UnknownType, KeyError, TypeError, RecursionError) as exc:
            raise ValueError(f"no Avro schema: {type(exc).__name__}: {exc}") from exc
        if not isinstance(parsed, dict) or parsed["type"] != "record" or not isinstance(plain, dict):
            raise ValueError("no record's schema: a topic's values are records")
        named = parsed.pop("__named_schemas")
        parsed.pop("__fastavro_parsed")
        return cls(parsed["name"], parsed, named, plain, to_parsing_canonical_form(plain))

    def nested(self, field: str) -> RecordSchema:
        """
        Return the schema of the record that is the value of *field*, complete in itself.

        Raises:
            ValueError: there is no such field, or it is no record.
        """
        for declared in self.schema["fields"]:
            if declared["name"] == field:
                return self._of(_complete(declared["type"], self.named, set()))
        raise ValueError(f"{self.name} has no field {field}")

    @property
    def contract(self) -> str:
        """All that readers and writers rely on, defaults and aliases too: the schema without its documentation."""
        return json.dumps(_without("doc", self.schema), sort_keys=True)

    @property
    def digest(self) -> str:
        """SHA-256 of `contract`: the same for two schemas whose readers are the same."""
        return sha256(self.contract.encode()).hexdigest()


def _without(attribute: str, schema: Any) -> Any:
    """Return *schema* without *attribute* in any definition; defaults are data and stay as they are."""
    if isinstance(schema, list):
        return [_without(attribute, branch) for branch in schema]
    if isinstance(schema, dict):
        return {
            key: value if key == "default" else _without(attribute, value)
            for key, value in schema.items()
            if key != attribute
        }
    return schema


def _complete(schema: Schema, named: dict[str, dict[str, Any]], defined: set[str]) -> Schema:
    """Return *schema* with each of its named types defined where it first occurs in it."""
    if isinstance(schema, list):
        return [_complete(branch, named, defined) for branch in schema]
    if isinstance(schema, str):
        if schema in PRIMITIVES or schema in defined:
            return schema
        return _complete(named[schema], named, defined)
    if "name" in schema:
        if schema["name"] in defined:
            return str(schema["name"])
        defined.add(schema["name"])
    completed = dict(schema)
    for part in ("items", "values"):
        if part in schema:
            completed[part] = _complete(schema[part], named, defined)
    if "fields" in schema:
        completed["fields"] = [
            {**field, "type": _complete(field["type"], named, defined)} for field in schema["fields"]
        ]
    return completed
