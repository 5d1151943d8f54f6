"""A recording from the topics: committed records only, no group joined, nothing written."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from streams.batch import Record
from streams.monitor.group_offsets import GroupLooker
from streams.processing.process_manager import INPUTS
from streams.replay.recording import OUTPUTS, READ, Recording, decided_ms
from streams.settings import Settings
from streams.transport.member import TP
from streams.transport.messages import headers_of
from streams.transport.partitioner import partition_of
from streams.transport.reading import Span, TopicReader
from streams.transport.topics import ROLES, Cluster, missing_topics, partitions_of
from topology.acls import Role
from topology.topics import COMMANDS, Topic


def record_of(topic: str, message: Any) -> Record:
    """Return a consumer's *message* as a record of the declared *topic*."""
    at_ms = message.timestamp()[1]
    return Record(
        topic, message.partition(), message.offset(), at_ms, message.key(), message.value(), headers_of(message)
    )


def read_topics(settings: Settings, recording: Recording, since_ms: int | None = None) -> None:
    """
    Take into *recording* what the workers have decided, and what came of it.

    Inputs up to the workers' committed positions, outputs after that: so the outputs of all of these inputs are there.

    Raises:
        ConfigurationError: a topic is missing, or the brokers don't let us read it.
        Unavailable: no broker answers.
    """
    counts = Cluster(settings).partitions(READ)
    if missing := [topic.name for topic in READ if topic.name not in counts]:
        raise missing_topics(settings, missing)
    recording.partition_count = counts[COMMANDS.name]
    recording.seen_ms = time.time_ns() // 1_000_000
    readers = {topic.name: TopicReader(settings, settings.topic(topic.name), Role.AUDITOR) for topic in READ}
    positions = _positions(settings)
    spans = {
        topic.name: readers[topic.name].spans(counts[topic.name], since_ms=since_ms, stable=True) for topic in READ
    }
    # Where no position moved meanwhile, the outputs' ends are those of just these inputs.
    recording.moving = {at.partition for at, position in _positions(settings).items() if positions.get(at) != position}
    for topic in READ:
        found = spans[topic.name]
        if topic in INPUTS:
            for number, span in found.items():
                committed = positions.get(TP(settings.topic(topic.name), number), span.start)
                found[number] = Span(span.start, max(span.start, min(span.end, committed)))
        _read(readers[topic.name], topic, found, recording)


def _positions(settings: Settings) -> dict[TP, int]:
    """Return the workers' committed positions, by the cluster's topic names."""
    looker = GroupLooker(settings, [ROLES[COMMANDS.consumer]])
    try:
        looks = looker.look().looks
    finally:
        looker.close()
    return {
        TP(place.topic, place.partition): look.committed for place, look in looks.items() if look.committed is not None
    }


def _read(reader: TopicReader, topic: Topic, spans: dict[int, Span], recording: Recording) -> None:
    for message in reader.read(spans):
        record = record_of(topic.name, message)
        at = topic.name, record.partition
        if topic in OUTPUTS and spans[record.partition].start > 0 and at not in recording.kept_from_ms:
            recording.kept_from_ms[at] = decided_ms(record)
        recording.add(record)


def of_order(settings: Settings, order_id: str) -> Iterator[Record]:
    """Yield all records of one order that are there, inputs and outputs; raises as `read_topics`."""
    key = order_id.encode()
    partition = partition_of(key, partitions_of(settings, COMMANDS))
    for topic in READ:
        reader = TopicReader(settings, settings.topic(topic.name), Role.AUDITOR)
        spans = reader.spans(partition + 1, stable=True)
        for message in reader.read({partition: spans[partition]}):
            if message.key() == key:
                yield record_of(topic.name, message)
