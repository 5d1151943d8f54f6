"""The worker's clock: it never goes back, and after a jump deadlines wait."""

from __future__ import annotations

import pytest

from streams.processing.clock import HOLD_MS, JUMP_MS, Clock

START_MS = 1_770_000_000_000


class Times:
    """A wall clock and a monotonic one that a test sets, in milliseconds."""

    def __init__(self) -> None:
        self.wall_ms = START_MS
        self.monotonic_ms = 5_000_000

    def pass_ms(self, time_ms: int, jump_ms: int = 0) -> None:
        """Let *time_ms* pass, and put the wall clock forward by *jump_ms* besides."""
        self.wall_ms += time_ms + jump_ms
        self.monotonic_ms += time_ms

    def clock(self) -> Clock:
        """Return a clock by these times."""
        return Clock(lambda: self.wall_ms * 1_000_000 + 999_999, lambda: self.monotonic_ms * 1_000_000)


def test_clock_reads_the_wall_in_whole_milliseconds() -> None:
    """Unix milliseconds, and the same instant until it is read again."""
    times = Times()
    clock = times.clock()
    times.pass_ms(1_234)
    assert START_MS == clock.now_ms
    assert START_MS + 1_234 == clock.read() == clock.now_ms
    assert clock.steady


def test_clock_never_goes_back() -> None:
    """It goes on at half speed until the wall clock has caught up."""
    times = Times()
    clock = times.clock()
    seen = []
    for jump_ms in (0, -500, 0, 0, 0, 0, 0):
        times.pass_ms(200, jump_ms)
        seen.append(clock.read() - START_MS)
    assert [200, 300, 400, 500, 600, 700, 900] == seen
    assert clock.steady


@pytest.mark.parametrize("sign", [1, -1])
def test_jump_holds_deadlines_for_a_while(sign: int) -> None:
    """Forward or back: for `HOLD_MS` of time that really passes."""
    times = Times()
    clock = times.clock()
    times.pass_ms(100, sign * (JUMP_MS + 1))
    clock.read()
    assert not clock.steady
    times.pass_ms(HOLD_MS - 1)
    clock.read()
    assert not clock.steady
    times.pass_ms(1)
    clock.read()
    assert clock.steady


def test_small_jump_holds_nothing() -> None:
    """Clocks are adjusted all the time."""
    times = Times()
    clock = times.clock()
    times.pass_ms(100, JUMP_MS)
    clock.read()
    assert clock.steady


def test_second_jump_begins_the_hold_anew() -> None:
    """A clock that is put right again jumps twice."""
    times = Times()
    clock = times.clock()
    times.pass_ms(0, 10 * JUMP_MS)
    clock.read()
    times.pass_ms(HOLD_MS - 1, -10 * JUMP_MS)
    clock.read()
    times.pass_ms(HOLD_MS - 1)
    clock.read()
    assert not clock.steady
    assert START_MS + 2 * HOLD_MS - 2 == clock.now_ms


def test_clock_that_is_put_right_in_time_has_changed_nothing() -> None:
    """A day ahead for half a minute: what is decided then and later is dated as if nothing had happened."""
    times = Times()
    clock = times.clock()
    times.pass_ms(1_000, 86_400_000)
    assert START_MS + 1_000 == clock.read()
    times.pass_ms(HOLD_MS // 2)
    assert START_MS + 1_000 + HOLD_MS // 2 == clock.read()
    times.pass_ms(1_000, -86_400_000)
    clock.read()
    times.pass_ms(HOLD_MS)
    assert START_MS + 2_000 + HOLD_MS * 3 // 2 == clock.read() == times.wall_ms
    assert clock.steady


def test_clock_that_stays_ahead_is_believed_in_the_end() -> None:
    """A machine that was suspended for an hour."""
    times = Times()
    clock = times.clock()
    times.pass_ms(1_000, 3_600_000)
    assert START_MS + 1_000 == clock.read()
    times.pass_ms(HOLD_MS - 1)
    assert START_MS + 1_000 + HOLD_MS - 1 == clock.read()
    times.pass_ms(1)
    assert times.wall_ms == clock.read()


def test_long_silence_is_no_jump() -> None:
    """An hour between two batches, on both clocks."""
    times = Times()
    clock = times.clock()
    times.pass_ms(3_600_000)
    assert START_MS + 3_600_000 == clock.read()
    assert clock.steady


def test_clock_by_default_is_this_machine_s() -> None:
    """Reads of the real clocks don't go back."""
    clock = Clock()
    assert START_MS < clock.now_ms <= clock.read()
    assert clock.steady
