"""
The declared topics and the cluster's: what differs, how to make them the same, and what must hold before a start.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ConfigSource,
    NewTopic,
    OffsetSpec,
    ResourceType,
    TopicMetadata,
)

from streams.errors import ConfigurationError, RejoinderError, Unavailable
from streams.offsets import list_offsets
from streams.settings import Settings
from streams.transport import config
from streams.transport.refusals import Admin
from topology.acls import Role
from topology.topics import TOPICS, Participant, Topic

CALL_S: Final = 15.0
PAUSE_S: Final = 0.1

_YOUNG_TOPIC: Final = frozenset(
    {
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError._UNKNOWN_PARTITION,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError._NOENT,  # librdkafka's own: "No leaders found", for none of the partitions asked for.
    }
)
"""What the brokers, and librdkafka after them, say of a topic for a moment after its creation."""

ROLES: Final = {
    Participant.PROCESS_MANAGER: "worker",
    Participant.ORDERS: "orders",
    Participant.EMAIL: "email",
}
"""The suffix of each participant's consumer group."""


class Actual(NamedTuple):
    """A topic as the cluster has it; *config* as Kafka names it, defaults included."""

    partitions: int
    replicas: int
    config: Mapping[str, str]


class Difference(NamedTuple):
    """What of *topic* isn't as declared: *what* is "missing", "partitions" or the name of a configuration."""

    topic: Topic
    what: str
    declared: str
    actual: str


class Cluster:
    """The cluster's topics; every call raises `Unavailable` when no broker answers in time."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._held = Admin(settings)
        self._admin = self._held.client

    def actual(self, topics: Iterable[Topic]) -> dict[str, Actual]:
        """Return those of *topics* that exist, by their declared names; needs the right to see their configuration."""
        by_name = {self._settings.topic(topic.name): topic.name for topic in topics}
        there = self._metadata(by_name)
        resources = {name: ConfigResource(ResourceType.TOPIC, name) for name in there}
        configs = self._admin.describe_configs(list(resources.values()), request_timeout=CALL_S) if there else {}
        return {
            by_name[name]: Actual(
                len(metadata.partitions),
                min((len(p.replicas) for p in metadata.partitions.values()), default=0),
                {key: str(entry.value) for key, entry in self._result(configs[resources[name]]).items()},
            )
            for name, metadata in there.items()
        }

    def partitions(self, topics: Iterable[Topic]) -> dict[str, int]:
        """Return how many partitions those of *topics* have that we may see, by their declared names."""
        by_name = {self._settings.topic(topic.name): topic.name for topic in topics}
        return {by_name[name]: len(metadata.partitions) for name, metadata in self._metadata(by_name).items()}

    def _metadata(self, names: Iterable[str]) -> dict[str, TopicMetadata]:
        try:
            found = self._admin.list_topics(timeout=CALL_S).topics
        except KafkaException as exc:
            raise self._unavailable(exc) from exc
        return {name: found[name] for name in names if name in found}

    def differences(self, topics: Sequence[Topic] = TOPICS) -> list[Difference]:
        """Return what differs from the declaration."""
        actual = self.actual(topics)
        found = []
        for topic in topics:
            there = actual.get(topic.name)
            if there is None:
                found.append(Difference(topic, "missing", f"{self._settings.partitions} partitions", ""))
                continue
            if there.partitions != self._settings.partitions:
                found.append(Difference(topic, "partitions", str(self._settings.partitions), str(there.partitions)))
            found.extend(
                Difference(topic, name, value, there.config.get(name, ""))
                for name, value in self._config(topic).items()
                if there.config.get(name) != value
            )
        return found

    def apply(self) -> list[Difference]:
        """
        Create what is missing, set what differs, and give new groups their positions; return what was changed.

        The number of partitions of a topic that exists is never changed: keys would move away from their state.

        Raises:
            ConfigurationError: a topic exists with another number of partitions, or a group that lacks positions has
                live members.
        """
        differences = self.differences()
        if wrong := [d for d in differences if d.what == "partitions"]:
            counts = ", ".join(f"{d.topic.name} has {d.actual}" for d in wrong)
            raise ConfigurationError(
                f"REJOINDER_PARTITIONS is {self._settings.partitions}, but {counts}; a topic that holds orders can't "
                "change its number of partitions: set the number that it has, or move to new topics by "
                "REJOINDER_TOPIC_PREFIX"
            )
        new = [
            NewTopic(
                self._settings.topic(d.topic.name),
                num_partitions=self._settings.partitions,
                replication_factor=self._settings.replication_factor,
                config=self._config(d.topic),
            )
            for d in differences
            if d.what == "missing"
        ]
        if new:
            for future in self._admin.create_topics(new, request_timeout=CALL_S).values():
                self._result(future, KafkaError.TOPIC_ALREADY_EXISTS)
        changed: dict[str, list[ConfigEntry]] = {}
        for d in differences:
            if d.what != "missing":
                entry = ConfigEntry(
                    d.what,
                    d.declared,
                    source=ConfigSource.DYNAMIC_TOPIC_CONFIG,
                    incremental_operation=AlterConfigOpType.SET,
                )
                changed.setdefault(d.topic.name, []).append(entry)
        for name, entries in changed.items():
            resource = ConfigResource(ResourceType.TOPIC, self._settings.topic(name), incremental_configs=entries)
            for future in self._admin.incremental_alter_configs([resource], request_timeout=CALL_S).values():
                self._result(future)
        self._give_positions()
        return differences

    def _give_positions(self) -> None:
        """
        Let each group without a position begin at the beginning.

        Workers never reset a position by themselves: one that is missing or out of range there means lost records.
        """
        for participant, role in ROLES.items():
            group = f"{self._settings.application_id}-{role}"
            partitions = [
                TopicPartition(self._settings.topic(topic.name), number)
                for topic in TOPICS
                if topic.is_input and topic.consumer is participant
                for number in range(self._settings.partitions)
            ]
            missing = self._without_position(group, partitions)
            if not missing:
                continue
            positions = [ConsumerGroupTopicPartitions(group, self._earliest(missing))]
            done = self._result(self._admin.alter_consumer_group_offsets(positions, request_timeout=CALL_S)[group])
            # What failed is told partition by partition; nothing is raised.
            if failed := [tp for tp in done.topic_partitions if tp.error is not None]:
                raise ConfigurationError(
                    f"group {group} gets no position of {failed[0].topic}/{failed[0].partition}: "
                    f"{failed[0].error.str()}; while a member is alive nobody else may set positions: stop the "
                    "group's processes, then run `rejoinder topics apply` again"
                )

    def _earliest(self, partitions: list[TopicPartition]) -> list[TopicPartition]:
        """Return *partitions* at their first offsets; waits for those whose leader isn't there yet."""
        deadline_s = time.monotonic() + CALL_S
        while True:
            earliest: OffsetSpec = OffsetSpec.earliest()
            found = list_offsets(self._admin, dict.fromkeys(partitions, earliest), request_timeout=CALL_S)
            errors = [error for future in found.values() if (error := future.exception(CALL_S * 2))]
            if not errors:
                return [TopicPartition(tp.topic, tp.partition, f.result().offset) for tp, f in found.items()]
            last = errors[-1]
            young = isinstance(last, KafkaException) and last.args[0].code() in _YOUNG_TOPIC
            if not young or time.monotonic() > deadline_s:
                raise Unavailable(f"Kafka at {self._settings.bootstrap_servers} knows no first offsets: {last}")
            time.sleep(PAUSE_S)

    def _without_position(self, group: str, partitions: list[TopicPartition]) -> list[TopicPartition]:
        # Not AdminClient.list_consumer_group_offsets: in librdkafka 2.16.0 it crashes while the coordinator moves.
        consumer = Consumer(config.common(self._settings) | {"group.id": group})
        try:
            return [tp for tp in consumer.committed(partitions, CALL_S) if tp.offset < 0]
        except KafkaException as exc:
            raise self._unavailable(exc) from exc
        finally:
            consumer.close()

    def _config(self, topic: Topic) -> dict[str, str]:
        replicas = self._settings.replication_factor
        # All but one must have a record before it counts as written: one broker may be away.
        return topic.config | {"min.insync.replicas": str(max(1, replicas - 1))}

    def _result(self, future: Any, unless: int | None = None) -> Any:
        """Return *future*'s result, or None if it failed with the error code *unless*."""
        try:
            return self._held.wait(future, CALL_S * 2, Role.DEPLOYER)
        except KafkaException as exc:
            if exc.args[0].code() == unless:
                return None
            raise self._unavailable(exc) from exc

    def _unavailable(self, exc: KafkaException) -> RejoinderError:
        return self._held.failure(exc, Role.DEPLOYER)


def partitions_of(settings: Settings, topic: Topic) -> int:
    """
    Return how many partitions *topic* has; blocks.

    Raises:
        ConfigurationError: there is no such topic, or we may not look at it.
        Unavailable: no broker answers.
    """
    name = settings.topic(topic.name)
    admin = Admin(settings)
    try:
        asked = admin.client.describe_topics(TopicCollection([name]), request_timeout=CALL_S)[name]
        described = admin.wait(asked, CALL_S * 2, Role.OPERATOR)
    except KafkaException as exc:
        if exc.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            raise missing_topics(settings, [topic.name]) from exc
        raise admin.failure(exc, Role.OPERATOR) from exc
    return len(described.partitions)


def missing_topics(settings: Settings, names: Iterable[str]) -> ConfigurationError:
    """Return what to raise for topics, by their declared names, that the cluster doesn't have."""
    listed = ", ".join(map(settings.topic, names))
    return ConfigurationError(f"no topic {listed} at {settings.bootstrap_servers}; run `rejoinder topics apply`")


def check_topics(settings: Settings, topics: Sequence[Topic]) -> int:
    """
    Return the number of partitions that all of *topics* have; blocks.

    Raises:
        ConfigurationError: a topic is missing, its cleanup policy is another, or the counts aren't equal to each other
            and to the setting.
        Unavailable: no broker answers.
    """
    actual = Cluster(settings).actual(topics)
    if missing := [topic.name for topic in topics if topic.name not in actual]:
        raise missing_topics(settings, missing)
    for topic in topics:
        policy = actual[topic.name].config.get("cleanup.policy")
        if policy != topic.cleanup.value:
            raise ConfigurationError(
                f"{settings.topic(topic.name)} has cleanup.policy={policy}, it must be {topic.cleanup.value}, or "
                "state would be lost; run `rejoinder topics apply`"
            )
    counts = {topic.name: actual[topic.name].partitions for topic in topics}
    if len(set(counts.values())) != 1:
        listed = ", ".join(f"{settings.topic(name)} has {count}" for name, count in counts.items())
        raise ConfigurationError(
            f"unequal numbers of partitions: {listed}; partition p of every topic must hold the same orders: move to "
            "new topics by REJOINDER_TOPIC_PREFIX and `rejoinder topics apply`"
        )
    count = next(iter(counts.values()))
    if count != settings.partitions:
        raise ConfigurationError(
            f"REJOINDER_PARTITIONS is {settings.partitions}, but {settings.topic(topics[0].name)} has {count}, and so "
            f"has every topic here; set it to {count}, or the keys of most records would count as misplaced"
        )
    return count
