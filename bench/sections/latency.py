"""How long an order waits for its e-mail at a quarter of the full rate, and what more workers cost."""

from __future__ import annotations

from typing import Final

from bench.contenders import KafkaStreams, Ours, forget
from bench.driving import drive
from bench.figures import Bar, Figures, rounds, spread
from bench.sections.joins import OURS, STREAMS
from bench.stage import Outcome, Stage, compare, say, spread_of

QUICK_COMMITS: Final = KafkaStreams(
    "Kafka Streams tuned, commits every 100 ms",
    properties={"commit.interval.ms": "100", "consumer.fetch.max.wait.ms": "20", "producer.linger.ms": "5"},
)


def latency(stage: Stage) -> Outcome:
    """From the command's production to the e-mail's visibility for a committed read."""
    rate_per_s = quarter_rate(stage)
    contenders = {contender.name: contender for contender in (OURS, QUICK_COMMITS)}
    rows: dict[str, list[Figures]] = {name: [] for name in contenders}
    for order in rounds(list(contenders), stage.sizes.rounds):
        for name in order:
            place = stage.fresh("latency")
            with drive(place, contenders[name]) as driven:
                figures = driven.run(rate_per_s, stage.sizes.steady_s, stage.sizes.warm_s)
            forget(place)
            rows[name].append(figures)
            say(f"{name}: p50 {figures['p50_ms']:.1f} ms, p99 {figures['p99_ms']:.1f} ms at {rate_per_s:,} orders/s")
    bars = [
        Bar("latency, p50", compare(rows, "p50_ms", OURS.name, QUICK_COMMITS.name), 0.5, at_most=True),
        Bar("latency, p99", compare(rows, "p99_ms", OURS.name, QUICK_COMMITS.name), 1.0, at_most=True),
    ]
    about = (
        f"Both halves of an order at once, {rate_per_s:,} orders a second for {stage.sizes.steady_s:.0f} s, after "
        f"{stage.sizes.warm_s:.0f} s that don't count."
    )
    return Outcome(rows, bars, about)


def quarter_rate(stage: Stage) -> int:
    """Return a quarter of the lower full rate of the two, as measured in this run; else what the sizes say."""
    measured = stage.measured.get("joins")
    if measured is None:
        return stage.sizes.rate_per_s
    full = min(spread_of(measured.rows, "running_joins_per_s", name).median for name in (OURS.name, STREAMS.name))
    return max(100, int(full / 4))


def scaling(stage: Stage) -> Outcome:
    """CPU of all workers a join at a fixed rate, with more and more workers."""
    sizes = stage.sizes
    workers = [Ours(f"{count} worker{'s' if count > 1 else ''}", count) for count in sizes.scaling_workers]
    contenders = {contender.name: contender for contender in workers}
    rows: dict[str, list[Figures]] = {name: [] for name in contenders}
    for order in rounds(list(contenders), sizes.rounds):
        for name in order:
            place = stage.fresh("scaling")
            with drive(place, contenders[name]) as driven:
                figures = driven.run(sizes.scaling_rate_per_s, sizes.steady_s, sizes.warm_s)
            forget(place)
            rows[name].append(figures)
            say(f"{name}: {figures['cpu_us_per_join']:.0f} µs of CPU a join, p50 {figures['p50_ms']:.1f} ms")
    names = list(contenders)
    shift = spread(
        [
            max(trial["cpu_us_per_join"] for trial in trials) / trials[0]["cpu_us_per_join"]
            for trials in zip(*(rows[name] for name in names), strict=True)
        ]
    )
    bars = [Bar(f"CPU a join, the worst of {', '.join(names)} against the first", shift, 1.25, at_most=True)]
    about = f"{sizes.scaling_rate_per_s:,} orders a second for {sizes.steady_s:.0f} s, both halves at once, one broker."
    return Outcome(rows, bars, about)
