"""Reading a topic once, from offsets to offsets: for a person's questions, outside any group."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from confluent_kafka import Consumer, IsolationLevel, KafkaError, TopicCollection, TopicPartition
from confluent_kafka.admin import OffsetSpec

from streams.errors import RejoinderError, Unavailable
from streams.offsets import list_offsets
from streams.settings import Settings
from streams.transport import config
from streams.transport.refusals import FORBIDDEN, Admin
from topology.acls import Role

ANSWER_S: Final = 15.0
STALL_S: Final = 60.0
"""Longer than a transaction of a dead worker stays open (REJOINDER_TRANSACTION_TIMEOUT): reading committed waits."""

_CONSUME_S: Final = 0.2
_CONSUME_MAX: Final = 500

_READER: Final = {
    "isolation.level": "read_committed",
    "enable.partition.eof": True,
    "auto.offset.reset": "error",
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "fetch.wait.max.ms": 20,
    "fetch.queue.backoff.ms": 5,
    # A topic of any size is read in this much memory.
    "queued.min.messages": 2_000,
    "queued.max.messages.kbytes": 16_384,
    "group.protocol": "classic",
}


class Span(NamedTuple):
    """A partition's offsets from *start* on, before *end*."""

    start: int
    end: int


class TopicReader:
    """
    Reads committed records of the topic that the cluster calls *topic*, by the right of *role*.

    Raises from all methods:
        Unavailable: no broker answers in time, or not with what was asked for.
        ConfigurationError: they don't let us in, or don't let us read it.
    """

    def __init__(self, settings: Settings, topic: str, role: Role = Role.OPERATOR) -> None:
        self._settings = settings
        self._role = role
        self._topic = topic
        self._admin = Admin(settings)

    def topic_id(self) -> str:
        """Return the topic's id: one that is deleted and created anew has another."""
        asked = self._admin.client.describe_topics(TopicCollection([self._topic]), request_timeout=ANSWER_S)
        return str(self._answer(asked[self._topic]).topic_id)

    def spans(self, partitions: int, *, since_ms: int | None = None, stable: bool) -> dict[int, Span]:
        """
        Return what there is in each of *partitions* partitions, from the first record not before *since_ms* on.

        *stable*: up to the first transaction that is still open; else to the end of all records, so that a read of it
        waits for open transactions to end.
        """
        begin: OffsetSpec = OffsetSpec.earliest() if since_ms is None else OffsetSpec.for_timestamp(since_ms)
        latest: OffsetSpec = OffsetSpec.latest()
        starts, ends = self._offsets(partitions, begin, stable=False), self._offsets(partitions, latest, stable=stable)
        # -1: all records are older than that.
        return {n: Span(starts[n] if starts[n] >= 0 else ends[n], ends[n]) for n in range(partitions)}

    def _offsets(self, partitions: int, spec: OffsetSpec, *, stable: bool) -> dict[int, int]:
        level = IsolationLevel.READ_COMMITTED if stable else IsolationLevel.READ_UNCOMMITTED
        asked = {TopicPartition(self._topic, number): spec for number in range(partitions)}
        found = list_offsets(self._admin.client, asked, isolation_level=level, request_timeout=ANSWER_S)
        return {tp.partition: int(self._answer(future).offset) for tp, future in found.items()}

    def _answer(self, future: Any) -> Any:
        return self._admin.result(future, ANSWER_S * 2, self._role)

    def _unavailable(self, why: str) -> Unavailable:
        return Unavailable(f"{self._topic} at {self._settings.bootstrap_servers} can't be read: {why}; try again")

    def _failure(self, error: KafkaError) -> RejoinderError:
        if error.code() in FORBIDDEN:
            return self._admin.errors.failure(self._settings, error, self._role)
        return self._unavailable(error.str())

    def read(self, spans: Mapping[int, Span]) -> Iterator[Any]:
        """Yield the records of *spans*, by partition number, each partition's in offset order."""
        left = {number: span.end for number, span in spans.items() if span.start < span.end}
        if not left:
            return
        # librdkafka asks who coordinates the group, though we are only assigned to partitions and never commit: it has
        # to be one of ours, which the role may describe.
        own = {"group.id": f"{self._settings.application_id}-reading"}
        consumer = Consumer(config.common(self._settings) | own | _READER)
        try:
            consumer.assign([TopicPartition(self._topic, number, spans[number].start) for number in left])
            moved_s = time.monotonic()
            while left:
                messages: list[Any] = consumer.consume(_CONSUME_MAX, _CONSUME_S)
                for message in messages:
                    if message.error() is None:
                        if message.offset() < left.get(message.partition(), 0):
                            yield message
                    elif message.error().code() != KafkaError._PARTITION_EOF:
                        raise self._failure(message.error())
                    # At the end of a partition the position has passed the transaction markers.
                    after = message.offset() + (message.error() is None)
                    if message.partition() in left and after >= left[message.partition()]:
                        del left[message.partition()]
                if messages:
                    moved_s = time.monotonic()
                elif time.monotonic() - moved_s > STALL_S:
                    raise self._unavailable(f"nothing came for {STALL_S:.0f} s")
        finally:
            consumer.close()
