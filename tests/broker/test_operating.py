"""What an operator sees of a system whose lag is 0 while orders wait, and of one that lost a process."""

from __future__ import annotations

import json
import re
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from streams.demo.system import RoleProcess, System
from streams.local.kafka import LocalKafka
from streams.transport.partitioner import partition_of
from tests.broker.harness import PARTITIONS, wait_for
from tests.broker.test_system import World, running
from topology.topics import COMMANDS, TOPICS

pytestmark = pytest.mark.system

AWAITING_EMAIL = "awaiting e-mail"
BUG = """
import os
from streams.processing.process_manager import ProcessManager

_read = ProcessManager._read

def fail(self, batch, record):
    if record.key == os.environ["BUG_AT"].encode():
        raise ZeroDivisionError
    return _read(self, batch, record)

ProcessManager._read = fail
"""
"""A release that fails on one order: Python runs it before anything else in each process that finds it on its path."""


@pytest.fixture(scope="module")
def world(kafka: LocalKafka, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Return topics, mailbox and orders."""
    world = World(kafka, tmp_path_factory.mktemp("operating") / "world", f"operating-{uuid.uuid4().hex[:8]}")
    world.environment["REJOINDER_LAG_INTERVAL"] = "1s"
    world.seed(200)
    return world


@pytest.fixture(scope="module")
def system(world: World) -> Iterator[System]:
    """Return the system, started."""
    with running(world) as system:
        yield system


def _metrics(process: RoleProcess) -> dict[str, dict[frozenset[tuple[str, str]], float]]:
    """Return what *process* exposes: by name, the values by their labels; nothing while it starts."""
    try:
        with urlopen(f"{process.url}/metrics", timeout=10) as answer:  # noqa: S310 - our own.
            text = answer.read().decode()
    except URLError:
        return {}
    found: dict[str, dict[frozenset[tuple[str, str]], float]] = {}
    for name, labels, value in re.findall(r"^(\w+)(?:\{(.*)\})? (\S+)$", text, re.MULTILINE):
        found.setdefault(name, {})[frozenset(re.findall(r'(\w+)="([^"]*)"', labels))] = float(value)
    return found


def _all(system: System, name: str) -> dict[frozenset[tuple[str, str]], float]:
    """Return one metric of all workers; each partition must be told of once."""

    def look() -> list[dict[frozenset[tuple[str, str]], float]]:
        found: dict[frozenset[tuple[str, str]], float] = {}
        for worker in system.workers:
            for labels, value in _metrics(worker).get(name, {}).items():
                if labels in found:
                    return []  # It may have moved between the two looks.
                found[labels] = value
        return [found]

    found: list[dict[frozenset[tuple[str, str]], float]] = wait_for(look, f"each {name} is told of once")
    return found[0]


def _waiting(system: System) -> Counter[str]:
    found: Counter[str] = Counter()
    for labels, value in _all(system, "rejoinder_processes_waiting").items():
        found[dict(labels)["step"]] += int(value)
    return +found


def _json(world: World, *arguments: str) -> Any:
    result = world.rejoinder(*arguments, "--json")
    assert 0 == result.exit_code, (result.output, result.exception)
    return json.loads(result.stdout)


def test_orders_that_wait_are_seen_though_there_is_no_lag(world: World, system: System) -> None:
    """In metrics, `lag`, `status`, `waiting` and `explain` while the e-mail service is away, and not afterwards."""
    world.wait_for_mails(world.command(world.orders(20)))
    wait_for(lambda: not _waiting(system), "nobody waits")
    system.email.stop()
    email_ids = world.command(world.orders(30))
    wait_for(lambda: _waiting(system) == {AWAITING_EMAIL: 30}, "30 wait for their mails")

    def lag() -> dict[str, Any]:
        picture = _json(world, "lag", "--group", "worker", "--looks", "1")
        (group,) = picture["groups"]
        return {"lag": group["lag"], "status": group["status"], "waiting": picture["waiting"]}

    found = wait_for(lambda: (one := lag())["lag"] == 0 and one, "no lag")
    (step,) = found["waiting"]
    assert ("OK", AWAITING_EMAIL, 30) == (found["status"], step["step"], step["processes"])
    assert 0 <= step["oldest_s"] < 300
    assert 2 == getattr(world.rejoinder("lag", "--looks", "1", "--max-wait", "0s").exception, "exit_code", None)

    shown = world.rejoinder("status")
    assert 0 == shown.exit_code, shown.exception
    assert f"{AWAITING_EMAIL}: 30 processes" in shown.stdout
    assert "no member" in shown.stdout
    status = _json(world, "status")
    members = {group["group"].rpartition("-")[2]: group["members"] for group in status["groups"]}
    assert {"worker": 2, "orders": 1, "email": 0} == {role: len(some) for role, some in members.items()}
    owned = [number for member in members["worker"] for number in member["status"]["partitions"]]
    assert sorted(owned) == [str(number) for number in range(PARTITIONS)]

    result = world.rejoinder("waiting", "--step", AWAITING_EMAIL, "--json")
    listed = [json.loads(line) for line in result.stdout.splitlines()]
    assert sorted(email_ids) == sorted(one["order_id"] for one in listed)
    assert "30 wait; 25 younger ones aren't shown" in world.rejoinder("waiting", "--limit", "5").stdout
    assert "0 wait" in world.rejoinder("waiting", "--step", AWAITING_EMAIL, "--older-than", "1h").stdout
    assert "0 wait" in world.rejoinder("waiting", "--step", "awaiting details").stdout
    explained = _json(world, "explain", next(iter(email_ids)))
    assert {0} == {one["lag"] for one in explained["owner_lag"]}
    assert "the e-mail's outcome" == explained["processes"][0]["waits_for"]

    system.email.start()
    world.wait_for_mails(email_ids)
    wait_for(lambda: not _waiting(system), "nobody waits")
    system.wait_ready()


def test_counts_are_found_again_after_a_kill(world: World, system: System) -> None:
    """By whoever has the partitions then; and each partition's lag is told of by one worker."""
    system.email.stop()
    email_ids = world.command(world.orders(25))
    wait_for(lambda: _waiting(system) == {AWAITING_EMAIL: 25}, "25 wait for their mails")
    system.workers[0].kill()
    wait_for(lambda: system.workers[1].partitions() == PARTITIONS, "the other one has all", 90)
    one = System(world.directory, world.environment, 1, PARTITIONS)
    one.workers = [system.workers[1]]
    wait_for(lambda: _waiting(one) == {AWAITING_EMAIL: 25}, "25 are counted again")
    inputs = [topic for topic in TOPICS if topic.is_input and topic.consumer.value == "process manager"]
    wait_for(lambda: len(_all(one, "kafka_consumergroup_lag")) == len(inputs) * PARTITIONS, "the lag of all")
    system.workers[0].start()
    system.email.start()
    system.wait_ready()
    wait_for(lambda: len(_all(system, "kafka_consumergroup_lag")) == len(inputs) * PARTITIONS, "the lag of all")
    world.wait_for_mails(email_ids)
    wait_for(lambda: not _waiting(system), "nobody waits")
    wait_for(lambda: set(_all(system, "kafka_consumergroup_lag").values()) == {0.0}, "no lag")

    def ends_are_stable() -> bool:
        """The looks may be from the middle of somebody's transaction, whose records count for no lag yet."""
        ends, stable = (_all(system, f"kafka_topic_partition_{name}_offset") for name in ("current", "last_stable"))
        return ends == stable

    wait_for(ends_are_stable, "no transaction is open")


def test_skip_refuses_where_nothing_is_held(world: World, system: System) -> None:
    """By the worker that has the partition; and what is no record of an input is refused before that."""
    assert system.workers

    def refused() -> bool:
        """After a kill its partition may still be on its way to somebody."""
        result = world.rejoinder("skip", "order-confirmation.commands/0/1")
        return "no partition is held at this record" in str(result.exception)

    wait_for(refused, "its worker says that it holds no such record")
    for wrong in ("order-confirmation.commands/0", "order-confirmation.events/0/1", "x/0/1"):
        result = world.rejoinder("skip", wrong)
        assert "no record of an input" in str(result.exception)


def test_bug_at_three_in_the_morning(kafka: LocalKafka, tmp_path: Path) -> None:
    """Seen in `status`, explained by `explain`, passed by `skip`: the orders behind it get their mails."""
    world = World(kafka, tmp_path / "world", f"bug-{uuid.uuid4().hex[:8]}")
    world.seed(100)
    orders = world.orders(100)
    numbers = [partition_of(order_id.encode(), PARTITIONS) for order_id in orders]
    first, *behind = [order_id for order_id, number in zip(orders, numbers, strict=True) if number == 1]
    (tmp_path / "sitecustomize.py").write_text(BUG, encoding="utf-8")
    world.environment |= {"PYTHONPATH": str(tmp_path), "BUG_AT": first}
    with running(world):
        world.command([first])
        email_ids = world.command(behind)
        record = f"{COMMANDS.name}/1/0"

        def held() -> bool:
            return f"held at {record}" in world.rejoinder("status").stdout

        wait_for(held, "the record is held", 60)
        explained = world.rejoinder("explain", first)
        assert 1 == getattr(explained.exception, "exit_code", None)
        for said in (f"still to be read; its partition is held at {record}", f"{COMMANDS.name}/1 has "):
            assert said in str(explained.exception)
        assert not world.mails(email_ids)
        skipped = world.rejoinder("skip", record)
        assert (0, True) == (skipped.exit_code, f"{record} is skipped" in skipped.stdout), skipped.exception
        world.wait_for_mails(email_ids)
        assert not held()
        again = world.rejoinder("skip", record)
        assert 1 == getattr(again.exception, "exit_code", None)
    listed = world.rejoinder("dead-letters", "list", "--json")
    (letter,) = [json.loads(line) for line in listed.stdout.splitlines()]
    assert ("skipped", first) == (letter["reason"], letter["key"])
