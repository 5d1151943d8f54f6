"""
How many joins a second: both halves of N orders wait in their topics, one worker joins them (``ask = never``).

The halves of a pair lie ``--apart`` records apart. Seconds are the worker's, from its first commit's record to its
last, and its CPU seconds of the same time; the broker runs beside it on the same machine.

    python -m bench join [--pairs 200000] [--apart 100000] [--workers 1]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import psutil
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

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
STALL_S = 60.0
COMMAND = "communications.SendOrderConfirmationEmail"
RETRIEVED = "orders.OrderDetailsRetrieved"


def load(settings: Settings, pairs: int, apart: int) -> None:
    """Produce both halves of *pairs* orders, the second *apart* records after the first."""
    codec = Codec(Catalog.from_files())
    producer = Producer(config.plain_producer(settings) | {"queue.buffering.max.messages": 1_000_000})

    def produce(topic: str, record: str, order_id: str, fields: dict[str, Any]) -> None:
        value = codec.encode_record(record, fields)
        while True:
            try:
                producer.produce(settings.topic(topic), value, order_id.encode())
            except BufferError:
                producer.poll(0.1)
            else:
                return

    for number in range(pairs + apart):
        if number < pairs:
            order_id = f"order-{number:09}"
            produce(DETAILS.name, RETRIEVED, order_id, details_fields(order_id))
        if number >= apart:
            order_id = f"order-{number - apart:09}"
            produce(COMMANDS.name, COMMAND, order_id, command_fields(order_id))
        producer.poll(0)
    producer.flush(60)


ORDER: dict[str, Any] = {
    "version": 1,
    "placed_at": 1_767_601_800_000,
    "customer": {"customer_id": "customer-000001", "name": "Jürgen Österreicher", "email": "customer@example.com"},
    "currency": "EUR",
    "lines": [
        {"sku": "TEA-0100", "name": "Darjeeling, first flush, 100 g", "quantity": 2, "unit_price": 1795},
        {"sku": "POT-0001", "name": "Teapot, 1.2 l", "quantity": 1, "unit_price": 6395},
    ],
    "total": 9985,
    "shipping_address": "Königstraße 1\n70173 Stuttgart",
}


def command_fields(order_id: str) -> dict[str, Any]:
    """Return the first half of a pair: a command for *order_id* with an id of its own."""
    return {
        "command_id": str(uuid.uuid4()),
        "order_id": order_id,
        "requested_at": 0,
        "requested_by": "bench",
        "locale": "en",
    }


def details_fields(order_id: str) -> dict[str, Any]:
    """Return the second half."""
    return {"query_id": None, "retrieved_at": 0, "order": ORDER | {"order_id": order_id}}


def watch(settings: Settings, workers: list[psutil.Process], pairs: int) -> dict[str, float]:
    """Count SendEmails under read_committed until there are *pairs*; return seconds, CPU seconds and memory."""
    consumer = Consumer(config.common(settings) | {"group.id": "bench", "isolation.level": "read_committed"})
    topic = settings.topic(EMAIL_COMMANDS.name)
    consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in range(PARTITIONS)])
    seen, began_s, last_s, peak = 0, 0.0, time.monotonic(), 0
    orders: set[bytes] = set()
    while seen < pairs and time.monotonic() - last_s < STALL_S:
        for message in consumer.consume(10_000, 0.1):
            if message.error() is None:
                seen += 1
                orders.add(message.key() or b"")
                last_s = time.monotonic()
        if seen and not began_s:
            began_s, began_cpu_s, first = time.monotonic(), _cpu_s(workers), seen
        peak = max(peak, *(worker.memory_info().rss for worker in workers))
    assert len(orders) == seen == pairs, f"{seen} SendEmails of {len(orders)} orders, of {pairs}"
    seconds, cpu_s = last_s - began_s, _cpu_s(workers) - began_cpu_s
    joins = pairs - first
    return {
        "seconds": round(seconds, 2),
        "joins_per_second": round(joins / seconds),
        "joins_per_cpu_second": round(joins / cpu_s),
        "peak_mib": round(peak / 2**20),
    }


def _cpu_s(workers: list[psutil.Process]) -> float:
    return sum(sum(worker.cpu_times()[:2]) for worker in workers)


def main() -> None:
    """Run once and print the figures as JSON."""
    parser = argparse.ArgumentParser(prog="bench join", description=__doc__)
    parser.add_argument("--pairs", type=int, default=200_000)
    parser.add_argument("--apart", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, LocalKafka(Path(directory) / "kafka") as kafka:
        settings = settings_module.load(
            bootstrap_servers=kafka.bootstrap_servers, partitions=PARTITIONS, replication_factor=1
        )
        Cluster(settings).apply()
        load(settings, options.pairs, options.apart)
        environment = {
            f"{PREFIX}BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
            f"{PREFIX}PARTITIONS": str(PARTITIONS),
            f"{PREFIX}ASK": "never",
            f"{PREFIX}LOG_FORMAT": "json",
        }
        workers = [RoleProcess("worker", f"worker-{i}", Path(directory), environment) for i in range(options.workers)]
        for worker in workers:
            worker.start()
        try:
            figures = watch(settings, [psutil.Process(worker.pid) for worker in workers], options.pairs)
        finally:
            for worker in workers:
                worker.stop()
    print(json.dumps(vars(options) | figures))


if __name__ == "__main__":
    main()
