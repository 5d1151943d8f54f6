"""A worker that slept through the loss of its partitions commits nothing, wherever it slept."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path

import pytest

from streams.local.kafka import LocalKafka
from tests.broker.harness import Worker, keys_of_partition, produce, sent, settings_for, wait_for, wait_for_mails
from tests.broker.member import REFUSED, Member
from topology.topics import COMMANDS, DETAILS

pytestmark = pytest.mark.system

ORDERS = keys_of_partition(0, 200)


def test_commit_after_rejoining_is_refused(kafka: LocalKafka, unique: str, tmp_path: Path) -> None:
    """
    A worker decides, sleeps, loses its partitions, wakes up and is a member again before it commits.

    Its new membership is good, but the records are of the old one: the commit carries the metadata of their poll.
    """
    settings = settings_for(kafka.bootstrap_servers, unique)
    produce(settings, COMMANDS.name, dict.fromkeys(ORDERS, b"c"))
    produce(settings, DETAILS.name, dict.fromkeys(ORDERS, b"d"))
    with Member(settings, tmp_path / "zombie", "zombie", "rejoin while deciding") as zombie:
        zombie.wait_stopped()
        with Worker(settings, tmp_path / "successor"):
            wait_for_mails(settings, ORDERS)
            zombie.signal(signal.SIGCONT)
            assert REFUSED == zombie.wait_ended()
    assert Counter(ORDERS) == sent(settings)


@pytest.mark.parametrize("protocol", ["consumer", "classic"])
def test_sleep_between_poll_and_group_metadata(
    kafka: LocalKafka, unique: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    """
    A worker falls asleep with records in hand, before it asks for the metadata of their poll.

    By then librdkafka knows that the membership is lost, and under the classic protocol it has forgotten the member id.
    A transaction with neither member id nor generation would pass the broker unchecked.
    """
    if protocol == "classic":  # Whose session time-out is the member's; the other's is the broker's.
        monkeypatch.setenv("REJOINDER_KAFKA_SESSION_TIMEOUT_MS", "6000")
    settings = settings_for(kafka.bootstrap_servers, unique, group_protocol=protocol)
    produce(settings, COMMANDS.name, dict.fromkeys(ORDERS, b"c"))
    produce(settings, DETAILS.name, dict.fromkeys(ORDERS, b"d"))
    with Member(settings, tmp_path / "zombie", "zombie", "stop in poll") as zombie:
        zombie.wait_stopped()
        with Worker(settings, tmp_path / "successor") as successor:
            wait_for_mails(settings, ORDERS)
            zombie.signal(signal.SIGCONT)
            wait_for(lambda: len(successor.running()) == 2, "the zombie is a member again")
            more = keys_of_partition(0, 250)[200:] + keys_of_partition(3, 50)
            produce(settings, COMMANDS.name, dict.fromkeys(more, b"c"))
            produce(settings, DETAILS.name, dict.fromkeys(more, b"d"))
            wait_for_mails(settings, more)
        zombie.stop()
    assert Counter(ORDERS + more) == sent(settings)
