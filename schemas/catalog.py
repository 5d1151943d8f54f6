"""
Which schema an id means, and which id a record is written with.

`Catalog.from_files` is the registry ``file:``: ids.json gives an id to every released version of every record, for
ever. A registry's own ids are learned at run time, by `Catalog.add`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from importlib.resources import files
from typing import Final, NamedTuple

from schemas.record_schema import RecordSchema
from topology.topics import TOPICS

RECORDS: Final = tuple(dict.fromkeys(record for topic in TOPICS for record in topic.records))
"""Full names of the records of all topics."""

_HERE: Final = files("schemas")


class UnknownSchema(Exception):
    """No schema is known by this id; *detail* says who was asked."""

    def __init__(self, schema_id: int, detail: str = "not among the known ids") -> None:
        super().__init__(schema_id, detail)
        self.schema_id = schema_id
        self.detail = detail

    def __str__(self) -> str:
        """Return which id, and why it isn't known."""
        return f"schema id {self.schema_id}: {self.detail}"


class Release(NamedTuple):
    """A released version of a record, and the id that it has for ever in the registry ``file:``."""

    id: int
    record: str
    version: int
    file: str

    @property
    def text(self) -> str:
        """The schema as JSON."""
        return (_HERE / self.file).read_text("utf-8")


def releases() -> list[Release]:
    """Return all released versions as ids.json lists them."""
    return [Release(**entry) for entry in json.loads((_HERE / "ids.json").read_text("utf-8"))]


def current_text(record: str) -> str:
    """Return the current schema of the record with this full name, as JSON."""
    return (_HERE / f"{record.rpartition('.')[2]}.avsc").read_text("utf-8")


class Catalog:
    """Schemas by id, and for each record its current schema and the id to write it with."""

    def __init__(self, current: Iterable[RecordSchema]) -> None:
        """Know the *current* schemas, and no id yet."""
        self._current = {schema.name: schema for schema in current}
        self._by_id: dict[int, RecordSchema] = {}
        self._write_ids: dict[str, int] = {}

    @classmethod
    def from_files(cls) -> Catalog:
        """Return the catalog of the files that come with the code, which needs no registry."""
        catalog = cls.without_ids()
        for release in releases():
            if catalog.add(release.id, release.text).canonical == catalog.current(release.record).canonical:
                catalog.write_with(release.record, release.id)
        return catalog

    @classmethod
    def without_ids(cls) -> Catalog:
        """Return the current schemas; their ids come from a registry."""
        return cls(RecordSchema.parse(current_text(record)) for record in RECORDS)

    def add(self, schema_id: int, schema_json: str) -> RecordSchema:
        """
        Learn that *schema_id* means *schema_json*.

        Raises:
            ValueError: that is no record's Avro schema, or the id means another one already.
        """
        schema = RecordSchema.parse(schema_json)
        known = self._by_id.setdefault(schema_id, schema)
        if known.contract != schema.contract:
            raise ValueError(f"schema id {schema_id} is {known.name} already, with another schema; an id never changes")
        return known

    def write_with(self, record: str, schema_id: int) -> None:
        """
        Write *record* with *schema_id* from now on.

        Raises:
            ValueError: that id's schema hasn't the encoding of the current one.
        """
        if self[schema_id].canonical != self._current[record].canonical:
            raise ValueError(f"schema id {schema_id} isn't the current schema of {record}")
        self._write_ids[record] = schema_id

    def __getitem__(self, schema_id: int) -> RecordSchema:
        """
        Return the schema that *schema_id* means.

        Raises:
            UnknownSchema: it isn't known.
        """
        try:
            return self._by_id[schema_id]
        except KeyError:
            raise UnknownSchema(schema_id) from None

    def __contains__(self, record: str) -> bool:
        """Return whether *record* is a full name that this code reads and writes."""
        return record in self._current

    @property
    def records(self) -> tuple[str, ...]:
        """Full names of the records that are read and written."""
        return tuple(self._current)

    def current(self, record: str) -> RecordSchema:
        """Return the current schema of the record with this full name."""
        return self._current[record]

    def id_of(self, record: str) -> int:
        """
        Return the id that *record* is written with.

        Raises:
            KeyError: the record isn't one of ours, or `write_with` hasn't said.
        """
        return self._write_ids[record]
