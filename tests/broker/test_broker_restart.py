"""The only broker dies under load, at a chosen point, and comes back: everything is delivered once."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import TopicPartition

from streams.local.kafka import LocalKafka
from streams.transport.transaction import Transaction
from tests.broker.harness import Worker, keys, produce, sent, settings_for, wait_for_mails
from topology.topics import COMMANDS, DETAILS

POINTS = ("before the positions", "before the commit")
MARKERS_S = 1.0
"""In which the markers of the commits before are written."""
# Not after the commit: its answer comes before its markers are in the topics, and a single broker that is killed in
# between may come back without ever writing them (Kafka 4.4.0: while the partitions have no leader, the coordinator
# takes them for deleted and skips them). Nobody reads beyond such a transaction until an operator aborts it.


def killing(broker_pid: int, point: str, killed: threading.Event) -> type[Transaction]:  # noqa: C901 -- one fault.
    """Return a transaction that kills the broker at *point* of its third commit with records, and sets *killed*."""

    class Killing(Transaction):
        commits = 0
        records = 0

        def _at(self, here: str) -> None:
            if here == point and Killing.commits == 3 and not killed.is_set():
                os.kill(broker_pid, signal.SIGKILL)
                killed.set()

        def begin(self) -> None:
            self.records = 0
            super().begin()

        def _until_taken(self, some: Callable[[int], int], count: int) -> None:
            if count and not self.records:
                Killing.commits += 1
                if Killing.commits == 3:
                    time.sleep(MARKERS_S)
            self.records += count
            super()._until_taken(some, count)

        def commit(self, positions: Iterable[TopicPartition], member: Any) -> None:
            if self.records:
                self._producer.flush(10)
                self._at("before the positions")
            super().commit(positions, member)

        def _call(self, name: str, *args: Any) -> None:
            if name == "commit_transaction" and self.records:
                self._at("before the commit")
            super()._call(name, *args)

    return Killing


@pytest.mark.chaos
@pytest.mark.parametrize("point", POINTS)
def test_killed_broker_comes_back(tmp_path: Path, point: str) -> None:
    """A worker under load sees its broker die within a transaction, and goes on by itself when it is back."""
    with LocalKafka(tmp_path / "kafka") as kafka:
        settings = settings_for(kafka.bootstrap_servers, "restart", batch_records=100)
        (pid,) = kafka.pids
        killed = threading.Event()
        transaction_type = killing(pid, point, killed)
        orders = keys(2_000)
        produce(settings, COMMANDS.name, dict.fromkeys(orders, b"c"))
        produce(settings, DETAILS.name, dict.fromkeys(orders[:1_000], b"d"))
        with Worker(settings, tmp_path / "state", transaction_type=transaction_type) as worker:
            assert killed.wait(30), "the broker was never killed"
            kafka.kill()
            kafka.restart()
            produce(settings, DETAILS.name, dict.fromkeys(orders[1_000:], b"d"))
            wait_for_mails(settings, orders, 60)
            assert None is worker.crashed
        assert Counter(orders) == sent(settings)
