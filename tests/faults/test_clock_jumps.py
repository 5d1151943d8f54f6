"""Clocks that jump, and an hour of downtime: nothing fires early, nor while an answer to it lies unread."""

from __future__ import annotations

import time
import uuid
from collections import Counter
from pathlib import Path

import pytest

from schemas.catalog import Catalog
from schemas.codec import Codec
from streams.local.kafka import LocalKafka
from streams.processing import clock as clock_module
from streams.settings import Settings
from tests.broker.harness import (
    Worker,
    environment_of,
    keys,
    produce,
    read_all,
    sent,
    settings_for,
    wait_for,
)
from tests.broker.test_deadlines import HOUR_MS, Wall, joining_within, outcomes
from tests.faults.check import check, settle
from tests.faults.role import RoleProcess
from tests.streams.manager import COMMAND, RETRIEVED, command_fields, order_fields
from topology.topics import COMMANDS, DETAILS, QUERIES

DAY_MS = 24 * HOUR_MS
HOLD_MS = 3_000
ORDERS = keys(200)
CODEC = Codec(Catalog.from_files())


def test_clock_a_day_ahead_that_is_put_right_fires_nothing_early(
    kafka: LocalKafka, unique: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the deadlines of before nor those that were set meanwhile, nor after it was put right."""
    monkeypatch.setattr(clock_module, "HOLD_MS", HOLD_MS)
    settings = settings_for(kafka.bootstrap_servers, unique)
    wall = Wall()
    half = len(ORDERS) // 2
    with Worker(settings, tmp_path / "state", function=joining_within(HOUR_MS), clock=wall.clock) as worker:
        produce(settings, COMMANDS.name, dict.fromkeys(ORDERS[:half], b"c"))
        wait_for(lambda: _rows(worker) == half, "the first half's commands are in the table")
        wall.ahead_ms = DAY_MS
        produce(settings, COMMANDS.name, dict.fromkeys(ORDERS[half:], b"c"))
        wait_for(lambda: _rows(worker) == len(ORDERS), "all commands are in the table", HOLD_MS / 1_000)
        wall.ahead_ms = 0
        time.sleep(2 * HOLD_MS / 1_000)
        assert Counter() == outcomes(settings)
        produce(settings, DETAILS.name, dict.fromkeys(ORDERS, b"d"))
        settle(settings, worker, ORDERS)
    assert Counter({b"joined": len(ORDERS)}) == outcomes(settings)
    check(settings, ORDERS, tmp_path / "state")


def test_clock_an_hour_back_delays_and_doubles_nothing(
    kafka: LocalKafka, unique: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on at half speed: deadlines fire once each, not an hour later."""
    monkeypatch.setattr(clock_module, "HOLD_MS", HOLD_MS)
    settings = settings_for(kafka.bootstrap_servers, unique)
    wall = Wall()
    with Worker(settings, tmp_path / "state", function=joining_within(2 * HOLD_MS), clock=wall.clock) as worker:
        produce(settings, COMMANDS.name, dict.fromkeys(ORDERS, b"c"))
        wait_for(lambda: _rows(worker) == len(ORDERS), "all commands are in the table")
        wall.ahead_ms = -HOUR_MS
        time.sleep(HOLD_MS / 1_000)
        assert Counter() == outcomes(settings)
        settle(settings, worker, ORDERS)
    assert Counter({b"late": len(ORDERS)}) == outcomes(settings)
    check(settings, ORDERS, tmp_path / "state")


def _rows(worker: Worker) -> int:
    return sum(1 for store in dict(worker.stores).values() for _ in store.items())


class Asking:
    """A real worker process that has asked for details of all orders, of which some were answered while it was away."""

    def __init__(self, kafka: LocalKafka, name: str, directory: Path, **more: str) -> None:
        self.settings: Settings = settings_for(kafka.bootstrap_servers, name)
        self.clock = directory / "ahead_ms"
        self.clock.write_text("0")
        environment = environment_of(self.settings) | {
            "REJOINDER_LOG_FORMAT": "json",
        }
        self.worker = RoleProcess("worker", "worker-0", directory, environment | more, {"FAULT_CLOCK": str(self.clock)})

    def command(self) -> None:
        """Start the worker, and command a mail for each order; return when their details have been asked for."""
        self.worker.start()
        commands = {key: CODEC.encode_record(COMMAND, command_fields(key, str(uuid.uuid4()))) for key in ORDERS}
        produce(self.settings, COMMANDS.name, commands)
        wait_for(lambda: len(self.queries()) == len(ORDERS), "a query of each order", 90)

    def answer(self, orders: list[str]) -> None:
        """Publish details of *orders*."""
        values = {
            key: CODEC.encode_record(RETRIEVED, {"retrieved_at": 1, "order": order_fields(key)}) for key in orders
        }
        produce(self.settings, DETAILS.name, values)

    def queries(self) -> Counter[tuple[str, int]]:
        """Return how often each order's details were asked for, by attempt."""
        found = (CODEC.decode_record(message.value())[1] for message in read_all(self.settings, QUERIES.name))
        return Counter((fields["order_id"], fields["attempt"]) for fields in found)


def test_worker_process_that_was_away_for_an_hour_reads_the_answers_first(
    kafka: LocalKafka, unique: str, tmp_path: Path
) -> None:
    """All queries' deadlines are due and half of the answers lie unread: only the other half is asked for again."""
    asking = Asking(kafka, unique, tmp_path)
    answered, unanswered = ORDERS[::2], ORDERS[1::2]
    try:
        asking.command()
        asking.worker.stop()
        asking.answer(answered)
        asking.clock.write_text(str(HOUR_MS))
        asking.worker.start()
        wait_for(lambda: len(asking.queries()) >= len(ORDERS) + len(unanswered), "the second attempts", 90)
        wait_for(lambda: len(sent(asking.settings)) == len(answered), "the mails of those that were answered")
        again = {(key, 2) for key in unanswered}
        assert Counter({(key, 1) for key in ORDERS} | again) == asking.queries()
        assert Counter(answered) == sent(asking.settings)
    finally:
        asking.worker.stop()


@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_running_process_whose_clock_is_a_day_ahead_for_a_while(kafka: LocalKafka, unique: str, tmp_path: Path) -> None:
    """With the product's own waits: no query is asked again and no process given up, then or when it was put right."""
    waits = {"REJOINDER_RETRY_FIRST": "6h", "REJOINDER_RETRY_MOST": "6h", "REJOINDER_GIVE_UP_AFTER": "20h"}
    asking = Asking(kafka, unique, tmp_path, **waits)
    try:
        asking.command()
        asking.clock.write_text(str(DAY_MS))
        time.sleep(10)
        asking.clock.write_text("0")
        time.sleep(clock_module.HOLD_MS / 1_000 + 10)
        assert Counter((key, 1) for key in ORDERS) == asking.queries()
        asking.answer(ORDERS)
        wait_for(lambda: len(sent(asking.settings)) == len(ORDERS), "all mails")
        assert Counter(ORDERS) == sent(asking.settings)
        assert "clock jumped" in asking.worker.log.read_text()
    finally:
        asking.worker.stop()
