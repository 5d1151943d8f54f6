"""
A local Kafka that goes on after the command that started it: found again, asked and stopped by its directory.

A note in the directory names the processes by pid *and* start time: a pid alone may be somebody else's by now.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import psutil

from streams.local.errors import LocalKafkaError
from streams.local.kafka import KAFKA_VERSION, LocalKafka

_NOTE = "running.json"
_KILL_WAIT_S_MAX = 10.0


@dataclass(frozen=True, slots=True)
class DetachedKafka:
    """
    A cluster that runs by itself.

    Attributes:
        bootstrap_servers: The brokers' addresses, joined by commas.
        version: Apache Kafka's.
        processes: Pid and start time (Unix seconds, as psutil has it) of each broker.
    """

    bootstrap_servers: str
    version: str
    processes: tuple[tuple[int, float], ...]

    @classmethod
    def start(cls, directory: Path, port: int, brokers: int, timeout_s: float) -> Self:
        """
        Start a cluster in *directory*, let it go when it can be used, and leave a note there.

        Raises:
            LocalServerError: See :meth:`LocalKafka.start`; nothing runs then.
        """
        kafka = LocalKafka(directory, port=port, brokers=brokers)
        kafka.start(timeout_s)
        processes = tuple((pid, psutil.Process(pid).create_time()) for pid in kafka.pids)
        running = cls(kafka.bootstrap_servers, KAFKA_VERSION, processes)
        # The note first: a broker without one would be found by nobody.
        (directory / _NOTE).write_text(json.dumps(asdict(running)), encoding="utf-8")
        kafka.detach()
        return running

    @classmethod
    def find(cls, directory: Path) -> Self | None:
        """Return the cluster of which at least one broker runs in *directory*, None when there is none."""
        try:
            note = json.loads((directory / _NOTE).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise LocalKafkaError(f"{directory / _NOTE}: can't be read: {error}; stop the broker, remove it") from error
        processes = tuple((pid, started) for pid, started in note["processes"])
        running = cls(note["bootstrap_servers"], note["version"], processes)
        return running if running.alive() else None

    def alive(self) -> list[psutil.Process]:
        """Return the brokers that run."""
        found = []
        for pid, started in self.processes:
            try:
                process = psutil.Process(pid)
                if process.create_time() == started and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.NoSuchProcess:
                continue
        return found

    def stop(self, timeout_s: float) -> int:
        """Ask all brokers to end (SIGTERM), kill those that haven't after *timeout_s*; return how many were killed."""
        brokers = self.alive()
        for process in brokers:
            process.terminate()
        _, stubborn = psutil.wait_procs(brokers, timeout=timeout_s)
        for process in stubborn:
            process.kill()
        psutil.wait_procs(stubborn, timeout=_KILL_WAIT_S_MAX)
        return len(stubborn)
