"""``topic.send()`` of a Faust application over our transport: what timers and commands by hand send."""

from __future__ import annotations

import asyncio

import pytest
from confluent_kafka import KafkaException

from streams.frame import App
from streams.local.kafka import LocalKafka
from tests.broker.harness import read_all, settings_for
from topology.topics import EMAIL_COMMANDS

ANSWER_S = 30


async def test_what_is_sent_arrives_and_is_told_so_time_after_time(kafka: LocalKafka, unique: str) -> None:
    """Each gets its own answer, also the first after a while in which there was nothing to be told."""
    settings = settings_for(kafka.bootstrap_servers, unique)
    topic = settings.topic(EMAIL_COMMANDS.name)
    app = App(settings, "worker")
    async with app.transport.create_producer() as producer:
        several = [await producer.send(topic, b"k%d" % i, b"v", 0, None, [("h", b"1")]) for i in range(3)]
        told = await asyncio.wait_for(asyncio.gather(*several), ANSWER_S)
        assert [(0, 0), (0, 1), (0, 2)] == [(record.partition, record.offset) for record in told]
        await asyncio.sleep(0.1)
        last = await asyncio.wait_for(producer.send_and_wait(topic, b"k3", b"v", 0, None, None), ANSWER_S)
        assert (0, 3) == (last.partition, last.offset)
    assert {b"k0", b"k1", b"k2", b"k3"} == {message.key() for message in read_all(settings, EMAIL_COMMANDS.name)}


async def test_what_cannot_be_sent_raises_why(kafka: LocalKafka, unique: str) -> None:
    """At the awaitable, with the broker's own reason."""
    settings = settings_for(kafka.bootstrap_servers, unique)
    async with App(settings, "worker").transport.create_producer() as producer:
        with pytest.raises(KafkaException, match="UNKNOWN_PARTITION"):
            await asyncio.wait_for(
                producer.send_and_wait(settings.topic(EMAIL_COMMANDS.name), b"k", b"v", 99, None, None), ANSWER_S
            )
