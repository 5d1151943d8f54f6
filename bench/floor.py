"""
What of a join isn't the process manager's: a worker that decides nothing, beside the real one.

    python -m bench floor [--pairs 400000] [--rounds 2]

The bare worker (`bench.bare`) is the real one with its batch function replaced: it decodes and joins nothing. It
reads and writes a row of about the same size for each record, and sends as many bytes and headers for each command, so
that Kafka's client, RocksDB, transactions and Python's loop over them have the same to do. Prints the microseconds of
processor time a join of both once they run, medians, and the bare worker's part of the real one's.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Final

from bench.compare import BROKER, START_S
from bench.contenders import Ours
from bench.figures import rounds
from bench.stage import QUICK, Stage, say
from streams.demo.system import RoleProcess
from streams.local.kafka import LocalKafka
from streams.local.process import ChildProcess

REAL: Final = "the worker"
BARE: Final = "a bare one"


class BareProcess(RoleProcess):
    """A worker process that decides nothing."""

    def start(self) -> None:
        """Start; returns before it is ready."""
        self._child = ChildProcess(self.name, [sys.executable, "-m", "bench.bare"], self.log, self._environment)


CONTENDERS: Final = {REAL: Ours(REAL), BARE: Ours(BARE, process=BareProcess)}


def main() -> None:
    """Let both take turns over the same input."""
    parser = argparse.ArgumentParser(prog="bench floor", description=__doc__)
    parser.add_argument("--pairs", type=int, default=400_000)
    parser.add_argument("--apart", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    found: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    with tempfile.TemporaryDirectory(prefix="rejoinder-bench-") as directory:
        kafka = LocalKafka(Path(directory) / "kafka", properties=BROKER)
        kafka.start(START_S)
        try:
            stage = Stage(kafka, Path(directory), QUICK)
            dataset = stage.dataset(options.pairs, options.apart)
            for order in rounds(list(found), options.rounds):
                for name in order:
                    # What the bare one sends is no SendEmail: there is nothing to check.
                    figures = stage.trial(CONTENDERS[name], dataset, checked=name == REAL)
                    found[name].append(1e6 / figures["running_joins_per_cpu_s"])
                    say(f"{name}: {found[name][-1]:.1f} µs a join, {figures['peak_mib']:.0f} MiB")
        finally:
            kafka.stop()
    medians = {name: round(statistics.median(some), 1) for name, some in found.items()}
    print(json.dumps(vars(options) | medians | {"part": round(medians[BARE] / medians[REAL], 2)}))


if __name__ == "__main__":
    main()
