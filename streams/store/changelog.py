"""
A table's changelog in Kafka: what the cluster says of it, where a restore begins, and reading it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import structlog
from confluent_kafka import (
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, ConfigResource, OffsetSpec, ResourceType

from streams.errors import Unavailable
from streams.offsets import Future, list_offsets
from streams.store.messages import sorted_out
from streams.store.partition import Checkpoint

log = structlog.get_logger(__name__)

_ANSWER_S_MAX: Final = 15.0
_LOOK_UP_S: Final = 0.1
_DAY_MS: Final = 86_400_000
_READ_S: Final = 0.05
_READ_RECORDS_MAX: Final = 10_000

_READER: Final = {
    "isolation.level": "read_committed",
    "enable.partition.eof": True,
    "auto.offset.reset": "error",
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    # Else each fetch of a partition that is at its end holds up the others for half a second.
    "fetch.wait.max.ms": 20,
    "fetch.queue.backoff.ms": 5,
    "queued.min.messages": 50_000,
    "queued.max.messages.kbytes": 32_768,
    "group.protocol": "classic",
}


class Interrupted(Exception):
    """The answer isn't wanted any more."""


class Facts(NamedTuple):
    """The topic's id, and how long a tombstone is kept at least, in milliseconds."""

    topic_id: str
    tombstones_kept_ms: int


class Bounds(NamedTuple):
    """A partition's first offset, and its end offset: the high watermark, exclusive."""

    start: int
    end: int


class Begin(NamedTuple):
    """Where a restore begins; *because* says why everything is restored, and is empty if the store's rows stay."""

    position: int
    because: str


def begin(checkpoint: Checkpoint | None, facts: Facts, bounds: Bounds, now_ms: int) -> Begin:
    """
    Return where the restore of a store with *checkpoint* begins.

    The rows stay only if everything since is in the log: a tombstone is removed ``delete.retention.ms`` after it was
    written at the earliest, without a trace, so an older checkpoint may have missed one. A day less, for clocks that
    differ and a restore that takes its time; half of it if it is shorter than two days.
    """
    kept_ms = facts.tombstones_kept_ms
    if checkpoint is None:
        because = "the store is new"
    elif checkpoint.topic_id != facts.topic_id:
        because = "the topic was deleted and created anew"
    elif checkpoint.position > bounds.end:
        because = f"the checkpoint {checkpoint.position} lies beyond the end {bounds.end}"
    elif checkpoint.position < bounds.start:
        because = f"the checkpoint {checkpoint.position} lies before the start {bounds.start}"
    elif now_ms - checkpoint.written_at_ms > max(kept_ms - _DAY_MS, kept_ms // 2):
        because = "the checkpoint is older than tombstones are kept"
    else:
        return Begin(checkpoint.position, "")
    return Begin(bounds.start, because)


class Changelog:
    """
    Questions about *topic*.

    Waits end with `Interrupted` soon after *interrupted* says so.

    Raises from all methods:
        Unavailable: the cluster doesn't answer, or not with what was asked for.
    """

    def __init__(self, client_config: Mapping[str, Any], topic: str, interrupted: Callable[[], bool]) -> None:
        self._client_config = dict(client_config)
        self._topic = topic
        self._interrupted = interrupted
        # Held by name: a client that is collected never answers.
        self._admin = AdminClient(self._client_config)

    def facts(self) -> Facts:
        """Return what matters of the topic's configuration."""
        resource = ConfigResource(ResourceType.TOPIC, self._topic)
        asked = self._admin.describe_topics(TopicCollection([self._topic]), request_timeout=_ANSWER_S_MAX)
        configs = self._admin.describe_configs([resource], request_timeout=_ANSWER_S_MAX)
        description = self._answer(asked[self._topic])
        config = self._answer(configs[resource])
        return Facts(str(description.topic_id), int(config["delete.retention.ms"].value))

    def bounds(self, numbers: Iterable[int]) -> dict[int, Bounds]:
        """Return the bounds of partition *numbers*."""
        partitions = {number: TopicPartition(self._topic, number) for number in numbers}
        # The end is the high watermark, not the last stable offset: an open transaction of a dead owner may lie before
        # committed rows of a later one. Reading committed then waits until it is aborted.
        starts = self._offsets(partitions, OffsetSpec.earliest())
        ends = self._offsets(partitions, OffsetSpec.latest())
        return {number: Bounds(starts[number], ends[number]) for number in partitions}

    def _offsets(self, partitions: Mapping[int, TopicPartition], spec: OffsetSpec) -> dict[int, int]:
        futures = list_offsets(
            self._admin,
            dict.fromkeys(partitions.values(), spec),
            isolation_level=IsolationLevel.READ_UNCOMMITTED,
            request_timeout=_ANSWER_S_MAX,
        )
        return {number: int(self._answer(futures[partition]).offset) for number, partition in partitions.items()}

    def _answer(self, future: Future) -> Any:
        give_up_s = time.monotonic() + _ANSWER_S_MAX + 1.0
        while not self._interrupted():
            try:
                return future.result(_LOOK_UP_S)
            except TimeoutError:
                if time.monotonic() > give_up_s:
                    raise Unavailable(f"{self._topic}: no answer within {_ANSWER_S_MAX:g} s") from None
            except KafkaException as exc:
                # A client keeps to the leaders that it saw first (librdkafka 2.16): the next try asks who they are.
                self._admin = AdminClient(self._client_config)
                raise Unavailable(f"{self._topic}: {exc.args[0].str()}; do topic and brokers exist?") from exc
        raise Interrupted


@dataclass(slots=True)
class Chunk:
    """
    What one read brought of one partition.

    Attributes:
        rows: Keys and values in offset order.
        position: The next offset to read; None if only an error came.
        last_ms: The last record's timestamp, Unix milliseconds; None if no record came.
        error: Why no more comes.
    """

    rows: list[tuple[bytes, bytes | None]] = field(default_factory=list)
    position: int | None = None
    last_ms: int | None = None
    error: KafkaError | None = None


class Reader:
    """
    Reads committed records of assigned partitions, many at a time.

    *group*: librdkafka wants one, and asks who coordinates it, which only those may who may describe it. A reader that
    is only assigned to and never commits doesn't join it.
    """

    def __init__(self, client_config: Mapping[str, Any], topic: str, group: str = "rejoinder-restore") -> None:
        self._topic = topic
        self._consumer = Consumer({**client_config, **_READER, "group.id": group, "error_cb": self._on_error})
        self._assigned: set[int] = set()

    def assign(self, positions: Mapping[int, int]) -> None:
        """Read these partitions too, from these offsets."""
        self._consumer.incremental_assign(
            [TopicPartition(self._topic, number, position) for number, position in positions.items()]
        )
        self._assigned |= positions.keys()

    def unassign(self, number: int) -> bool:
        """Read this partition no more, if it was read; return whether there is nothing left to read."""
        if number in self._assigned:
            self._consumer.incremental_unassign([TopicPartition(self._topic, number)])
            self._assigned.remove(number)
        return not self._assigned

    def read(self) -> dict[int, Chunk]:
        """Return what is there, by partition; waits for it a twentieth of a second at most."""
        rows, last, special = sorted_out(self._consumer.consume(_READ_RECORDS_MAX, _READ_S))
        chunks = {number: Chunk(some) for number, some in rows.items()}
        for message in special:
            # Any: see `sorted_out`.
            number, error = message.partition(), message.error()
            if error.code() == KafkaError._PARTITION_EOF:
                # Past the transaction markers, which take offsets but deliver nothing.
                chunks.setdefault(number, Chunk()).position = message.offset()
            elif number >= 0:
                chunks.setdefault(number, Chunk()).error = error
            else:
                log.warning("changelog", topic=self._topic, error=error.str())
        for number, message in last.items():
            chunk = chunks[number]
            chunk.position = max(chunk.position or 0, message.offset() + 1)
            chunk.last_ms = message.timestamp()[1]
        return {number: chunk for number, chunk in chunks.items() if number in self._assigned}

    def close(self) -> None:
        """Let go of the connections."""
        self._consumer.close()

    def _on_error(self, error: KafkaError) -> None:
        """Log; librdkafka goes on trying by itself."""
        log.warning("changelog", topic=self._topic, error=error.str())
