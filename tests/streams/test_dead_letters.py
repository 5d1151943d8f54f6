"""Dead letters: the record as it came, and where from and why."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs

from streams.batch import Headers, Record, Refusal
from streams.processing import dead_letters
from streams.processing.dead_letters import TOLD_EVERY_S, Refusals, dead_letter
from topology.topics import DEAD_LETTERS

RECORD = Record("order-confirmation.commands", 3, 42, 1_770_000_000_000, b"key", b"\0raw", [("trace", b"x")])


def test_dead_letter_is_the_record_as_it_came() -> None:
    """Raw key and value, its own headers first, then KIP-1034's, and ours."""
    letter = dead_letter(Refusal(RECORD, "not-framed", "no frame"), lambda name: f"prod.{name}")
    expected: Headers = [
        ("trace", b"x"),
        ("__streams.errors.exception", b"not-framed"),
        ("__streams.errors.message", b"no frame"),
        ("__streams.errors.topic", b"prod.order-confirmation.commands"),
        ("__streams.errors.partition", b"3"),
        ("__streams.errors.offset", b"42"),
        ("rejoinder.reason", b"not-framed"),
        ("rejoinder.timestamp", b"1770000000000"),
    ]
    assert expected == letter.headers
    assert (DEAD_LETTERS.name, b"key", b"\0raw") == letter[:3]


def test_nulls_stay_nulls() -> None:
    """A null key, a null value and no headers are no empty ones."""
    record = RECORD._replace(key=None, value=None, headers=None)
    letter = dead_letter(Refusal(record, "null", "both"), str)
    assert (None, None) == (letter.key, letter.value)
    assert 7 == len(letter.headers)


def test_long_detail_is_cut() -> None:
    """A detail that quotes the record doesn't double it."""
    letter = dead_letter(Refusal(RECORD, "bad-text", "ä" * 5_000), str)
    assert ("ä" * 1_000).encode() == dict(letter.headers)["__streams.errors.message"]


def test_detail_that_is_no_text_does_not_fail() -> None:
    """A lone surrogate can't be encoded; the dead letter is more important."""
    letter = dead_letter(Refusal(RECORD, "bad-text", "\ud800"), str)
    assert b"?" == dict(letter.headers)["__streams.errors.message"]


def test_headers_of_the_record_are_not_changed() -> None:
    """The record may be read again, after an abort."""
    dead_letter(Refusal(RECORD, "null", ""), str)
    assert [("trace", b"x")] == RECORD.headers


def test_record_that_is_too_large_goes_without_its_value() -> None:
    """Refused by the broker, it would stop every worker that reads it; its coordinates lead to the original."""
    huge = RECORD._replace(value=b"\0" * (DEAD_LETTERS.record_bytes_max + 1))
    letter = dead_letter(Refusal(huge, "too-large", "9 MB"), str)
    assert (b"key", None) == (letter.key, letter.value)
    left_out = dict(letter.headers)["rejoinder.left-out-bytes"]
    assert len(huge.value or b"") + len("tracex") == int(left_out)


def test_flood_is_one_line_of_each_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """By which the record is found, and how many more there were."""
    now_s = 1_000.0
    monkeypatch.setattr(dead_letters, "time", SimpleNamespace(monotonic=lambda: now_s))
    refusals = Refusals()
    with capture_logs() as lines:
        refusals.tell([Refusal(RECORD, "null", "")] * 500 + [Refusal(RECORD, "truncated", "")])
        now_s += TOLD_EVERY_S
        refusals.tell([Refusal(RECORD._replace(offset=43), "null", "")])
    assert [("null", 0, 42), ("truncated", 0, 42), ("null", 499, 43)] == [
        (line["reason"], line["more_before"], line["offset"]) for line in lines
    ]
    assert {("dead letter", "key")} == {(line["event"], line["order_id"]) for line in lines}
