"""Flipped and truncated bytes in the files of a stopped worker: found, wiped and restored, or of no consequence."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from streams.local.kafka import LocalKafka
from tests.broker.harness import PARTITIONS, Worker, keys, produce, sent, settings_for, wait_for_mails
from tests.broker.test_deadlines import HOUR_MS, Wall, joining_within, outcomes
from tests.faults.check import check, check_readable, settle
from tests.streams.store.test_damage import BLOCKS, LISTS, damage
from topology.topics import COMMANDS, DETAILS

ORDERS = keys(2_000)
ANSWERED = ORDERS[:1_500]


@pytest.mark.parametrize("names", [(BLOCKS,), LISTS], ids=["blocks", "lists"])
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.chaos) for seed in range(1, 8))])
def test_damaged_stores_lose_nothing_and_double_nothing(
    kafka: LocalKafka, unique: str, tmp_path: Path, seed: int, names: tuple[str, ...]
) -> None:
    """All four stores are damaged: answers and deadlines still find their orders, each has one outcome."""
    settings = settings_for(kafka.bootstrap_servers, unique, batch_records=500)
    state = tmp_path / "state"
    function = joining_within(HOUR_MS)
    produce(settings, COMMANDS.name, dict.fromkeys(ORDERS, b"c" * 200))
    produce(settings, DETAILS.name, dict.fromkeys(ANSWERED[:500], b"d"))
    with Worker(settings, state, function=function) as worker:
        settle(settings, worker, ANSWERED[:500])
    check(settings, ANSWERED[:500], state)
    for number in range(PARTITIONS):
        damage(state / str(number), seed * PARTITIONS + number, names)

    produce(settings, DETAILS.name, dict.fromkeys(ANSWERED[500:], b"d"))
    with Worker(settings, state, function=function) as worker:
        settle(settings, worker, ANSWERED)
    assert Counter(ANSWERED) == sent(settings)
    damaged = check_readable(settings, state)

    # The deadlines of the others: whatever is still damaged is come to now.
    with Worker(settings, state, function=function, clock=Wall(2 * HOUR_MS).clock) as worker:
        wait_for_mails(settings, ORDERS)
        settle(settings, worker, ORDERS)
    assert Counter({b"joined": len(ANSWERED), b"late": len(ORDERS) - len(ANSWERED)}) == outcomes(settings)
    assert Counter(ORDERS) == sent(settings)
    assert set(check_readable(settings, state)) <= set(damaged)
