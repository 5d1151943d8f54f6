"""What a join costs while many orders wait in the table."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Final

from confluent_kafka import Consumer, KafkaException, TopicPartition

from bench.contenders import Place, Workers, forget
from bench.dataset import Half, load, pairs, wait_until
from bench.figures import Bar, Figures, rounds, spread
from bench.join import PARTITIONS
from bench.sections.joins import OURS
from bench.stage import Outcome, Stage, compare, say
from bench.watching import SAMPLE_S, SETTLE_S, STALL_S, Ends, Meter
from streams.transport import config
from topology.topics import DETAILS

CALL_S: Final = 30.0
FILL_RATE_MIN: Final = 1_000
"""Records a second; slower filling is taken for a standstill."""
MEMORY_MIB: Final = 600.0


class Filled:
    """A worker whose table holds *waiting* orders' details."""

    def __init__(self, stage: Stage, waiting: int) -> None:
        self.name = f"{waiting:,} waiting"
        self._stage = stage
        self._waiting = waiting
        self._next = waiting
        self._old = 0
        self._joined = 0
        self.place: Place = stage.fresh("waiting")
        OURS.prepare(self.place)
        say(f"filling the table with {waiting:,} orders")
        templates = stage.templates
        load(self.place.settings, (templates.details(number) for number in range(waiting)))
        self.running: Workers = Workers(OURS.workers(self.place))
        began_s = time.monotonic()
        try:
            wait_until(self._all_read, 120 + waiting / FILL_RATE_MIN, self.running.tail(), 0.5)
        except BaseException:
            self.running.stop()
            raise
        self.fill_per_s = waiting / (time.monotonic() - began_s)
        self._meter = Meter(self.running.pids)
        self._ends = Ends(self.place.bootstrap_servers, OURS.output(self.place))

    def _all_read(self) -> bool:
        self.running.check()
        settings = self.place.settings
        consumer = Consumer(config.common(settings) | {"group.id": f"{self.place.name}-worker"})
        try:
            partitions = [TopicPartition(settings.topic(DETAILS.name), number) for number in range(PARTITIONS)]
            ends = [consumer.get_watermark_offsets(partition, CALL_S)[1] for partition in partitions]
            read = [partition.offset for partition in consumer.committed(partitions, CALL_S)]
        except KafkaException:
            return False  # Asked again.
        finally:
            consumer.close()
        return all(position >= end for position, end in zip(read, ends, strict=True))

    def join_new(self) -> Figures:
        """Join orders that come now, both halves of each, and return what it cost."""
        count = self._stage.sizes.waiting_joins
        halves = pairs(self._stage.templates, count, self._stage.sizes.near, self._next)
        self._next += count
        return self._measure("new", halves, count)

    def join_old(self) -> Figures:
        """Have commands come for orders that wait, spread over all of them."""
        count = min(self._stage.sizes.waiting_joins, self._waiting // (self._stage.sizes.rounds + 1))
        stride = self._waiting // count
        halves = [self._stage.templates.command(self._old + i * stride) for i in range(count)]
        self._old += 1
        return self._measure("old", halves, count)

    def _measure(self, kind: str, halves: Iterable[Half], count: int) -> Figures:
        before, cpu_s, began_s = self._ends.total(), self._meter.cpu_s(), time.monotonic()
        load(self.place.settings, halves)
        changed_s, last = time.monotonic(), before
        while True:
            time.sleep(SAMPLE_S)
            visible, now_s = self._ends.total(), time.monotonic()
            if visible != last:
                last, changed_s, used_s = visible, now_s, self._meter.cpu_s() - cpu_s
            if visible - before >= count and now_s - changed_s > SETTLE_S:
                break
            assert now_s - changed_s < STALL_S, f"{visible - before} of {count} e-mails\n{self.running.tail()}"
            self.running.check()
        return {
            f"{kind}_cpu_us_per_join": used_s * 1e6 / count,
            f"{kind}_joins_per_s": count / (changed_s - began_s),
            "resident_peak_mib": max(self._meter.peak_mib()),
        }

    def close(self) -> None:
        """End the worker."""
        self.running.stop()
        forget(self.place)


def waiting(stage: Stage) -> Outcome:
    """Both tables' workers are alive and take turns; the one whose turn it isn't has nothing to do."""
    with ExitStack() as stack:
        tables: dict[str, Filled] = {}
        for count in stage.sizes.waiting:
            table = Filled(stage, count)
            stack.callback(table.close)
            tables[table.name] = table
        rows: dict[str, list[Figures]] = {name: [] for name in tables}
        # The first turn of each warms it up.
        for number, order in enumerate(rounds(list(tables), stage.sizes.rounds + 1)):
            for name in order:
                steps: tuple[Callable[[], Figures], ...] = (tables[name].join_new, tables[name].join_old)
                figures: Figures = {"fill_per_s": tables[name].fill_per_s}
                for step in steps:
                    figures |= step()
                if number:
                    rows[name].append(figures)
                    say(
                        f"{name}: {figures['new_cpu_us_per_join']:.0f} µs of CPU a join, "
                        f"{figures['old_cpu_us_per_join']:.0f} of an old order's second half, "
                        f"{figures['resident_peak_mib']:.0f} MiB"
                    )
    few, many = rows
    bars = [
        Bar("CPU a join, many waiting against few", compare(rows, "new_cpu_us_per_join", many, few), 1.3, at_most=True),
        Bar(
            "the same, commands for orders that have waited",
            compare(rows, "old_cpu_us_per_join", many, few),
            1.3,
            at_most=True,
        ),
        Bar(
            f"peak memory, {many}",
            spread([trial["resident_peak_mib"] for trial in rows[many]]),
            MEMORY_MIB,
            at_most=True,
            unit=" MiB",
        ),
    ]
    about = (
        f"One worker whose table holds the details of {few} or {many}; {stage.sizes.waiting_joins:,} joins a turn, of "
        "new orders, and of orders that wait, spread over all of them (then only the command is read and paid for)."
    )
    return Outcome(rows, bars, about)
