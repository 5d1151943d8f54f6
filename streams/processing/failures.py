"""The last processes that failed here, for people who look: a few in memory, since this worker started."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import Final

from streams.batch import Failure
from streams.processing.commit import Work

KEPT: Final = 50


class Failures:
    """`committed` is the session's, everything else anybody's."""

    def __init__(self) -> None:
        self.since_ms = time.time_ns() // 1_000_000
        """Since when failures are counted, Unix milliseconds."""
        self.count = 0
        """All of them, those too that aren't kept any more."""
        self._last: deque[Failure] = deque(maxlen=KEPT)

    def committed(self, works: Sequence[Work]) -> None:
        """Take in what was committed."""
        for work in works:
            if failures := work.batch.failures:
                self.count += len(failures)
                self._last.extend(failures)

    def last(self) -> list[Failure]:
        """Return the last of them, the newest first."""
        return list(self._last.copy())[::-1]
