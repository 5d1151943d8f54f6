"""
What operators do, rehearsed under load on a real cluster: each command has its one e-mail all the same.

Judged by the checker of the chaos tier. What is measured is printed and isn't asserted: `-s` shows it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.chaos import latency
from tests.chaos.moments import Event, Waits
from tests.chaos.plan import Plan
from tests.chaos.run import Result, Run
from tests.chaos.schedule import Fault
from tests.chaos.system import System
from tests.chaos.test_chaos import told

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SEED = 7


def rehearse(
    directory: Path, orders: int, *faults: Fault, workers: int = 3, measured: bool = False, **options: Any
) -> Result:
    """Do *faults* one after the other while *orders* orders go through; print what was seen of each."""

    def show(what: str | Event) -> None:
        if isinstance(what, Event):
            sys.stderr.write(f"{json.dumps(what._asdict())}\n")

    with System(directory, 1, workers, **options) as system:
        result = Run(system, SEED, orders, faults, Waits(), show).execute()
        if measured:
            for event in result.events:
                found = latency.during(system.settings, Plan(SEED), result.began_ms, event)
                sys.stderr.write(f"{json.dumps({'during': event.fault.value, **found._asdict()})}\n")
    assert [] == result.failures, told(result)
    assert orders == result.verdict.tally.orders
    return result


@pytest.mark.parametrize("static", ["off", "on"])
def test_rolling_upgrade(tmp_path: Path, static: str) -> None:
    """All workers are stopped and started, one after the other, as a rollout does; static membership off and on."""
    faults = (Fault.NOTHING, Fault.ROLLING_RESTART)
    rehearse(tmp_path, 4_000, *faults, measured=True, static_membership=static)


def test_scaling_out_and_in(tmp_path: Path) -> None:
    """From two workers to six, and back to two."""
    rehearse(tmp_path, 3_000, Fault.SCALE_WIDE, workers=2, slots=6)


def test_disks_lost(tmp_path: Path) -> None:
    """A worker moves without its disk, a worker's disk is lost, then those of the whole group at once."""
    result = rehearse(tmp_path, 4_000, Fault.MOVED, Fault.DISK_LOST, Fault.GROUP_LOST)
    assert 4 == result.kills
