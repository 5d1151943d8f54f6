"""
The gate before deadlines.

A deadline fires only when every input has been read up to an end that was fetched after it fell due. Without it,
after an hour of downtime deadlines would fire while the answers that make them needless lie unread. So deadlines are
decided as of the instant at which the ends were asked for, not as of now: another one of the same row may have fallen
due since.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

import structlog
from confluent_kafka import IsolationLevel, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from streams.offsets import Listed, list_offsets
from streams.transport.member import TP

log = structlog.get_logger(__name__)

INTERVAL_S: Final = 0.2
"""Between two requests: deadlines wait for this long at most, and the broker is asked this often at most."""

FAILED_S: Final = 1.0
"""From a failed answer to the next request."""

REQUEST_S: Final = 10.0


class Ends(NamedTuple):
    """End offsets (of records not yet committed too), and the worker's time just before they were asked for."""

    asked_at_ms: int
    offsets: Mapping[TP, int]


class EndOffsets:
    """Fetches end offsets without waiting for them."""

    def __init__(self, config: dict[str, Any], cluster_name: Callable[[str], str]) -> None:
        self._config = config
        # Held by name: a collected client never resolves its futures.
        self._admin = AdminClient(config)
        self._cluster_name = cluster_name
        self._asked_at_ms = 0
        self._asked_s = 0.0
        self._futures: dict[TP, Listed] = {}

    def ask(self, partitions: Iterable[TP], now_ms: int) -> None:
        """Ask for the ends of *partitions*, unless a request is under way or the last was a moment ago."""
        if self._futures or time.monotonic() - self._asked_s < INTERVAL_S:
            return
        of = {TopicPartition(self._cluster_name(tp.topic), tp.partition): tp for tp in partitions}
        self._asked_s, self._asked_at_ms = time.monotonic(), now_ms
        # Of all records, committed or not: an answer in a transaction that is still open is an answer too.
        latest: OffsetSpec = OffsetSpec.latest()
        found = list_offsets(
            self._admin,
            dict.fromkeys(of, latest),
            isolation_level=IsolationLevel.READ_UNCOMMITTED,
            request_timeout=REQUEST_S,
        )
        self._futures = {of[tp]: future for tp, future in found.items()}

    def answer(self) -> Ends | None:
        """Return what was asked for, once; None while it is under way, and when the broker didn't answer."""
        if not self._futures or not all(future.done() for future in self._futures.values()):
            return None
        futures, self._futures = self._futures, {}
        if failed := [future.exception() for future in futures.values() if future.exception()]:
            log.warning("end offsets", error=str(failed[0]))
            # A client keeps to the leaders that it has seen first (librdkafka 2.16): after a change of them each of its
            # questions would be refused. A new one asks who they are; not too often, while there is nobody to ask.
            self._admin = AdminClient(self._config)
            self._asked_s = time.monotonic() + FAILED_S - INTERVAL_S
            return None
        return Ends(self._asked_at_ms, {tp: future.result().offset for tp, future in futures.items()})
