"""A real changelog topic, what gets written to it, and stores restored from it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

from streams.local.kafka import LocalKafka
from streams.offsets import list_offsets
from streams.store.options import StoreOptions
from streams.store.partition import Partition
from streams.store.restore import Restorer

WAIT_S_MAX = 30.0
LOOK_S = 0.01
Row = tuple[bytes, bytes | None]


def row(text: str, due_ms: int = 1_000) -> bytes:
    """Return a row with *text*, due at *due_ms*."""
    return b"\x01" + due_ms.to_bytes(8, "big") + text.encode()


def wait_until(holds: Callable[[], bool]) -> None:
    """Return as soon as *holds*; fail if it never does."""
    give_up_s = time.monotonic() + WAIT_S_MAX
    while not holds():
        assert time.monotonic() < give_up_s, "never came true"
        time.sleep(LOOK_S)


def take(restorer: Restorer, partition: int = 0) -> Partition:
    """Return the store of *partition*, the next one that becomes ready."""
    found: list[tuple[int, Partition]] = []

    def some() -> bool:
        found.extend(restorer.ready())
        return bool(found)

    wait_until(some)
    ((number, store),) = found
    assert partition == number
    return store


class Changelog:
    """A compacted topic of two partitions, and a directory for the stores of its partitions."""

    def __init__(self, kafka: LocalKafka, topic: str, directory: Path) -> None:
        self.config: dict[str, str | int | float | bool] = {"bootstrap.servers": kafka.bootstrap_servers}
        self.topic = topic
        self.admin = AdminClient(self.config)
        self.options = StoreOptions(16)
        self.directory = directory
        self.opened: list[int] = []

    def create(self, **config: str) -> None:
        """Create the topic."""
        topic = NewTopic(self.topic, 2, 1, config={"cleanup.policy": "compact", **config})
        self.admin.create_topics([topic])[self.topic].result(WAIT_S_MAX)

    def delete(self) -> None:
        """Delete the topic, and wait until it is gone."""
        self.admin.delete_topics([self.topic])[self.topic].result(WAIT_S_MAX)
        wait_until(lambda: self.topic not in self.admin.list_topics(timeout=WAIT_S_MAX).topics)

    def begin(self, name: str, rows: Iterable[Row], partition: int = 0, timeout_ms: int = 60_000) -> Producer:
        """Begin a transaction and produce *rows* in it; the caller ends it, or doesn't."""
        producer = Producer(
            {**self.config, "transactional.id": f"{self.topic}-{name}", "transaction.timeout.ms": timeout_ms}
        )
        producer.init_transactions(WAIT_S_MAX)
        producer.begin_transaction()
        for key, value in rows:
            producer.produce(self.topic, key=key, value=value, partition=partition)
        assert 0 == producer.flush(WAIT_S_MAX)
        return producer

    def commit(self, rows: Iterable[Row], partition: int = 0) -> None:
        """Produce *rows* in a transaction and commit it."""
        self.begin("live", rows, partition).commit_transaction(WAIT_S_MAX)

    def end(self, partition: int = 0) -> int:
        """Return the high watermark."""
        asked = TopicPartition(self.topic, partition)
        found = list_offsets(self.admin, {asked: OffsetSpec.latest()}, request_timeout=WAIT_S_MAX)
        return int(found[asked].result(WAIT_S_MAX).offset)

    def records(self) -> int:
        """Return how many records are in partition 0, by reading it."""
        consumer = Consumer({**self.config, "group.id": self.topic, "enable.partition.eof": True})
        consumer.assign([TopicPartition(self.topic, 0, 0)])
        try:
            count = 0
            while (message := consumer.poll(WAIT_S_MAX)) is not None and message.error() is None:
                count += 1
            return count
        finally:
            consumer.close()

    def open(self, partition: int) -> Partition:
        """Open the store of *partition*."""
        self.opened.append(partition)
        return Partition.open(self.directory / str(partition), self.options)

    def restorer(self, offsets_stable: Callable[[Sequence[int]], None] = lambda _: None) -> Restorer:
        """Return a new restorer."""
        return Restorer(self.config, self.topic, self.open, offsets_stable)

    def restored(self, partition: int = 0) -> Partition:
        """Restore *partition* by a restorer of its own; return its open store."""
        restorer = self.restorer()
        try:
            restorer.restore([partition])
            return take(restorer, partition)
        finally:
            restorer.stop()


def contents(store: Partition) -> dict[bytes, bytes]:
    """Return the rows of *store* and close it."""
    rows = dict(store.items())
    store.close()
    return rows
