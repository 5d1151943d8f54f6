"""
What a plain join costs without Kafka: decode, rows, `decide`, encode, and the store's write; both halves of a pair.

    python -m bench process [--pairs 50000] [--apart 100000] [--profile]

Prints microseconds a join of the thread's CPU, the median over batches of 10,000 records once both halves come.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from bench.join import COMMAND, RETRIEVED, command_fields, details_fields
from schemas.catalog import Catalog
from schemas.codec import Codec
from streams.batch import Batch, Record
from streams.cli.roles import collect_rarely
from streams.processing.process_manager import ProcessManager
from streams.store.options import StoreOptions
from streams.store.partition import Partition
from topology.policy import NEVER_ASK, Policy
from topology.topics import COMMANDS, DETAILS

T = TypeVar("T")
BATCH_RECORDS = 10_000
NOW_MS = 1_767_700_000_000


def records(codec: Codec, pairs: int, apart: int) -> Iterator[Record]:
    """Yield both halves of *pairs* orders, the second *apart* records after the first."""
    for number in range(pairs + apart):
        if number < pairs:
            order_id = f"order-{number:09}"
            value = codec.encode_record(RETRIEVED, details_fields(order_id))
            yield Record(DETAILS.name, 0, number, NOW_MS, order_id.encode(), value, None)
        if number >= apart:
            order_id = f"order-{number - apart:09}"
            value = codec.encode_record(COMMAND, command_fields(order_id))
            yield Record(COMMANDS.name, 0, number - apart, NOW_MS, order_id.encode(), value, None)


def main() -> None:
    """Run the benchmark in a temporary directory."""
    parser = argparse.ArgumentParser(prog="bench process", description=__doc__)
    parser.add_argument("--pairs", type=int, default=150_000)
    parser.add_argument("--apart", type=int, default=100_000)
    parser.add_argument("--profile", action="store_true", help="where the time goes, by function")
    options = parser.parse_args()
    codec = Codec(Catalog.from_files())
    decide = ProcessManager(codec, lambda _: None, Policy(ask_after_ms=NEVER_ASK), 1)
    made = list(records(codec, options.pairs, options.apart))
    cpu_us: defaultdict[str, list[float]] = defaultdict(list)
    profile = cProfile.Profile()

    def timed(name: str, call: Callable[[], T]) -> T:
        began_s = time.thread_time()
        result = call()
        cpu_us[name].append((time.thread_time() - began_s) * 1e6)
        return result

    collect_rarely()
    joins = []
    with tempfile.TemporaryDirectory() as directory:
        partition = Partition.open(Path(directory) / "0", StoreOptions(256))
        partition.load([], 0, "", 0)
        for start in range(0, len(made), BATCH_RECORDS):
            batch = Batch(0, made[start : start + BATCH_RECORDS], NOW_MS, partition.get_many)
            if options.profile:
                profile.enable()
            timed("decide", lambda batch=batch: decide(batch))  # type: ignore[misc]
            changes = timed("changes", lambda batch=batch: batch.changes)  # type: ignore[misc]
            timed("write", lambda changes=changes, start=start: partition.write(changes, start, NOW_MS))  # type: ignore[misc]
            profile.disable()
            assert not batch.refusals, batch.refusals[0]
            joins.append(len(batch.outputs))
        partition.close()
    assert sum(joins) == options.pairs, f"{sum(joins)} joins of {options.pairs}"
    both = [at for at, some in enumerate(joins) if some == BATCH_RECORDS // 2]
    figures = {
        name: round(statistics.median(times[at] / joins[at] for at in both), 2) for name, times in cpu_us.items()
    }
    print(json.dumps(figures | {"sum": round(sum(figures.values()), 2)}))
    if options.profile:
        pstats.Stats(profile).sort_stats("tottime").print_stats(40)


if __name__ == "__main__":
    main()
