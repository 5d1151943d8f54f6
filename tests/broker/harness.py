"""
A worker without Faust: sessions of one batch function in a thread of the test, on the declared topics under a prefix.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Producer, TopicPartition

from streams import settings as settings_module
from streams.batch import Batch
from streams.processing.clock import Clock
from streams.processing.commit import Committer
from streams.processing.end_offsets import EndOffsets
from streams.processing.logic import Transactional
from streams.processing.session import Session
from streams.settings import Settings
from streams.store.options import StoreOptions
from streams.store.partition import Partition
from streams.store.restore import Restorer
from streams.transport import config
from streams.transport.driver import SessionThread
from streams.transport.member import GroupOffsets, Member
from streams.transport.partitioner import partition_of
from streams.transport.topics import Cluster
from streams.transport.transaction import Transaction
from topology.state import NEVER_MS
from topology.topics import COMMANDS, DETAILS, EMAIL_COMMANDS, EMAIL_EVENTS, PROCESSES_CHANGELOG

PARTITIONS = 4
INPUTS = (COMMANDS.name, DETAILS.name, EMAIL_EVENTS.name)
ROW = b"\1" + NEVER_MS.to_bytes(8, "big")
"""What every row begins with: a version and the time it is due."""


def settings_for(bootstrap_servers: str, unique: str, **more: Any) -> Settings:
    """Return settings whose topics and groups are this test's own, with the topics created."""
    settings = settings_module.load(
        bootstrap_servers=bootstrap_servers,
        topic_prefix=f"{unique}.",
        application_id=unique,
        partitions=PARTITIONS,
        replication_factor=1,
        transaction_timeout=10_000,
        **more,
    )
    Cluster(settings).apply()
    return settings


def join(batch: Batch) -> None:
    """Join by concatenation: the first half waits in the table, the second sends both."""
    batch.load(list({record.key or b"" for record in batch.records}))
    for record in batch:
        key, value = record.key or b"", record.value or b""
        row = batch.get(key)
        if row is None:
            batch.put(key, ROW + value)
        elif not row.endswith(b"!"):
            batch.send(EMAIL_COMMANDS.name, key, row[len(ROW) :] + b"+" + value, [])
            batch.put(key, ROW + b"!")


def open_session(
    settings: Settings,
    directory: Path,
    function: Callable[[Batch], object] = join,
    transaction_type: type[Transaction] = Transaction,
    clock: Clock | None = None,
    stores: dict[int, Partition] | None = None,
) -> Session:
    """Return a session of *function* over the process manager's inputs and table."""
    group = f"{settings.application_id}-worker"
    transaction = transaction_type(config.transactional(settings, group))
    changelog = settings.topic(PROCESSES_CHANGELOG.name)
    options = StoreOptions(64)
    names = {name: settings.topic(name) for name in INPUTS}

    def open_partition(number: int) -> Partition:
        return Partition.open(directory / str(number), options)

    return Session(
        INPUTS,
        Transactional(function, settings.batch_records),
        lambda listener: Member(config.member(settings, group), names, listener),
        transaction,
        Committer(transaction, settings.topic, changelog),
        lambda stable: Restorer(config.common(settings), changelog, open_partition, stable),
        GroupOffsets(config.common(settings), group, names),
        EndOffsets(config.common(settings), settings.topic),
        clock or Clock(),
        {} if stores is None else stores,
    )


class Worker:
    """Sessions in a thread; a context that stops them."""

    def __init__(self, settings: Settings, directory: Path, **options: Any) -> None:
        self.session: Session | None = None
        self.crashed: BaseException | None = None
        self.stores: dict[int, Partition] = {}

        def opener() -> Session:
            self.session = open_session(settings, directory, stores=self.stores, **options)
            return self.session

        self._thread = SessionThread(opener, self._crash)

    def _crash(self, exc: BaseException) -> None:
        self.crashed = exc

    def __enter__(self) -> Worker:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Finish the turn and leave the group."""
        self._thread.finish(30)
        assert not self._thread.is_alive()


def produce(settings: Settings, topic: str, values: Mapping[str, bytes]) -> None:
    """Produce *values* by key, murmur2-partitioned, as outside programs do."""
    producer = Producer(config.plain_producer(settings))
    for key, value in values.items():
        producer.produce(settings.topic(topic), value, key.encode())
    assert producer.flush(30) == 0


def read_all(settings: Settings, topic: str, isolation: str = "read_committed") -> list[Any]:
    """Return all records of a topic, up to the end of each partition."""
    consumer = Consumer(
        config.common(settings)
        | {"group.id": "nobody", "isolation.level": isolation, "enable.partition.eof": True}
    )
    name = settings.topic(topic)
    consumer.assign([TopicPartition(name, number, OFFSET_BEGINNING) for number in range(PARTITIONS)])
    found, ended = [], set()
    deadline_s = time.monotonic() + 30
    while len(ended) < PARTITIONS:
        assert time.monotonic() < deadline_s, f"{name} isn't read to its end"
        for message in consumer.consume(10_000, 0.2):
            error = message.error()
            if error is None:
                found.append(message)
            else:
                assert error.code() == KafkaError._PARTITION_EOF, error
                ended.add(message.partition())
    consumer.close()
    return found


def wait_for(condition: Callable[[], Any], what: str, timeout_s: float = 40) -> Any:
    """Return *condition*'s first true value; fail with *what* if there is none in time."""
    deadline_s = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline_s, f"not in {timeout_s} s: {what}"
        threading.Event().wait(0.05)
    return value


def keys(count: int, start: int = 0) -> list[str]:
    """Return *count* order ids."""
    return [f"order-{number:06d}" for number in range(start, start + count)]


def keys_of_partition(number: int, count: int) -> list[str]:
    """Return *count* order ids that belong to partition *number*."""
    found = (key for key in keys(count * PARTITIONS * 4) if partition_of(key.encode(), PARTITIONS) == number)
    return [key for key, _ in zip(found, range(count), strict=False)]
