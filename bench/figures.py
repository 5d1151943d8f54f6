"""
From samples to figures: what a trial's course says, medians over trials, and ratios between contenders.

All is computed here from plain values, so that it can be tested without a broker.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

Figures: TypeAlias = dict[str, float]
"""What one trial measured, by name; names end in their unit where it isn't a count."""


class Sample(NamedTuple):
    """One look at a trial: seconds of a monotonic clock, and what had come and been used by then."""

    at_s: float
    visible: int
    """Offsets that a committed read reaches in all output partitions: records, and markers of transactions."""
    worker_cpu_s: float
    broker_cpu_s: float


def course(samples: Sequence[Sample], joins: int) -> Figures:
    """
    Return the figures of a trial in which *joins* e-mails became visible; the first sample is from before its start.

    ``whole`` begins with the first sample, start-up included; ``running`` when the first e-mails are visible; ``warm``
    when half of them are. Offsets are counted as joins in proportion, since markers take some too.
    """
    assert samples, "nothing was sampled"
    last = max(sample.visible for sample in samples)
    assert last, "no e-mail ever became visible"
    end = next(sample for sample in samples if sample.visible == last)
    begins = {
        "whole": samples[0],
        "running": next(sample for sample in samples if sample.visible),
        "warm": next(sample for sample in samples if sample.visible >= last / 2),
    }
    figures: Figures = {}
    for name, begin in begins.items():
        share = joins * (last - begin.visible) / last
        seconds, cpu_s = end.at_s - begin.at_s, end.worker_cpu_s - begin.worker_cpu_s
        # A run so short that one look sees all of it says nothing of its parts.
        figures[f"{name}_joins_per_s"] = share / seconds if seconds > 0 else 0.0
        figures[f"{name}_joins_per_cpu_s"] = share / cpu_s if cpu_s > 0 else 0.0
    whole = samples[0]
    figures["seconds"] = end.at_s - whole.at_s
    figures["until_first_s"] = begins["running"].at_s - whole.at_s
    figures["worker_cpu_s"] = end.worker_cpu_s - whole.worker_cpu_s
    figures["broker_cpu_s"] = end.broker_cpu_s - whole.broker_cpu_s
    figures["broker_cpu_us_per_join"] = figures["broker_cpu_s"] * 1e6 / joins
    return figures


class Spread(NamedTuple):
    """The median of some trials, with the least and the most."""

    median: float
    least: float
    most: float
    trials: int


def spread(values: Sequence[float]) -> Spread:
    """Return median and range of *values*."""
    return Spread(statistics.median(values), min(values), max(values), len(values))


def spreads(trials: Sequence[Mapping[str, float]]) -> dict[str, Spread]:
    """Return the spread of each figure that all *trials* have."""
    names = [name for name in trials[0] if all(name in trial for trial in trials)] if trials else []
    return {name: spread([trial[name] for trial in trials]) for name in names}


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """Return ours divided by theirs, round by round: what slowed a whole round down slowed both."""
    assert len(ours) == len(theirs), f"{len(ours)} rounds of ours, {len(theirs)} of theirs"
    return spread([a / b if b else 0.0 for a, b in zip(ours, theirs, strict=True)])


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest of *values* that at least *percent* of them don't exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100).__int__() - 1)]


class Bar(NamedTuple):
    """A figure to reach: *value* must be at least, or at most, *limit*."""

    title: str
    value: Spread
    limit: float
    at_most: bool = False
    unit: str = "×"

    @property
    def reached(self) -> bool:
        """Whether the median reaches it."""
        return self.value.median <= self.limit if self.at_most else self.value.median >= self.limit


def rounds(order: Sequence[str], count: int) -> list[list[str]]:
    """Return *count* rounds of all contenders, every other one the other way round: nobody always goes first."""
    return [list(order) if number % 2 == 0 else list(reversed(order)) for number in range(count)]
