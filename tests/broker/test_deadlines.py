"""Deadlines fire when nothing comes, and not while what would have prevented them lies unread."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Producer

from schemas.catalog import Catalog
from schemas.codec import Codec
from streams.batch import Batch
from streams.local.kafka import LocalKafka
from streams.processing import clock as clock_module
from streams.processing.clock import Clock
from streams.processing.process_manager import ProcessManager
from streams.settings import Settings
from streams.store.partition import due_of
from streams.transport import config
from tests.broker.harness import PARTITIONS, ROW, Worker, keys, produce, read_all, sent, settings_for, wait_for
from tests.streams.manager import COMMAND, RETRIEVED, command_fields, order_fields, refuse_to_resolve
from topology.policy import Policy
from topology.topics import COMMANDS, DETAILS, EMAIL_COMMANDS, QUERIES

HOUR_MS = 3_600_000
ORDERS = keys(2_000)


def joining_within(wait_ms: int) -> Callable[[Batch], None]:
    """Return a `join` that sends "late" for a first half whose second doesn't come in *wait_ms*."""

    def function(batch: Batch) -> None:
        batch.load(list({record.key or b"" for record in batch.records} | set(batch.due)))
        for record in batch:
            key, value = record.key or b"", record.value or b""
            row = batch.get(key)
            if row is None:
                batch.put(key, b"\1" + (batch.now_ms + wait_ms).to_bytes(8, "big") + value)
            elif not row.endswith(b"!"):
                batch.send(EMAIL_COMMANDS.name, key, b"joined", [])
                batch.put(key, ROW + b"!")
        for key in batch.due:
            row = batch.get(key)
            if row is not None and due_of(row) <= batch.now_ms:
                batch.send(EMAIL_COMMANDS.name, key, b"late", [])
                batch.put(key, ROW + b"!")

    return function


class Wall:
    """A wall clock that can be moved."""

    def __init__(self, ahead_ms: int = 0) -> None:
        self.ahead_ms = ahead_ms
        self.clock = Clock(wall_ns=lambda: time.time_ns() + self.ahead_ms * 1_000_000)


def outcomes(settings: Settings) -> Counter[bytes]:
    """Return how many orders were joined and how many were late."""
    return Counter(message.value() for message in read_all(settings, EMAIL_COMMANDS.name))


def test_answers_that_lie_unread_prevent_their_deadlines(kafka: LocalKafka, unique: str, tmp_path: Path) -> None:
    """After an hour of downtime all deadlines are due and all answers are there: the answers are read first."""
    settings = settings_for(kafka.bootstrap_servers, unique, batch_records=100)
    function = joining_within(HOUR_MS // 2)
    produce(settings, COMMANDS.name, dict.fromkeys(ORDERS, b"c"))
    with Worker(settings, tmp_path / "state", function=function) as worker:
        wait_for(lambda: _rows(worker) == len(ORDERS), "all commands are in the table")
    produce(settings, DETAILS.name, dict.fromkeys(ORDERS, b"d"))
    with Worker(settings, tmp_path / "state", function=function, clock=Wall(HOUR_MS).clock):
        wait_for(lambda: len(sent(settings)) == len(ORDERS), "every order's outcome")
    assert Counter({b"joined": len(ORDERS)}) == outcomes(settings)


def _rows(worker: Worker) -> int:
    return sum(1 for store in dict(worker.stores).values() for _ in store.items())


def test_answer_in_an_open_transaction_prevents_its_deadline(kafka: LocalKafka, unique: str, tmp_path: Path) -> None:
    """What isn't committed yet can't be read, but it may be an answer: the deadline waits for the outcome."""
    settings = settings_for(kafka.bootstrap_servers, unique)
    key = keys(1)[0]
    wall = Wall()
    with Worker(settings, tmp_path / "state", function=joining_within(1_500), clock=wall.clock) as worker:
        wait_for(lambda: len(worker.stores) == PARTITIONS, "the stores")
        producer = Producer(config.transactional(settings, "outside"))
        producer.init_transactions(20)
        produce(settings, COMMANDS.name, {key: b"c"})
        producer.begin_transaction()
        producer.produce(settings.topic(DETAILS.name), b"d", key.encode())
        assert 0 == producer.flush(20)
        time.sleep(4)  # It has been due for 2.5 s, twelve requests for end offsets.
        assert Counter() == outcomes(settings)
        producer.commit_transaction(20)
        wait_for(lambda: outcomes(settings), "the outcome")
    assert Counter([b"joined"]) == outcomes(settings)


def test_deadlines_fire_when_no_record_comes(kafka: LocalKafka, unique: str, tmp_path: Path) -> None:
    """Nobody answers, nothing is produced any more: each order is late, once, after a restart too."""
    settings = settings_for(kafka.bootstrap_servers, unique)
    orders = ORDERS[:200]
    function = joining_within(500)
    with Worker(settings, tmp_path / "state", function=function):
        produce(settings, COMMANDS.name, dict.fromkeys(orders[:100], b"c"))
        wait_for(lambda: len(sent(settings)) == 100, "every order's deadline")
        produce(settings, COMMANDS.name, dict.fromkeys(orders[100:], b"c"))
        began_s = time.monotonic()
        wait_for(lambda: len(sent(settings)) == 200, "every order's deadline")
        assert time.monotonic() - began_s < 5
    with Worker(settings, tmp_path / "state", function=function, clock=Wall(HOUR_MS).clock) as worker:
        wait_for(lambda: len(worker.running()) == PARTITIONS, "it runs")
        time.sleep(1)  # In which a deadline that fires twice would.
    assert Counter(orders) == sent(settings)
    assert Counter({b"late": 200}) == outcomes(settings)


def test_clock_that_jumps_holds_deadlines(
    kafka: LocalKafka, unique: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wall clock that is suddenly an hour ahead may be wrong: nothing fires until it has been so for a while."""
    monkeypatch.setattr(clock_module, "HOLD_MS", 5_000)
    settings = settings_for(kafka.bootstrap_servers, unique)
    orders = ORDERS[:100]
    wall = Wall()
    with Worker(settings, tmp_path / "state", function=joining_within(HOUR_MS // 2), clock=wall.clock) as worker:
        produce(settings, COMMANDS.name, dict.fromkeys(orders, b"c"))
        wait_for(lambda: _rows(worker) == len(orders), "all commands are in the table")
        wall.ahead_ms = HOUR_MS
        time.sleep(3)  # Less than it is held, and fifteen times what end offsets take.
        assert Counter() == outcomes(settings)
        wait_for(lambda: len(sent(settings)) == len(orders), "every order's deadline", 10)
    assert Counter({b"late": len(orders)}) == outcomes(settings)


def test_process_manager_asks_again_only_if_no_answer_lies_unread(
    kafka: LocalKafka, unique: str, tmp_path: Path
) -> None:
    """Queries of two orders, the answer to one of them unread, and an hour gone by: the other one is asked again."""
    settings = settings_for(kafka.bootstrap_servers, unique)
    codec = Codec(Catalog.from_files())
    manager = ProcessManager(codec, refuse_to_resolve, Policy(), PARTITIONS)
    answered, unanswered = "order-1", "order-2"
    commands = {key: codec.encode_record(COMMAND, command_fields(key)) for key in (answered, unanswered)}
    details = codec.encode_record(RETRIEVED, {"retrieved_at": 1, "order": order_fields(answered)})
    produce(settings, COMMANDS.name, commands)
    with Worker(settings, tmp_path / "state", function=manager):
        wait_for(lambda: len(read_all(settings, QUERIES.name)) == 2, "two queries")
    produce(settings, DETAILS.name, {answered: details})
    with Worker(settings, tmp_path / "state", function=manager, clock=Wall(HOUR_MS).clock):
        wait_for(lambda: len(read_all(settings, QUERIES.name)) >= 3, "the second attempt")
        wait_for(lambda: sent(settings), "the e-mail")
    queries = [codec.decode_record(message.value())[1] for message in read_all(settings, QUERIES.name)]
    attempts = sorted((query["order_id"], query["attempt"]) for query in queries)
    assert [(answered, 1), (unanswered, 1), (unanswered, 2)] == attempts
    assert Counter([answered]) == sent(settings)
