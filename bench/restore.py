"""
How fast a worker gets its state back, and what the time goes to.

    python bench/restore.py [--records 500000] [--partitions 4]

Prints records a second of a whole restore, and of its parts alone: reading without loading, loading without reading.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import structlog
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from streams.local.kafka import LocalKafka
from streams.store.changelog import Chunk, Reader
from streams.store.options import StoreOptions
from streams.store.partition import Partition
from streams.store.restore import Restorer

ROW_BYTES = 600
BATCH_RECORDS = 10_000
MEMORY_MIB = 256
WAIT_S = 60.0
RUNS = 3
TOPIC = "changelog"


def fill(config: dict[str, str | int | float | bool], records: int, partitions: int) -> None:
    """Produce *records* rows of different keys, a transaction an instant as a worker does; half can be compressed."""
    admin = AdminClient(config)
    topic = NewTopic(TOPIC, partitions, 1, config={"cleanup.policy": "compact"})
    admin.create_topics([topic])[TOPIC].result(WAIT_S)
    producer = Producer({**config, "transactional.id": "bench", "compression.type": "lz4", "linger.ms": 5})
    producer.init_transactions(WAIT_S)
    now_ms = time.time_ns() // 1_000_000
    filler = b"a" * ((ROW_BYTES - 9) // 2)
    for begin in range(0, records, BATCH_RECORDS):
        producer.begin_transaction()
        for number in range(begin, min(begin + BATCH_RECORDS, records)):
            row = b"\x01" + (now_ms + begin).to_bytes(8, "big") + filler + os.urandom(ROW_BYTES - 9 - len(filler))
            producer.produce(TOPIC, key=uuid.uuid4().bytes, value=row, partition=number % partitions)
            producer.poll(0)
        producer.commit_transaction(WAIT_S)


def restore(config: dict[str, str | int | float | bool], partitions: int, directory: Path) -> None:
    """Restore all partitions into empty stores below *directory*."""
    options = StoreOptions(MEMORY_MIB)
    directory.mkdir()
    restorer = Restorer(config, TOPIC, lambda n: Partition.open(directory / str(n), options), lambda _: None)
    restorer.restore(range(partitions))
    ready: list[tuple[int, Partition]] = []
    while len(ready) < partitions:
        time.sleep(0.001)
        ready += restorer.ready()
    restorer.stop()
    for _, store in ready:
        store.close()


def read(config: dict[str, str | int | float | bool], partitions: int, records: int) -> Iterator[tuple[int, Chunk]]:
    """Read all partitions as a restore does; yield what comes."""
    reader = Reader(config, TOPIC)
    reader.assign(dict.fromkeys(range(partitions), 0))
    count = 0
    while count < records:
        for number, chunk in reader.read().items():
            count += len(chunk.rows)
            yield number, chunk
    reader.close()


def load(chunks: list[tuple[int, Chunk]], partitions: int, directory: Path) -> None:
    """Load what was read."""
    options = StoreOptions(MEMORY_MIB)
    directory.mkdir()
    stores = [Partition.open(directory / str(number), options) for number in range(partitions)]
    for number, chunk in chunks:
        stores[number].load(chunk.rows, chunk.position or 0, "", 0)
    for store in stores:
        store.close()


def measure(name: str, records: int, run: Callable[[int], object]) -> None:
    """Print the median over some runs of *run*: records a second, and microseconds of this process's CPU a record."""
    rates, cpu_us = [], []
    for number in range(RUNS):
        began_s, began_cpu_s = time.perf_counter(), time.process_time()
        run(number)
        rates.append(records / (time.perf_counter() - began_s))
        cpu_us.append((time.process_time() - began_cpu_s) * 1e6 / records)
    print(
        f"{name:14s} {statistics.median(rates):9,.0f} records/s (best {max(rates):,.0f}), "
        f"{statistics.median(cpu_us):.1f} µs CPU a record, all threads"
    )


def main() -> None:
    """Run the benchmark on a broker of its own."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--records", type=int, default=500_000)
    parser.add_argument("--partitions", type=int, default=4)
    arguments = parser.parse_args()
    records, partitions = arguments.records, arguments.partitions
    with tempfile.TemporaryDirectory() as temporary, LocalKafka(Path(temporary) / "kafka") as kafka:
        directory = Path(temporary)
        config: dict[str, str | int | float | bool] = {"bootstrap.servers": kafka.bootstrap_servers}
        fill(config, records, partitions)
        print(f"{records:,} rows of {ROW_BYTES} bytes, {partitions} partitions")
        measure("restore", records, lambda run: restore(config, partitions, directory / f"restore-{run}"))
        measure("read only", records, lambda _: sum(1 for _ in read(config, partitions, records)))
        chunks = list(read(config, partitions, records))
        measure("load only", records, lambda run: load(chunks, partitions, directory / f"load-{run}"))


if __name__ == "__main__":
    main()
