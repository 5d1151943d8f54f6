"""
A worker in a process of its own, that stops or dies at a chosen point of its first commit with records.

    python -m tests.broker.member SETTINGS_JSON DIRECTORY FAULT
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from confluent_kafka import TopicPartition

from streams import settings as settings_module
from streams.settings import Settings
from streams.store.partition import Partition
from streams.transport.transaction import Transaction
from tests.broker.harness import Worker

ROOT = Path(__file__).parents[2]
FAULTS = ("none", "stop before records", "stop before commit", "kill before commit", "kill after commit", "kill after store write")


class Member:
    """The test's handle of such a process."""

    def __init__(self, settings: Settings, directory: Path, instance: str, fault: str = "none") -> None:
        assert fault in FAULTS
        fields = settings.model_dump(mode="json", exclude_unset=True) | {"instance_id": instance}
        command = [sys.executable, "-m", "tests.broker.member", json.dumps(fields), str(directory), fault]
        self.log = directory.with_suffix(".log")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)

    def wait_stopped(self, timeout_s: float = 30) -> None:
        """Wait until it has stopped itself (SIGSTOP)."""
        deadline_s = time.monotonic() + timeout_s
        while Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
            assert time.monotonic() < deadline_s, f"it didn't stop: {self.log.read_text()}"
            assert self._process.poll() is None, self.log.read_text()
            time.sleep(0.02)

    def wait_killed(self, timeout_s: float = 30) -> None:
        """Wait until it has killed itself."""
        assert self._process.wait(timeout_s) == -signal.SIGKILL, self.log.read_text()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def __enter__(self) -> Member:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait(10)


def faulty(fault: str) -> type[Transaction]:
    """Return a transaction that does *fault* at its first commit that has records."""

    class Faulty(Transaction):
        produced: list[Any]

        def begin(self) -> None:
            self.produced = []
            super().begin()

        def produce(self, *args: Any) -> None:
            self.produced.append(args)

        def commit(self, positions: Iterable[TopicPartition], member: Any) -> None:
            self._call("send_offsets_to_transaction", list(positions), member, 10)
            if self.produced and fault == "stop before records":
                os.kill(os.getpid(), signal.SIGSTOP)
            for args in self.produced:
                super().produce(*args)
            self._producer.flush(10)
            if not self.produced:
                super().commit((), member)
                return
            if fault == "stop before commit":
                os.kill(os.getpid(), signal.SIGSTOP)
            if fault == "kill before commit":
                os.kill(os.getpid(), signal.SIGKILL)
            super().commit((), member)
            if fault == "kill after commit":
                os.kill(os.getpid(), signal.SIGKILL)

    return Faulty


def _kill_after_write() -> None:
    write = Partition.write

    def write_and_die(self: Partition, *args: Any) -> None:
        write(self, *args)
        os.kill(os.getpid(), signal.SIGKILL)

    Partition.write = write_and_die  # type: ignore[method-assign]


def main(fields: str, directory: str, fault: str) -> None:
    """Work until killed."""
    if fault == "kill after store write":
        _kill_after_write()
    settings = settings_module.load(**json.loads(fields))
    worker = Worker(settings, Path(directory), transaction_type=Transaction if fault == "none" else faulty(fault))
    with worker:
        while worker.crashed is None:
            time.sleep(0.1)
    raise worker.crashed


if __name__ == "__main__":
    main(*sys.argv[1:])
