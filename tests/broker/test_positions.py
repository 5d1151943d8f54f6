"""Where a group reads: no lag on idle partitions, and no start from a position that isn't there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    ResourceType,
)

from streams.errors import ConfigurationError
from streams.local.kafka import LocalKafka
from streams.processing.task import Phase
from streams.settings import Settings
from streams.transport import config
from streams.transport.topics import Cluster, check_topics
from streams.transport.transaction import Aborted, Transaction
from tests.broker.harness import (
    PARTITIONS,
    Busy,
    Worker,
    committed,
    ends,
    keys,
    keys_of_partition,
    produce,
    sent,
    settings_for,
    wait_for,
    wait_for_mails,
)
from topology.topics import COMMANDS, DETAILS, EMAIL_EVENTS, PROCESSES_CHANGELOG

INPUTS = (COMMANDS, DETAILS, EMAIL_EVENTS, PROCESSES_CHANGELOG)
CALL_S = 20


def produce_in_transactions(settings: Settings, topic: str, values: Mapping[str, bytes], per_transaction: int) -> None:
    """Produce as the services do: a transaction marker ends up behind the last record of each partition."""
    producer = Producer(config.transactional(settings, "outside"))
    producer.init_transactions(CALL_S)
    items = list(values.items())
    for start in range(0, len(items), per_transaction):
        producer.begin_transaction()
        for key, value in items[start : start + per_transaction]:
            producer.produce(settings.topic(topic), value, key.encode())
        producer.commit_transaction(CALL_S)


class AbortsOnce(Transaction):
    """A transaction whose first commit with records fails, as when a partition's leader moves at a bad time."""

    produced = False
    aborted = False

    def _until_taken(self, some: Callable[[int], int], count: int) -> None:
        super()._until_taken(some, count)
        self.produced = self.produced or count > 0

    def commit(self, positions: Iterable[TopicPartition], member: Any) -> None:
        """See `Transaction`."""
        if self.produced and not self.aborted:
            self.aborted = True
            self.abort()
            raise Aborted("by the test")
        super().commit(positions, member)


@pytest.mark.parametrize("transaction_type", [Transaction, AbortsOnce])
def test_idle_partitions_have_no_lag(
    kafka: LocalKafka, unique: str, tmp_path: Path, transaction_type: type[Transaction]
) -> None:
    """Transaction markers take offsets but deliver nothing: all the same the committed position reaches the end."""
    settings = settings_for(kafka.bootstrap_servers, unique)
    orders = keys(200)
    with Worker(settings, tmp_path / "state", transaction_type=transaction_type):
        for topic in (COMMANDS, DETAILS):
            produce_in_transactions(settings, topic.name, dict.fromkeys(orders, b"x"), 10)
        wait_for_mails(settings, orders)
        wait_for(lambda: committed(settings) == ends(settings), "no lag", 10)
    assert Counter(orders) == sent(settings)


def test_end_that_comes_with_its_records_leaves_no_lag(kafka: LocalKafka, unique: str, tmp_path: Path) -> None:
    """A worker that was busy gets records, markers and the end of the partition with one poll."""
    settings = settings_for(kafka.bootstrap_servers, unique)
    first, *orders = keys(200)
    busy = Busy()
    with Worker(settings, tmp_path / "state", function=busy):
        produce(settings, COMMANDS.name, {first: b"x"})
        assert busy.entered.wait(30)
        for topic, values in ((COMMANDS, orders), (DETAILS, [first, *orders])):
            produce_in_transactions(settings, topic.name, dict.fromkeys(values, b"x"), 200)
        busy.free()
        wait_for_mails(settings, [first, *orders])
        wait_for(lambda: committed(settings) == ends(settings), "no lag", 10)


def test_position_that_retention_overtook_holds_its_partition(kafka: LocalKafka, unique: str, tmp_path: Path) -> None:
    """Records of one partition were removed before they were read: it is held, not skipped, and the others go on."""
    settings = settings_for(kafka.bootstrap_servers, unique)
    gone, others = keys_of_partition(1, 20), keys_of_partition(0, 20) + keys_of_partition(2, 20)
    for topic in (COMMANDS, DETAILS):
        produce(settings, topic.name, dict.fromkeys(gone + others, b"x"))
    admin = AdminClient(config.common(settings))
    cut = TopicPartition(settings.topic(DETAILS.name), 1, 5)
    admin.delete_records([cut])[cut].result(CALL_S)
    with Worker(settings, tmp_path / "state") as worker:
        wait_for_mails(settings, others)
        wait_for(lambda: worker.phases()[1] is Phase.HELD, "the partition is held")
        wait_for(lambda: 1 in worker.stores, "its store is restored, for who asks")
        assert {0: Phase.RUNNING, 1: Phase.HELD, 2: Phase.RUNNING, 3: Phase.RUNNING} == worker.phases()
    assert Counter(others) == sent(settings)
    assert 0 == committed(settings)[cut.topic, 1]


def test_group_without_positions_waits_for_topics_apply(kafka: LocalKafka, unique: str, tmp_path: Path) -> None:
    """A new group neither skips what is there nor guesses: it is held until somebody has given it positions."""
    settings = settings_for(kafka.bootstrap_servers, unique).model_copy(update={"application_id": f"{unique}-new"})
    orders = keys(100)
    for topic in (COMMANDS, DETAILS):
        produce(settings, topic.name, dict.fromkeys(orders, b"x"))
    with Worker(settings, tmp_path / "state") as worker:
        wait_for(lambda: len(worker.stores) == PARTITIONS, "all stores")
        wait_for(lambda: [*worker.phases().values()] == [Phase.HELD] * PARTITIONS, "all partitions are held")
        with pytest.raises(ConfigurationError, match=f"{unique}-new-worker.*stop"):
            Cluster(settings).apply()
    assert {} == sent(settings)
    Cluster(settings).apply()
    with Worker(settings, tmp_path / "state"):
        wait_for_mails(settings, orders)
    assert Counter(orders) == sent(settings)


def test_missing_topic_is_refused_at_start(kafka: LocalKafka, unique: str) -> None:
    """The message names the topic and the command that makes it."""
    settings = settings_for(kafka.bootstrap_servers, unique)
    name = settings.topic(DETAILS.name)
    admin = AdminClient(config.common(settings))
    admin.delete_topics([name])[name].result(CALL_S)
    wait_for(lambda: name not in admin.list_topics(timeout=CALL_S).topics, "the topic is gone")
    with pytest.raises(ConfigurationError, match=f"no topic {name} at .*topics apply"):
        check_topics(settings, INPUTS)


def test_unequal_partition_counts_are_refused_at_start(kafka: LocalKafka, unique: str) -> None:
    """The message names the topics, their counts, and the way out."""
    settings = settings_for(kafka.bootstrap_servers, unique)
    name = settings.topic(EMAIL_EVENTS.name)
    admin = AdminClient(config.common(settings))
    admin.create_partitions([NewPartitions(name, PARTITIONS + 1)])[name].result(CALL_S)
    wait_for(lambda: len(admin.list_topics(timeout=CALL_S).topics[name].partitions) == PARTITIONS + 1, "one more")
    with pytest.raises(ConfigurationError, match=f"{name} has {PARTITIONS + 1}.*REJOINDER_TOPIC_PREFIX"):
        check_topics(settings, INPUTS)


def test_other_partition_count_than_set_is_refused_at_start(kafka: LocalKafka, unique: str) -> None:
    """A worker that reckons with another number would take every key for one in the wrong partition."""
    settings = settings_for(kafka.bootstrap_servers, unique).model_copy(update={"partitions": 12})
    with pytest.raises(ConfigurationError, match=f"REJOINDER_PARTITIONS is 12.*{unique}.*has {PARTITIONS}"):
        check_topics(settings, INPUTS)


def test_wrong_cleanup_policy_is_refused_at_start(kafka: LocalKafka, unique: str) -> None:
    """A changelog that isn't compacted would forget orders after its retention."""
    settings = settings_for(kafka.bootstrap_servers, unique)
    name = settings.topic(PROCESSES_CHANGELOG.name)
    entry = ConfigEntry("cleanup.policy", "delete", incremental_operation=AlterConfigOpType.SET)
    admin = AdminClient(config.common(settings))
    resource = ConfigResource(ResourceType.TOPIC, name, incremental_configs=[entry])
    for future in admin.incremental_alter_configs([resource]).values():
        future.result(CALL_S)
    with pytest.raises(ConfigurationError, match=f"{name} has cleanup.policy=delete.*compact.*topics apply"):
        wait_for(lambda: check_topics(settings, INPUTS) and False, "the refusal", 5)
