"""
The short tier: everything breaks while orders go through, and each command has its one e-mail all the same.

The long tier is ``./dev chaos --orders 1000000 --kills 100 --brokers 3``.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

from tests.chaos import report
from tests.chaos.__main__ import run
from tests.chaos.run import Result

MINUTE_S = 60


def told(result: Result) -> str:
    """Return what went wrong, for the test's report."""
    return json.dumps(report.summary(result, "pytest"), indent=1)


@pytest.mark.chaos
@pytest.mark.timeout(20 * MINUTE_S)
def test_twenty_thousand_orders_on_three_brokers(tmp_path: Path) -> None:
    """20 SIGKILLs of workers, 3 of brokers, and every other kind of fault once."""
    result = run(Console(stderr=True), tmp_path, orders=20_000, kills=20, seed=1, brokers=3)
    assert [] == result.failures, told(result)
    assert 20_000 == result.verdict.tally.orders
    assert result.kills >= 20
    assert result.broker_kills >= 3


@pytest.mark.chaos
@pytest.mark.timeout(10 * MINUTE_S)
def test_lone_broker(tmp_path: Path) -> None:
    """A small run on one broker, which is restarted and killed."""
    result = run(Console(stderr=True), tmp_path, orders=3_000, kills=4, seed=1, brokers=1)
    assert [] == result.failures, told(result)
    assert 1 == result.broker_kills
