"""Any bytes, golden ones with something broken above all: refused in the one way there is for it, or read right."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS
from tests.schemas.avro_bytes import broken

EXAMPLES: Final = 100
EXAMPLES_SOAK: Final = 20_000


@st.composite
def mutated(draw: st.DrawFn, golden: list[bytes]) -> bytes:
    """Return golden bytes with a few things broken, spliced or repeated; now and then bytes out of nowhere."""
    data = draw(st.sampled_from(golden) | st.binary(max_size=200))
    for _ in range(draw(st.integers(0, 3))):
        match draw(st.sampled_from(["break", "splice", "number"])):
            case "break":
                data = draw(broken(data))
            case "splice":
                other = draw(st.sampled_from(golden))
                data = data[: draw(st.integers(0, len(data)))] + other[draw(st.integers(0, len(other))) :]
            case "number":
                # Lengths and counts: all ones, all zeros, one more than fits.
                at, size = draw(st.integers(0, len(data))), draw(st.sampled_from([1, 2, 4, 8]))
                new = draw(st.sampled_from([b"\xff" * size, bytes(size), b"\x7f" + b"\xff" * (size - 1)]))
                data = data[:at] + new + data[at + size :]
    return data


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=EXAMPLES, deadline=None)
@given(data=st.data())
def test_bytes_are_refused_or_read_right(name: str, data: st.DataObject) -> None:
    """See `targets`."""
    target, golden = TARGETS[name]
    target(data.draw(mutated(golden())))


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=EXAMPLES_SOAK, deadline=None)
@given(data=st.data())
def test_bytes_for_long(name: str, data: st.DataObject) -> None:
    """The same, for longer."""
    target, golden = TARGETS[name]
    target(data.draw(mutated(golden())))


@pytest.mark.parametrize("name", TARGETS)
def test_golden_bytes_are_accepted(name: str) -> None:
    """Else fuzzing would begin, and stay, with what is refused at the first byte."""
    target, golden = TARGETS[name]
    assert golden()
    for data in golden():
        target(data)
