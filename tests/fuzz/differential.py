"""
Our codec beside the official avro package, on mutated values of our records and of any schema.

What we accept, avro accepts with the same value. What avro accepts and we refuse is on a list: `EXTRA`.
"""

from __future__ import annotations

import functools
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from schemas.catalog import RECORDS, current_text
from schemas.checker import compile_reader
from schemas.record_schema import RecordSchema
from schemas.undecodable import Reason, Undecodable
from tests.fuzz import seeds
from tests.schemas.avro_bytes import UUID, Official, extractable, number, parsed, record, text

_ITEMS: Final = {"type": "array", "items": "null"}
_DEFAULTED: Final = {"type": "enum", "name": "E", "symbols": ["A", "B"], "default": "A"}
_SIZED: Final = {"type": "array", "items": "int"}


class Extra(NamedTuple):
    """Something that only we refuse: why, with an example of it in a record with one field of *kind*."""

    reason: Reason
    why: str
    kind: Any
    example: bytes


EXTRA: Final = (
    Extra(Reason.TRAILING_BYTES, "bytes after the last field: avro stops reading there", "int", b"\x02\x00"),
    Extra(Reason.BAD_NUMBER, "an int beyond 32 bits", "int", number(1 << 33)),
    Extra(Reason.BAD_NUMBER, "a number that takes more bytes than it needs", "long", b"\x82\x00"),
    Extra(Reason.BAD_NUMBER, "a block of negative size", _SIZED, b"\x01\x01\x02\x00"),
    Extra(Reason.BAD_BOOLEAN, "a boolean that is neither 0 nor 1: avro takes all but 1 for false", "boolean", b"\x02"),
    Extra(Reason.BAD_UUID, "a UUID that isn't one in canonical form: avro leaves it a string", UUID, text("none")),
    Extra(
        Reason.BAD_BRANCH,
        "a symbol that isn't there: avro takes the default",
        _DEFAULTED,
        b"\x48",
    ),
    Extra(Reason.BAD_BLOCK, "a block that isn't as long as it says", _SIZED, b"\x01\x04\x02\x00"),
    Extra(Reason.BAD_BLOCK, "more than 1,000 items that take no bytes", _ITEMS, number(1_001) + b"\0"),
)
"""Every extra refusal there is; a reason that isn't here is one that avro has too."""

EXTRA_REASONS: Final = frozenset(extra.reason for extra in EXTRA)


class Subject(NamedTuple):
    """One record's schema, read by both."""

    name: str
    schema: RecordSchema
    read: Callable[[bytes], tuple[Any, ...]]
    fields: tuple[tuple[str, Any], ...]
    official: Official


class DisagreementError(AssertionError):
    """We accept what avro refuses or reads otherwise, or refuse for a reason that isn't on the list."""


def subject(declared: Any) -> Subject:
    """Return *declared*, read by both."""
    schema = parsed(declared)
    fields = extractable(schema)
    return Subject(
        schema.name, schema, compile_reader(schema, tuple(fields)), tuple(fields.items()), Official(declared)
    )


@functools.cache
def contract() -> tuple[tuple[Subject, bytes], ...]:
    """Return each of our records, and a value of it without its frame."""
    return tuple((subject(json.loads(current_text(name))), seeds.value(name)[5:]) for name in RECORDS)


def compare(one: Subject, value: bytes) -> str:
    """
    Read *value* by both.

    Returns:
        "accepted", "refused" (by both), or the reason for which only we refuse it.

    Raises:
        DisagreementError: see there.
    """
    try:
        taken = one.read(value)
    except Undecodable as exc:
        ours: Undecodable | None = exc
    else:
        ours = None
    try:
        datum, unread = one.official.read(value)
    except Exception as exc:
        if ours is None:
            raise DisagreementError(f"{one.name}: only we accept {value.hex()}: avro says {exc!r}") from exc
        return "refused"
    if ours is not None:
        if ours.reason not in EXTRA_REASONS:
            raise DisagreementError(f"{one.name}: {ours} isn't on the list, and avro accepts {value.hex()}")
        return ours.reason.value
    if unread:
        raise DisagreementError(f"{one.name}: we accept {value.hex()}, of which avro leaves {unread} bytes")
    _compare_taken(one, taken, datum)
    return "accepted"


def _compare_taken(one: Subject, taken: tuple[Any, ...], datum: Any) -> None:
    for (path, kind), found in zip(one.fields, taken, strict=True):
        expected = functools.reduce(lambda inner, name: inner[name], path.split("."), datum)
        if isinstance(kind, dict) and kind["type"] == "record":
            continue  # Its own fields are among those taken out.
        if (expected.lower() if kind == UUID else expected) != found:
            raise DisagreementError(f"{one.name}.{path}: {found!r} to us is {expected!r} to avro")


def mutants(seed: int, count: int) -> Iterator[tuple[Subject, bytes]]:
    """Yield *count* mutated values of our records; the same ones for the same seed."""
    chance = random.Random(seed)  # noqa: S311 - to be repeated, not to be secret.
    subjects = contract()
    for _ in range(count):
        one, golden = chance.choice(subjects)
        value = bytearray(golden)
        # Half of them with one thing changed: with more, hardly any is accepted.
        for _ in range(chance.choice((1, 1, 1, 2, 3))):
            _mutate(chance, value, subjects)
        yield one, bytes(value)


def _mutate(chance: random.Random, value: bytearray, subjects: Any) -> None:
    at = chance.randrange(len(value) + 1)
    byte = chance.choice((0, 1, 2, 3, 0x48, 0x7F, 0x80, 0x81, 0xC3, 0xFF, chance.randrange(256)))
    match chance.randrange(8):
        case 0 | 1:
            value[at : at + 1] = bytes([byte])
        case 2:
            value[at : at + 1] = bytes([(value[at] if at < len(value) else 0) ^ 1 << chance.randrange(8)])
        case 3:
            value[at:at] = bytes([byte])
        case 4:
            del value[at : at + 1]
        case 5:
            del value[at:]
        case 6:
            # A number in a longer form than it needs, where it is one.
            if at < len(value) and value[at] < 0x80:
                value[at : at + 1] = bytes([value[at] | 0x80, 0])
        case _:
            other = chance.choice(subjects)[1]
            start = chance.randrange(len(other))
            value[at : at + chance.randrange(9)] = other[start : start + chance.randrange(9)]


def run(seed: int, count: int) -> Counter[str]:
    """Compare *count* mutants; return how many came to what."""
    return Counter(compare(one, value) for one, value in mutants(seed, count))


def example(extra: Extra) -> tuple[Subject, bytes]:
    """Return *extra*'s example as a record."""
    return subject(record(extra.kind)), extra.example


if __name__ == "__main__":
    import sys

    # SEED COUNT
    for outcome, times in run(int(sys.argv[1]), int(sys.argv[2])).most_common():
        sys.stdout.write(f"{times:>9,}  {outcome}\n")
