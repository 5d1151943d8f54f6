"""A look at the newest records of the inputs before a start: do their keys lie where murmur2 puts them?"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from streams.errors import ConfigurationError, Unavailable
from streams.settings import Settings
from streams.transport import config
from streams.transport.partitioner import partition_of
from topology.topics import Topic

log = structlog.get_logger(__name__)

PER_PARTITION: Final = 5
SAMPLE_S: Final = 10.0
SAMPLE_MIN: Final = 10
"""Fewer keys than this prove nothing."""


def check_keys(settings: Settings, topics: Sequence[Topic], partitions: int, group: str = "rejoinder-sample") -> None:
    """
    Sample the newest keys of *topics*; blocks. *group*: one that we may describe; it isn't joined.

    A few keys elsewhere are warned of, and dead-lettered when they come. Most of them elsewhere is a producer with
    another partitioner (librdkafka's default is CRC32): its orders would never meet their other half.

    Raises:
        ConfigurationError: more than half of a topic's sample lies elsewhere.
        Unavailable: no broker answers.
    """
    for topic in topics:
        name = settings.topic(topic.name)
        keys = _newest(settings, name, partitions, group)
        elsewhere = [key for number, key in keys if partition_of(key, partitions) != number]
        if not elsewhere:
            continue
        found = f"{len(elsewhere)} of {len(keys)} sampled keys of {name} aren't in the partition of their murmur2 hash"
        if len(keys) >= SAMPLE_MIN and 2 * len(elsewhere) > len(keys):
            raise ConfigurationError(
                f"{found}, {elsewhere[0]!r} for one; its producer must partition by murmur2 (librdkafka: "
                "partitioner=murmur2_random), and the topic can't be used as it is"
            )
        log.warning("keys in the wrong partition", found=found, for_one=elsewhere[0])


def _newest(settings: Settings, topic: str, partitions: int, group: str) -> list[tuple[int, bytes]]:
    """Return the partition and key of the last few records of each partition of *topic*."""
    consumer = Consumer(
        config.common(settings)
        | {
            "group.id": group,
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            # A sample that retention has just removed is no reason to fail.
            "auto.offset.reset": "latest",
        }
    )
    found: list[tuple[int, bytes]] = []
    try:
        starts = []
        for number in range(partitions):
            low, high = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=SAMPLE_S)
            if high > low:
                starts.append(TopicPartition(topic, number, max(low, high - PER_PARTITION)))
        consumer.assign(starts)
        reading = {tp.partition for tp in starts}
        deadline_s = time.monotonic() + SAMPLE_S
        while reading and time.monotonic() < deadline_s:
            for message in consumer.consume(PER_PARTITION * partitions, 0.2):
                error, at, key = message.error(), message.partition(), message.key()
                if error is None and at is not None and isinstance(key, bytes):
                    found.append((at, key))
                elif error is not None and error.code() == KafkaError._PARTITION_EOF:
                    reading.discard(at)
    except KafkaException as exc:
        raise Unavailable(f"no sample of {topic} at {settings.bootstrap_servers}: {exc.args[0].str()}") from exc
    finally:
        consumer.close()
    return found
