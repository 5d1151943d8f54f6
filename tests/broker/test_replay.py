"""`rejoinder replay` and `export` on what a real system has done."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient

from streams.demo.system import System
from streams.local.kafka import LocalKafka
from tests.broker.harness import committed, produce, wait_for
from tests.broker.test_system import World, running
from topology.topics import COMMANDS, OUTCOMES

pytestmark = pytest.mark.system

UNKNOWN = "order-of-nobody"


@pytest.fixture(scope="module")
def world(kafka: LocalKafka, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Return topics, mailbox and orders; an order that isn't there is asked for twice."""
    world = World(kafka, tmp_path_factory.mktemp("replay") / "world", f"replay-{uuid.uuid4().hex[:8]}")
    world.environment |= {"REJOINDER_NOT_FOUND_ATTEMPTS": "2", "REJOINDER_LAG_INTERVAL": "1s"}
    world.seed(100)
    return world


@pytest.fixture(scope="module")
def orders(world: World) -> Iterator[list[str]]:
    """Return orders whose mails a system has sent; it has also failed one, after a deadline, and refused a record."""
    with running(world) as system:
        orders = world.orders(40)
        owed = world.command(orders)
        world.command([UNKNOWN])
        produce(world.settings, COMMANDS.name, {"poison": b"\0"})
        world.wait_for_mails(owed)
        wait_for(lambda: len(world.read(OUTCOMES.name)) == len(orders) + 1, "every outcome")
        _settle(world, system)
        yield orders


def _settle(world: World, system: System) -> None:
    """Wait until all inputs are committed: outcomes are produced in the same transaction."""

    def lag() -> int:
        result = world.rejoinder("lag", "--group", "worker", "--looks", "1", "--json")
        return int(json.loads(result.stdout)["groups"][0]["lag"])

    wait_for(lambda: lag() == 0, "no lag")
    system.check()


def _replay(world: World, *arguments: str) -> tuple[dict[str, Any], int]:
    result = world.rejoinder("replay", *arguments, "--json")
    code = getattr(result.exception, "exit_code", result.exit_code)
    return json.loads(result.stdout), code


def test_same_code_owes_the_same(world: World, orders: list[str]) -> None:
    """E-mails, outcomes and the refusal; and the cluster is as it was: no group more, no position moved."""
    admin = AdminClient({"bootstrap.servers": world.settings.bootstrap_servers})

    def cluster() -> tuple[set[str], Any]:
        groups = {one.group_id for one in admin.list_consumer_groups().result(10).valid}
        return groups, committed(world.settings)

    before = cluster()
    found, code = _replay(world, "--from-topics")
    assert ([], 0) == (found["differences"], code)
    assert 2 * len(orders) + 2 == found["same"]
    # The query for the unknown order was repeated by a deadline.
    assert found["deadlines"] >= 1
    assert {} == found["not_judged"]
    assert before == cluster()


def test_changed_rules_differ_where_they_do(world: World, orders: list[str]) -> None:
    """One answer «not found» more is waited for: that order has no outcome yet; all else is the same."""
    world.environment["REJOINDER_NOT_FOUND_ATTEMPTS"] = "5"
    try:
        found, code = _replay(world, "--from-topics")
        told = world.rejoinder("replay", "--from-topics")
    finally:
        world.environment["REJOINDER_NOT_FOUND_ATTEMPTS"] = "2"
    (one,) = found["differences"]
    assert (UNKNOWN, "outcome", "OrderConfirmationFailed ORDER_NOT_FOUND", None) == (
        one["order_id"], one["action"], one["recorded"], one["now"],
    )  # fmt: skip
    assert 1 == code
    assert 2 * len(orders) + 1 == found["same"]
    assert f"order {UNKNOWN}, command {one['command_id']}: outcome" in told.stdout


def test_exported_order_replays_and_is_masked(world: World, orders: list[str], tmp_path: Path) -> None:
    """From the file alone; with nothing of the customer's in it, unless it is asked for."""
    for order_id in (orders[0], UNKNOWN):
        path = tmp_path / f"{order_id}.jsonl"
        assert 0 == world.rejoinder("export", order_id, "--into", str(path)).exit_code
        found, code = _replay(world, "--file", str(path))
        assert ([], 0) == (found["differences"], code)
        assert found["same"] >= 1
    open_path = tmp_path / "open.jsonl"
    assert 0 == world.rejoinder("export", orders[0], "--into", str(open_path), "--unmasked").exit_code
    assert ([], 0) == (_replay(world, "--file", str(open_path))[0]["differences"], 0)
    names = _texts(world, open_path)
    assert names
    assert not names & _texts(world, tmp_path / f"{orders[0]}.jsonl")


def _texts(world: World, path: Path) -> set[str]:
    """Return customers' names and addresses in a file."""
    from streams.replay.recording import of_line  # noqa: PLC0415 - beside its only use.

    found = set()
    for line in path.read_text().splitlines()[1:]:
        _, fields = world.codec.decode_record(of_line(line).value or b"")
        if "order" in fields:
            order = fields["order"]
            found |= {order["customer"]["name"], order["customer"]["email"], order["shipping_address"]}
    return found


def test_unknown_order_and_wrong_use_are_told(world: World, orders: list[str], tmp_path: Path) -> None:
    """In one line each."""
    assert orders
    assert "no record" in str(world.rejoinder("export", "nothing", "--into", str(tmp_path / "x")).exception)
    assert "One of" in str(world.rejoinder("replay").exception)
    (tmp_path / "bad").write_text('{"topic": "elsewhere"}\n')
    assert "line 1" in str(world.rejoinder("replay", "--file", str(tmp_path / "bad")).exception)


def test_part_of_the_topics_says_what_it_cannot_tell(world: World, orders: list[str]) -> None:
    """What began before isn't taken for a difference."""
    assert orders
    time.sleep(1.1)
    found, code = _replay(world, "--from-topics", "--since", "1s")
    assert ([], 0) == (found["differences"], code)
