"""Workers are killed at chosen moments, stopped and woken up, restarted, and made more or fewer."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final

from confluent_kafka import KafkaException

from streams.demo.system import RoleProcess
from streams.errors import Unavailable
from tests.chaos.moments import MOMENT_S, READY_S, Moments, NotHappened
from tests.chaos.system import PARTITIONS, Log

SESSION_S: Final = 6.0
"""The group's session timeout, LocalKafka's default."""
TRIES: Final = 6
LOOK_S: Final = 0.005


class WorkerFaults(Moments):
    """The faults of workers; each returns what was seen, or raises `NotHappened`."""

    def _kill(self) -> str:
        # Mostly one that works; sometimes one that has just been started.
        worker = self._busy() if self._random.random() < 0.7 else self._any()
        self._pause(self._random.random())
        partitions = worker.partitions()
        self._sigkill(worker)
        return f"{worker.name}, with {partitions} partitions"

    def _kill_in_transaction(self) -> str:
        worker, held = self._freeze_in_transaction()
        self._sigkill(worker)
        return f"{worker.name}; open on {held}"

    def _freeze_in_transaction(self) -> tuple[RoleProcess, str]:
        """Stop a worker (SIGSTOP) whose transaction is open, and stays so without it."""
        deadline_s = time.monotonic() + MOMENT_S
        while time.monotonic() < deadline_s:
            worker = self._busy()
            try:
                numbers = partitions_of(worker)
            except Unavailable:
                continue
            for _ in range(20):
                worker.signal(signal.SIGSTOP)
                try:
                    held = self._open(numbers)
                except (KafkaException, TimeoutError):
                    held = []
                    self._brokers.renew()
                if held:
                    return worker, ", ".join(f"changelog/{number} at {offset}" for number, offset in held)
                worker.signal(signal.SIGCONT)
                self._pause(self._random.random() * 0.03)
        raise NotHappened(f"no transaction was open in {MOMENT_S:.0f} s")

    def _open(self, numbers: Iterable[int]) -> list[tuple[int, int]]:
        """Return the changelog's partitions on which a transaction is open, twice in a row, and since which offset."""
        first = self._brokers.open_transactions(numbers)
        if not first:
            return []
        time.sleep(0.2)
        return sorted(first.items() & self._brokers.open_transactions(numbers).items())

    def _kill_in_restore(self) -> str:
        worker = self._any()
        if worker.running:
            self._sigkill(worker)
        for attempt in range(TRIES):
            if attempt % 2 == 0:
                self._system.wipe(worker)
            log = Log(worker.log)
            self._system.start(worker)
            restoring: set[int] = set()
            self._follow(log, partial(_restores, restoring), partial(bool, restoring), worker)
            self._sigkill(worker)
            for entry in log.news():
                _restores(restoring, entry)
            if restoring:
                store = "lost" if attempt % 2 == 0 else "kept"
                return f"{worker.name}, while it restored {sorted(restoring)}, its disk {store} before"
        raise NotHappened(f"{worker.name} had always restored already")

    def _kill_in_rebalance(self) -> str:
        system = self._system
        for _ in range(TRIES):
            self._start_missing(system.workers_wanted)
            self.wait_all_owned()
            # After a join that moved nothing there is nobody left to come.
            idle = [worker for worker in system.workers if not worker.running]
            joiner = idle[0] if self._random.random() < 0.5 and idle else None
            leaver = self._any() if joiner is None else None
            logs = {worker: Log(worker.log) for worker in system.running if worker is not leaver}
            if joiner is not None:
                system.start(joiner)
            if leaver is not None:
                system.leave(leaver)
            moved = self._first_moved(logs)
            if moved is not None:
                self._sigkill(moved[0])
            if leaver is not None:
                system.stop(leaver)
            if moved is not None:
                cause = f"{leaver.name} went" if leaver is not None else f"{joiner.name} came"  # type: ignore[union-attr]
                return f"{moved[0].name}, which had just {moved[1]}, as {cause}"
        raise NotHappened("no partition moved")

    @staticmethod
    def _first_moved(logs: Mapping[RoleProcess, Log]) -> tuple[RoleProcess, str] | None:
        """Return which of the workers is the first that partitions come to or go from; None if nothing moves."""
        deadline_s = time.monotonic() + MOMENT_S
        while time.monotonic() < deadline_s:
            for worker, log in logs.items():
                for entry in log.news():
                    if entry.get("event") in {"assigned", "revoked"}:
                        return worker, f"{entry['event']} {entry['partitions']}"
            time.sleep(LOOK_S)
        return None

    def _follow(
        self, log: Log, take: Callable[[dict[str, Any]], None], done: Callable[[], bool], worker: RoleProcess
    ) -> None:
        """Read *log* closely until *done*; *worker* may have to start first."""
        deadline_s = time.monotonic() + READY_S
        while time.monotonic() < deadline_s and worker.running:
            for entry in log.news():
                take(entry)
            if done():
                return
            time.sleep(LOOK_S)

    def _zombie(self, *, in_transaction: bool) -> str:
        self.wait_all_owned()
        if in_transaction:
            worker, what = self._freeze_in_transaction()
        else:
            worker, what = self._busy(), ""
            worker.signal(signal.SIGSTOP)
        log = Log(worker.log)
        try:
            self._pause(SESSION_S + 2 + 6 * self._random.random())
            others = sum(other.partitions() for other in self._system.running if other is not worker)
        finally:
            worker.signal(signal.SIGCONT)
        seen = self._aftermath(log, until=1)
        if not seen:
            raise NotHappened(f"{worker.name} went on as if nothing had been")
        return f"{worker.name} {what}; others then worked on {others}; it woke up and said: {seen}"

    def _rolling_restart(self) -> str:
        began_s = time.monotonic()
        for worker in list(self._system.running):
            self._system.stop(worker)
            self._system.start(worker)
            self._wait(lambda w=worker: w.partitions() > 0, READY_S, f"{worker.name} has partitions")  # type: ignore[misc]
        return f"{len(self._system.running)} workers in {time.monotonic() - began_s:.0f} s, each ended with 0"

    def _scale(self, *counts: int) -> str:
        system = self._system
        seen = []
        for count in counts:
            self._start_missing(count)
            for worker in system.workers[count:]:
                if worker.running:
                    system.stop(worker)
            self._wait(lambda n=count: self._spread(n), READY_S, f"{count} workers share the work")  # type: ignore[misc]
            seen.append("+".join(str(worker.partitions()) for worker in system.running))
        return f"partitions {', then '.join(seen)}"

    def _spread(self, count: int) -> bool:
        shares = [worker.partitions() for worker in self._system.running]
        return len(shares) == count and min(shares) > 0 and sum(shares) == PARTITIONS


def partitions_of(worker: RoleProcess) -> list[int]:
    """Return the partition numbers that *worker* works on."""
    _, answer = worker.get("/health/ready")
    return [int(number) for number, phase in answer["partitions"].items() if phase == "running"]


def _restores(restoring: set[int], entry: dict[str, Any]) -> None:
    """Keep *restoring* up to date."""
    if entry.get("event") == "restoring":
        restoring.add(entry["partition"])
    elif entry.get("event") == "restored":
        restoring.discard(entry["partition"])
