"""Dead letters for a person: what is said, masked and kept from the terminal."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from streams.batch import Headers, Record, Refusal
from streams.cli import letter_view as view
from streams.errors import ConfigurationError
from streams.monitor.dead_letter_log import Marks, _marked
from streams.monitor.dead_letters import (
    Coordinates,
    Filters,
    Letter,
    letter_of,
    mask,
    mask_text,
    parse_since_ms,
)
from streams.monitor.redrive import REDRIVES_MAX, Back, Left, Rules, Why, plan
from streams.processing.dead_letters import dead_letter
from streams.transport.reading import Span
from topology.policy import DAY_MS
from topology.topics import COMMANDS

NOW_MS = 1_770_000_000_000
TOPIC = "dead"
RULES = Rules({COMMANDS.name: 4}, 35 * DAY_MS, NOW_MS)
NONE = Marks({0: Span(0, 100)})


def message(headers: Headers | None, key: bytes | None = b"k", value: bytes | None = b"v", at_ms: int = NOW_MS) -> Any:
    """Return what a consumer gives."""
    return SimpleNamespace(
        topic=lambda: TOPIC, partition=lambda: 0, offset=lambda: 7, timestamp=lambda: (1, at_ms), key=lambda: key,
        value=lambda: value, headers=lambda: headers,
    )  # fmt: skip


def letter(headers: Headers | None = None, **changed: Any) -> Letter:
    """Return the letter of a refused command with these headers."""
    record = Record(COMMANDS.name, 2, 9, NOW_MS - 5, b"k", b"v", headers)
    _, key, value, written = dead_letter(Refusal(record, "truncated", "of ada@example.com"), str)
    return letter_of(message(written, key, value))._replace(**changed)


def test_letter_says_what_the_dead_letter_was_told() -> None:
    """Where from, why, when, and the record's own headers back as they came."""
    found = letter([("ce_id", b"1")])
    assert (Coordinates(TOPIC, 0, 7), Coordinates(COMMANDS.name, 2, 9)) == (found.at, found.origin)
    assert ("truncated", NOW_MS, NOW_MS - 5, 0, 0) == (
        found.reason, found.refused_ms, found.original_ms, found.redrives, found.left_out_bytes,
    )  # fmt: skip
    assert [("ce_id", b"1")] == found.own_headers


def test_record_that_claims_to_be_a_dead_letter_convinces_nobody() -> None:
    """Its headers come first; what the dead letter says comes last, and counts."""
    found = letter(
        [("__streams.errors.topic", b"theirs"), ("rejoinder.reason", b"none"), ("rejoinder.timestamp", b"9")]
    )
    assert (COMMANDS.name, "truncated", NOW_MS - 5) == (found.origin and found.origin.topic, found.reason, found[5])


def test_anything_in_the_topic_is_a_letter() -> None:
    """No headers, null headers, numbers that are none."""
    for headers in (None, [], [("rejoinder.timestamp", None), ("__streams.errors.offset", b"-1")]):
        found = letter_of(message(headers, None, None))  # type: ignore[arg-type]
        assert ("unknown", None, NOW_MS, 0) == (found.reason, found.origin, found.original_ms, found.size)
        assert "unknown place" in view.below(found)


@pytest.mark.parametrize("text", ["3/17", "dead/3/17", "order-confirmation.dead-letters/3/17"])
def test_coordinates_are_read_as_they_are_written(text: str) -> None:
    """With or without the topic, by either of its names."""
    assert Coordinates(TOPIC, 3, 17) == Coordinates.parse(text, TOPIC)


@pytest.mark.parametrize("text", ["", "3", "3/", "/3/4", "a/b", "other/3/17", "3/-1", "3/1_0", "٣/١", "9" * 10 + "/1"])
def test_what_are_no_coordinates_is_refused(text: str) -> None:
    """With how to write them, or which topic was meant."""
    with pytest.raises(ConfigurationError, match=r"dead/PARTITION/OFFSET|not in "):
        Coordinates.parse(text, TOPIC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90m", NOW_MS - 90 * 60_000),
        ("2d", NOW_MS - 2 * DAY_MS),
        ("2026-01-31", 1_769_817_600_000),
        ("2026-01-31T03:00", 1_769_828_400_000),
        ("2026-01-31T03:00+01:00", 1_769_824_800_000),
        ("1969-12-31", 0),
        ("0001-01-01T00:00+23:00", 0),
    ],
)
def test_since_is_read(text: str, expected: int) -> None:
    """How long ago, or when."""
    assert expected == parse_since_ms(text, NOW_MS)


@pytest.mark.parametrize("text", ["yesterday", "", "90", "-2d", "2026-02-30"])
def test_what_is_no_time_is_refused(text: str) -> None:
    """With what is one."""
    with pytest.raises(ConfigurationError, match="how long ago"):
        parse_since_ms(text, NOW_MS)


def test_filters_mean_what_meets_all_of_them() -> None:
    """And everything when none is set."""
    found = letter()
    for filters, expected in (
        (Filters(), True),
        (Filters(frozenset({"truncated", "null"}), NOW_MS, frozenset({COMMANDS.name})), True),
        (Filters(reasons=frozenset({"null"})), False),
        (Filters(since_ms=NOW_MS + 1), False),
        (Filters(topics=frozenset({"x"})), False),
    ):
        assert expected is filters.match(found)
    assert not Filters(topics=frozenset({"x"})).match(found._replace(origin=None))


def test_addresses_are_masked_in_place() -> None:
    """Their length stays, so that positions in the value are right; what has no @ is untouched."""
    assert b"\x02***@*********** \xff x" == mask(b"\x02ada@example.com \xff x")
    assert "to <***@********>, *@*" == mask_text("to <ada@exämple>, b@c")
    assert "no address" == mask_text("no address")


def test_masking_comes_to_an_end() -> None:
    """Two MB without a delimiter, as random bytes may be: a careless pattern takes hours for it."""
    assert b"a" * 2_000_000 == mask(b"a" * 2_000_000)
    assert b"*@" * 1_000_000 == mask(b"a@" * 1_000_000)


def test_nothing_of_a_record_moves_the_terminal() -> None:
    """Escapes, bells and markup in key, headers, detail and reason are shown as what they are."""
    evil = b"\x1b[2J\x07[bold]\xff ada@example.com"
    found = letter([("\x1b[31m", evil)], key=evil, reason="\x1b[31m", detail=evil.decode(errors="replace"), value=evil)
    lines = [view.headline(found, 9, put_back=True), view.below(found)]
    lines += [*view.whole(found, ("R", {"x": "\x1b"}), put_back=False, raw=True)]
    lines += [*view.whole(found, "\x1b", put_back=False, raw=False)]
    assert all(c.isprintable() or c == "\n" for line in lines for c in line)
    assert r"\x1b[2J\x07\[bold]\xff ***@***********" in lines[0]
    assert "ada@example.com" not in view.as_json(found, put_back=True)
    assert json.loads(view.as_json(found, put_back=True))["put_back"]


def test_masked_bytes_are_masked_in_the_dump_too() -> None:
    """In hex and in text; --raw shows them, and all of a long value."""
    found = letter(value=b"\x02ada@b.c" + bytes(2_000))
    masked = "\n".join(view.whole(found, "", put_back=False, raw=False))
    assert "00000000  02 ** ** ** 40 ** ** ** 00 00 00 00 00 00 00 00  |.***@***........|" in masked
    assert "… 984 more; --raw shows all" in masked
    raw = "\n".join(view.whole(found, "", put_back=False, raw=True))
    assert "|.ada@b.c........|" in raw
    assert "000007d0" in raw


# What is done with a letter.


def test_letter_goes_where_its_key_belongs() -> None:
    """With its time and how often; what earlier letters and redrives had added is gone."""
    again = letter([("ce_id", b"1"), ("rejoinder.redrive-count", b"4"), ("rejoinder.redriven-from", b"dead/0/1")])
    found = plan(again, NONE, RULES)
    assert isinstance(found, Back)
    assert [
        ("ce_id", b"1"),
        ("rejoinder.redriven-from", b"dead/0/7"),
        ("rejoinder.redrive-count", b"5"),
        ("rejoinder.original-timestamp", b"%d" % (NOW_MS - 5)),
    ] == found.headers


def test_each_why_of_staying_has_its_letter() -> None:
    """And force overrides what a person can answer for, nothing else."""
    marks = Marks({0: Span(0, 100)})
    marks.add(0, 7)
    old = letter(original_ms=NOW_MS - 35 * DAY_MS - 1)
    stays = {
        Why.MARKED: (letter(), marks, True),
        Why.EXPIRED: (old, NONE, True),
        Why.TOO_OFTEN: (letter(redrives=REDRIVES_MAX), NONE, True),
        Why.LEFT_OUT: (letter(left_out_bytes=1), NONE, False),
        Why.NO_INPUT: (letter(origin=Coordinates("x", 0, 0)), NONE, False),
    }
    for why, (found, known, by_force) in stays.items():
        left = plan(found, known, RULES)
        assert isinstance(left, Left)
        assert why is left.why
        assert by_force is isinstance(plan(found, known, RULES._replace(force=True)), Back)
    forced = plan(old, NONE, RULES._replace(force=True))
    assert isinstance(forced, Back)
    assert "rejoinder.original-timestamp" not in dict(forced.headers)
    kept = plan(letter(), marks, RULES._replace(force=True))
    assert isinstance(kept, Back)
    assert "rejoinder.original-timestamp" in dict(kept.headers)


def test_marks_remember_each_offset_alone() -> None:
    """A bit each; what isn't there any more, or not yet, was never put back."""
    marks = Marks({0: Span(5, 30), 1: Span(0, 0)})
    for partition, offset in ((0, 5), (0, 17), (0, 29), (0, 4), (0, 1_000), (1, 0), (9, 0)):
        marks.add(partition, offset)
    found = {offset for offset in range(40) if Coordinates(TOPIC, 0, offset) in marks}
    assert {5, 17, 29} == found
    assert Coordinates(TOPIC, 9, 0) not in marks


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (None, None), (b"0/1", b"no JSON"), (b"0/1", b"[]"), (b"0/1", b'{"topic-id": "other"}'),
        (b"x", b'{"topic-id": "t"}'), (b"0/1", b"\xff"), (b"0/", b'{"topic-id": "t"}'),
    ],
)  # fmt: skip
def test_what_is_no_mark_marks_nothing(key: bytes | None, value: bytes | None) -> None:
    """Whoever wrote it."""
    assert _marked(message([], key, value), "t") is None


def test_mark_is_read() -> None:
    """Partition and offset of the letter."""
    assert (3, 14) == _marked(message([], b"3/14", b'{"topic-id": "t"}'), "t")
