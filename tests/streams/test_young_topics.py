"""``topics apply``: positions of topics that have just been created, whose leaders aren't there yet."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any, NamedTuple

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from streams import settings as settings_module
from streams.errors import Unavailable
from streams.transport import topics
from streams.transport.topics import Cluster

PARTITION = TopicPartition("t", 0)


class Answer(NamedTuple):
    """What a broker says of a partition."""

    offset: int


class Admin:
    """An admin client whose questions for offsets fail with *errors*, one after another, and then don't."""

    def __init__(self, *errors: int) -> None:
        self._errors = list(errors)

    def list_offsets(self, asked: dict[TopicPartition, Any], **_: Any) -> dict[TopicPartition, Future[Answer]]:
        """Answer, or fail."""
        future: Future[Answer] = Future()
        if self._errors:
            future.set_exception(KafkaException(KafkaError(self._errors.pop(0), "not yet")))
        else:
            future.set_result(Answer(7))
        return dict.fromkeys(asked, future)


def earliest(monkeypatch: pytest.MonkeyPatch, *errors: int) -> list[int]:
    """Return the first offsets that are found while the brokers say *errors*."""
    monkeypatch.setattr(topics, "PAUSE_S", 0.0)
    cluster = Cluster(settings_module.load(bootstrap_servers="127.0.0.1:1"))
    monkeypatch.setattr(cluster, "_admin", Admin(*errors))
    return [tp.offset for tp in cluster._earliest([PARTITION])]


@pytest.mark.parametrize("error", [KafkaError.LEADER_NOT_AVAILABLE, KafkaError.UNKNOWN_LEADER_EPOCH, KafkaError._NOENT])
def test_leaders_are_waited_for(monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    """Brokers say that there is none; librdkafka has an error of its own when no partition has one."""
    assert [7] == earliest(monkeypatch, error, error)


def test_other_errors_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting wouldn't help."""
    with pytest.raises(Unavailable, match="knows no first offsets"):
        earliest(monkeypatch, KafkaError.CLUSTER_AUTHORIZATION_FAILED)
