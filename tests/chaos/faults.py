"""
The faults, one at a time, and what was seen of each.

A fault that needs a moment (an open transaction, a restore, a rebalance) waits for it and proves that it was there: one
that can't says `NotHappened`, and the run has failed.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NamedTuple

from confluent_kafka import KafkaException

from streams.demo.system import RoleProcess
from streams.errors import RejoinderError, Unavailable
from tests.chaos.brokers import Brokers
from tests.chaos.proxy import END_TXN
from tests.chaos.schedule import Fault
from tests.chaos.system import PARTITIONS, Log, System

SESSION_S: Final = 6.0
"""The group's session timeout, LocalKafka's default."""
TRANSACTION_S: Final = 10.0
MOMENT_S: Final = 60.0
"""The longest that a fault waits for its moment."""
READY_S: Final = 180.0
"""The longest that workers and brokers may take to start, to join and to restore, on a machine that is busy."""
TRIES: Final = 6
LOOK_S: Final = 0.005
MARKERS_S: Final = 1.5
"""In which a lone broker writes the markers of the commits that it has answered."""
AFTERMATH_S: Final = 20.0
TOLD: Final = frozenset({"aborted, reading again", "session over, a new one begins", "lost", "consumer"})


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


class Injector:
    """
    Does faults on *system*.

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
        self._began_s = time.monotonic()
        self._faults: dict[Fault, Callable[[], str]] = {
            Fault.KILL: self._kill,
            Fault.KILL_IN_TRANSACTION: self._kill_in_transaction,
            Fault.KILL_IN_RESTORE: self._kill_in_restore,
            Fault.KILL_IN_REBALANCE: self._kill_in_rebalance,
            Fault.ZOMBIE: lambda: self._zombie(in_transaction=False),
            Fault.ZOMBIE_IN_TRANSACTION: lambda: self._zombie(in_transaction=True),
            Fault.ROLLING_RESTART: self._rolling_restart,
            Fault.SCALE: self._scale,
            Fault.CUT: lambda: self._cut(silent=False),
            Fault.CUT_SILENT: lambda: self._cut(silent=True),
            Fault.END_TXN_LOST: lambda: self._end_txn(hold_s=None),
            Fault.END_TXN_LATE: lambda: self._end_txn(hold_s=TRANSACTION_S + 2),
            Fault.LEADER_KILLED: lambda: self._kill_broker(self._brokers.leader()),
            Fault.GROUP_COORDINATOR_KILLED: lambda: self._kill_broker(self._brokers.group_coordinator()),
            Fault.TXN_COORDINATOR_KILLED: lambda: self._kill_broker(self._brokers.transaction_coordinator(self._any())),
            Fault.BROKER_DOWN: self._broker_down,
            Fault.BROKER_FROZEN: self._broker_frozen,
            Fault.LONE_BROKER_RESTARTED: self._restart_lone_broker,
            Fault.LONE_BROKER_KILLED: self._kill_lone_broker,
        }

    def begin(self) -> None:
        """Count time from now on."""
        self._began_s = time.monotonic()

    def inject(self, fault: Fault) -> Event:
        """Do *fault*, and see that all workers run again that should; raises RejoinderError if they don't."""
        began_s = time.monotonic()
        happened = True
        try:
            observed = self._faults[fault]()
        except NotHappened as exc:
            observed, happened = str(exc), False
        self.restore_workers()
        at_s = round(began_s - self._began_s, 1)
        return Event(fault, at_s, round(time.monotonic() - began_s, 1), observed, happened)

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

    # Workers.

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
                except KafkaException:
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
            leaver, victim = self._random.sample(system.running, 2)
            log = Log(victim.log)
            joins = self._random.random() < 0.5
            if joins:
                (joiner,) = [worker for worker in system.workers if not worker.running][:1]
                system.start(joiner)
            else:
                system.leave(leaver)
            moved: list[str] = []
            self._follow(log, partial(_moves, moved), partial(bool, moved), victim)
            self._sigkill(victim)
            if not joins:
                system.stop(leaver)
            if moved:
                return f"{victim.name}, which had just {moved[0]}, as {(joiner if joins else leaver).name} " + (
                    "came" if joins else "went"
                )
        raise NotHappened("no partition moved")

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

    def _aftermath(self, log: Log, until: int, timeout_s: float = AFTERMATH_S) -> str:
        """Return what a worker logs of what happened to it: waits for *until* lines that tell."""
        seen: list[str] = []
        deadline_s = time.monotonic() + timeout_s
        while len(seen) < until and time.monotonic() < deadline_s:
            seen += [_told(entry) for entry in log.news() if entry.get("event") in TOLD]
            self._pause(0.1)
        return "; ".join(dict.fromkeys(seen))

    def _rolling_restart(self) -> str:
        began_s = time.monotonic()
        for worker in list(self._system.running):
            self._system.stop(worker)
            self._system.start(worker)
            self._wait(lambda w=worker: w.partitions() > 0, READY_S, f"{worker.name} has partitions")  # type: ignore[misc]
        return f"{len(self._system.running)} workers in {time.monotonic() - began_s:.0f} s, each ended with 0"

    def _scale(self) -> str:
        system = self._system
        seen = []
        for count in (1, len(system.workers), 1):
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

    # The network.

    def _cut(self, *, silent: bool) -> str:
        worker = self._busy()
        broker = self._random.randrange(self._system.brokers)
        log = Log(worker.log)
        cut_s = self._waits.cut_s * (0.5 + self._random.random())
        self._system.proxy.cut(broker, worker.url, silent)
        try:
            self._pause(cut_s)
        finally:
            self._system.proxy.heal(broker, worker.url)
        self._pause(0.5)
        seen = self._aftermath(log, until=1, timeout_s=1.0)
        return f"{worker.name} and broker {broker + 1} for {cut_s:.1f} s; it said: {seen or 'nothing'}"

    def _end_txn(self, *, hold_s: float | None) -> str:
        worker = self._busy()
        log = Log(worker.log)
        proxy = self._system.proxy
        name = f"{'lost' if hold_s is None else 'held'} {END_TXN}"
        before = proxy.counts()[name]
        if hold_s is None:
            proxy.lose(END_TXN, client=worker.url)
        else:
            proxy.hold(END_TXN, hold_s, client=worker.url)
        try:
            self._wait(lambda: proxy.counts()[name] > before, MOMENT_S, f"an answer to EndTxn is {name}")
        except RejoinderError as exc:
            raise NotHappened(str(exc)) from exc
        finally:
            proxy.forget()
        self._pause(hold_s or 0.0)
        seen = self._aftermath(log, until=1, timeout_s=3.0)
        return f"{worker.name}{f', {hold_s:.0f} s' if hold_s else ''}; it said: {seen or 'nothing'}"

    # Brokers.

    def _kill_broker(self, broker: int) -> str:
        kafka = self._system.kafka
        kafka.kill(broker)
        self.broker_kills += 1
        down_s = 2 + 4 * self._random.random()
        self._pause(down_s)
        kafka.restart(broker, READY_S)
        return f"broker {broker + 1} down for {down_s:.1f} s; {self._in_sync()}"

    def _broker_down(self) -> str:
        broker = self._random.randrange(self._system.brokers)
        kafka = self._system.kafka
        kafka.halt(broker)
        self._pause(self._waits.broker_down_s)
        kafka.restart(broker, READY_S)
        return f"broker {broker + 1} for {self._waits.broker_down_s:.0f} s; {self._in_sync()}"

    def _broker_frozen(self) -> str:
        broker = self._random.randrange(self._system.brokers)
        pid = self._system.kafka.pids[broker]
        os.kill(pid, signal.SIGSTOP)
        frozen_s = 4 + 4 * self._random.random()
        try:
            self._pause(frozen_s)
        finally:
            os.kill(pid, signal.SIGCONT)
        return f"broker {broker + 1} for {frozen_s:.1f} s; {self._in_sync()}"

    def _in_sync(self) -> str:
        began_s = time.monotonic()
        self._wait(self._brokers.in_sync, READY_S, "all replicas are in sync")
        return f"all replicas in sync {time.monotonic() - began_s:.1f} s later"

    def _restart_lone_broker(self) -> str:
        began_s = time.monotonic()
        self._system.kafka.restart(0, READY_S)
        return f"back after {time.monotonic() - began_s:.1f} s"

    def _kill_lone_broker(self) -> str:
        # Not between a commit's answer and its markers: docs/architecture.md says what a lone broker may then do.
        stopped = list(self._system.running)
        for worker in stopped:
            worker.signal(signal.SIGSTOP)
        try:
            time.sleep(MARKERS_S)
            self._system.kafka.kill()
            self.broker_kills += 1
        finally:
            for worker in stopped:
                worker.signal(signal.SIGCONT)
        down_s = 1 + 4 * self._random.random()
        self._pause(down_s)
        self._system.kafka.restart(0, READY_S)
        return f"down for {down_s:.1f} s"

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


def _moves(moved: list[str], entry: dict[str, Any]) -> None:
    """Take down that partitions came or went."""
    if entry.get("event") in {"assigned", "revoked"}:
        moved.append(f"{entry['event']} {entry['partitions']}")


def _told(entry: dict[str, Any]) -> str:
    return f"{entry['event']} ({entry.get('because') or entry.get('partitions') or entry.get('detail')})"
