"""Leaders move while a worker lives: its questions to them don't go on being answered by «fenced»."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from streams.errors import Unavailable
from streams.local.kafka import LocalKafka
from streams.processing.end_offsets import EndOffsets, Ends
from streams.settings import Settings
from streams.store.changelog import Bounds, Changelog
from streams.transport import config
from streams.transport.member import TP
from tests.broker.harness import PARTITIONS, settings_for, wait_for
from topology.topics import COMMANDS, PROCESSES_CHANGELOG

NUMBERS = range(PARTITIONS)


def ask(end_offsets: EndOffsets) -> Ends | None:
    """Do what a session does every turn; return the answer, when there is one."""
    end_offsets.ask([TP(COMMANDS.name, number) for number in NUMBERS], time.time_ns() // 1_000_000)
    return end_offsets.answer()


def bounds(changelog: Changelog) -> dict[int, Bounds] | None:
    """Do what a restore does again and again; return the answer, when there is one."""
    try:
        return changelog.bounds(NUMBERS)
    except Unavailable:
        return None


@pytest.mark.chaos
def test_questions_after_a_change_of_leaders(tmp_path: Path) -> None:
    """
    Deadlines and restores hang on end offsets, and these on the leaders.

    librdkafka 2.16 keeps to the leader epoch that an admin client has seen first: after a change of leaders each of
    its questions was refused, and no deadline fired before the worker's next start.
    """
    with LocalKafka(tmp_path / "kafka") as kafka:
        settings: Settings = settings_for(kafka.bootstrap_servers, "leaders")
        end_offsets = EndOffsets(config.common(settings), settings.topic)
        changelog = Changelog(config.common(settings), settings.topic(PROCESSES_CHANGELOG.name), lambda: False)
        before = wait_for(lambda: ask(end_offsets), "an answer", 20)
        assert dict.fromkeys(NUMBERS, Bounds(0, 0)) == wait_for(lambda: bounds(changelog), "bounds", 20)
        kafka.restart()
        after = wait_for(lambda: ask(end_offsets), "an answer of the new leaders", 30)
        assert before.offsets == after.offsets
        assert before.asked_at_ms < after.asked_at_ms
        assert dict.fromkeys(NUMBERS, Bounds(0, 0)) == wait_for(lambda: bounds(changelog), "bounds again", 30)
