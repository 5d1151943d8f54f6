"""A worker's life on a real broker: records joined once, whoever comes and goes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from streams.local.kafka import LocalKafka
from tests.broker.harness import Worker, keys, produce, read_all, settings_for, wait_for
from topology.topics import COMMANDS, DETAILS, EMAIL_COMMANDS


def test_two_halves_are_joined_once(kafka: LocalKafka, unique: str, tmp_path: Path) -> None:
    """Both halves of 2,000 orders lead to 2,000 e-mails, each order one."""
    settings = settings_for(kafka.bootstrap_servers, unique)
    orders = keys(2_000)
    with Worker(settings, tmp_path / "state"):
        produce(settings, COMMANDS.name, dict.fromkeys(orders, b"c"))
        produce(settings, DETAILS.name, dict.fromkeys(orders, b"d"))
        wait_for(lambda: len(read_all(settings, EMAIL_COMMANDS.name)) >= len(orders), "all joined")
    sent = Counter(message.key().decode() for message in read_all(settings, EMAIL_COMMANDS.name))
    assert Counter(orders) == sent
