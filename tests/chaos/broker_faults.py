"""Brokers are killed, stopped and frozen, and the network between them and the workers fails."""

from __future__ import annotations

import os
import signal
import time
from typing import Final

from streams.errors import RejoinderError
from tests.chaos.moments import MOMENT_S, READY_S, Moments, NotHappened
from tests.chaos.proxy import END_TXN
from tests.chaos.system import Log

MARKERS_S: Final = 1.5
"""In which a lone broker writes the markers of the commits that it has answered."""


class BrokerFaults(Moments):
    """The faults of brokers and of the network; each returns what was seen, or raises `NotHappened`."""

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
