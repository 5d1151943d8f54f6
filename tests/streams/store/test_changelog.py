"""Where a restore begins."""

from __future__ import annotations

import pytest

from streams.store.changelog import Begin, Bounds, Facts, begin
from streams.store.partition import Checkpoint

DAY_MS = 86_400_000
NOW_MS = 100 * DAY_MS
FACTS = Facts("id", 7 * DAY_MS)
BOUNDS = Bounds(10, 50)


@pytest.mark.parametrize("position", [10, 30, 50])
def test_rows_stay_when_everything_since_is_in_the_log(position: int) -> None:
    """From the log's start up to its end, both included, reading goes on at the checkpoint."""
    checkpoint = Checkpoint(position, "id", NOW_MS - 6 * DAY_MS)

    assert Begin(position, "") == begin(checkpoint, FACTS, BOUNDS, NOW_MS)


@pytest.mark.parametrize(
    ("checkpoint", "because"),
    [
        (None, "new"),
        (Checkpoint(30, "other", NOW_MS), "created anew"),
        (Checkpoint(51, "id", NOW_MS), "beyond the end 50"),
        (Checkpoint(9, "id", NOW_MS), "before the start 10"),
        (Checkpoint(30, "id", NOW_MS - 6 * DAY_MS - 1), "older than tombstones"),
    ],
)
def test_everything_is_restored_otherwise(checkpoint: Checkpoint | None, because: str) -> None:
    """Rows that may contradict the log are given up, and the reason is said."""
    found = begin(checkpoint, FACTS, BOUNDS, NOW_MS)

    assert 10 == found.position
    assert because in found.because


def test_short_retention_of_tombstones_leaves_half_of_it() -> None:
    """With Kafka's default of one day, a margin of a day would make every restore a full one."""
    facts = Facts("id", DAY_MS)

    assert "" == begin(Checkpoint(30, "id", NOW_MS - DAY_MS // 2), facts, BOUNDS, NOW_MS).because
    assert "" != begin(Checkpoint(30, "id", NOW_MS - DAY_MS // 2 - 1), facts, BOUNDS, NOW_MS).because
