"""Inputs are read again from their beginning, or move to topics with other partitions, as docs/upgrading.md says."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from schemas import state_codec
from streams.demo.system import System
from streams.local.artifacts import cache_directory, fetch, read_pins
from streams.local.kafka import LocalKafka, java_command
from streams.transport import config
from streams.transport.partitioner import partition_of
from tests.broker.harness import PARTITIONS, read_all, wait_for
from tests.broker.test_lag import TOOLS
from tests.broker.test_system import World, running
from topology.topics import COMMANDS, DETAILS, EMAIL_COMMANDS, OUTCOMES, PROCESSES_CHANGELOG, Topic

pytestmark = pytest.mark.system

ORDERS = 60


@pytest.fixture
def world(kafka: LocalKafka, tmp_path: Path, unique: str) -> World:
    """Return topics, mailbox and orders."""
    world = World(kafka, tmp_path / "world", unique)
    world.environment["REJOINDER_REPLICATION_FACTOR"] = "1"
    world.seed(2 * ORDERS)
    return world


@pytest.fixture
def system(world: World) -> Iterator[System]:
    """Return the system, started."""
    with running(world) as system:
        yield system


def _answered(world: World) -> dict[str, str]:
    """Have commands answered; return their e-mail ids, by order id."""
    email_ids = world.command(world.orders(ORDERS))
    world.wait_for_mails(email_ids)
    wait_for(lambda: len(world.read(OUTCOMES.name)) == ORDERS, "all outcomes")
    return email_ids


def _set_back(world: World, *topics: Topic) -> None:
    """Set the workers' positions of *topics* to their beginning, with Kafka's own tool."""
    subprocess.run(
        [
            *java_command(fetch(read_pins(TOOLS), cache_directory())),
            "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
            *(
                "--bootstrap-server",
                world.settings.bootstrap_servers,
                "--group",
                f"{world.settings.application_id}-worker",
            ),
            *(word for topic in topics for word in ("--topic", world.settings.topic(topic.name))),
            *("--reset-offsets", "--to-earliest", "--execute"),
        ],
        check=True,
        capture_output=True,
        timeout=100,
    )


def _lag(world: World) -> int | None:
    (group,) = json.loads(world.rejoinder("lag", "--group", "worker", "--looks", "1", "--json").stdout)["groups"]
    lag: int | None = group["lag"]
    return lag


def _sent(world: World) -> Counter[str]:
    return Counter(fields["email_id"] for _, fields in world.read(EMAIL_COMMANDS.name))


def test_positions_that_are_set_back_send_nothing_again(world: World, system: System) -> None:
    """Each command is a duplicate, for as long as its process is remembered."""
    email_ids = _answered(world)
    for worker in system.workers:
        worker.stop()
    _set_back(world, COMMANDS, DETAILS)
    assert (lag := _lag(world)) is not None
    assert lag >= 2 * ORDERS
    for worker in system.workers:
        worker.start()
    system.wait_ready()
    wait_for(lambda: _lag(world) == 0, "all has been read again")
    more = world.command(world.orders(ORDERS))
    world.wait_for_mails(more)
    both = Counter([*email_ids.values(), *more.values()])
    wait_for(lambda: len(world.read(OUTCOMES.name)) == 2 * ORDERS, "the outcomes of the new ones")
    assert both == _sent(world)
    assert both == world.mails(email_ids | more)


def test_ledger_answers_when_all_processes_are_forgotten(world: World, system: System) -> None:
    """Their changelog is lost: each command is decided again, with the same ids, and the mails aren't sent again."""
    email_ids = _answered(world)
    for worker in system.workers:
        worker.stop()
    changelog = world.settings.topic(PROCESSES_CHANGELOG.name)
    admin = AdminClient(config.common(world.settings))
    admin.delete_topics([changelog])[changelog].result(30)
    refused = system.workers[0]
    refused.start()
    wait_for(lambda: refused.exit_status is not None, "a worker doesn't start without it")
    assert 2 == refused.exit_status
    assert "topics apply" in refused.log.read_text(encoding="utf-8")
    assert 0 == world.rejoinder("topics", "apply").exit_code
    _set_back(world, COMMANDS, DETAILS)
    for worker in system.workers:
        worker.start()
    system.wait_ready()
    wait_for(lambda: len(world.read(OUTCOMES.name)) == 2 * ORDERS, "each outcome again")
    assert {"communications.OrderConfirmationSent"} == {name for name, _ in world.read(OUTCOMES.name)}
    assert Counter([*email_ids.values()] * 2) == _sent(world)
    assert Counter(email_ids.values()) == world.mails(email_ids)


def test_row_of_a_newer_release_holds_its_partition(world: World, system: System) -> None:
    """It says so and harms nothing: the other partitions go on, and with the newer release this one does too."""
    email_ids = _answered(world)
    order_id = next(iter(email_ids))
    for worker in system.workers:
        worker.stop()
    name, number = world.settings.topic(PROCESSES_CHANGELOG.name), partition_of(order_id.encode(), PARTITIONS)
    rows = [
        message for message in read_all(world.settings, PROCESSES_CHANGELOG.name) if message.key() == order_id.encode()
    ]
    newer = bytes([state_codec.VERSION + 1]) + rows[-1].value()[1:]
    producer = Producer(config.plain_producer(world.settings))
    producer.produce(name, newer, order_id.encode(), number)
    assert producer.flush(30) == 0
    for worker in system.workers:
        worker.start()
    system.wait_ready()
    world.command([order_id])
    others = world.command([one for one in world.orders(ORDERS) if partition_of(one.encode(), PARTITIONS) != number])
    world.wait_for_mails(others)
    wait_for(lambda: f"held at {COMMANDS.name}/{number}/" in world.rejoinder("status").stdout, "it is held")
    logs = "".join(worker.log.read_text(encoding="utf-8") for worker in system.workers)
    assert "run the newer release" in logs


def test_move_to_another_number_of_partitions(
    world: World, system: System, kafka: LocalKafka, tmp_path: Path, unique: str
) -> None:
    """The old topics are drained while the new ones fill; a command that is repeated then is a new one."""
    email_ids = world.command(world.orders(ORDERS))
    new = World(kafka, tmp_path / "new", f"{unique}-new", partitions=world.settings.partitions + 2)
    new.seed(2 * ORDERS)
    moved = new.command(new.orders(ORDERS)[: ORDERS // 2])
    world.wait_for_mails(email_ids)
    wait_for(lambda: _lag(world) == 0 and not world.rejoinder("waiting", "--json").stdout.strip(), "the old are done")
    assert ORDERS == len(world.read(OUTCOMES.name))
    for process in system.processes:
        process.stop()
    assert Counter(email_ids.values()) == world.mails(email_ids)
    with running(new) as newer:
        assert newer.workers
        new.wait_for_mails(moved)
        wait_for(lambda: len(new.read(OUTCOMES.name)) == len(moved), "all outcomes")
        assert Counter(moved.values()) == new.mails(moved)
        assert not new.mails(email_ids)
