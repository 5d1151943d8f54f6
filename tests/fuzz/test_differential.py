"""What we accept, the official package accepts with the same value; each extra refusal is on a list."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.undecodable import Reason, Undecodable
from tests.fuzz.differential import EXTRA, Extra, compare, contract, example, run, subject
from tests.schemas.avro_bytes import broken, declarations, encodings, parsed

SEED: Final = 4
MUTANTS: Final = 4_000
MUTANTS_SOAK: Final = 200_000
DOCS: Final = Path(__file__).parents[2] / "docs" / "dead-letters.md"


@pytest.mark.parametrize("extra", EXTRA, ids=lambda extra: extra.why)
def test_extra_refusal_is_ours_alone(extra: Extra) -> None:
    """We refuse the example for this reason, and the official package accepts it."""
    one, value = example(extra)
    with pytest.raises(Undecodable) as found:
        one.read(value)
    assert extra.reason is found.value.reason
    one.official.read(value)
    assert extra.reason == compare(one, value)


def test_every_extra_refusal_is_told() -> None:
    """In the words of the list."""
    page = re.sub(r"\s+", " ", DOCS.read_text(encoding="utf-8"))
    assert [] == [extra.why for extra in EXTRA if extra.why not in page]


def test_golden_values_are_read_alike() -> None:
    """All of our records."""
    assert ["accepted"] * 10 == [compare(one, value) for one, value in contract()]


def test_mutants_are_read_alike_or_refused_by_the_list() -> None:
    """Both of them accept some, both refuse some, and the extra refusals that our records can have all come up."""
    found = run(SEED, MUTANTS)
    assert MUTANTS == found.total()
    possible = {Reason.TRAILING_BYTES, Reason.BAD_NUMBER, Reason.BAD_BOOLEAN, Reason.BAD_UUID}
    assert {"accepted", "refused", *possible} <= set(found)


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_many_mutants_are_read_alike() -> None:
    """The long tier."""
    found = run(SEED + 1, MUTANTS_SOAK)
    assert MUTANTS_SOAK == found.total()


@pytest.mark.soak
@pytest.mark.timeout(0)
@settings(max_examples=20_000, deadline=None)
@given(st.data())
def test_values_of_any_schema_are_read_alike(data: st.DataObject) -> None:
    """Not only of ours: whatever a producer may register."""
    declared = data.draw(declarations())
    one = subject(declared)
    value = data.draw(encodings(parsed(declared)).flatmap(lambda whole: st.just(whole) | broken(whole)))
    compare(one, value)
