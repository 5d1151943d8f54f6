"""librdkafka's messages as our records: also where Python's client can't be taken at its word."""

from __future__ import annotations

from collections.abc import Callable
from operator import methodcaller
from typing import Any, Final

import structlog

from streams.batch import Headers, Record

log = structlog.get_logger(__name__)

_new: Final = tuple.__new__
"""See `topology.process`."""

UNREADABLE: Final = "rejoinder.unreadable-headers"
"""The one header of a record whose own can't be read: where it is, so that a person finds the original."""

_headers_of: Final = methodcaller("headers")
"""
The client's failure leaves an exception set beside its result. Called from C, as here, that is found out. Called from
Python, the interpreter's faster paths overlook it (tried on CPython 3.11), and the process crashes some calls later.
"""


def records_of(messages: list[Any], names: dict[str, str], special: Callable[[Any], object]) -> dict[int, list[Record]]:
    """
    Return the records of *messages* by partition number, in their order.

    Args:
        messages: As one poll brought them.
        names: The declared name of each topic, by the cluster's.
        special: Takes those that are no records: errors, and ends of partitions.
    """
    records: dict[int, list[Record]] = {}
    for m in messages:
        if m.error() is not None:
            special(m)
            continue
        partition: int = m.partition()
        fields = (names[m.topic()], partition, m.offset(), m.timestamp()[1], m.key(), m.value(), headers_of(m))
        record = _new(Record, fields)
        try:
            records[partition].append(record)
        except KeyError:
            records[partition] = [record]
    return records


def headers_of(message: Any) -> Headers | None:
    """
    Return the headers of *message*; in their place `UNREADABLE` alone if one of their names isn't UTF-8.

    Once for a message: a second time the client gives what it had made until it failed. It has no other way to them,
    and fails on such a name (a SystemError, tried on confluent-kafka 2.16): whoever may produce could stop every
    worker by one such record. Nothing that we decide on is in headers, but for what a redrive has put there.
    """
    try:
        found: Headers | None = _headers_of(message)
    except (SystemError, UnicodeDecodeError):
        where = f"{message.topic()}/{message.partition()}/{message.offset()}"
        log.warning(
            "headers that can't be read are left out",
            topic=message.topic(),
            partition=message.partition(),
            offset=message.offset(),
            order_id=(message.key() or b"").decode(errors="replace"),
        )
        return [(UNREADABLE, where.encode())]
    return found
