"""The orders service killed in a transaction, and its database locked or away: each query has its answer."""

from __future__ import annotations

import sqlite3
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.catalog import Catalog
from schemas.codec import Codec
from streams.local.kafka import LocalKafka
from streams.services.orders.database import Database
from streams.settings import Settings
from tests.broker.harness import environment_of, produce, read_all, settings_for, wait_for
from tests.faults.role import RoleProcess
from topology.topics import DETAILS, QUERIES

QUERY, RETRIEVED = "orders.GetOrderDetails", "orders.OrderDetailsRetrieved"
ORDERS = 200
ANSWERED_S = 90.0
STEPS = ("before a commit", "in an open transaction", "after a commit")


class Asked:
    """The orders service as a process, and the queries that it has to answer."""

    def __init__(self, kafka: LocalKafka, directory: Path, name: str) -> None:
        self.settings: Settings = settings_for(kafka.bootstrap_servers, name)
        self.file = directory / "orders.sqlite"
        self.codec = Codec(Catalog.from_files())
        url = f"sqlite:///{self.file}"
        with Database(url) as database:
            database.create_schema()
            self.orders = database.seed(ORDERS)
        environment = environment_of(self.settings) | {
            "REJOINDER_DATABASE_URL": url,
            "REJOINDER_LOG_FORMAT": "json",
        }
        self.service = RoleProcess("orders", "orders-0", directory, environment)

    def ask(self) -> Counter[str]:
        """Ask for the details of all orders; return the ids of the queries, once each."""
        queries = {order_id: str(uuid.uuid4()) for order_id in self.orders}
        values = {
            order_id: self.codec.encode_record(
                QUERY, {"query_id": query_id, "order_id": order_id, "attempt": 1, "asked_at": 1}
            )
            for order_id, query_id in queries.items()
        }
        produce(self.settings, QUERIES.name, values)
        return Counter(queries.values())

    def answers(self) -> Counter[str]:
        """Return how often each query was answered with details."""
        found = (self.codec.decode_record(message.value()) for message in read_all(self.settings, DETAILS.name))
        return Counter(fields["query_id"] for name, fields in found if name == RETRIEVED)


@pytest.fixture
def asked(kafka: LocalKafka, unique: str, tmp_path: Path) -> Iterator[Asked]:
    """Return the service, which the test starts, and its database."""
    asked = Asked(kafka, tmp_path, unique)
    yield asked
    asked.service.kill()


@pytest.mark.parametrize(
    "step", [step if step == STEPS[1] else pytest.param(step, marks=pytest.mark.chaos) for step in STEPS]
)
def test_kill_of_the_orders_service(asked: Asked, step: str) -> None:
    """Each query is answered once, whether the transaction that was open came true or not."""
    queries = asked.ask()
    asked.service.faults = {"FAULT_KILL": step}
    asked.service.start()
    asked.service.wait_killed(60)
    asked.service.faults = {}
    asked.service.start()
    wait_for(lambda: len(asked.answers()) == ORDERS, "all queries are answered", ANSWERED_S)
    assert queries == asked.answers()


def test_locked_database_is_waited_for(asked: Asked) -> None:
    """Another program holds the lock for a while: the service backs off, and answers each query once afterwards."""
    holder = sqlite3.connect(asked.file, isolation_level=None)
    # A writer alone doesn't keep readers out; this does, until it closes the file.
    holder.execute("PRAGMA locking_mode=EXCLUSIVE")
    holder.execute("UPDATE orders SET version = version")
    queries = asked.ask()
    asked.service.start()
    wait_for(lambda: "backing off" in asked.service.log.read_text(), "it backs off", ANSWERED_S)
    assert Counter() == asked.answers()
    assert asked.service.running
    holder.close()
    wait_for(lambda: len(asked.answers()) == ORDERS, "all queries are answered", ANSWERED_S)
    assert queries == asked.answers()


@pytest.mark.chaos
def test_database_that_is_away_is_waited_for(asked: Asked) -> None:
    """Its file can't be opened, as a server can't be reached: the same, and no order is taken for unknown."""
    away = asked.file.with_suffix(".away")
    asked.file.rename(away)
    asked.file.mkdir()
    queries = asked.ask()
    asked.service.start()
    wait_for(lambda: "backing off" in asked.service.log.read_text(), "it backs off", ANSWERED_S)
    assert [] == read_all(asked.settings, DETAILS.name)
    asked.file.rmdir()
    away.rename(asked.file)
    wait_for(lambda: len(asked.answers()) == ORDERS, "all queries are answered", ANSWERED_S)
    assert queries == asked.answers()
