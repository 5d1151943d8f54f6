"""
Where to read from, when librdkafka doesn't know.

While an open transaction holds a partition's committed position, librdkafka asks for it again and again; but when the
assignment changes meanwhile, 2.16 takes it for a position that was never committed, and reads nothing until the next
rebalance. So what it says is asked again, outside of it; only a position that isn't there then is one that nobody gave.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

import structlog

from streams.errors import Unavailable
from streams.transport.member import TP, GroupOffsets

log = structlog.get_logger(__name__)

ASK_S: Final = 0.5
"""One question lasts this long at most: it is asked in the session's thread."""
PAUSE_S: Final = 0.5


class Places:
    """The partitions of one life that librdkafka found no place for."""

    def __init__(self, offsets: GroupOffsets) -> None:
        self._offsets = offsets
        self._asking: set[TP] = set()
        self._asked: set[TP] = set()
        self._again_s = 0.0

    def asks(self, partition: int) -> bool:
        """Return whether a place of this partition number is being asked for."""
        return any(tp.partition == partition for tp in self._asking)

    def ask(self, tp: TP) -> bool:
        """Ask where to read *tp* from; return False if that was done already in this assignment."""
        if tp in self._asked:
            return False
        self._asking.add(tp)
        self._asked.add(tp)
        return True

    def forget(self, tp: TP) -> None:
        """*tp* isn't ours any more."""
        self._asking.discard(tp)
        self._asked.discard(tp)

    def answers(self) -> Mapping[TP, int]:
        """Return the committed positions that are known now, negative where there is none; nothing while unstable."""
        if not self._asking or time.monotonic() < self._again_s:
            return {}
        try:
            found = self._offsets.wait_stable(self._asking, ASK_S)
        except Unavailable:
            self._again_s = time.monotonic() + PAUSE_S
            return {}
        self._asking.clear()
        return found


def tell_held(partition: TP, detail: str) -> None:
    """Say that *partition* is held, and what a person can do."""
    log.error(
        "partition held: no position to read from; a new group gets its positions by `rejoinder topics apply`, "
        "otherwise records were removed before they were read",
        topic=partition.topic,
        partition=partition.partition,
        detail=detail,
    )
