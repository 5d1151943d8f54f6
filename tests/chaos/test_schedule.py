"""The schedule: what was asked for, in an order that the seed decides."""

from __future__ import annotations

import pytest

from tests.chaos.brokers import java_hash
from tests.chaos.schedule import KILLS, ONE_BROKER, OTHERS, THREE_BROKERS, Fault, schedule


@pytest.mark.parametrize(("brokers", "those"), [(1, ONE_BROKER), (3, THREE_BROKERS)])
def test_every_kind_comes(brokers: int, those: tuple[Fault, ...]) -> None:
    """With twenty kills: each kind of kill, and everything else that so many brokers allow."""
    faults = schedule(1, 20, brokers)
    assert 20 == sum(fault in KILLS for fault in faults)
    assert {*KILLS, *OTHERS, *those} == set(faults)


def test_three_brokers_are_killed_three_times_at_least() -> None:
    """The leader and both coordinators."""
    killed = [fault for fault in schedule(1, 20, 3) if fault in THREE_BROKERS and "SIGKILL" in fault]
    assert 3 == len(killed)


def test_seed_decides() -> None:
    """The same seed gives the same list."""
    assert schedule(5, 40, 3) == schedule(5, 40, 3)
    assert schedule(5, 40, 3) != schedule(6, 40, 3)
    assert [] == schedule(5, 0, 3)


def test_java_hash() -> None:
    """As Java's String.hashCode, without its sign."""
    assert 99_162_322 == java_hash("hello")
    assert 0 == java_hash("polygenelubricants")  # Java: the least int.
