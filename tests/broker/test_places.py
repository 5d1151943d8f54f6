"""Partitions whose committed positions are held by an open transaction while the assignment changes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from confluent_kafka import Consumer, Producer, TopicPartition

from streams.local.kafka import LocalKafka
from streams.processing.task import Phase
from streams.settings import Settings
from streams.transport import config
from tests.broker.harness import INPUTS, PARTITIONS, Worker, keys, produce, sent, settings_for, wait_for, wait_for_mails
from topology.topics import COMMANDS, DETAILS

CALL_S = 20
HELD = (0, 3)
"""Whoever else comes, one of these stays with the first worker."""


def hold_positions(settings: Settings) -> Producer:
    """Leave a transaction open that has sent positions of the group, as a worker does that then stops."""
    producer = Producer(config.transactional(settings, "stopped"))
    producer.init_transactions(CALL_S)
    group = Consumer(config.common(settings) | {"group.id": f"{settings.application_id}-worker"})
    producer.begin_transaction()
    positions = [TopicPartition(settings.topic(topic), number, 0) for topic in INPUTS for number in HELD]
    producer.send_offsets_to_transaction(positions, group.consumer_group_metadata(), CALL_S)
    group.close()
    return producer


def test_rebalance_while_positions_are_held_by_a_transaction(kafka: LocalKafka, unique: str, tmp_path: Path) -> None:
    """
    The partition is read as soon as the transaction has ended.

    librdkafka 2.16 drops its question for the position when the assignment changes, and says that there is none: such
    a partition stood still until the next rebalance.
    """
    settings = settings_for(kafka.bootstrap_servers, unique)
    orders = keys(400)
    for topic in (COMMANDS, DETAILS):
        produce(settings, topic.name, dict.fromkeys(orders, b"x"))
    stopped = hold_positions(settings)
    first = settings.model_copy(update={"instance_id": "first"})
    second = settings.model_copy(update={"instance_id": "second"})
    with Worker(first, tmp_path / "first") as one:
        wait_for(lambda: len(one.phases()) == PARTITIONS, "the first has all partitions")
        with Worker(second, tmp_path / "second") as two:
            wait_for(lambda: len(two.phases()) == PARTITIONS // 2, "the second has its share")
            wait_for(lambda: Phase.HELD in one.phases().values(), "librdkafka has given up a partition")
            stopped.abort_transaction(CALL_S)
            wait_for(lambda: one.running() | two.running() == set(range(PARTITIONS)), "all partitions run", 20)
            wait_for_mails(settings, orders)
    assert Counter(orders) == sent(settings)
