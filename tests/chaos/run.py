"""One run: load, faults, quiet, judgement."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from confluent_kafka import KafkaException

from streams.errors import RejoinderError
from tests.chaos import positions, stores
from tests.chaos.brokers import patiently
from tests.chaos.checker import Verdict, judge_all
from tests.chaos.checks import Violation
from tests.chaos.driver import Driver, Figures
from tests.chaos.faults import Injector
from tests.chaos.moments import Event, Waits
from tests.chaos.plan import Plan
from tests.chaos.schedule import Fault
from tests.chaos.system import PARTITIONS, POLICY, System

READY_S: Final = 300.0
STALL_S: Final = 180.0
"""No news for this long, with everything running: what is missing is lost."""
SETTLE_S: Final = 120.0
"""In which lag and open transactions must be gone, once everything has ended."""
PAUSE_S: Final = 0.2
LATE_MARGIN_MS: Final = 2_000
SHOW_S: Final = 0.5
FAULT_S: Final = 8.0
"""What a fault takes, before it is known better."""
NEWS: Final = 20
NEWS_S: Final = 15.0
"""Commands that end between two faults, and how long they are waited for at most."""

Show = Callable[[str | Event], None]
"""Told how far it is, and what has been broken."""


@dataclass(slots=True)
class Result:
    """What came of a run."""

    verdict: Verdict
    figures: Figures
    seconds: float
    """Of the load, from the first order to the last outcome."""
    seconds_checking: float
    events: list[Event]
    kills: int
    broker_kills: int
    ended_by_themselves: list[str]
    """Workers that nobody ended, with their last words; a supervisor, ours too, starts them again."""
    ended_by_librdkafka: int
    """Workers that its known failed assertion ended, see `system.ASSERTION`; as if they had been killed."""
    rocksdb: str
    began_ms: int
    """When the load began, Unix milliseconds; what happened counts seconds from there."""
    notes: list[str] = field(default_factory=list)

    @property
    def failures(self) -> list[str]:
        """Why the run has failed; nothing if it hasn't."""
        wrong = [f"{check}: {times} violations" for check, times in sorted(self.verdict.wrong.items())]
        missed = [f"never happened: {e.fault.value}: {e.observed}" for e in self.events if not e.happened]
        often = [f"librdkafka ended workers {self.ended_by_librdkafka} times"] if self.ended_by_librdkafka > 2 else []
        return [*wrong, *missed, *self.notes, *self.ended_by_themselves, *often]


class Run:
    """A run of *orders* orders on *system*; *show* is told a line about how far it is."""

    def __init__(
        self, system: System, seed: int, orders: int, faults: Sequence[Fault], waits: Waits, show: Show
    ) -> None:
        self.system = system
        self.orders = orders
        self._seed = seed
        self._show = show
        late_s = (POLICY["email_outcome_wait"] + LATE_MARGIN_MS) / 1000
        self.driver = Driver(system.settings, Plan(seed), orders, PARTITIONS, late_s)
        self.driver.pace = self._pace
        self._faults = list(faults)
        self._fault_s = FAULT_S
        self._injector = Injector(system, seed, self._pause, waits)
        self._events: list[Event] = []
        self._shown_s = 0.0

    def execute(self) -> Result:
        """
        Do all of it.

        Raises:
            RejoinderError: a worker ended that nobody ended, or the run itself can't go on.
        """
        system = self.system
        for worker in system.workers[: system.workers_wanted]:
            system.start(worker)
        self._wait(lambda: system.owned() == PARTITIONS, READY_S, "workers get ready")
        began_s = time.monotonic()
        self._injector.begin()
        began_ms = time.time_ns() // 1_000_000
        self.driver.start()
        while self._faults:
            self._next_fault()
        self._injector.restore_workers()
        self._load()
        seconds = time.monotonic() - began_s
        notes = self._settle()
        for worker in system.running:
            system.stop(worker)
        self.driver.stop()
        if self.driver.failure is not None:
            raise RejoinderError(f"the driver failed: {self.driver.failure!r}") from self.driver.failure
        began_s = time.monotonic()
        verdict = judge_all(system.settings, self._seed, system.state, self._show_check)
        self._check_positions(verdict)
        if verdict.tally.commands != self.driver.figures.commands:
            what = f"{self.driver.figures.commands} commands were sent, {verdict.tally.commands} are in the log"
            verdict.take(Violation("C4", "", what))
        return Result(
            verdict,
            self.driver.figures,
            seconds,
            time.monotonic() - began_s,
            self._events,
            self._injector.kills,
            self._injector.broker_kills,
            system.ended_by_themselves,
            system.ended_by_librdkafka,
            stores.rocksdb_version(system.state),
            began_ms,
            notes,
        )

    def _next_fault(self) -> None:
        """Break the next thing, after some orders have gone through since the last."""
        figures = self.driver.figures
        wanted = figures.ended + NEWS
        began_s = time.monotonic()
        while figures.ended < wanted and time.monotonic() - began_s < NEWS_S:
            self._pause(PAUSE_S)
        event = self._injector.inject(self._faults[0])
        self._faults.pop(0)
        self._events.append(event)
        self._show(event)
        self._fault_s += (time.monotonic() - began_s - self._fault_s) / min(len(self._events) + 1, 10)

    def _pace(self) -> float:
        """Return the orders a second at which the load lasts for as long as there are faults."""
        faults = len(self._faults)
        if not faults:
            return float("inf")
        left = self.orders - self.driver.figures.orders
        return max(left / (faults * self._fault_s), 1.0)

    def _pause(self, seconds: float) -> None:
        """Wait, and look after the run meanwhile."""
        until_s = time.monotonic() + seconds
        self._look()
        while (left_s := until_s - time.monotonic()) > 0:
            time.sleep(min(left_s, PAUSE_S))
            self._look()

    def _load(self) -> None:
        """Return when every command has ended, or nothing moves any more."""
        figures = self.driver.figures
        while not self.driver.done:
            self._look()
            if time.monotonic() - figures.last_news_s > STALL_S:
                self._show(f"nothing has come for {STALL_S:.0f} s")
                return
            time.sleep(PAUSE_S)

    def _look(self) -> None:
        """Show how far it is, and see that all that should run does."""
        self.system.check()
        if self.driver.failure is not None:
            raise RejoinderError(f"the driver failed: {self.driver.failure!r}") from self.driver.failure
        if time.monotonic() - self._shown_s > SHOW_S:
            self._shown_s = time.monotonic()
            f = self.driver.figures
            self._show(f"{min(f.orders, self.orders)} orders in, {f.ended} of {f.commands} commands ended")

    def _settle(self) -> list[str]:
        """Wait until nothing lags and nothing is open; return what had to be noted."""
        cluster = positions.Cluster(self.system.settings, PARTITIONS)

        def settled() -> bool:
            try:
                return cluster.settled()
            except (KafkaException, TimeoutError):
                return False

        try:
            self._wait(settled, SETTLE_S, "lag and open transactions go")
        except RejoinderError as exc:
            return [str(exc)]
        return []

    def _check_positions(self, verdict: Verdict) -> None:
        cluster = positions.Cluster(self.system.settings, PARTITIONS)
        ends, stable, committed = map(patiently, (cluster.ends, cluster.stable, cluster.committed))
        verdict.tally.checked["C6"] += len(ends) + len(committed)
        for violation in positions.check(ends, stable, committed):
            verdict.take(violation)

    def _wait(self, condition: Callable[[], bool], timeout_s: float, what: str) -> None:
        deadline_s = time.monotonic() + timeout_s
        while not condition():
            self._look()
            if time.monotonic() > deadline_s:
                raise RejoinderError(f"not within {timeout_s:.0f} s: {what}")
            time.sleep(PAUSE_S)

    def _show_check(self, done: int) -> None:
        self._show(f"checked {done} of {PARTITIONS} partitions")
