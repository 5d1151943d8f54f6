"""A state directory whose disk is full: what can't be stored stops, says so, and goes on when there is room again."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from streams.errors import Unavailable
from streams.local.kafka import LocalKafka
from streams.settings import Settings
from streams.store.directory import StateDirectory
from tests.broker.harness import (
    Worker,
    committed,
    ends,
    keys,
    produce,
    sent,
    settings_for,
    wait_for,
    wait_for_mails,
)
from tests.faults.check import check, settle
from topology.topics import COMMANDS, DETAILS

DISK_MIB = 96
ROW_BYTES = 10_000
ORDERS = keys(3_000)
SOME = 100
"""Orders."""


class Disk:
    """A small disk of its own, that can be filled up."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ballast = path / "ballast"

    def fill(self) -> None:
        """Leave no room."""
        with self._ballast.open("ab", buffering=0) as ballast:
            for size in (1 << 20, 4_096):
                try:
                    while ballast.write(bytes(size)) == size:
                        pass
                except OSError:
                    continue

    def make_room(self) -> None:
        """Leave the room there was."""
        self._ballast.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """Return a tmpfs of `DISK_MIB`."""
    path = tmp_path / "disk"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(path)]
    try:
        mounted = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    except FileNotFoundError:
        pytest.skip("there is no mount: a small disk can't be had")
    if mounted.returncode:
        pytest.skip(f"a small disk can't be mounted here: {mounted.stderr.strip()}")
    yield Disk(path)
    subprocess.run(["umount", "--lazy", str(path)], check=True, timeout=20)  # noqa: S607 -- wherever it is.


def values(orders: list[str], seed: int) -> dict[str, bytes]:
    """Return a value of `ROW_BYTES` for each of *orders*, which no compression makes smaller."""
    dice = Random(seed)  # noqa: S311 -- noise.
    return {order: dice.randbytes(ROW_BYTES) + b"." for order in orders}  # A row that ends with "!" is done.


def failures(worker: Worker) -> list[str]:
    """Return why stores can't be restored at the moment."""
    restorer = worker.session._restorer if worker.session else None
    return [str(failure) for failure in restorer.failures().values()] if restorer else []


def write_until_it_fails(settings: Settings, worker: Worker, orders: list[str]) -> list[str]:
    """
    Produce the details of all *orders*, and return the first failures.

    Some at a time: a write buffer goes to the disk in the background, and that this failed is told to the next write.
    """
    wait_for(lambda: failures(worker) or committed(settings) == ends(settings), "all commands read, or a failure")
    for first in range(0, len(orders), SOME):
        if said := failures(worker):
            produce(settings, DETAILS.name, dict.fromkeys(orders[first:], b"d"))
            return said
        produce(settings, DETAILS.name, dict.fromkeys(orders[first : first + SOME], b"d"))
        wait_for(lambda: failures(worker) or committed(settings) == ends(settings), "all details read, or a failure")
    return failures(worker)


@pytest.mark.parametrize(
    "restarted",
    [pytest.param(False, id="by itself"), pytest.param(True, id="after a restart", marks=pytest.mark.chaos)],
)
def test_full_disk_loses_nothing(kafka: LocalKafka, disk: Disk, unique: str, restarted: bool) -> None:
    """Partitions whose rows can't be written stop and say why; with room again they are restored and go on, once."""
    settings = settings_for(kafka.bootstrap_servers, unique, store_memory_mib=16, batch_records=200)
    state = disk.path / "state"
    state.mkdir()
    third = len(ORDERS) // 3
    produce(settings, COMMANDS.name, values(ORDERS[:third], 1))
    produce(settings, DETAILS.name, dict.fromkeys(ORDERS[: third // 2], b"d"))
    with Worker(settings, state) as worker:
        wait_for_mails(settings, ORDERS[: third // 2])
        disk.fill()
        produce(settings, COMMANDS.name, values(ORDERS[third:], 2))
        said = write_until_it_fails(settings, worker, ORDERS[third // 2 :])
        assert any("the disk is full" in failure and "make room" in failure for failure in said), said
        assert None is worker.crashed
        if not restarted:
            disk.make_room()
            settle(settings, worker, ORDERS)
    if restarted:
        with Worker(settings, state) as worker:
            wait_for(lambda: failures(worker), "stores that still can't be opened", 60)
            assert Counter(sent(settings).values()).keys() <= {1}
        disk.make_room()
        with Worker(settings, state) as worker:
            settle(settings, worker, ORDERS)
    check(settings, ORDERS, state)


def test_full_disk_at_the_start_is_said(disk: Disk) -> None:
    """A directory that can't take its owner's name is refused with its path and what to do, not held without one."""
    disk.fill()
    with pytest.raises(Unavailable, match=rf"{disk.path}.*No space left.*free some space"):
        StateDirectory(disk.path / "worker", "worker-0")
    disk.make_room()
    StateDirectory(disk.path / "worker", "worker-0").close()
