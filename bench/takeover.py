"""
How long a partition stands still when its worker goes: the time without a new SendEmail, as a reader sees it.

Two workers share four partitions under a light, steady load (``ask = never``, both halves of an order at once). One of
them is killed (SIGKILL) or stopped (SIGTERM), and then started again under the same name or not at all. Measured for
each of its partitions: from the last SendEmail before it went to the first after it, under read_committed. The gap
without any fault is printed beside it.

    python -m bench takeover [--trials 3] [--session 6 45] [--only NAME ...]
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, Self

from confluent_kafka import OFFSET_END, Consumer, Producer, TopicPartition

from bench.join import COMMAND, RETRIEVED, command_fields, details_fields
from schemas.catalog import Catalog
from schemas.codec import Codec
from streams import settings as settings_module
from streams.demo.system import RoleProcess
from streams.local.kafka import LocalKafka
from streams.settings import PREFIX, Settings
from streams.transport import config
from streams.transport.topics import Cluster
from topology.topics import COMMANDS, DETAILS, EMAIL_COMMANDS

PARTITIONS = 4
ORDERS_PER_SECOND = 200
CALM_S = 3.0
"""Of undisturbed load before a worker goes, in which the gap without a fault is seen."""
GONE_S_MAX = 150.0


class Case(NamedTuple):
    """What happens to the worker: ``static`` membership or not, how it goes, whether it comes back at once."""

    static: bool
    how: Callable[[RoleProcess], None]
    comes_back: bool


CASES = {
    "killed, another takes over": Case(static=False, how=RoleProcess.kill, comes_back=False),
    "killed, started again": Case(static=False, how=RoleProcess.kill, comes_back=True),
    "killed, started again, static": Case(static=True, how=RoleProcess.kill, comes_back=True),
    "stopped, another takes over": Case(static=False, how=RoleProcess.stop, comes_back=False),
    "stopped, started again": Case(static=False, how=RoleProcess.stop, comes_back=True),
    "stopped, started again, static": Case(static=True, how=RoleProcess.stop, comes_back=True),
}


class Load:
    """Orders at a steady rate, and when SendEmails of each partition were seen (monotonic seconds)."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._ending = threading.Event()
        self.seen: defaultdict[int, list[float]] = defaultdict(list)
        self._threads = [threading.Thread(target=run) for run in (self._produce, self._observe)]

    def _produce(self) -> None:
        codec = Codec(Catalog.from_files())
        producer = Producer(config.plain_producer(self._settings))
        began_s, sent = time.monotonic(), 0
        while not self._ending.wait(0.01):
            while sent < (time.monotonic() - began_s) * ORDERS_PER_SECOND:
                order_id = str(uuid.uuid4())
                for topic, record, fields in (
                    (COMMANDS, COMMAND, command_fields(order_id)),
                    (DETAILS, RETRIEVED, details_fields(order_id)),
                ):
                    value = codec.encode_record(record, fields)
                    producer.produce(self._settings.topic(topic.name), value, order_id.encode())
                sent += 1
            producer.poll(0)
        producer.flush(10)

    def _observe(self) -> None:
        consumer = Consumer(
            config.common(self._settings)
            | {"group.id": "bench", "isolation.level": "read_committed", "fetch.wait.max.ms": 10}
        )
        topic = self._settings.topic(EMAIL_COMMANDS.name)
        consumer.assign([TopicPartition(topic, number, OFFSET_END) for number in range(PARTITIONS)])
        while not self._ending.is_set():
            message = consumer.poll(0.05)
            number = message.partition() if message is not None and message.error() is None else None
            if number is not None:
                self.seen[number].append(time.monotonic())
        consumer.close()

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()


@contextmanager
def workers(settings: Settings, directory: Path, static: bool) -> Iterator[list[RoleProcess]]:
    """Start two workers and wait until they share the partitions."""
    directory.mkdir()
    environment = {
        f"{PREFIX}BOOTSTRAP_SERVERS": settings.bootstrap_servers,
        f"{PREFIX}TOPIC_PREFIX": settings.topic_prefix,
        f"{PREFIX}APPLICATION_ID": settings.application_id,
        f"{PREFIX}PARTITIONS": str(PARTITIONS),
        f"{PREFIX}STATIC_MEMBERSHIP": "on" if static else "off",
        f"{PREFIX}ASK": "never",
    }
    both = [RoleProcess("worker", f"worker-{i}", directory, environment) for i in range(2)]
    try:
        for worker in both:
            worker.start()
        deadline_s = time.monotonic() + 120
        while [worker.partitions() for worker in both] != [PARTITIONS // 2] * 2:
            assert time.monotonic() < deadline_s, "\n".join(worker.tail() for worker in both)
            time.sleep(0.2)
        yield both
    finally:
        for worker in both:
            worker.stop()


def trial(settings: Settings, directory: Path, case: Case) -> tuple[list[float], list[float]]:
    """Return the gaps of the partitions whose worker went, and the widest ones of all before it did; seconds."""
    with workers(settings, directory, case.static) as (victim, _), Load(settings) as load:
        time.sleep(CALM_S)
        # The range assignor gives a member neighbouring partitions; its web server says which.
        numbers = [int(number) for number in victim.get("/health/ready")[1]["partitions"]]
        calm = [max(b - a for a, b in pairwise(times)) for times in load.seen.values()]
        gone_s = time.monotonic()
        case.how(victim)
        if case.comes_back:
            victim.start()
        gaps: dict[int, float] = {}
        while len(gaps) < len(numbers):
            assert time.monotonic() - gone_s < GONE_S_MAX, f"nobody took over {numbers} in {GONE_S_MAX} s"
            time.sleep(0.2)
            gaps = {n: gap for n in numbers if (gap := _gap(load.seen[n], gone_s, max(calm))) is not None}
        return list(gaps.values()), calm


def _gap(times: list[float], gone_s: float, calm_s: float) -> float | None:
    """Return the widest gap that ends after *gone_s*; None as long as no wider one than *calm_s* has ended."""
    times = list(times)
    gaps = [b - a for a, b in pairwise(times) if b > gone_s]
    return max(gaps) if gaps and (max(gaps) > calm_s or times[-1] > gone_s + CALM_S) else None


def main() -> None:
    """Run all cases and print a line of JSON for each."""
    parser = argparse.ArgumentParser(prog="bench takeover", description=__doc__)
    parser.add_argument("--trials", type=int, default=3)
    parser.add_argument("--session", type=int, nargs="+", default=[6], help="the broker's session time-outs, seconds")
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), help="these cases")
    options = parser.parse_args()
    for session_s in options.session:
        with (
            tempfile.TemporaryDirectory() as directory,
            LocalKafka(Path(directory) / "kafka", session_timeout_ms=session_s * 1_000) as kafka,
        ):
            for name in options.only:
                gaps, calm = [], []
                for number in range(options.trials):
                    unique = f"takeover-{list(CASES).index(name)}-{number}"
                    settings = settings_module.load(
                        bootstrap_servers=kafka.bootstrap_servers,
                        topic_prefix=f"{unique}.",
                        application_id=unique,
                        partitions=PARTITIONS,
                        replication_factor=1,
                    )
                    Cluster(settings).apply()
                    found = trial(settings, Path(directory) / unique, CASES[name])
                    gaps += found[0]
                    calm += found[1]
                row = {
                    "session_s": session_s,
                    "case": name,
                    "gaps": len(gaps),
                    "gap_s_median": round(statistics.median(gaps), 2),
                    "gap_s_most": round(max(gaps), 2),
                    "undisturbed_gap_s_median": round(statistics.median(calm), 2),
                }
                print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
