"""
A steady load, and how long each order takes: from the production of its command to its e-mail's visibility.

The load is made by a process of its own, so that its work and the observer's don't wait for each other. Both read the
same monotonic clock.
"""

from __future__ import annotations

import multiprocessing
import time
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Final, NamedTuple

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

from bench.contenders import Contender, Place, meter
from bench.dataset import Templates, number_of
from bench.figures import Figures, percentile
from bench.join import PARTITIONS
from bench.watching import STALL_S, Running, consume_error, prompt_reader
from streams.transport import config

READY_S: Final = 120.0
PROBES: Final = 8
"""Orders that are sent one after the other before the load: so many partitions have surely been seen to work."""
TICK_S: Final = 0.001
FLUSH_S: Final = 60.0


class Sent(NamedTuple):
    """What the load's process tells: when each order's command was handed to the producer, monotonic nanoseconds."""

    at_ns: array[int]


def produce_steadily(place: Place, first: int, rate_per_s: int, seconds: float, answer: Connection) -> None:
    """Produce both halves of orders at a steady rate; send back when each was."""
    templates = Templates()
    settings = place.settings
    # Its linger.ms is that of Kafka's own producers by default. With 1 ms nearly every record was a batch of its own,
    # and the broker's work on these was most of what there was to measure.
    producer = Producer(config.plain_producer(settings))
    sent: array[int] = array("q")
    topics: dict[str, str] = {}
    count, began_s = int(rate_per_s * seconds), time.monotonic()
    while len(sent) < count:
        due = min(count, int((time.monotonic() - began_s) * rate_per_s))
        while len(sent) < due:
            number = first + len(sent)
            for topic, key, value in (templates.details(number), templates.command(number)):
                name = topics.get(topic) or topics.setdefault(topic, settings.topic(topic))
                at_ns = time.monotonic_ns()
                producer.produce(name, value, key)
            sent.append(at_ns)
        producer.poll(0)
        time.sleep(TICK_S)
    assert not producer.flush(FLUSH_S), "the load wasn't taken"
    answer.send_bytes(sent.tobytes())
    answer.close()


class Drive:
    """A contender under load; `run` may be called several times."""

    def __init__(self, place: Place, contender: Contender, running: Running) -> None:
        self._place = place
        self._running = running
        self._next = 0
        self.meter = meter(running)
        self._consumer = Consumer(prompt_reader(place.settings))
        output = contender.output(place)
        self._consumer.assign([TopicPartition(output, number, OFFSET_BEGINNING) for number in range(PARTITIONS)])

    def run(self, rate_per_s: int, seconds: float, warm_s: float = 0.0) -> Figures:
        """
        Produce for *warm_s* and *seconds*, and wait for all e-mails.

        Return the latencies of the orders after *warm_s*, and what the workers used while these came out. Between the
        two nothing changes: a new load would begin with a producer that takes half a second to register.
        """
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe(duplex=False)
        first, warm, count = self._next, int(rate_per_s * warm_s), int(rate_per_s * (warm_s + seconds))
        self._next += count
        began_s = time.monotonic()
        load = context.Process(target=produce_steadily, args=(self._place, first, rate_per_s, warm_s + seconds, there))
        load.start()
        there.close()
        try:
            seen, cpu_s = self._observe(first, count, warm)
            sent = array("q")
            sent.frombytes(here.recv_bytes())
        finally:
            load.join(FLUSH_S)
        used_s = self.meter.cpu_s() - cpu_s
        latencies_ms = [(seen[number] - sent[number]) / 1e6 for number in range(warm, count)]
        return {
            "p50_ms": percentile(latencies_ms, 50),
            "p99_ms": percentile(latencies_ms, 99),
            "most_ms": max(latencies_ms),
            "orders_per_s": count / ((max(sent) - min(sent)) / 1e9),
            "cpu_us_per_join": used_s * 1e6 / (count - warm),
            "seconds": time.monotonic() - began_s,
        }

    def _observe(self, first: int, count: int, warm: int) -> tuple[array[int], float]:
        """Return when each order's e-mail was seen, and the workers' CPU seconds when *warm* of them had been."""
        seen = array("q", bytes(8 * count))
        cpu_s: float | None = None
        left, until_s = count, time.monotonic() + STALL_S
        while left:
            messages = self._consumer.consume(500, 0.02)
            now_ns = time.monotonic_ns()
            for message in messages:
                consume_error(message)
                number = number_of(message.key() or b"") - first
                assert 0 <= number < count, f"an e-mail of order {number + first}, which wasn't asked for now"
                assert not seen[number], f"order {number + first} has two e-mails"
                seen[number] = now_ns
                left -= 1
            if cpu_s is None and count - left >= warm:
                cpu_s = self.meter.cpu_s()
            if messages:
                until_s = time.monotonic() + STALL_S
            assert time.monotonic() < until_s, f"{left} of {count} e-mails didn't come\n{self._running.tail()}"
            self._running.check()
        return seen, cpu_s or 0.0

    def close(self) -> None:
        """Stop observing."""
        self._consumer.close()


@contextmanager
def drive(place: Place, contender: Contender) -> Iterator[Drive]:
    """Start *contender* at *place*, wait until it joins, and end it afterwards."""
    contender.prepare(place)
    running = contender.start(place)
    try:
        driven = Drive(place, contender, running)
        try:
            # Slowly at first: what takes part in this has all started up then.
            driven.run(PROBES, 1.0)
            yield driven
        finally:
            driven.close()
    finally:
        running.stop()
