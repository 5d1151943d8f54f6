"""
The faults, one at a time, and what was seen of each.

A fault that needs a moment (an open transaction, a restore, a rebalance) waits for it and proves that it was there: one
that can't says `NotHappened`, and the run has failed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from tests.chaos.broker_faults import BrokerFaults
from tests.chaos.losses import Losses
from tests.chaos.moments import Event, NotHappened
from tests.chaos.schedule import Fault
from tests.chaos.worker_faults import WorkerFaults

TRANSACTION_S: Final = 10.0
"""The workers' transaction time-out."""


class Injector(WorkerFaults, BrokerFaults, Losses):
    """Does the faults of a schedule."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._began_s = time.monotonic()
        self._faults: dict[Fault, Callable[[], str]] = {
            Fault.KILL: self._kill,
            Fault.KILL_IN_TRANSACTION: self._kill_in_transaction,
            Fault.KILL_IN_RESTORE: self._kill_in_restore,
            Fault.KILL_IN_REBALANCE: self._kill_in_rebalance,
            Fault.ZOMBIE: lambda: self._zombie(in_transaction=False),
            Fault.ZOMBIE_IN_TRANSACTION: lambda: self._zombie(in_transaction=True),
            Fault.ROLLING_RESTART: self._rolling_restart,
            Fault.SCALE: lambda: self._scale(1, len(self._system.workers), 1),
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
            Fault.NOTHING: self._nothing,
            Fault.SCALE_WIDE: lambda: self._scale(2, 6, 2),
            Fault.MOVED: self._move,
            Fault.DISK_LOST: self._lose_disk,
            Fault.GROUP_LOST: self._lose_group,
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
