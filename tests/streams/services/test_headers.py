"""Headers of what is produced."""

from __future__ import annotations

import pytest

from streams.headers import cloud_event_headers, header, rfc3339


def test_all_attributes_are_headers_with_ce_prefix() -> None:
    """CloudEvents' binary mode, and traceparent by its own name."""
    expected = [
        ("ce_specversion", b"1.0"),
        ("ce_source", b"/orders"),
        ("ce_type", b"orders.OrderDetailsRetrieved"),
        ("ce_time", b"2026-02-02T02:40:00.007Z"),
        ("ce_id", b"id-1"),
        ("ce_correlationid", b"command-1"),
        ("ce_causationid", b"query-1"),
        ("traceparent", b"00-a-b-01"),
    ]
    actual = cloud_event_headers(
        id="id-1",
        source="/orders",
        type="orders.OrderDetailsRetrieved",
        time_ms=1_770_000_000_007,
        correlation_id="command-1",
        causation_id="query-1",
        traceparent="00-a-b-01",
    )
    assert expected == actual


def test_what_is_unknown_has_no_header() -> None:
    """An empty value would be a value."""
    actual = cloud_event_headers(id="id-1", source="/orders", type="T", time_ms=0)
    assert ["ce_specversion", "ce_source", "ce_type", "ce_time", "ce_id"] == [name for name, _ in actual]


def test_headers_of_two_events_are_two_lists() -> None:
    """What is cached can't be changed by whoever gets it."""
    cloud_event_headers(id="id-1", source="/orders", type="T", time_ms=0).clear()
    assert len(cloud_event_headers(id="id-1", source="/orders", type="T", time_ms=0)) == 5


@pytest.mark.parametrize(
    ("time_ms", "expected"),
    [
        (0, b"1970-01-01T00:00:00.000Z"),
        (-1, b"1969-12-31T23:59:59.999Z"),
        (1_770_000_000_123, b"2026-02-02T02:40:00.123Z"),
    ],
)
def test_time_is_rfc_3339_in_utc(time_ms: int, expected: bytes) -> None:
    """Milliseconds count upwards also before 1970."""
    assert expected == rfc3339(time_ms)


def test_first_header_of_a_name_is_found() -> None:
    """Others of the same name were added later, by somebody else."""
    headers = [("a", b"1"), ("b", b"2"), ("b", b"3")]
    assert ("2", None, None) == (header(headers, "b"), header(headers, "c"), header(None, "b"))


def test_null_header_is_none() -> None:
    """Kafka has null values in headers."""
    assert header([("a", None)], "a") is None
