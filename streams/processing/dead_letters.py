"""
Dead letters: records that can't be handled, kept raw with where they came from and why.

Header names are those of Kafka Streams' dead letter queue (KIP-1034), so that its tools read them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, cast

from streams.batch import Headers, Output, Refusal
from streams.headers import ERRORS, LEFT_OUT, REASON, TIMESTAMP, original_ms
from topology.topics import DEAD_LETTERS, EMAIL_COMMANDS

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
