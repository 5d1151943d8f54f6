"""What is broken in a run, and in which order: a list, computed from the seed."""

from __future__ import annotations

import random
from collections import Counter
from enum import StrEnum
from typing import Final


class Fault(StrEnum):
    """The kinds of faults; the values are what people read."""

    KILL = "SIGKILL of a worker at a random moment"
    KILL_IN_TRANSACTION = "SIGKILL of a worker with an open transaction"
    KILL_IN_RESTORE = "SIGKILL of a worker while it restores"
    KILL_IN_REBALANCE = "SIGKILL of a worker while partitions move"
    ZOMBIE = "worker stopped past its session, then going on"
    ZOMBIE_IN_TRANSACTION = "worker stopped past its session with an open transaction, then going on"
    ROLLING_RESTART = "rolling restart of all workers"
    SCALE = "workers scaled to 1, to 4, to 1"
    CUT = "network cut between a worker and a broker"
    CUT_SILENT = "packets lost between a worker and a broker"
    END_TXN_LOST = "answer to a commit lost"
    END_TXN_LATE = "answer to a commit late"
    LEADER_KILLED = "SIGKILL of the broker that leads the most partitions"
    GROUP_COORDINATOR_KILLED = "SIGKILL of the broker that coordinates the group"
    TXN_COORDINATOR_KILLED = "SIGKILL of the broker that coordinates a worker's transactions"
    BROKER_DOWN = "a broker down for a while"
    BROKER_FROZEN = "a broker stopped (SIGSTOP) for longer than its session"
    LONE_BROKER_RESTARTED = "the only broker restarted"
    LONE_BROKER_KILLED = "SIGKILL of the only broker, between two commits"
    # Rehearsals of what operators do, see test_rehearsals.py.
    NOTHING = "nothing, for comparison"
    SCALE_WIDE = "workers scaled to 2, to 6, to 2"
    MOVED = "worker moved to another machine, without its disk"
    DISK_LOST = "worker killed, and its disk lost"
    GROUP_LOST = "all workers killed at once, and their disks lost"


KILLS: Final = {
    # Of each twenty.
    Fault.KILL: 7,
    Fault.KILL_IN_TRANSACTION: 7,
    Fault.KILL_IN_RESTORE: 3,
    Fault.KILL_IN_REBALANCE: 3,
}
OTHERS: Final = (
    Fault.ZOMBIE,
    Fault.ZOMBIE_IN_TRANSACTION,
    Fault.ROLLING_RESTART,
    Fault.SCALE,
    Fault.CUT,
    Fault.CUT_SILENT,
    Fault.END_TXN_LOST,
    Fault.END_TXN_LATE,
)
THREE_BROKERS: Final = (
    Fault.LEADER_KILLED,
    Fault.GROUP_COORDINATOR_KILLED,
    Fault.TXN_COORDINATOR_KILLED,
    Fault.BROKER_DOWN,
    Fault.BROKER_FROZEN,
)
ONE_BROKER: Final = (Fault.LONE_BROKER_RESTARTED, Fault.LONE_BROKER_KILLED)
KILLS_PER_ROUND: Final = 20
ROUNDS_MAX: Final = 3
"""However many kills: the slow faults come this often at most."""


def schedule(seed: int, kills: int, brokers: int) -> list[Fault]:
    """
    Return the faults of a run, in their order.

    Args:
        seed: Same seed, same list.
        kills: SIGKILLs of workers; with any, each other kind comes once, and once more for each further 40.
        brokers: 1 or 3.
    """
    if not kills:
        return []
    pattern = [fault for fault, times in KILLS.items() for _ in range(times)]
    chooser = random.Random(seed)  # noqa: S311 -- no secret.
    chooser.shuffle(pattern)
    faults = [pattern[i % len(pattern)] for i in range(kills)]
    rounds = min(1 + kills // (2 * KILLS_PER_ROUND), ROUNDS_MAX)
    others = [*OTHERS, *(THREE_BROKERS if brokers > 1 else ONE_BROKER)]
    faults += others * rounds
    chooser.shuffle(faults)
    return faults


def counted(faults: list[Fault]) -> Counter[Fault]:
    """Return how often each kind is scheduled."""
    return Counter(faults)
