"""The coordinator's word to a worker gets lost: the worker notices it, and all partitions are worked on again."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final
from unittest.mock import patch

import pytest

from streams.local.kafka import LocalKafka
from streams.transport import heartbeats
from tests.broker.harness import PARTITIONS, Worker, settings_for, wait_for
from tests.chaos.proxy import Proxy

CONSUMER_GROUP_HEARTBEAT: Final = 68
HELD_S: Final = 5.0
"""Longer than librdkafka waits for it, and shorter than the session's time-out."""
HELD: Final = 2
"""The one under way, and the next, which says that half of the partitions are to be handed over."""


@pytest.mark.parametrize("noticed", [True, False], ids=["noticed", "unnoticed, for comparison"])
def test_word_to_hand_over_is_lost(noticed: bool, kafka: LocalKafka, proxy: Proxy, unique: str, tmp_path: Path) -> None:
    """
    Unnoticed, half of the partitions would stand still for five minutes.

    Where that comparison fails, librdkafka has learned to repeat itself, and `streams.transport.heartbeats` may go.
    """

    def held() -> int:
        return proxy.counts()[f"held {CONSUMER_GROUP_HEARTBEAT}"] - before

    before = proxy.counts()[f"held {CONSUMER_GROUP_HEARTBEAT}"]
    behind = settings_for(proxy.bootstrap_servers, unique, instance_id="first", web_host="behind")
    with (
        patch.object(heartbeats, "QUIET_S", heartbeats.QUIET_S if noticed else 1_000.0),
        Worker(behind, tmp_path / "first") as first,
    ):
        wait_for(lambda: len(first.running()) == PARTITIONS, "the first has all", 30)
        proxy.hold(CONSUMER_GROUP_HEARTBEAT, HELD_S, HELD, client=behind.advertised_url)
        wait_for(held, "an answer is held")
        direct = settings_for(kafka.bootstrap_servers, unique, instance_id="second")
        with Worker(direct, tmp_path / "second") as second:

            def shared() -> bool:
                return bool(second.running()) and len(first.running() | second.running()) == PARTITIONS

            if noticed:
                wait_for(shared, "both work", 60)
                assert first.running().isdisjoint(second.running())
            else:
                wait_for(lambda: held() == HELD, "both are held")
                time.sleep(2 * HELD_S)
                assert not second.running()
