"""Which broker is what: leader, coordinator; and whether transactions are open and replicas in sync."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final, TypeVar

from confluent_kafka import IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from streams.demo.system import RoleProcess
from streams.offsets import list_offsets
from streams.settings import Settings
from streams.transport import config
from topology.topics import PROCESSES_CHANGELOG

ANSWER_S: Final = 10.0
PATIENCE_S: Final = 90.0
"""Longer than a coordinator takes to move, on a machine that does other things too."""
PAUSE_S: Final = 0.5
T = TypeVar("T")
_TRANSACTIONS: Final = "__transaction_state"


def patiently(question: Callable[[], T], again: Callable[[], object] = lambda: None) -> T:
    """
    Return the answer to *question*, asked until there is one; *again* is called in between.

    Raises:
        KafkaException: there was none for `PATIENCE_S`. TimeoutError: the same.
    """
    deadline_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            return question()
        except (KafkaException, TimeoutError):
            if time.monotonic() > deadline_s:
                raise
        time.sleep(PAUSE_S)
        again()


class Brokers:
    """Questions about the cluster, around any proxy; what isn't asked `patiently` raises as that does."""

    def __init__(self, settings: Settings, partitions: int) -> None:
        self._settings = settings
        self._group = f"{settings.application_id}-worker"
        self._partitions = partitions
        self.renew()

    def renew(self) -> None:
        """Ask anew who leads what: librdkafka 2.16 keeps to the leaders that it has seen first."""
        self._admin = AdminClient(config.common(self._settings) | {"log_level": 0})

    def leader(self) -> int:
        """Return the broker (from 0) that leads the most partitions."""
        return patiently(self._leader, self.renew)

    def _leader(self) -> int:
        topics = self._admin.list_topics(timeout=ANSWER_S).topics.values()
        leaders = Counter(part.leader for topic in topics for part in topic.partitions.values())
        return leaders.most_common(1)[0][0] - 1

    def group_coordinator(self) -> int:
        """Return the broker that coordinates the workers' group."""
        return patiently(self._group_coordinator, self.renew)

    def _group_coordinator(self) -> int:
        described = self._admin.describe_consumer_groups([self._group], request_timeout=ANSWER_S)[self._group]
        coordinator = described.result(2 * ANSWER_S).coordinator
        assert coordinator is not None
        return int(coordinator.id) - 1

    def transaction_coordinator(self, worker: RoleProcess) -> int:
        """Return the broker that coordinates *worker*'s transactions: the leader of its id's partition."""
        return patiently(lambda: self._transaction_coordinator(worker), self.renew)

    def _transaction_coordinator(self, worker: RoleProcess) -> int:
        partitions = self._admin.list_topics(_TRANSACTIONS, timeout=ANSWER_S).topics[_TRANSACTIONS].partitions
        number = java_hash(f"{self._group}-{worker.name}") % len(partitions)
        if (leader := partitions[number].leader) < 1:
            raise TimeoutError("it has no leader now")
        return leader - 1

    def in_sync(self) -> bool:
        """Whether every replica of every partition is in sync."""
        return patiently(self._in_sync, self.renew)

    def _in_sync(self) -> bool:
        topics = self._admin.list_topics(timeout=ANSWER_S).topics.values()
        return all(len(part.isrs) == len(part.replicas) for topic in topics for part in topic.partitions.values())

    def open_transactions(self, numbers: Iterable[int]) -> dict[int, int]:
        """Return the changelog's partitions, of *numbers*, on which a transaction is open, and since which offset."""
        stable = self._changelog_ends(numbers, IsolationLevel.READ_COMMITTED)
        ends = self._changelog_ends(numbers, IsolationLevel.READ_UNCOMMITTED)
        return {number: offset for number, offset in stable.items() if offset < ends[number]}

    def _changelog_ends(self, numbers: Iterable[int], isolation: IsolationLevel) -> dict[int, int]:
        topic = self._settings.topic(PROCESSES_CHANGELOG.name)
        asked = {TopicPartition(topic, number): OffsetSpec.latest() for number in numbers}
        if not asked:
            return {}
        answers = list_offsets(self._admin, asked, isolation_level=isolation, request_timeout=ANSWER_S)
        return {partition.partition: int(answer.result(2 * ANSWER_S).offset) for partition, answer in answers.items()}


def java_hash(text: str) -> int:
    """Return what Kafka makes of a transactional id before the modulus: Java's String.hashCode without its sign."""
    value = 0
    for unit in text.encode("utf-16-be")[1::2]:  # ASCII only: a character is one unit.
        value = (31 * value + unit) & 0xFFFFFFFF
    return value & 0x7FFFFFFF
