"""What a member's configuration makes of a backlog."""

from __future__ import annotations

import os
import time
from collections import Counter
from typing import Final

from confluent_kafka import Consumer, Producer, TopicPartition

from streams.local.kafka import LocalKafka
from streams.transport import config
from tests.broker.harness import settings_for
from topology.topics import COMMANDS, DETAILS

RECORDS: Final = 3_000
"""Of 1,000 bytes, in each partition: several times of what is fetched ahead."""


def test_backlogs_of_the_inputs_are_read_side_by_side(kafka: LocalKafka, unique: str) -> None:
    """Else no order is complete before all of one input is read, and everything waits in the table meanwhile."""
    settings = settings_for(kafka.bootstrap_servers, unique)
    names = [settings.topic(topic.name) for topic in (COMMANDS, DETAILS)]
    places = [TopicPartition(name, number, 0) for name in names for number in range(settings.partitions)]
    producer = Producer(config.plain_producer(settings) | {"batch.size": 100_000})
    for at in range(RECORDS * len(places)):
        place = places[at % len(places)]
        producer.produce(place.topic, os.urandom(1_000), b"key", place.partition)
    assert producer.flush(60) == 0
    consumer = Consumer(config.member(settings, unique))
    consumer.assign(places)
    try:
        read: Counter[str | None] = Counter()
        while read.total() < RECORDS * len(places) // 2:
            read.update(message.topic() for message in consumer.consume(500, 1.0) if message.error() is None)
            time.sleep(0.02)  # Decided more slowly than fetched, or the queue would never be full.
    finally:
        consumer.close()
    assert min(read[name] for name in names) > read.total() / 4, read
