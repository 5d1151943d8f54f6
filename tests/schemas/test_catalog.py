"""Which schema an id means, and which id a record is written with."""

from __future__ import annotations

import json
from typing import Final

import pytest

from schemas.catalog import Catalog, current_text, releases
from schemas.codec import Codec
from schemas.record_schema import RecordSchema

COMMAND: Final = "communications.SendOrderConfirmationEmail"
SENT: Final = "communications.EmailSent"
FAILED: Final = "communications.EmailFailed"
IDS: Final = {release.record: release.id for release in releases()}
NEWER_ID: Final = 1_000


def test_id_never_changes_its_schema() -> None:
    """Learned twice is learned once; another schema by the same id is somebody's mistake."""
    catalog = Catalog.from_files()
    catalog.add(IDS[SENT], current_text(SENT))

    with pytest.raises(ValueError, match="an id never changes"):
        catalog.add(IDS[SENT], current_text(FAILED))


@pytest.mark.parametrize("schema", ['"string"', '{"type": "record"}', '{"type": "fixed", "name": "F", "size": 1}', "!"])
def test_only_records_schemas_are_learned(schema: str) -> None:
    """A topic's values are records."""
    with pytest.raises(ValueError, match=r"Avro|record|Expecting"):
        Catalog.from_files().add(NEWER_ID, schema)


def test_record_isnt_written_with_another_schemas_id() -> None:
    """The id would lie about every record."""
    with pytest.raises(ValueError, match="isn't the current schema"):
        Catalog.from_files().write_with(SENT, IDS[FAILED])


def test_record_without_id_is_found_at_the_start() -> None:
    """Not when it is first written."""
    with pytest.raises(KeyError, match=COMMAND):
        Codec(Catalog.without_ids())


def test_nested_record_is_complete_in_itself() -> None:
    """Its types may be defined before it, in another field, and used in it more than once."""
    money = {"type": "record", "name": "Money", "namespace": "shop", "fields": [{"name": "cents", "type": "long"}]}
    pairs = [("a", "shop.Money"), ("b", ["null", "shop.Money"]), ("c", {"type": "array", "items": "shop.Money"})]
    pairs += [("d", {"type": "map", "values": "Bill"})]
    bill = {"type": "record", "name": "Bill", "fields": [{"name": name, "type": kind} for name, kind in pairs]}
    fields = [{"name": "total", "type": money}, {"name": "bill", "type": bill}]

    nested = RecordSchema.parse(json.dumps({"type": "record", "name": "Order", "fields": fields})).nested("bill")

    pairs[0] = ("a", money)
    alone = {"type": "record", "name": "Bill", "fields": [{"name": name, "type": kind} for name, kind in pairs]}
    assert RecordSchema.parse(json.dumps(alone)) == nested


@pytest.mark.parametrize("field", ["nowhere", "order_id"])
def test_only_records_are_nested(field: str) -> None:
    """A field that isn't there, or a text."""
    with pytest.raises(ValueError, match=r"no field nowhere|no record"):
        Catalog.from_files().current(SENT).nested(field)
