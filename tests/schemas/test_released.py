"""Released schemas: what was released stays, every version reads every other, and the check would notice if not."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest

from schemas import compatibility
from schemas.catalog import RECORDS, Release, current_text, releases
from schemas.compatibility import conflicts, problems
from schemas.record_schema import RecordSchema

SENT = "communications.EmailSent"


def versions(*altered: dict[str, Any]) -> list[tuple[str, str]]:
    """Return EmailSent as it is, and versions of it with these attributes instead."""
    current = json.loads(current_text(SENT))
    changed = [json.dumps(current | attributes) for attributes in altered]
    return [(f"version {number}", text) for number, text in enumerate([json.dumps(current), *changed], 1)]


def with_field(**attributes: object) -> dict[str, Any]:
    """Return the fields of EmailSent and one more."""
    return {"fields": [*json.loads(current_text(SENT))["fields"], attributes]}


def without_field(name: str) -> dict[str, Any]:
    """Return the fields of EmailSent but for one."""
    return {"fields": [field for field in json.loads(current_text(SENT))["fields"] if field["name"] != name]}


def test_current_schemas_are_released_and_fit_their_versions() -> None:
    """The contract as it is in the working tree: complete, numbered, and compatible with all that went before."""
    assert [] == problems()
    assert set(RECORDS) == {release.record for release in releases()}


def test_ids_grow_and_are_unique() -> None:
    """An id means one schema for ever: the list is only appended to."""
    ids = [release.id for release in releases()]

    assert all(before < after for before, after in pairwise(ids))


def test_versions_with_optional_fields_fit_each_other_in_any_order() -> None:
    """Three versions, fields with defaults added and removed: every one of the six pairs is asked."""
    added = with_field(name="attempts", type="int", default=1)
    renamed = with_field(name="server", type=["null", "string"], default=None)

    assert [] == conflicts(versions(added, renamed, {"doc": "another text"}))


@pytest.mark.parametrize(
    ("attributes", "why"),
    [
        (with_field(name="attempts", type="int"), "version 2 can't read what version 1 wrote: attempts"),
        (without_field("sent_at"), "version 1 can't read what version 2 wrote: sent_at"),
        ({"name": "EmailWasSent"}, "version 2 can't read what version 1 wrote: expected: communications.EmailSent"),
    ],
    ids=["a new field without a default", "a field gone that has none", "another name"],
)
def test_incompatible_version_is_caught_either_way(attributes: dict[str, Any], why: str) -> None:
    """Backward and forward."""
    assert why in " ".join(conflicts(versions(attributes)))


def test_incompatible_with_an_older_version_only_is_caught() -> None:
    """Transitive: each step is compatible with the one before it, the last isn't with the first."""
    text = with_field(name="note", type="string", default="")
    number = with_field(name="note", type="int", default=0)

    found = conflicts(versions(text, {}, number))

    assert 2 == len(found)
    assert all("version 2" in problem and "version 4" in problem for problem in found)


def test_change_that_isnt_released_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A default is a part of the contract though the encoding doesn't show it; documentation isn't."""
    record = "communications.SendOrderConfirmationEmail"
    changed = json.loads(current_text(record))
    changed["doc"] = "another text"
    monkeypatch.setattr(compatibility, "current_text", lambda name: json.dumps(changed) if name == record else None)
    monkeypatch.setattr(compatibility, "RECORDS", (record,))
    assert [] == problems()

    changed["fields"][-1]["default"] = "fr"

    (problem,) = problems()
    assert problem == (
        f"{record} isn't released as it is now: copy schemas/SendOrderConfirmationEmail.avsc to"
        " schemas/released/SendOrderConfirmationEmail.2.avsc and append its id to schemas/ids.json"
    )


@pytest.mark.parametrize(
    ("second", "problem"),
    [
        (Release(1, SENT, 1, "released/EmailSent.1.avsc"), "id 1 comes after 1"),
        (Release(2, SENT, 3, "released/EmailSent.1.avsc"), "version 3 doesn't follow"),
        (Release(2, SENT, 1, "released/EmailFailed.1.avsc"), "isn't a schema of"),
    ],
)
def test_misnumbered_release_is_noticed(second: Release, problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An id given twice, a version left out, a file of another record."""
    first = releases()[0]
    monkeypatch.setattr(compatibility, "releases", lambda: [first, second])
    monkeypatch.setattr(compatibility, "RECORDS", ())

    (found,) = problems()

    assert problem in found


@pytest.mark.parametrize(
    "attributes", [{"doc": "x"}, {"aliases": ["Mailed"]}, with_field(name="n", type="int", default=1)]
)
def test_contract_is_everything_but_documentation(attributes: dict[str, Any]) -> None:
    """Aliases and defaults decide what can be read; texts don't."""
    (_, before), (_, after) = versions(attributes)

    assert ("doc" in attributes) == (RecordSchema.parse(before).contract == RecordSchema.parse(after).contract)
