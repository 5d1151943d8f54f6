"""Topics that were created a moment ago, of which the brokers don't all know yet."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from streams import settings as settings_module
from streams.errors import Unavailable
from streams.transport import topics as module
from streams.transport.topics import Cluster

PARTITIONS = [TopicPartition("commands", number) for number in range(2)]


class Offsets:
    """The answer to a question for offsets."""

    offset = 7


class Admin:
    """An admin client whose first answers are *errors*."""

    def __init__(self, *errors: int) -> None:
        self._errors = list(errors)

    def list_offsets(self, partitions: dict[TopicPartition, Any], **_: Any) -> dict[TopicPartition, Future[Any]]:
        """Answer for each partition."""
        error = self._errors.pop(0) if self._errors else None
        futures = {}
        for partition in partitions:
            futures[partition] = future = Future[Any]()
            if error is None:
                future.set_result(Offsets())
            else:
                future.set_exception(KafkaException(KafkaError(error)))
        return futures


def cluster_of(monkeypatch: pytest.MonkeyPatch, *errors: int) -> Cluster:
    """Return a cluster whose brokers answer so."""
    monkeypatch.setattr(module, "PAUSE_S", 0.0)
    cluster = Cluster(settings_module.load())
    seam: Any = Admin(*errors)
    monkeypatch.setattr(cluster, "_admin", seam)
    return cluster


@pytest.mark.parametrize(
    "error",
    [KafkaError._NOENT, KafkaError._UNKNOWN_PARTITION, KafkaError.LEADER_NOT_AVAILABLE],
    ids=["no leaders", "unknown partition", "leader not available"],
)
def test_topic_whose_leaders_arent_known_yet_is_waited_for(monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    """With three brokers the one that is asked may know of none of them: librdkafka then has words of its own."""
    found = cluster_of(monkeypatch, error, error)._earliest(PARTITIONS)
    assert [(0, 7), (1, 7)] == [(tp.partition, tp.offset) for tp in found]


def test_other_errors_are_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal doesn't go away by waiting."""
    with pytest.raises(Unavailable, match="knows no first offsets"):
        cluster_of(monkeypatch, KafkaError.TOPIC_AUTHORIZATION_FAILED)._earliest(PARTITIONS)
