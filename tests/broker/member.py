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
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Self

from confluent_kafka import Consumer, TopicPartition

from streams import settings as settings_module
from streams.batch import Batch
from streams.settings import Settings
from streams.store.partition import Partition
from streams.transport import member as member_module
from streams.transport.transaction import Aborted, SessionOver, Transaction
from tests.broker.harness import Worker, join

ROOT = Path(__file__).parents[2]
IN_TRANSACTION = ("stop before records", "stop before commit", "kill before commit", "kill after commit")
FAULTS = ("none", "stop in poll", "rejoin while deciding", *IN_TRANSACTION, "kill after store write")
REFUSED = 3
"""Exit status of a member whose commit was refused, where that is what the test waits for."""
NOTICE_S = 2.0
"""In which librdkafka's threads learn from the broker that the member was asleep for too long."""


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

    def wait_stopped(self, timeout_s: float = 60) -> None:
        """Wait until it has stopped itself (SIGSTOP)."""
        deadline_s = time.monotonic() + timeout_s
        while Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
            assert time.monotonic() < deadline_s, f"it didn't stop: {self.log.read_text()}"
            ended = self._process.poll()
            assert ended is None, f"it ended with {ended}: {self.log.read_text()}"
            time.sleep(0.02)

    def wait_killed(self, timeout_s: float = 30) -> None:
        """Wait until it has killed itself."""
        assert self._process.wait(timeout_s) == -signal.SIGKILL, self.log.read_text()

    def wait_ended(self, timeout_s: float = 30) -> int:
        """Wait until it has ended; return its exit status."""
        return self._process.wait(timeout_s)

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._process.poll() is None

    def said(self, words: str) -> bool:
        """Return whether *words* are in its log."""
        return words in self.log.read_text(errors="replace")

    def owns(self) -> bool:
        """Return whether it has had partitions restored."""
        return self.said("restored ")

    def kill(self) -> None:
        """End it at once, as a power failure would, and begin a new log."""
        self._process.kill()
        self._process.wait(10)
        self.log.rename(self.log.with_suffix(".killed"))

    def stop(self) -> None:
        """Let it finish its turn and leave the group; fail if it had crashed."""
        self.signal(signal.SIGTERM)
        assert self.wait_ended() == 0, self.log.read_text()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait(10)


def faulty(fault: str) -> type[Transaction]:
    """Return a transaction that does *fault* at its first commit that has records."""

    class Faulty(Transaction):
        produced: list[tuple[Callable[[int], int], int]]

        def begin(self) -> None:
            self.produced = []
            super().begin()

        def _until_taken(self, some: Callable[[int], int], count: int) -> None:
            self.produced += [(some, count)] * (count > 0)

        def commit(self, positions: Iterable[TopicPartition], member: Any) -> None:
            self._call("send_offsets_to_transaction", list(positions), member, 10)
            if self.produced and fault == "stop before records":
                os.kill(os.getpid(), signal.SIGSTOP)
            for some, count in self.produced:
                super()._until_taken(some, count)
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

    Partition.write = write_and_die  # type: ignore[assignment, method-assign]


def _stop_in_poll() -> None:
    """Fall asleep with records in hand, just before asking for the group metadata of that moment."""

    class Sleepy(Consumer):
        asleep = False

        def consume(self, *args: Any) -> list[Any]:
            messages = super().consume(*args)
            if not Sleepy.asleep and any(message.error() is None for message in messages):
                Sleepy.asleep = True
                os.kill(os.getpid(), signal.SIGSTOP)
                time.sleep(NOTICE_S)
            return messages

    member_module.Consumer = Sleepy  # type: ignore[attr-defined]


class RejoinsWhileDeciding:
    """Decides, falls asleep, and on waking joins again before its commit; then the process says if that was refused."""

    worker: Worker
    slept = False

    def __call__(self, batch: Batch) -> None:
        """Decide *batch*."""
        join(batch)
        RejoinsWhileDeciding.slept = True
        os.kill(os.getpid(), signal.SIGSTOP)
        assert self.worker.session is not None
        member = self.worker.session.member
        # As a thread that polls beside the one that decides would.
        while member.owned:
            member._consumer.poll(0.1)
        while not member.owned:
            member._consumer.poll(0.1)

    class Transaction(Transaction):
        """Ends the process at the outcome of the first commit after that; an idle one may come before."""

        def commit(self, positions: Iterable[TopicPartition], member: Any) -> None:
            """See `Transaction`."""
            try:
                super().commit(positions, member)
            except (Aborted, SessionOver):
                os._exit(REFUSED)
            if RejoinsWhileDeciding.slept:
                os._exit(0)


def main(fields: str, directory: str, fault: str) -> None:
    """Work until killed, or told to stop."""
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    if fault == "kill after store write":
        _kill_after_write()
    if fault == "stop in poll":
        _stop_in_poll()
    settings = settings_module.load(**json.loads(fields))
    if fault == "rejoin while deciding":
        function = RejoinsWhileDeciding()
        worker = Worker(settings, Path(directory), function=function, transaction_type=function.Transaction)
        function.worker = worker
    elif fault in IN_TRANSACTION:
        worker = Worker(settings, Path(directory), transaction_type=faulty(fault))
    else:
        worker = Worker(settings, Path(directory))
    with worker:
        while worker.crashed is None and not stopping.is_set():
            stopping.wait(0.1)
    if worker.crashed is not None:
        raise worker.crashed


if __name__ == "__main__":
    main(*sys.argv[1:])
