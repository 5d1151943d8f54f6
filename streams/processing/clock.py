"""The worker's clock, as the core may see it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import structlog

log = structlog.get_logger(__name__)

JUMP_MS: Final = 60_000
"""A wall clock that moves this much more or less than time did has jumped."""

HOLD_MS: Final = 60_000
"""How long deadlines are held after a jump: time for a wrong clock to be put right."""


class Clock:
    """
    Wall clock that never goes back, in Unix milliseconds, and says when deadlines may not be believed.

    After a jump back it goes on at half speed until the wall clock has caught up. After a jump forward it goes on as
    before, until the wall clock has been ahead for `HOLD_MS`: as it never goes back, a wrong clock that it had followed
    would make every deadline fire too early even after it was put right.

    Attributes:
        now_ms: The wall clock at the last `read`.
        monotonic_ms: The time that has really passed, from some instant on; for waits that no jump may lengthen.
    """

    def __init__(
        self,
        wall_ns: Callable[[], int] = time.time_ns,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._wall_ns = wall_ns
        self._monotonic_ns = monotonic_ns
        self._wall_ms = wall_ns() // 1_000_000
        self.monotonic_ms = monotonic_ns() // 1_000_000
        self._held_until_ms = 0
        self.now_ms = self._wall_ms

    def read(self) -> int:
        """Read the clocks; return ``now_ms``. Once a batch: all of a batch happens at one instant."""
        wall_ms, monotonic_ms = self._wall_ns() // 1_000_000, self._monotonic_ns() // 1_000_000
        passed_ms = monotonic_ms - self.monotonic_ms
        jump_ms = (wall_ms - self._wall_ms) - passed_ms
        if abs(jump_ms) > JUMP_MS:
            self._held_until_ms = monotonic_ms + HOLD_MS
            log.warning("clock jumped", jump_s=jump_ms / 1000, deadlines_held_s=HOLD_MS / 1000)
        self._wall_ms, self.monotonic_ms = wall_ms, monotonic_ms
        now_ms = max(self.now_ms + passed_ms // 2, wall_ms)
        self.now_ms = now_ms if self.steady else min(now_ms, self.now_ms + passed_ms)
        return self.now_ms

    @property
    def steady(self) -> bool:
        """Whether deadlines may fire: the clock hasn't jumped lately."""
        return self.monotonic_ms >= self._held_until_ms
