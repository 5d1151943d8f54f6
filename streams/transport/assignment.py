"""Who owns what. The broker assigns; these answer Faust's questions about it."""

from __future__ import annotations

from typing import Any, Final

from faust.types import TP
from faust.types.assignor import HostToPartitionMap, LeaderAssignorT, PartitionAssignorT
from mode import Service
from yarl import URL

from streams.errors import Unavailable
from streams.settings import Settings
from streams.transport.partitioner import partition_of
from streams.transport.refusals import Admin
from topology.acls import Role

DESCRIBE_S: Final = 5.0


def owners_of(settings: Settings, group: str) -> dict[int, str]:
    """
    Return the client id of each partition number's owner in *group*; blocks.

    Raises:
        Unavailable: the group's coordinator doesn't answer.
        ConfigurationError: we may not ask.
    """
    admin = Admin(settings)
    asked = admin.client.describe_consumer_groups([group], request_timeout=DESCRIBE_S)[group]
    try:
        described = admin.result(asked, DESCRIBE_S, Role.OPERATOR)
    except Unavailable as exc:
        raise Unavailable(f"the coordinator of group {group} doesn't say who owns what: {exc}; try again") from exc
    return {
        tp.partition: member.client_id
        for member in described.members
        if member.assignment
        for tp in member.assignment.topic_partitions
    }


class PartitionAssignor(PartitionAssignorT):
    """
    The map from partition to worker.

    Each member's client id is its web server's URL, so the group's description is the map, and needs no topic of its
    own.
    """

    app: Any

    def __init__(self, app: Any, replicas: int = 0) -> None:
        self.app = app

    def group_for_topic(self, topic: str) -> int:
        return 0

    def assigned_actives(self) -> set[TP]:
        return set(self.app.consumer.assignment())

    def assigned_standbys(self) -> set[TP]:
        return set()

    def is_active(self, tp: TP) -> bool:
        return tp in self.assigned_actives()

    def is_standby(self, tp: TP) -> bool:
        return False

    def owners(self) -> dict[int, str]:
        """Return the URL of each partition number's owner; see `owners_of`, and call it in an executor."""
        return owners_of(self.app.settings, self.app.conf.id)

    def tables_metadata(self) -> HostToPartitionMap:
        found: HostToPartitionMap = {}
        for partition, url in sorted(self.owners().items()):
            for topic in self.app.tables.changelog_topics:
                found.setdefault(url, {}).setdefault(topic, []).append(partition)
        return found

    def table_metadata(self, topic: str) -> HostToPartitionMap:
        return {url: {topic: topics[topic]} for url, topics in self.tables_metadata().items() if topic in topics}

    def key_store(self, topic: str, key: bytes) -> URL:
        """Return the URL of the worker that holds *key*."""
        return URL(self.owners()[partition_of(key, self.app.partitions)])


class LeaderAssignor(Service, LeaderAssignorT):
    """Leader is the owner of partition 0: Faust's leader topic would spoil the range assignor's co-partitioning."""

    def __init__(self, app: Any, **kwargs: Any) -> None:
        Service.__init__(self, **kwargs)
        self.app = app

    def is_leader(self) -> bool:
        return any(tp.partition == 0 for tp in self.app.consumer.assignment())
