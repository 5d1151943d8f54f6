"""Partitions by key, as Java's clients choose them: else our keys and others' would lie apart."""

from __future__ import annotations

import pytest
from aiokafka.partitioner import murmur2 as aiokafka_murmur2
from confluent_kafka import Producer
from hypothesis import example, given
from hypothesis import strategies as st

from streams.transport.partitioner import murmur2, partition_of


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        # Apache Kafka, UtilsTest.testMurmur2; Java's int is signed.
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_is_apache_kafka_s(key: bytes, expected: int) -> None:
    """The values of Kafka's own test."""
    assert expected % (1 << 32) == murmur2(key)


@given(st.binary(max_size=600))
@example(b"")
@example(b"\xff" * 257)
def test_murmur2_is_aiokafka_s(key: bytes) -> None:
    """Another implementation agrees on keys of every length."""
    assert aiokafka_murmur2(key) % (1 << 32) == murmur2(key)


@given(st.binary(min_size=1, max_size=100), st.integers(1, 1_000))
def test_partition_is_one_of_them(key: bytes, partitions: int) -> None:
    """By the hash's 31 lower bits, as Java's ``toPositive``."""
    assert (aiokafka_murmur2(key) & 0x7FFFFFFF) % partitions == partition_of(key, partitions)


def test_librdkafka_chooses_the_same_partitions() -> None:
    """What we produce by key lies where we look for it; on librdkafka's own mock of a cluster."""
    producer = Producer(
        {"test.mock.num.brokers": 1, "partitioner": "murmur2_random", "log_level": 0, "allow.auto.create.topics": True}
    )
    chosen: dict[bytes, int] = {}

    def delivered(error: object, message: object) -> None:
        assert error is None
        chosen[message.key()] = message.partition()  # type: ignore[attr-defined]

    keys = [f"order-{number:06}".encode() for number in range(200)]
    for key in keys:
        producer.produce("orders", b"", key, on_delivery=delivered)
    assert 0 == producer.flush(20)
    partitions = len(producer.list_topics("orders", 5).topics["orders"].partitions)
    assert partitions > 1
    assert {key: partition_of(key, partitions) for key in keys} == chosen
