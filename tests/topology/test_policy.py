"""Waits: their bounds, and what production's are."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.topology.world import COMMAND
from topology.policy import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, Policy
from topology.topics import TOPICS


def test_defaults_are_the_documented_ones() -> None:
    """Production's waits and attempts."""
    expected = Policy(
        ask_after_ms=0,
        details_max_age_ms=HOUR_MS,
        details_ttl_ms=7 * DAY_MS,
        retry_first_ms=30 * SECOND_MS,
        retry_most_ms=60 * MINUTE_MS,
        not_found_attempts=3,
        give_up_after_ms=24 * HOUR_MS,
        email_attempts=10,
        email_outcome_wait_ms=24 * HOUR_MS,
        finished_ttl_ms=35 * DAY_MS,
        processes_max=100,
    )

    assert expected == Policy()


def test_finished_processes_outlive_every_record() -> None:
    """No duplicate, however late it is read, finds its process forgotten; a segment keeps a record a day longer."""
    assert Policy().finished_ttl_ms > max(topic.retention_ms for topic in TOPICS) + DAY_MS


@given(st.uuids().map(str), st.integers(1, 100), st.integers(1, HOUR_MS), st.integers(1, DAY_MS))
def test_backoff_doubles_within_bounds(command_id: str, attempt: int, first_ms: int, most_ms: int) -> None:
    """Between half and all of the wait that doubles with each attempt up to the most."""
    whole_ms = min(first_ms * 2 ** (attempt - 1), most_ms)

    wait_ms = Policy(retry_first_ms=first_ms, retry_most_ms=most_ms).backoff_ms(command_id, attempt)

    assert whole_ms // 2 <= wait_ms <= whole_ms


def test_backoff_is_the_same_in_every_replay() -> None:
    """Golden: a changed jitter would move the deadlines of recorded histories."""
    waits = [Policy().backoff_ms(COMMAND, attempt) for attempt in range(1, 12)]

    expected = [21047, 37099, 87309, 224044, 462345, 497802, 1863240, 3494422, 2834234, 2053733, 1956082]
    assert expected == waits
