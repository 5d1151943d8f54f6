"""``rejoinder worker`` as a process: it stops in good order, goes on where it was, and is alone in its directory."""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.catalog import Catalog
from schemas.codec import Codec
from streams.demo.system import RoleProcess
from streams.local.kafka import LocalKafka
from streams.settings import Settings
from tests.broker.harness import (
    PARTITIONS,
    committed,
    ends,
    environment_of,
    keys,
    produce,
    sent,
    settings_for,
    wait_for,
    wait_for_mails,
)
from tests.streams.manager import COMMAND, RETRIEVED, command_fields, order_fields
from topology.topics import COMMANDS, DETAILS

pytestmark = pytest.mark.system

CODEC = Codec(Catalog.from_files())
ORDERS = keys(10_000)
STOP_S_MAX = 10
"""A batch is far under a second's work; the rest is Faust's end."""


@pytest.fixture
def settings(kafka: LocalKafka, unique: str) -> Settings:
    """Return settings of topics that hold both halves of all orders."""
    settings = settings_for(kafka.bootstrap_servers, unique)
    commands = {key: CODEC.encode_record(COMMAND, command_fields(key, str(uuid.uuid4()))) for key in ORDERS}
    details = {key: CODEC.encode_record(RETRIEVED, {"retrieved_at": 1, "order": order_fields(key)}) for key in ORDERS}
    produce(settings, COMMANDS.name, commands)
    produce(settings, DETAILS.name, details)
    return settings


@pytest.fixture
def environment(settings: Settings) -> dict[str, str]:
    """Return what a worker process of *settings* is told."""
    return environment_of(settings) | {
        "REJOINDER_ASK": "never",
        "REJOINDER_BATCH_RECORDS": "200",
    }


@pytest.fixture
def worker(environment: dict[str, str], tmp_path: Path) -> Iterator[RoleProcess]:
    """Return a worker that is started by the test, and ended after it."""
    process = RoleProcess("worker", "worker-0", tmp_path, environment)
    yield process
    process.stop()


def test_sigterm_under_load_and_restart(settings: Settings, worker: RoleProcess) -> None:
    """It finishes its batch and exits with 0; the next one does the rest, and no order is done twice."""
    worker.start()
    wait_for(lambda: sent(settings), "some e-mails")
    began_s = time.monotonic()
    worker.stop()
    assert 0 == worker.exit_status, worker.tail()
    assert time.monotonic() - began_s < STOP_S_MAX
    done = len(sent(settings))
    assert 0 < done < len(ORDERS), "stopped too late for this test"
    worker.start()
    wait_for_mails(settings, ORDERS)
    wait_for(lambda: committed(settings) == ends(settings), "no lag")
    worker.stop()
    assert 0 == worker.exit_status, worker.tail()
    assert Counter(ORDERS) == sent(settings)


def test_second_worker_in_one_state_directory_is_refused(
    worker: RoleProcess, environment: dict[str, str], tmp_path: Path
) -> None:
    """It says by whom the directory is used, and the first goes on."""
    worker.start()
    wait_for(lambda: worker.partitions() == PARTITIONS, "the first is ready")
    second = RoleProcess("worker", "worker-0", tmp_path, environment)
    second.log = tmp_path / "second.log"
    second.start()
    wait_for(lambda: not second.running, "the second's end")
    assert 2 == second.exit_status, second.tail()
    assert f"already in use by pid {worker.pid}" in second.tail()
    assert PARTITIONS == worker.partitions()


def test_worker_that_expects_another_number_of_partitions_is_refused(
    kafka: LocalKafka, unique: str, tmp_path: Path
) -> None:
    """It says what is there and what was declared: halves of a pair would no longer meet."""
    environment = environment_of(settings_for(kafka.bootstrap_servers, unique))
    other = RoleProcess("worker", "worker-0", tmp_path, environment | {"REJOINDER_PARTITIONS": str(PARTITIONS * 2)})
    other.start()
    wait_for(lambda: not other.running, "its end")
    assert 2 == other.exit_status, other.tail()
    said = other.tail()
    assert all(word in said for word in (COMMANDS.name, str(PARTITIONS), str(PARTITIONS * 2), "partitions")), said


def test_killed_worker_holds_its_directory_no_longer(
    settings: Settings, worker: RoleProcess, environment: dict[str, str], tmp_path: Path
) -> None:
    """After SIGKILL another takes the directory, whatever name is in its lock file, and does the rest, once."""
    worker.start()
    wait_for(lambda: sent(settings), "some e-mails")
    worker.kill()
    lock = tmp_path / "worker-0" / "worker" / "lock"
    assert f"pid {worker.pid} " in lock.read_text()
    second = RoleProcess("worker", "worker-0", tmp_path, environment)
    second.start()
    try:
        wait_for_mails(settings, ORDERS)
        assert f"pid {second.pid} " in lock.read_text()
        wait_for(lambda: committed(settings) == ends(settings), "no lag")
    finally:
        second.stop()
    assert Counter(ORDERS) == sent(settings)
