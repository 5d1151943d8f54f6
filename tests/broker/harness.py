"""
A worker without Faust: sessions of one batch function in a thread of the test, on the declared topics under a prefix.
"""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from streams import settings as settings_module
from streams.batch import Batch
from streams.offsets import list_offsets
from streams.processing.clock import Clock
from streams.processing.commit import Committer
from streams.processing.end_offsets import EndOffsets
from streams.processing.logic import Transactional
from streams.processing.session import Session
from streams.processing.task import Phase, Task
from streams.settings import Settings
from streams.store.options import StoreOptions
from streams.store.partition import Partition
from streams.store.restore import Restorer
from streams.transport import config
from streams.transport.driver import SessionThread
from streams.transport.member import TP, GroupOffsets, Member
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
        transaction_timeout=10_000,
        **({"partitions": PARTITIONS, "replication_factor": 1} | more),
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


class Busy:
    """*function*, but its first batch lasts until `free`: what comes meanwhile comes with one poll, ends included."""

    END_S = 0.5
    """In which librdkafka's fetchers, beside a busy worker, come to the end of what was produced."""

    def __init__(self, function: Callable[[Batch], object] = join) -> None:
        self._function = function
        self.entered = threading.Event()
        self._free = threading.Event()

    def __call__(self, batch: Batch) -> None:
        """Decide *batch*."""
        self.entered.set()
        assert self._free.wait(30), "it was never let go"
        self._function(batch)

    def free(self) -> None:
        """Let the first batch end, once everything that was produced has been fetched."""
        time.sleep(self.END_S)
        self._free.set()


class WatchedSession(Session):
    """A session that fails when a partition number runs without all its inputs, and remembers what came and went."""

    def __init__(self, *args: Any) -> None:
        self.rebalances: list[tuple[str, frozenset[TP]]] = []
        super().__init__(*args)

    def assigned(self, partitions: frozenset[TP]) -> None:
        """See `Session`."""
        self.rebalances += [("assigned", partitions)] if partitions else []
        super().assigned(partitions)

    def revoked(self, partitions: frozenset[TP]) -> None:
        """See `Session`."""
        self.rebalances += [("revoked", partitions)] if partitions else []
        super().revoked(partitions)

    def commit(self, *args: Any) -> bool:
        """See `Session`; before and after it, nothing runs that is half owned."""
        self._watch()
        return super().commit(*args)

    def turn(self) -> None:
        """See `Session`."""
        super().turn()
        self._watch()

    def _watch(self) -> None:
        for task in self.running():
            assert set(task.inputs) == task.owned, f"partition {task.partition} runs with {task.owned} only"
            assert task.owned <= self.member.owned, f"partition {task.partition} runs, but isn't ours"

    def running(self) -> list[Task]:
        """Return the tasks that run."""
        return [task for task in list(self.tasks.values()) if task.phase is Phase.RUNNING]


def open_session(
    settings: Settings,
    directory: Path,
    function: Callable[[Batch], object] = join,
    transaction_type: type[Transaction] = Transaction,
    clock: Clock | None = None,
    stores: dict[int, Partition] | None = None,
) -> WatchedSession:
    """Return a session of *function* over the process manager's inputs and table."""
    group = f"{settings.application_id}-worker"
    transaction = transaction_type(config.transactional(settings, group))
    changelog = settings.topic(PROCESSES_CHANGELOG.name)
    options = StoreOptions(min(settings.store_memory_mib, 64))
    names = {name: settings.topic(name) for name in INPUTS}

    def open_partition(number: int) -> Partition:
        return Partition.open(directory / str(number), options)

    return WatchedSession(
        INPUTS,
        Transactional(function, settings.batch_records),
        lambda listener: Member(config.member(settings, group), names, listener, settings.linger / 1000),
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
        self.session: WatchedSession | None = None
        self.crashed: BaseException | None = None
        self.stores: dict[int, Partition] = {}

        def opener() -> WatchedSession:
            self.session = open_session(settings, directory, stores=self.stores, **options)
            return self.session

        self._thread = SessionThread(opener, self._crash)

    def _crash(self, exc: BaseException) -> None:
        self.crashed = exc

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, failed: type[BaseException] | None, *_: object) -> None:
        if failed:
            print(self.describe())  # noqa: T201 -- pytest shows it.
        self.stop()
        if isinstance(self.crashed, AssertionError):
            raise self.crashed

    def describe(self) -> str:
        """Return what it is doing, for who has waited for it in vain."""
        lines = [f"worker crashed with {self.crashed!r}"] if self.crashed else []
        if self.session:
            lines += [f"last turn ended {time.monotonic() - self.session.turned_s:.1f} s ago"]
            for task in list(self.session.tasks.values()):
                lines += [f"{task.partition}: {task.phase.value}, at {task.positions}, committed {task.committed}"]
        frame = sys._current_frames().get(self._thread.ident or 0)
        return "\n".join(lines + (traceback.format_stack(frame) if frame else ["its thread has ended"]))

    def phases(self) -> dict[int, Phase]:
        """Return what each partition number that is owned is doing."""
        return {number: task.phase for number, task in dict(self.session.tasks).items()} if self.session else {}

    def running(self) -> set[int]:
        """Return the partition numbers that run."""
        return {number for number, phase in self.phases().items() if phase is Phase.RUNNING}

    def stop(self) -> None:
        """Finish the turn and leave the group."""
        self._thread.finish(30)
        assert not self._thread.is_alive()


def environment_of(settings: Settings) -> dict[str, str]:
    """Return what a process is told that works on the topics of `settings_for`."""
    return {
        "REJOINDER_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
        "REJOINDER_TOPIC_PREFIX": settings.topic_prefix,
        "REJOINDER_APPLICATION_ID": settings.application_id,
        "REJOINDER_PARTITIONS": str(settings.partitions),
        "REJOINDER_TRANSACTION_TIMEOUT": "10s",
    }


def produce(settings: Settings, topic: str, values: Mapping[str, bytes]) -> None:
    """Produce *values* by key, murmur2-partitioned, as outside programs do."""
    servers = settings.bootstrap_servers
    if servers not in _producers:
        _producers[servers] = Producer(config.plain_producer(settings))
    deliver(_producers[servers], settings.topic(topic), values)


def deliver(producer: Producer, name: str, values: Mapping[str, bytes]) -> None:
    """Produce *values* by key to the topic the cluster calls *name*, and see to it that all of them arrive."""
    errors: set[KafkaError | None] = set()

    def delivered(error: KafkaError | None, _: Any) -> None:
        errors.add(error)

    for key, value in values.items():
        producer.produce(name, value, key.encode(), on_delivery=delivered)
    assert producer.flush(30) == 0
    assert errors <= {None}


_producers: dict[str, Producer] = {}
"""One of each broker, for all tests: a new one takes half a second."""


def read_all(settings: Settings, topic: str, isolation: str = "read_committed", timeout_s: float = 30) -> list[Any]:
    """Return all records of a topic, up to the end of each partition."""
    consumer = Consumer(
        config.common(settings)
        | {
            "group.id": "nobody",
            "isolation.level": isolation,
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 5,
            "auto.offset.reset": "error",
        }
    )
    return read_to_end(consumer, settings.topic(topic), timeout_s, settings.partitions)


def read_to_end(consumer: Consumer, name: str, timeout_s: float = 30, partitions: int = PARTITIONS) -> list[Any]:
    """Return all that *consumer*, which is told of ends and is closed then, finds in the topic the cluster calls so."""
    consumer.assign([TopicPartition(name, number, 0) for number in range(partitions)])
    found: list[Any] = []
    ended: set[int | None] = set()
    deadline_s = time.monotonic() + timeout_s
    while len(ended) < partitions:
        assert time.monotonic() < deadline_s, f"{name} isn't read to its end"
        for message in consumer.consume(10_000, 0.05):
            error = message.error()
            if error is None:
                found.append(message)
            else:
                assert error.code() == KafkaError._PARTITION_EOF, error
                ended.add(message.partition())
    consumer.close()
    return found


def sent(settings: Settings) -> Counter[str]:
    """Return how many e-mails each order has."""
    return Counter(message.key().decode() for message in read_all(settings, EMAIL_COMMANDS.name))


def wait_for_mails(settings: Settings, orders: Iterable[str], timeout_s: float = 80) -> None:
    """Wait until each of *orders* has an e-mail."""
    wanted = set(orders)
    wait_for(lambda: wanted <= set(sent(settings)), "every order's e-mail", timeout_s)


def input_partitions(settings: Settings) -> list[TopicPartition]:
    """Return all partitions of the inputs."""
    return [TopicPartition(settings.topic(topic), number) for topic in INPUTS for number in range(settings.partitions)]


def committed(settings: Settings) -> dict[tuple[str, int], int]:
    """Return the group's committed positions; -1001 where there is none."""
    consumer = Consumer(config.common(settings) | {"group.id": f"{settings.application_id}-worker"})
    try:
        return {(tp.topic, tp.partition): tp.offset for tp in consumer.committed(input_partitions(settings), 20)}
    finally:
        consumer.close()


def ends(settings: Settings) -> dict[tuple[str, int], int]:
    """Return the inputs' end offsets."""
    admin = AdminClient(config.common(settings))
    found = list_offsets(admin, dict.fromkeys(input_partitions(settings), OffsetSpec.latest()), request_timeout=20)
    return {(tp.topic, tp.partition): future.result(20).offset for tp, future in found.items()}


def wait_for(condition: Callable[[], Any], what: str, timeout_s: float = 80) -> Any:
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
