"""Which broker is what: leader, coordinator; and whether transactions are open and replicas in sync."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

from confluent_kafka import IsolationLevel, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from streams.demo.system import RoleProcess
from streams.settings import Settings
from streams.transport import config
from topology.topics import PROCESSES_CHANGELOG

ANSWER_S: Final = 10.0
_TRANSACTIONS: Final = "__transaction_state"


class Brokers:
    """Questions about the cluster, around any proxy; all raise KafkaException while it doesn't answer."""

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
        topics = self._admin.list_topics(timeout=ANSWER_S).topics.values()
        leaders = Counter(part.leader for topic in topics for part in topic.partitions.values())
        return leaders.most_common(1)[0][0] - 1

    def group_coordinator(self) -> int:
        """Return the broker that coordinates the workers' group."""
        described = self._admin.describe_consumer_groups([self._group], request_timeout=ANSWER_S)[self._group]
        coordinator = described.result(ANSWER_S).coordinator
        assert coordinator is not None
        return int(coordinator.id) - 1

    def transaction_coordinator(self, worker: RoleProcess) -> int:
        """Return the broker that coordinates *worker*'s transactions: the leader of its id's partition."""
        partitions = self._admin.list_topics(_TRANSACTIONS, timeout=ANSWER_S).topics[_TRANSACTIONS].partitions
        number = java_hash(f"{self._group}-{worker.name}") % len(partitions)
        return partitions[number].leader - 1

    def in_sync(self) -> bool:
        """Whether every replica of every partition is in sync."""
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
        answers = self._admin.list_offsets(asked, isolation_level=isolation, request_timeout=ANSWER_S)
        return {partition.partition: int(answer.result(ANSWER_S).offset) for partition, answer in answers.items()}


def java_hash(text: str) -> int:
    """Return what Kafka makes of a transactional id before the modulus: Java's String.hashCode without its sign."""
    value = 0
    for unit in text.encode("utf-16-be")[1::2]:  # ASCII only: a character is one unit.
        value = (31 * value + unit) & 0xFFFFFFFF
    return value & 0x7FFFFFFF
