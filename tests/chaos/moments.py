"""What all faults need: workers and brokers to choose from, and patience for the moment that each of them waits for."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from confluent_kafka import KafkaException

from streams.demo.system import RoleProcess
from streams.errors import RejoinderError
from tests.chaos.brokers import Brokers
from tests.chaos.schedule import Fault
from tests.chaos.system import PARTITIONS, Log, System

MOMENT_S: Final = 60.0
"""The longest that a fault waits for its moment."""
READY_S: Final = 180.0
"""The longest that workers and brokers may take to start, to join and to restore, on a machine that is busy."""
AFTERMATH_S: Final = 20.0
TOLD: Final = frozenset({"aborted, reading again", "session over, a new one begins", "lost", "consumer"})
"""What a worker logs of what happened to it."""


class NotHappened(Exception):  # noqa: N818 -- no error of anybody: the run has failed.
    """The moment that a fault waits for didn't come."""


class Event(NamedTuple):
    """What was done and seen: *at_s* since the load began."""

    fault: Fault
    at_s: float
    seconds: float
    observed: str
    happened: bool


@dataclass(frozen=True)
class Waits:
    """How long things last: the short tier's, or the long one's."""

    broker_down_s: float = 10.0
    cut_s: float = 8.0


class Moments:
    """
    Whom a fault strikes, and when.

    *pause(seconds)* waits, and lets the run look after itself meanwhile; it raises when the run is over.
    """

    def __init__(self, system: System, seed: int, pause: Callable[[float], None], waits: Waits) -> None:
        self._system = system
        self._brokers = Brokers(system.settings, PARTITIONS)
        self._random = random.Random(seed)  # noqa: S311 -- no secret.
        self._pause = pause
        self._waits = waits
        self.kills = 0
        """SIGKILLs of workers."""
        self.broker_kills = 0

    def restore_workers(self) -> None:
        """Start the workers that should run; half of the time, wait until all partitions are worked on."""
        system = self._system
        self._start_missing(system.workers_wanted)
        for worker in system.workers[system.workers_wanted :]:
            if worker.running:
                system.stop(worker)
        if self._random.random() < 0.5:
            self.wait_all_owned()

    def wait_all_owned(self) -> None:
        """Wait until every partition is worked on."""
        self._wait(lambda: self._system.owned() == PARTITIONS, READY_S, "all partitions are worked on")

    def _any(self) -> RoleProcess:
        return self._random.choice(self._system.running)

    def _start_missing(self, count: int) -> None:
        for worker in self._system.workers[:count]:
            if not worker.running:
                self._system.start(worker)

    def _sigkill(self, worker: RoleProcess) -> None:
        self._system.kill(worker)
        self.kills += 1

    def _busy(self) -> RoleProcess:
        """Return a worker that works on partitions; waits for one."""

        def busy() -> list[RoleProcess]:
            return [worker for worker in self._system.running if worker.partitions()]

        workers: list[RoleProcess] = self._wait(busy, READY_S, "a worker has partitions")
        return self._random.choice(workers)

    def _aftermath(self, log: Log, until: int, timeout_s: float = AFTERMATH_S) -> str:
        """Return what a worker logs of what happened to it: waits for *until* lines that tell."""
        seen: list[str] = []
        deadline_s = time.monotonic() + timeout_s
        while len(seen) < until and time.monotonic() < deadline_s:
            seen += [_told(entry) for entry in log.news() if entry.get("event") in TOLD]
            self._pause(0.1)
        return "; ".join(dict.fromkeys(seen))

    def _wait(self, condition: Callable[[], Any], timeout_s: float, what: str) -> Any:
        deadline_s = time.monotonic() + timeout_s
        while not (value := _answer(condition)):
            if time.monotonic() > deadline_s:
                raise RejoinderError(f"not within {timeout_s:.0f} s: {what}")
            self._pause(0.1)
        return value


def _answer(condition: Callable[[], Any]) -> Any:
    """Return what *condition* says; None while the brokers don't."""
    try:
        return condition()
    except KafkaException:
        return None


def _told(entry: dict[str, Any]) -> str:
    return f"{entry['event']} ({entry.get('because') or entry.get('partitions') or entry.get('detail')})"
