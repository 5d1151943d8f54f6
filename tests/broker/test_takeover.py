"""Somebody dies or sleeps, somebody else goes on: nothing is lost, nothing is sent twice."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path

import pytest

from streams.local.kafka import LocalKafka
from streams.settings import Settings
from tests.broker.harness import ROW, Worker, keys, produce, read_all, settings_for, wait_for
from tests.broker.member import Member
from topology.topics import COMMANDS, DETAILS, EMAIL_COMMANDS

pytestmark = pytest.mark.system

ORDERS = keys(500)


def _sent(settings: Settings) -> Counter[str]:
    return Counter(message.key().decode() for message in read_all(settings, EMAIL_COMMANDS.name))


def _finish(settings: Settings) -> None:
    """Let the second halves come and wait until every order has its e-mail."""
    produce(settings, DETAILS.name, dict.fromkeys(ORDERS, b"d"))
    wait_for(lambda: len(_sent(settings)) >= len(ORDERS), "every order's e-mail", 60)


def test_zombie_that_commits_after_the_takeover_loses_nothing(kafka: LocalKafka, unique: str, tmp_path: Path) -> None:
    """
    A worker sends its offsets, sleeps, loses its partitions, wakes up, and sends its rows and commits all the same.

    The new owner must have waited with its restore, though nothing of the transaction was in the changelog yet: rows
    that the zombie commits are rows that it needs.
    """
    settings = settings_for(kafka.bootstrap_servers, unique)
    produce(settings, COMMANDS.name, dict.fromkeys(ORDERS, b"c"))
    with Member(settings, tmp_path / "zombie", "zombie", "stop before records") as zombie:
        zombie.wait_stopped()
        with Worker(settings, tmp_path / "successor") as successor:
            wait_for(lambda: successor.session and len(successor.session.member.owned) == 12, "the takeover")
            zombie.signal(signal.SIGCONT)
            wait_for(lambda: successor.stores, "the successor's stores")
            _finish(settings)
    assert Counter(ORDERS) == _sent(settings)


def test_zombie_that_wakes_after_its_transaction_was_aborted_sends_nothing(
    kafka: LocalKafka, unique: str, tmp_path: Path
) -> None:
    """Asleep for longer than its transaction may take, a worker wakes up fenced: its batch is another's by now."""
    settings = settings_for(kafka.bootstrap_servers, unique)
    settings = settings.model_copy(update={"transaction_timeout": 2_000})
    produce(settings, COMMANDS.name, dict.fromkeys(ORDERS, b"c"))
    produce(settings, DETAILS.name, dict.fromkeys(ORDERS, b"d"))
    with Member(settings, tmp_path / "zombie", "zombie", "stop before commit") as zombie:
        zombie.wait_stopped()
        with Worker(settings, tmp_path / "successor"):
            wait_for(lambda: len(_sent(settings)) >= len(ORDERS), "every order's e-mail", 60)
            zombie.signal(signal.SIGCONT)
            said = (b"session over", b"aborted")
            wait_for(lambda: any(words in zombie.log.read_bytes() for words in said), "fence")
    assert Counter(ORDERS) == _sent(settings)


@pytest.mark.parametrize("fault", ["kill before commit", "kill after commit", "kill after store write"])
def test_kill_at_a_point_of_the_commit_and_restart(kafka: LocalKafka, unique: str, tmp_path: Path, fault: str) -> None:
    """Killed with its transaction open, just committed, or stored, a worker starts again under the same name."""
    settings = settings_for(kafka.bootstrap_servers, unique, instance_id="phoenix")
    produce(settings, COMMANDS.name, dict.fromkeys(ORDERS, b"c"))
    with Member(settings, tmp_path / "state", "phoenix", fault) as first:
        first.wait_killed()
    with Worker(settings, tmp_path / "state") as second:
        _finish(settings)
        rows = {key: row for store in dict(second.stores).values() for key, row in store.items()}
    assert Counter(ORDERS) == _sent(settings)
    assert {key.encode(): ROW + b"!" for key in ORDERS} == rows
