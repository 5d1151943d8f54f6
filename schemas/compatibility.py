"""
Whether versions of a record can be read as each other, as the official implementation judges it.

Our rule is FULL_TRANSITIVE: every version reads every other, older or newer, so that producers, consumers and stored
records may be upgraded in any order.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import permutations

import avro.schema
from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType

from schemas.catalog import RECORDS, Release, current_text, releases
from schemas.record_schema import RecordSchema


def conflicts(versions: Iterable[tuple[str, str]]) -> list[str]:
    """
    Return a sentence for each pair of *versions* of one record where one can't read the other; none if all is well.

    Args:
        versions: Labels and schemas as JSON.

    Source: Confluent, "Schema Evolution and Compatibility", FULL_TRANSITIVE.
    """
    parsed = [(label, avro.schema.parse(text)) for label, text in versions]
    found = []
    for (reader_label, reader), (writer_label, writer) in permutations(parsed, 2):
        result = ReaderWriterCompatibilityChecker().get_compatibility(reader, writer)  # type: ignore[no-untyped-call]
        if result.compatibility is not SchemaCompatibilityType.compatible:
            why = "; ".join(sorted(result.messages)) or "incompatible"
            where = ", ".join(sorted(result.locations))
            found.append(f"{reader_label} can't read what {writer_label} wrote: {why} (at {where})")
    return found


def problems() -> list[str]:
    """
    Return what is wrong with the working tree's schemas against the released ones, a sentence each.

    That an .avsc differs from its newest release is among it: until it is released too, no id stands for it.
    """
    released = releases()
    found = _misnumbered(released)
    for record in RECORDS:
        versions = [release for release in released if release.record == record]
        current = current_text(record)
        labelled = [(f"{record} version {release.version}", release.text) for release in versions]
        found += conflicts([*labelled, (f"{record} as it is now", current)])
        if not versions or RecordSchema.parse(versions[-1].text).contract != RecordSchema.parse(current).contract:
            version = len(versions) + 1
            short = record.rpartition(".")[2]
            found.append(
                f"{record} isn't released as it is now: copy schemas/{short}.avsc to"
                f" schemas/released/{short}.{version}.avsc and append its id to schemas/ids.json"
            )
    return found


def _misnumbered(released: list[Release]) -> list[str]:
    """Return what is wrong with the list of ids itself: it only ever grows at its end."""
    found = []
    versions: dict[str, int] = {}
    last_id = 0
    for release in released:
        if release.id <= last_id:
            found.append(f"ids.json: id {release.id} comes after {last_id}; ids grow, and none is given twice")
        if release.version != versions.get(release.record, 0) + 1:
            found.append(f"ids.json: {release.record} version {release.version} doesn't follow its version before")
        if RecordSchema.parse(release.text).name != release.record:
            found.append(f"ids.json: {release.file} isn't a schema of {release.record}")
        last_id, versions[release.record] = release.id, release.version
    return found
