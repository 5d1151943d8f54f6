"""A polled message, and what stands for one: an event about a partition or the consumer."""

from __future__ import annotations

from confluent_kafka import KafkaError

from tests.simulation.log import Entry, Headers, Place


class Message:
    """`confluent_kafka.Message`, as far as it is asked."""

    __slots__ = ("_entry", "_error", "_offset", "_place")

    def __init__(self, place: Place | None, entry: Entry | None, error: KafkaError | None, offset: int = -1001) -> None:
        self._place = place
        self._entry = entry
        self._error = error
        self._offset = offset

    def error(self) -> KafkaError | None:
        """Return what it says instead of a record."""
        return self._error

    def topic(self) -> str | None:
        """Return the topic's name."""
        return self._place.topic if self._place else None

    def partition(self) -> int:
        """Return the partition, -1 for none."""
        return self._place.partition if self._place else -1

    def offset(self) -> int:
        """Return the offset."""
        return self._entry.offset if self._entry else self._offset

    def timestamp(self) -> tuple[int, int]:
        """Return the type (log append time) and the milliseconds."""
        return 2, self._entry.timestamp_ms if self._entry else -1

    def key(self) -> bytes | None:
        """Return the key."""
        return self._entry.key if self._entry else None

    def value(self) -> bytes | None:
        """Return the value."""
        return self._entry.value if self._entry else None

    def headers(self) -> Headers | None:
        """Return the headers, None if there are none."""
        return (self._entry.headers or None) if self._entry else None
