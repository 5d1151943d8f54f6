"""Lag, rates and Burrow's status, from looks that a test makes up."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Final

import pytest
from confluent_kafka import TopicPartition

from streams.errors import Unavailable
from streams.monitor.group_offsets import GroupLooker, times_of
from streams.monitor.lag import History, Look, Member, Place, Status, status_of
from streams.monitor.lag_watch import LagWatch, Watched
from topology.policy import DAY_MS

NOW_MS: Final = 1_770_000_000_000
SOMEBODY: Final = Member("worker-1", "http://one:1", "/127.0.0.1")


def _history(looks: Sequence[tuple[int | None, int]], *, owned: Sequence[bool] | None = None) -> History:
    """Return looks at (committed, stable), one each second."""
    history = History()
    for at, (committed, stable) in enumerate(looks):
        member = SOMEBODY if owned is None or owned[at] else None
        history.add(Look(NOW_MS + at * 1_000, committed, stable, stable, member))
    return history


@pytest.mark.parametrize(
    ("committed", "stable", "end", "lag", "unstable"),
    [
        (10, 10, 10, 0, 0),
        (7, 10, 10, 3, 0),
        (7, 10, 15, 3, 5),
        (10, 10, 15, 0, 5),
        (12, 10, 15, 0, 3),  # The position is newer than the ends.
        (16, 15, 15, 0, 0),
        (None, 10, 15, None, 5),
        (0, 0, 0, 0, 0),
    ],
)
def test_lag_is_what_a_reader_of_committed_records_can_get(
    committed: int | None, stable: int, end: int, lag: int | None, unstable: int
) -> None:
    """The rest waits for an open transaction; both together are what Kafka's own tool calls lag."""
    look = Look(NOW_MS, committed, stable, end, None)
    assert (lag, unstable) == (look.lag, look.unstable)
    if lag is not None and committed is not None and committed <= end:
        assert end - committed == lag + unstable


@pytest.mark.parametrize(
    ("looks", "owned", "expected"),
    [
        ([(5, 5)] * 5, None, Status.OK),
        ([(0, 9), (2, 9), (4, 9)], None, Status.OK),
        # Rule 1: no lag within the window.
        ([(5, 5), (5, 8), (5, 9)], None, Status.OK),
        ([(0, 9), (1, 10), (2, 11)], None, Status.WARN),
        ([(0, 9), (1, 12), (2, 15)], None, Status.WARN),
        # The lag grew, but once it shrank.
        ([(0, 9), (1, 12), (8, 15)], None, Status.OK),
        ([(3, 9), (3, 9), (3, 9)], None, Status.STALL),
        ([(3, 9), (3, 10), (3, 11)], None, Status.STALL),
        ([(5, 9), (4, 9), (6, 9)], None, Status.REWIND),
        # Nobody has it: since the window's commits, or ever.
        ([(3, 9), (3, 9), (3, 9), (3, 9)], [True, True, False, False], Status.STOP),
        ([(3, 9)], [False], Status.STOP),
        ([(None, 9), (None, 9)], [False, False], Status.STOP),
        # Not yet: it has been nobody's for less long than the window.
        ([(3, 9), (4, 9), (5, 9), (5, 9)], [True, True, True, False], Status.OK),
        # One look says nothing of a partition that somebody has.
        ([(3, 9)], [True], None),
        ([(None, 9), (None, 9)], [True, True], None),
    ],
)
def test_status_is_burrow_s(
    looks: Sequence[tuple[int | None, int]], owned: Sequence[bool] | None, expected: Status | None
) -> None:
    """A case for each rule, and each of its edges."""
    assert expected is _history(looks, owned=owned).status


def test_status_forgets_what_left_the_window() -> None:
    """Ten commits: an old lag of 0 doesn't excuse for ever."""
    assert Status.OK is _history([(5, 5)] + [(5, 9)] * 9).status
    assert Status.STALL is _history([(5, 5)] + [(5, 9)] * 10).status


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ([], Status.OK),
        ([[(5, 5), (5, 5)]], Status.OK),
        ([[(5, 5), (5, 5)], [(0, 9), (1, 10)]], Status.WARN),
        ([[(0, 9), (1, 10)], [(3, 9), (3, 9)]], Status.ERR),
        ([[(5, 5)], [(3, 9)]], None),
        ([[(3, 9)], [(0, 9), (1, 10)]], Status.WARN),
    ],
)
def test_group_is_as_well_as_its_worst_partition(
    statuses: list[list[tuple[int | None, int]]], expected: Status
) -> None:
    """ERR for whatever Burrow counts as an error."""
    assert expected is status_of([_history(looks) for looks in statuses])


def test_rate_and_time_to_the_end() -> None:
    """Ten a second against four that come: six a second nearer to the end."""
    history = _history([(0, 100), (10, 104), (20, 108)])
    assert history.rate == 10.0
    assert history.eta_s == pytest.approx(88 / 6)
    assert 0.0 == _history([(5, 5), (5, 5)]).eta_s
    for never in ([(0, 9), (1, 10)], [(3, 9), (3, 9)], [(3, 9)], [(None, 9), (None, 9)]):
        assert _history(never).eta_s is None


class Log:
    """A partition whose records have these times; answers as a broker does."""

    def __init__(self, *times_ms: int) -> None:
        self.times_ms = times_ms
        self.questions = 0

    def first_since(self, instants: Mapping[TopicPartition, int]) -> dict[TopicPartition, Any]:
        """Return the first record since each instant."""
        self.questions += 1
        return {tp: self._first(since_ms) for tp, since_ms in instants.items()}

    def _first(self, since_ms: int) -> Any:
        for offset, time_ms in enumerate(self.times_ms):
            if time_ms >= since_ms:
                return SimpleNamespace(offset=offset, timestamp=time_ms)
        return SimpleNamespace(offset=-1, timestamp=-1)


@pytest.mark.parametrize("age_ms", [0, 1, 99, 150, 1_000, 61_000, 3_600_000, 7 * DAY_MS, 60 * DAY_MS])
def test_time_of_a_record_is_found_without_reading_it(age_ms: int) -> None:
    """To 5 percent, or 100 ms; in few questions."""
    tp = TopicPartition("topic", 0)
    log = Log(*(NOW_MS - age_ms - more for more in (3_600_000, 1_000, 0)), NOW_MS - age_ms // 2, NOW_MS)
    found = times_of({tp: 2}, NOW_MS, log.first_since)[tp]
    assert NOW_MS - age_ms - max(age_ms / 20, 100) <= found <= NOW_MS - age_ms
    assert log.questions <= 12


def test_times_of_many_partitions_are_found_at_once() -> None:
    """As many questions as the one that takes the most."""
    one, other = TopicPartition("topic", 0), TopicPartition("topic", 1)
    log = Log(NOW_MS - 80_000, NOW_MS - 40_000, NOW_MS - 5)
    found = times_of({one: 0, other: 1}, NOW_MS, log.first_since)
    assert {one: NOW_MS - 80_000, other: NOW_MS - 40_000} == found
    assert log.questions <= 12


def test_record_older_than_anything_is_as_old_as_can_be_told() -> None:
    """It ends, whatever the broker's clock says."""
    tp = TopicPartition("topic", 0)
    assert times_of({tp: 0}, NOW_MS, Log(0).first_since)[tp] <= NOW_MS - 60 * DAY_MS
    assert NOW_MS - 100 <= times_of({tp: 0}, NOW_MS, Log(NOW_MS + 5_000).first_since)[tp]


def test_each_partition_is_told_of_by_one_member() -> None:
    """By its own; by the first one if nobody has it."""
    one, two = SOMEBODY, SOMEBODY._replace(client_id="http://two:2")
    histories = {}
    for partition, member in enumerate((one, two, None)):
        history = histories[Place("group", "topic", partition)] = History()
        history.add(Look(NOW_MS, 1, 2, 2, member))
    found: Any = SimpleNamespace(members={"group": [two, one]})
    watched = Watched(0.0, found, histories)
    assert [0, 2] == [place.partition for place in watched.told_by("http://one:1")]
    assert [1] == [place.partition for place in watched.told_by("http://two:2")]
    assert [] == list(watched.told_by("http://three:3"))


def test_watch_that_never_saw_anything_grows_old() -> None:
    """As one whose looks fail by now: the alert for it needs no first success."""

    def fail() -> GroupLooker:
        raise Unavailable("nobody answers")

    watch = LagWatch(fail, 0.01)
    watch.start()
    try:
        first = watch.age_s
        time.sleep(0.05)
        assert watch.last is None
        assert 0.05 <= watch.age_s - first < 60
    finally:
        watch.stop()
