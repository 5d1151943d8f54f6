"""The dead letters of the last day by reason, counted again when there are new ones, beside whoever asks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Final

from streams.overview import dead_letters
from streams.settings import Settings
from topology.policy import DAY_MS

SINCE: Final = "24h"
LETTERS_MAX: Final = 10_000
"""Read at a time: more than that is told as so many, and needs no better number."""
AGAIN_S: Final = 20.0
"""Between two counts, at least."""
LATEST_S: Final = 600.0
"""Between two counts at most: the day goes on."""


class Letters:
    """Counts in a thread of its own. *end* of the methods: the topic's end, all partitions together."""

    def __init__(self, settings: Settings, count: Callable[..., dict[str, Any]] = dead_letters) -> None:
        self._settings = settings
        self._count = count
        self._counted: dict[str, Any] = {"since": SINCE, "by_reason": None, "at_ms": None}
        self._end = -1
        self._began_s = -LATEST_S
        self._thread: threading.Thread | None = None

    def now(self, end: int) -> dict[str, Any]:
        """
        Return what was counted last, and begin to count anew if there is reason to.

        ``by_reason`` is None before the first count; ``error`` says why there is none; ``more`` that there are more.
        """
        age_s = time.monotonic() - self._began_s
        running = self._thread is not None and self._thread.is_alive()
        if not running and (age_s > LATEST_S or (end != self._end and age_s > AGAIN_S)):
            self._end, self._began_s = end, time.monotonic()
            self._thread = threading.Thread(target=self._run, name="rejoinder-dead-letters", daemon=True)
            self._thread.start()
        return self._counted

    def _run(self) -> None:
        found = self._count(self._settings, DAY_MS, LETTERS_MAX)
        counted: dict[str, Any] = {"since": SINCE, "at_ms": time.time_ns() // 1_000_000}
        if "error" in found:
            self._counted = counted | {"by_reason": None, "error": found["error"]}
        else:
            self._counted = counted | {"by_reason": found, "more": sum(found.values()) >= LETTERS_MAX}
