"""
What a row costs in the store: reading it, writing it with its deadline and checkpoint.

    python bench/store.py [--memory-mib 256]

Prints microseconds a row of the calling thread's CPU and of wall time, medians over batches of 10,000 rows of 600
bytes with random keys. ``near``: the rows of the batch before; ``far``: those of 200,000 rows ago; ``absent``: no rows.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from streams.batch import RowChange
from streams.store.options import StoreOptions
from streams.store.partition import Partition

T = TypeVar("T")
ROWS = 10_000
ROW_BYTES = 600
BATCHES = 40
FAR_BATCHES = 20
START_MS = 1_700_000_000_000


def main() -> None:
    """Run the benchmark in a temporary directory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--memory-mib", type=int, default=256)
    memory_mib: int = parser.parse_args().memory_mib
    chance = random.Random(1)  # noqa: S311 - the same keys each time
    bodies = [os.urandom(ROW_BYTES // 2) + b"a" * (ROW_BYTES - ROW_BYTES // 2 - 9) for _ in range(ROWS)]
    batches = [[chance.randbytes(16) for _ in range(ROWS)] for _ in range(BATCHES)]
    cpu: defaultdict[str, list[float]] = defaultdict(list)
    wall: defaultdict[str, list[float]] = defaultdict(list)

    def timed(name: str, call: Callable[[], T]) -> T:
        began_s, began_cpu_s = time.perf_counter(), time.thread_time()
        result = call()
        cpu[name].append((time.thread_time() - began_cpu_s) * 1e6 / ROWS)
        wall[name].append((time.perf_counter() - began_s) * 1e6 / ROWS)
        return result

    with tempfile.TemporaryDirectory() as directory:
        options = StoreOptions(memory_mib)
        partition = Partition.open(Path(directory) / "0", options)
        partition.load([], 0, "", 0)
        for number, keys in enumerate(batches):
            now_ms = START_MS + number * 1_000
            # Deadlines as a process has them: a while from now, in no order.
            rows = [b"\x01" + (now_ms + 30_000 + chance.randrange(1_000)).to_bytes(8, "big") + body for body in bodies]
            timed("get absent", partial(partition.get_many, keys))
            new = [RowChange(key, None, row) for key, row in zip(keys, rows, strict=True)]
            timed("write new", partial(partition.write, new, number, now_ms))
            if number:
                before = batches[number - 1]
                old = timed("get near", partial(partition.get_many, before))
                changes = [RowChange(key, was, row) for key, was, row in zip(before, old, rows, strict=True)]
                timed("write changed", partial(partition.write, changes, number, now_ms))
            if number >= FAR_BATCHES:
                timed("get far", partial(partition.get_many, batches[number - FAR_BATCHES]))
            timed("due", partial(partition.due, now_ms, ROWS))
        for name in cpu:
            print(
                f"{name:14s} {statistics.median(cpu[name]):5.2f} µs CPU, {statistics.median(wall[name]):5.2f} µs wall"
            )
        print(f"{partition.figures()}, {options.memory_bytes >> 20} MiB of {memory_mib} used")
        partition.close()


if __name__ == "__main__":
    main()
