"""C6: lag zero and no open transaction, on every topic."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from confluent_kafka import Consumer, IsolationLevel, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from streams.offsets import list_offsets
from streams.settings import Settings
from streams.transport import config
from tests.chaos.checks import Violation
from topology.topics import COMMANDS, DETAILS, EMAIL_EVENTS, TOPICS

ANSWER_S: Final = 20.0

Positions = Mapping[tuple[str, int], int]
"""Offsets by declared topic and partition."""


def check(ends: Positions, stable: Positions, committed: Positions) -> Iterator[Violation]:
    """
    Yield where something is open or unread.

    Args:
        ends: The end offset of every partition.
        stable: The last stable offset of every partition: before it nothing is open.
        committed: The workers' committed positions, of every partition of their inputs.
    """
    for (topic, partition), end in ends.items():
        where = (f"{topic}/{partition}/{stable[topic, partition]}",)
        if stable[topic, partition] != end:
            what = f"a transaction is open on {topic}/{partition} at {stable[topic, partition]}; the end is {end}"
            yield Violation("C6", "", what, where)
    for (topic, partition), position in committed.items():
        if position != ends[topic, partition]:
            what = f"{topic}/{partition} is committed to {position}, its end is {ends[topic, partition]}"
            yield Violation("C6", "", what, (f"{topic}/{partition}/{position}",))


class Cluster:
    """Asks a cluster for these positions."""

    def __init__(self, settings: Settings, partitions: int) -> None:
        self._settings = settings
        self._admin = AdminClient(config.common(settings) | {"log_level": 0})
        self._every = [(topic.name, number) for topic in TOPICS for number in range(partitions)]

    def ends(self) -> Positions:
        """Return the end of every partition; raises KafkaException."""
        return self._offsets(IsolationLevel.READ_UNCOMMITTED)

    def stable(self) -> Positions:
        """Return the last stable offset of every partition; raises KafkaException."""
        return self._offsets(IsolationLevel.READ_COMMITTED)

    def _offsets(self, isolation: IsolationLevel) -> Positions:
        asked = {TopicPartition(self._settings.topic(topic), number): (topic, number) for topic, number in self._every}
        answers = list_offsets(
            self._admin, dict.fromkeys(asked, OffsetSpec.latest()), isolation_level=isolation, request_timeout=ANSWER_S
        )
        return {asked[partition]: int(answer.result(2 * ANSWER_S).offset) for partition, answer in answers.items()}

    def committed(self) -> Positions:
        """Return the workers' committed positions; raises KafkaException."""
        consumer = Consumer(
            config.common(self._settings)
            | {"group.id": f"{self._settings.application_id}-worker", "isolation.level": "read_committed"}
            | {"log_level": 0}
        )
        inputs = {topic.name for topic in (COMMANDS, DETAILS, EMAIL_EVENTS)}
        asked = {(self._settings.topic(topic), n): (topic, n) for topic, n in self._every if topic in inputs}
        try:
            answers = consumer.committed([TopicPartition(*one) for one in asked], ANSWER_S)
        finally:
            consumer.close()
        return {asked[tp.topic, tp.partition]: tp.offset for tp in answers}

    def settled(self) -> bool:
        """Whether `check` finds nothing."""
        ends = self.ends()
        return not list(check(ends, self.stable(), self.committed()))
