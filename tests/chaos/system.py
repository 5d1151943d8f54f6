"""The system under test: a Kafka, its topics, and workers as processes, each with a slot that is its name for ever."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Self

from streams import settings as settings_module
from streams.demo.system import RoleProcess
from streams.errors import RejoinderError
from streams.local.kafka import LocalKafka
from streams.local.process import free_ports
from streams.settings import PREFIX, Settings, as_environment
from streams.transport.topics import Cluster
from tests.chaos.proxy import Proxy

PARTITIONS: Final = 8
SLOTS: Final = 4
"""The most workers."""
WORKERS: Final = 3
"""As many run when nothing happens."""

START_S: Final = 180.0
"""Three brokers on a machine that is busy."""
STOP_S: Final = 75.0
"""A turn under way may wait for its brokers for a minute."""
STACKS_S: Final = 2.0
PAUSE_S: Final = 0.05

POLICY: Final = {
    "retry_first": 400,
    "retry_most": 2_000,
    "not_found_attempts": 3,
    "give_up_after": 30_000,
    "email_attempts": 3,
    "email_outcome_wait": 12_000,
}
"""Short, so that deadlines, retries and giving up happen within the run."""

BROKER: Final = {
    # The checker replays changelogs up to any offset: nothing of them may be compacted away meanwhile.
    "log.cleaner.enable": "false",
}

ASSERTION: Final = "rd_kafka_enq_once_del_source_return"
"""
Where librdkafka 2.16 ends a process that describes a group while the connection to its coordinator breaks
(confluentinc/librdkafka#5397). A worker looks at its group every ten seconds, so chaos meets that at times.
"""


class Log:
    """Reads what is appended to a worker's log, as JSON."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = path.stat().st_size if path.exists() else 0

    def news(self) -> Iterator[dict[str, Any]]:
        """Yield the whole lines that have come since the last call; what is no JSON is left out."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._at)
            data = file.read()
        end = data.rfind(b"\n") + 1
        self._at += end
        for line in data[:end].splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, dict):
                yield entry


class System:
    """
    A context: the cluster runs, its topics are there; workers are started by name.

    *workers* of *slots* run when nothing happens; *more*: settings.
    """

    def __init__(self, directory: Path, brokers: int, workers: int, slots: int = SLOTS, **more: Any) -> None:
        self.directory = directory
        self.workers_wanted = workers
        directory.mkdir(parents=True, exist_ok=True)
        self.kafka = LocalKafka(
            directory / "kafka", brokers=brokers, properties=BROKER, outside_ports=free_ports(brokers)
        )
        self.proxy = Proxy(self.kafka.outside_ports, self.kafka.outside_targets, directory / "proxy.log")
        self.brokers = brokers
        chosen: dict[str, Any] = {
            "bootstrap_servers": self.kafka.bootstrap_servers,
            "application_id": "chaos",
            "partitions": PARTITIONS,
            "replication_factor": brokers,
            "transaction_timeout": 10_000,
            "log_format": "json",
            **POLICY,
            **more,
        }
        self.settings: Settings = settings_module.load(**chosen)
        # The workers' way leads through the proxy, and nobody else's.
        theirs = chosen | {"bootstrap_servers": self.proxy.bootstrap_servers}
        environment = {f"{PREFIX}{name.upper()}": as_environment(name, value) for name, value in theirs.items()}
        self.state = directory / "workers"
        self.state.mkdir(parents=True, exist_ok=True)
        self.workers = [RoleProcess("worker", f"worker-{slot}", self.state, environment) for slot in range(slots)]
        self.killed: set[RoleProcess] = set()
        """Those that we ended: whoever else ends has failed."""
        self.ended_by_themselves: list[str] = []
        self.ended_by_librdkafka = 0
        self._leaving: set[RoleProcess] = set()
        self._size_at_start: dict[RoleProcess, int] = {}
        """Bytes in a worker's log."""

    def __enter__(self) -> Self:
        self.proxy.__enter__()
        self.kafka.start(START_S)
        Cluster(self.settings).apply()
        return self

    def __exit__(self, failed: type[BaseException] | None, *_: object) -> None:
        running = self.running
        for worker in running:
            worker.signal(signal.SIGCONT)
            if failed:
                # Faust's worker then writes the stacks of all its threads into its log.
                worker.signal(signal.SIGUSR1)
        if failed:
            time.sleep(STACKS_S)
        for worker in running:
            worker.kill()
        for pid in self.kafka.pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self.kafka.stop()
        self.proxy.__exit__()

    @property
    def running(self) -> list[RoleProcess]:
        """The workers that run."""
        return [worker for worker in self.workers if worker.running]

    def start(self, worker: RoleProcess) -> None:
        """Start *worker* in its slot."""
        self.killed.discard(worker)
        self._size_at_start[worker] = self._size(worker)
        worker.start()

    @staticmethod
    def _size(worker: RoleProcess) -> int:
        return worker.log.stat().st_size if worker.log.exists() else 0

    def kill(self, worker: RoleProcess) -> None:
        """SIGKILL *worker*."""
        self.killed.add(worker)
        worker.kill()

    def leave(self, worker: RoleProcess) -> None:
        """SIGTERM *worker*; `stop` waits for its end."""
        self.killed.add(worker)
        self._leaving.add(worker)
        worker.signal(signal.SIGTERM)

    def stop(self, worker: RoleProcess) -> None:
        """
        SIGTERM *worker*, and wait for its end.

        Raises:
            RejoinderError: it doesn't end well.
        """
        if worker not in self._leaving:
            self.leave(worker)
        self._leaving.discard(worker)
        deadline_s = time.monotonic() + STOP_S
        while worker.running:
            if time.monotonic() > deadline_s:
                worker.kill()
            time.sleep(PAUSE_S)
        # SIGTERM ends a Python that is still importing, as it would any program.
        starting = worker.exit_status == -signal.SIGTERM and self._size(worker) == self._size_at_start.get(worker)
        if worker.exit_status != 0 and not starting:
            raise RejoinderError(f"{worker.name} was stopped and ended with {worker.exit_status}\n{worker.tail()}")

    def wipe(self, worker: RoleProcess) -> None:
        """Lose the disk of *worker*, which doesn't run."""
        assert not worker.running
        shutil.rmtree(self.state / worker.name, ignore_errors=True)

    def check(self) -> None:
        """Start workers again that have ended by themselves, as a supervisor does, and remember it."""
        for worker in self.workers:
            if worker not in self.killed and worker.exit_status is not None:
                if worker.exit_status == -signal.SIGABRT and ASSERTION in worker.tail():
                    self.ended_by_librdkafka += 1
                else:
                    said = f"{worker.name} ended by itself: {worker.exit_status}; {worker.tail()}"
                    self.ended_by_themselves.append(said)
                self.start(worker)

    def owned(self) -> int:
        """Return how many partitions are worked on."""
        return sum(worker.partitions() for worker in self.running)
