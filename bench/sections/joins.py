"""Joins a second and a CPU-second, and memory: against Kafka Streams, and against the Python peers."""

from __future__ import annotations

from typing import Final

from bench.contenders import KafkaStreams, Ours, PythonPeer
from bench.figures import Bar
from bench.stage import Outcome, Stage, compare, say, spread_of

OURS: Final = Ours("Rejoinder, 1 worker")
OURS_2: Final = Ours("Rejoinder, 2 workers", 2)
STREAMS: Final = KafkaStreams("Kafka Streams tuned, 1 thread")
STREAMS_2: Final = KafkaStreams("Kafka Streams tuned, 2 threads", 2)
STREAMS_PLAIN: Final = KafkaStreams("Kafka Streams as it comes, 1 thread", tuned=False)
QUIX: Final = PythonPeer("Quix Streams, 1 process", "quix_join")
FAUST: Final = PythonPeer("plain Faust (at least once), 1 process", "faust_join")


_CACHE: Final = {"statestore.cache.max.bytes": str(128 << 20)}
VARIANTS: Final = (
    STREAMS,
    KafkaStreams("with a cache of 128 MiB", caching=True, properties=_CACHE),
    KafkaStreams("commits every 200 ms", properties={"commit.interval.ms": "200"}),
    KafkaStreams("commits every 5 s", properties={"commit.interval.ms": "5000"}),
    KafkaStreams("G1 instead of the parallel collector", jvm=("-Xms768m", "-Xmx768m", "-XX:+UseG1GC")),
    KafkaStreams("serial collector, 512 MiB of heap", jvm=("-Xms512m", "-Xmx512m", "-XX:+UseSerialGC")),
    KafkaStreams("2 GiB of heap", jvm=("-Xms2g", "-Xmx2g", "-XX:+UseParallelGC")),
    KafkaStreams("no compression", properties={"producer.compression.type": "none"}),
    KafkaStreams("linger of 100 ms", properties={"producer.linger.ms": "100"}),
)
"""What was tried of Kafka Streams; each changes one thing of the tuned configuration."""


def tuning(stage: Stage) -> Outcome:
    """Whether the tuned configuration of Kafka Streams is its best here: against others that change one thing."""
    dataset = stage.dataset(stage.sizes.far_pairs, stage.sizes.far)
    rows = stage.compete(VARIANTS, dataset)
    bars = [
        Bar(
            f"tuned as it is, against: {variant.name}",
            compare(rows, "whole_joins_per_cpu_s", STREAMS.name, variant.name),
            0.95,
        )
        for variant in VARIANTS[1:]
    ]
    about = f"{stage.sizes.far_pairs:,} pairs, their halves {stage.sizes.far:,} records apart; joins a CPU-second."
    return Outcome(rows, bars, about)


def joins(stage: Stage) -> Outcome:
    """Against Kafka Streams: 1 worker and 1 thread, 2 and 2; the halves of a pair far apart."""
    sizes = stage.sizes
    dataset = stage.dataset(sizes.far_pairs, sizes.far)
    say("one turn before any counts: the broker's code is cold")
    stage.trial(OURS, stage.dataset(sizes.near_pairs, sizes.near))
    rows = stage.compete([OURS, STREAMS, STREAMS_PLAIN, OURS_2, STREAMS_2], dataset)
    # Its best is whichever of its two configurations is better on this machine.
    best = max(STREAMS.name, STREAMS_PLAIN.name, key=lambda name: spread_of(rows, "whole_joins_per_cpu_s", name).median)
    warm = max(STREAMS.name, STREAMS_PLAIN.name, key=lambda name: spread_of(rows, "warm_joins_per_cpu_s", name).median)
    bars = [
        Bar(
            "joins a CPU-second, 1 worker against 1 thread, start-up included",
            compare(rows, "whole_joins_per_cpu_s", OURS.name, best),
            1.2,
        ),
        Bar("the same, warm half", compare(rows, "warm_joins_per_cpu_s", OURS.name, warm), 1.0),
        Bar(
            "joins/s, 2 workers against 2 threads",
            compare(rows, "running_joins_per_s", OURS_2.name, STREAMS_2.name),
            1.0,
        ),
        Bar(
            "the same, start-up included",
            compare(rows, "whole_joins_per_s", OURS_2.name, STREAMS_2.name),
            1.0,
        ),
        Bar("peak memory of a worker", compare(rows, "peak_mib", OURS.name, STREAMS.name), 0.6, at_most=True),
    ]
    about = f"{sizes.far_pairs:,} pairs, their halves {sizes.far:,} records apart."
    return Outcome(rows, bars, about)


def peers(stage: Stage) -> Outcome:
    """Against Quix Streams and plain Faust, one process each; the halves of a pair near each other."""
    sizes = stage.sizes
    dataset = stage.dataset(sizes.near_pairs, sizes.near)
    rows = stage.compete([OURS, STREAMS, QUIX, FAUST], dataset)
    bars = [
        Bar("joins/s against Quix Streams", compare(rows, "running_joins_per_s", OURS.name, QUIX.name), 5.0),
        Bar("joins/s against plain Faust", compare(rows, "running_joins_per_s", OURS.name, FAUST.name), 20.0),
    ]
    about = f"{sizes.near_pairs:,} pairs, their halves {sizes.near:,} records apart."
    return Outcome(rows, bars, about)
