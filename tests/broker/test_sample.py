"""The look at the inputs' newest keys before a start."""

from __future__ import annotations

import pytest
from confluent_kafka import Producer

from streams.errors import ConfigurationError
from streams.local.kafka import LocalKafka
from streams.settings import Settings
from streams.transport import config
from streams.transport.sample import check_keys
from tests.broker.harness import PARTITIONS, keys, produce, settings_for
from topology.topics import COMMANDS


def _produce_elsewhere(settings: Settings, count: int) -> None:
    """Produce as librdkafka does unless it is told otherwise."""
    producer = Producer(config.plain_producer(settings) | {"partitioner": "consistent_random"})
    for key in keys(count):
        producer.produce(settings.topic(COMMANDS.name), b"c", key.encode())
    assert producer.flush(30) == 0


def test_keys_that_murmur2_put_there_pass(kafka: LocalKafka, unique: str) -> None:
    """What a murmur2 producer wrote is as it must be, and so is an empty topic."""
    settings = settings_for(kafka.bootstrap_servers, unique)
    check_keys(settings, [COMMANDS], PARTITIONS)
    produce(settings, COMMANDS.name, dict.fromkeys(keys(100), b"c"))
    check_keys(settings, [COMMANDS], PARTITIONS)


def test_producer_with_another_partitioner_is_found_before_the_start(kafka: LocalKafka, unique: str) -> None:
    """Orders of a CRC32 producer would never meet their other half: the start is refused, with what to do."""
    settings = settings_for(kafka.bootstrap_servers, unique)
    _produce_elsewhere(settings, 100)
    with pytest.raises(ConfigurationError, match=r"order-confirmation\.commands.*murmur2_random"):
        check_keys(settings, [COMMANDS], PARTITIONS)


def test_single_key_elsewhere_doesnt_keep_a_worker_from_starting(kafka: LocalKafka, unique: str) -> None:
    """One record in the wrong place becomes a dead letter; the others mustn't wait for it."""
    settings = settings_for(kafka.bootstrap_servers, unique)
    produce(settings, COMMANDS.name, dict.fromkeys(keys(100), b"c"))
    _produce_elsewhere(settings, 1)
    check_keys(settings, [COMMANDS], PARTITIONS)
