"""
Dead letters: records that can't be handled, kept raw with where they came from and why.

Header names are those of Kafka Streams' dead letter queue (KIP-1034), so that its tools read them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Final, cast

import structlog

from streams.batch import Headers, Output, Refusal
from streams.headers import ERRORS, LEFT_OUT, REASON, TIMESTAMP, about, original_ms
from topology.topics import DEAD_LETTERS, EMAIL_COMMANDS

log = structlog.get_logger(__name__)

TOLD_EVERY_S: Final = 10.0
"""Of each reason there is a line so often at most: a flood of what can't be handled is no flood of lines."""

_DETAIL_CHARS_MAX: Final = 1_000
_ORIGINAL_BYTES_MAX: Final = EMAIL_COMMANDS.record_bytes_max
"""Value and headers together; the topic takes somewhat more, for the key and what is added."""


def dead_letter(refusal: Refusal, cluster_name: Callable[[str], str]) -> Output:
    """
    Return the record for the dead letters' topic: raw key, value and headers, and the coordinates in headers.

    *cluster_name* makes the cluster's name of a declared topic: a person looks there for the original. One that is too
    large for the dead letters goes without its value and headers, and says so; its coordinates lead to it.
    """
    record = refusal.record
    about: Headers = [
        (f"{ERRORS}exception", refusal.reason.encode()),
        (f"{ERRORS}message", refusal.detail[:_DETAIL_CHARS_MAX].encode(errors="replace")),
        (f"{ERRORS}topic", cluster_name(record.topic).encode()),
        (f"{ERRORS}partition", b"%d" % record.partition),
        (f"{ERRORS}offset", b"%d" % record.offset),
        (REASON, refusal.reason.encode()),
        (TIMESTAMP, b"%d" % original_ms(record)),
    ]
    headers = cast("Headers", record.headers or [])  # Null values are passed on as they came.
    size = len(record.value or b"") + sum(len(name) + len(value or b"") for name, value in headers)
    if size > _ORIGINAL_BYTES_MAX:
        # Refused by the broker, it would abort the transaction of every worker that reads it.
        return Output(DEAD_LETTERS.name, record.key, None, [*about, (LEFT_OUT, b"%d" % size)])
    return Output(DEAD_LETTERS.name, record.key, record.value, [*headers, *about])


class Refusals:
    """Tells of committed refusals in the log: one of each reason, with how many more there were since its last line."""

    def __init__(self) -> None:
        self._told_s: dict[str, float] = {}
        self._untold: dict[str, int] = {}

    def tell(self, refusals: Iterable[Refusal]) -> None:
        """Take *refusals*, which are in the dead letters now."""
        for refusal in refusals:
            now_s, reason = time.monotonic(), str(refusal.reason)
            if now_s - self._told_s.get(reason, -TOLD_EVERY_S) < TOLD_EVERY_S:
                self._untold[reason] = self._untold.get(reason, 0) + 1
                continue
            self._told_s[reason] = now_s
            more = self._untold.pop(reason, 0)
            log.warning("dead letter", reason=reason, more_before=more, **about(refusal.record))
