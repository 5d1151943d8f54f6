"""
What the sections share: one broker, the data sets loaded on it, how large everything is, and one trial of the join.
"""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from bench.contenders import Contender, Place, forget, meter
from bench.dataset import Expected, Templates, load, pairs, unique
from bench.figures import Bar, Figures, Spread, ratios, rounds, spread
from bench.watching import Ends, read_all, watch
from streams.local.kafka import LocalKafka
from streams.transport.topics import Cluster


@dataclass(frozen=True)
class Sizes:
    """How large the sections are; the defaults are those that the figures in docs/performance.md come from."""

    rounds: int = 3
    far_pairs: int = 1_000_000
    far: int = 100_000
    near_pairs: int = 200_000
    near: int = 1_000
    rate_per_s: int = 5_000
    """Orders a second for the latency, if no section before it has measured a full rate."""
    warm_s: float = 20.0
    steady_s: float = 20.0
    waiting: tuple[int, int] = (100_000, 10_000_000)
    waiting_joins: int = 30_000
    restore_rows: int = 1_000_000
    round_trips: int = 200_000
    scaling_rate_per_s: int = 4_000
    scaling_workers: tuple[int, ...] = (1, 2, 4)


QUICK: Final = Sizes(
    rounds=3,
    far_pairs=100_000,
    far=20_000,
    near_pairs=20_000,
    rate_per_s=2_000,
    warm_s=5.0,
    steady_s=5.0,
    waiting=(20_000, 200_000),
    waiting_joins=6_000,
    restore_rows=200_000,
    round_trips=20_000,
    scaling_rate_per_s=1_000,
)
TINY: Final = Sizes(
    rounds=1,
    far_pairs=2_000,
    far=500,
    near_pairs=2_000,
    near=100,
    rate_per_s=200,
    warm_s=1.0,
    steady_s=2.0,
    waiting=(1_000, 4_000),
    waiting_joins=300,
    restore_rows=5_000,
    round_trips=1_000,
    scaling_rate_per_s=100,
    scaling_workers=(1, 2),
)
"""For a test of the harness itself; its figures mean nothing."""


class Outcome(NamedTuple):
    """What a section found: the figures of each contender's trials, and how they compare."""

    rows: dict[str, list[Figures]]
    bars: list[Bar]
    about: str
    """What was done, for the report."""


class Dataset(NamedTuple):
    """Inputs that are loaded: *prefix* of their topics, and what must come of them."""

    prefix: str
    pairs: int
    expected: Expected


@dataclass
class Stage:
    """A running broker and what was loaded on it."""

    kafka: LocalKafka
    directory: Path
    sizes: Sizes
    measured: dict[str, Outcome] = field(default_factory=dict)
    """Sections that are done, by name."""
    templates: Templates = field(default_factory=Templates)
    _datasets: dict[tuple[int, int], Dataset] = field(default_factory=dict)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    def place(self, prefix: str, name: str) -> Place:
        """Return a place for one trial over the inputs with *prefix*."""
        own = unique(f"{re.sub('[^a-z0-9]+', '-', name.lower())}-{next(self._numbers)}")
        return Place(self.kafka.bootstrap_servers, prefix, own, self.directory / own)

    def fresh(self, name: str) -> Place:
        """Return a place whose input topics are its own, made and empty."""
        place = self.place(unique(f"{name}-inputs") + ".", name)
        Cluster(place.settings).apply()
        return place

    def dataset(self, count: int, apart: int) -> Dataset:
        """Return a data set, loaded when it is first asked for."""
        known = self._datasets.get((count, apart))
        if known is None:
            place = self.fresh(f"{count}-{apart}")
            say(f"loading {count:,} pairs, their halves {apart:,} records apart")
            load(place.settings, pairs(self.templates, count, apart))
            known = Dataset(place.prefix, count, Expected(self.templates, count))
            self._datasets[count, apart] = known
        return known

    def trial(self, contender: Contender, dataset: Dataset) -> Figures:
        """Let *contender* join *dataset* once, check what came of it, and return the figures."""
        place = self.place(dataset.prefix, contender.name)
        contender.prepare(place)
        output = contender.output(place)
        ends = Ends(place.bootstrap_servers, output)
        running, figures = watch(lambda: contender.start(place), self.kafka.pids, ends, dataset.pairs, meter)
        running.stop()
        read_all(place.bootstrap_servers, output, dataset.expected.new_check(), with_headers=True)
        forget(place)
        return figures

    def compete(self, contenders: Sequence[Contender], dataset: Dataset) -> dict[str, list[Figures]]:
        """Let all *contenders* join *dataset* in turns, as many rounds as there are to be."""
        by_name = {contender.name: contender for contender in contenders}
        rows: dict[str, list[Figures]] = {name: [] for name in by_name}
        for number, order in enumerate(rounds(list(by_name), self.sizes.rounds), start=1):
            for name in order:
                figures = self.trial(by_name[name], dataset)
                rows[name].append(figures)
                say(
                    f"round {number}, {name}: {figures['running_joins_per_s']:,.0f} joins/s, "
                    f"{figures['whole_joins_per_cpu_s']:,.0f} a CPU-second ({figures['warm_joins_per_cpu_s']:,.0f} "
                    f"warm), {figures['peak_mib']:,.0f} MiB"
                )
        return rows


def compare(rows: Mapping[str, Sequence[Figures]], figure: str, ours: str, theirs: str) -> Spread:
    """Return ours divided by theirs in *figure*, round by round."""
    return ratios([trial[figure] for trial in rows[ours]], [trial[figure] for trial in rows[theirs]])


def spread_of(rows: Mapping[str, Sequence[Figures]], figure: str, name: str) -> Spread:
    """Return the spread of one contender's *figure*."""
    return spread([trial[figure] for trial in rows[name]])


def say(line: str) -> None:
    """Tell whoever waits; results go to standard output, this doesn't."""
    print(line, file=sys.stderr, flush=True)


Section = Callable[[Stage], Outcome]
