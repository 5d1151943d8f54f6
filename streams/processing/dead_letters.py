"""
Dead letters: records that can't be handled, kept raw with where they came from and why.

Header names are those of Kafka Streams' dead letter queue (KIP-1034), so that its tools read them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from streams.batch import Headers, Output, Refusal
from topology.topics import DEAD_LETTERS

REASON: Final = "rejoinder.reason"
TIMESTAMP: Final = "rejoinder.timestamp"
_NAMES: Final = "__streams.errors."
_DETAIL_CHARS_MAX: Final = 1_000


def dead_letter(refusal: Refusal, cluster_name: Callable[[str], str]) -> Output:
    """
    Return the record for the dead letters' topic: raw key, value and headers, and the coordinates in headers.

    *cluster_name* makes the cluster's name of a declared topic: a person looks there for the original.
    """
    record = refusal.record
    about: Headers = [
        (f"{_NAMES}exception", refusal.reason.encode()),
        (f"{_NAMES}message", refusal.detail[:_DETAIL_CHARS_MAX].encode(errors="replace")),
        (f"{_NAMES}topic", cluster_name(record.topic).encode()),
        (f"{_NAMES}partition", b"%d" % record.partition),
        (f"{_NAMES}offset", b"%d" % record.offset),
        (REASON, refusal.reason.encode()),
        (TIMESTAMP, b"%d" % record.timestamp_ms),
    ]
    return Output(DEAD_LETTERS.name, record.key, record.value, [*(record.headers or ()), *about])
