"""
What poison costs: joins a second of one worker (``ask = never``), without and with 1 % poison, in turns.

All kinds of poison in equal shares (tests/broker/poison.py), and one record of more than 1 MiB for every 200 of them.
Each turn has topics of its own on the same broker, and the same records. The bar: with poison the medians are less than
10 % worse, in joins a second and in joins a CPU-second.

    python -m bench poison [--pairs 50000] [--turns 3] [--percent 1]
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

from bench.join import COMMAND, PARTITIONS, RETRIEVED, command_fields, details_fields, watch
from schemas.catalog import Catalog
from schemas.codec import Codec
from streams import settings as settings_module
from streams.demo.system import RoleProcess
from streams.local.kafka import LocalKafka
from streams.settings import PREFIX, Settings
from streams.transport import config
from streams.transport.partitioner import partition_of
from streams.transport.topics import Cluster
from tests.broker.poison import LARGE, endless
from topology.topics import COMMANDS, DEAD_LETTERS, DETAILS

APART = 10_000
LARGE_EVERY = 200
BAR = 0.9
LETTERS_S = 60.0


class Made(NamedTuple):
    """A record to produce."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None


def records(pairs: int) -> list[tuple[Made, ...]]:
    """Return the good records: the second half of each pair `APART` behind its first."""
    codec = Codec(Catalog.from_files())
    made = []
    for number in range(pairs + APART):
        some = []
        if number < pairs:
            order_id = f"order-{number:09}"
            some.append(_record(codec, DETAILS.name, RETRIEVED, order_id, details_fields(order_id)))
        if number >= APART:
            order_id = f"order-{number - APART:09}"
            some.append(_record(codec, COMMANDS.name, COMMAND, order_id, command_fields(order_id)))
        made.append(tuple(some))
    return made


def _record(codec: Codec, topic: str, record: str, order_id: str, fields: dict[str, Any]) -> Made:
    key = order_id.encode()
    return Made(topic, partition_of(key, PARTITIONS), key, codec.encode_record(record, fields))


def poisons(good: list[tuple[Made, ...]]) -> Iterator[Made]:
    """Yield poison without end, made of good commands."""
    commands = itertools.cycle([some[-1] for some in good[APART : APART + 1_000]])
    for number, (_, make) in enumerate(endless()):
        like = next(commands)
        made = (make if number % LARGE_EVERY else LARGE)(like.key or b"", like.value or b"", number)
        right = like.partition if made.key is None else partition_of(made.key, PARTITIONS)
        yield Made(COMMANDS.name, (right + made.elsewhere) % PARTITIONS, made.key, made.value)


def load(settings: Settings, good: list[tuple[Made, ...]], percent: float) -> int:
    """Produce *good*, and among them *percent* of poison; return how much of it."""
    producer = Producer(config.plain_producer(settings) | {"queue.buffering.max.messages": 1_000_000, "linger.ms": 50})
    source, sent, poisoned = poisons(good), 0, 0

    def produce(made: Made) -> None:
        while True:
            try:
                producer.produce(settings.topic(made.topic), made.value, made.key, made.partition)
            except BufferError:
                producer.poll(0.1)
            else:
                return

    for some in good:
        for made in some:
            produce(made)
            sent += 1
        if poisoned + 1 <= sent * percent / 100:
            produce(next(source))
            poisoned += 1
        producer.poll(0)
    assert producer.flush(120) == 0
    return poisoned


def letters(settings: Settings, wanted: int) -> int:
    """Return how many dead letters there are, waiting for *wanted*."""
    consumer = Consumer(config.common(settings) | {"group.id": "bench", "isolation.level": "read_committed"})
    topic = settings.topic(DEAD_LETTERS.name)
    consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in range(PARTITIONS)])
    seen, until_s = 0, time.monotonic() + LETTERS_S
    while seen < wanted and time.monotonic() < until_s:
        seen += sum(message.error() is None for message in consumer.consume(1_000, 0.2))
    seen += sum(message.error() is None for message in consumer.consume(1_000, 1.0))
    consumer.close()
    return seen


def turn(kafka: LocalKafka, directory: Path, name: str, good: list[tuple[Made, ...]], percent: float) -> dict[str, Any]:
    """Run one turn on topics of its own; return its figures."""
    own = {"topic_prefix": f"{name}.", "application_id": name}
    settings = settings_module.load(
        bootstrap_servers=kafka.bootstrap_servers, partitions=PARTITIONS, replication_factor=1, **own
    )
    Cluster(settings).apply()
    poisoned = load(settings, good, percent)
    environment = {
        f"{PREFIX}BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        f"{PREFIX}PARTITIONS": str(PARTITIONS),
        f"{PREFIX}ASK": "never",
        f"{PREFIX}LOG_FORMAT": "json",
        f"{PREFIX}TOPIC_PREFIX": f"{name}.",
        f"{PREFIX}APPLICATION_ID": name,
    }
    worker = RoleProcess("worker", name, directory, environment)
    worker.start()
    try:
        pairs = sum(made.topic == COMMANDS.name for some in good for made in some)
        figures: dict[str, Any] = watch(settings, [psutil.Process(worker.pid)], pairs)
        found = letters(settings, poisoned)
    finally:
        worker.stop()
    assert found == poisoned, f"{found} dead letters of {poisoned} poison records\n{worker.tail()}"
    return figures | {"poison": poisoned}


def main() -> None:
    """Run the turns; print each and the ratios of the medians as JSON; exit with 1 if the bar isn't reached."""
    parser = argparse.ArgumentParser(prog="bench poison", description=__doc__)
    parser.add_argument("--pairs", type=int, default=50_000)
    parser.add_argument("--turns", type=int, default=3, help="without and with poison each")
    parser.add_argument("--percent", type=float, default=1.0)
    options = parser.parse_args()
    found: dict[str, list[dict[str, Any]]] = {"clean": [], "poison": []}
    good = records(options.pairs)
    with tempfile.TemporaryDirectory() as directory, LocalKafka(Path(directory) / "kafka") as kafka:
        # One turn before any counts: the broker's code is cold.
        turn(kafka, Path(directory), "warm", good[: APART * 2], 0)
        for number in range(options.turns):
            # Each kind goes first as often as the other.
            for kind in ("clean", "poison") if number % 2 else ("poison", "clean"):
                percent = options.percent if kind == "poison" else 0
                figures = turn(kafka, Path(directory), f"{kind}-{number}", good, percent)
                found[kind].append(figures)
                print(json.dumps({"turn": f"{kind}-{number}"} | figures), flush=True)
    ratios = {
        name: round(_median(found["poison"], name) / _median(found["clean"], name), 3)
        for name in ("joins_per_second", "joins_per_cpu_second")
    }
    reached = all(ratio > BAR for ratio in ratios.values())
    print(json.dumps(vars(options) | {"ratios": ratios, "bar": BAR, "reached": reached}))
    sys.exit(0 if reached else 1)


def _median(turns: list[dict[str, Any]], name: str) -> float:
    return statistics.median(float(figures[name]) for figures in turns)


if __name__ == "__main__":
    main()
