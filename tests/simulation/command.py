"""
Run seeds through the simulator.

    ./dev simulate --seeds 1000            seeds 0 to 999; ends with 1 if one fails
    ./dev simulate --seed 17 --trace       one seed, and all that happens in it
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import multiprocessing
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any, Final

from tests.simulation.disk import place_for_disks
from tests.simulation.mutants import MUTANTS
from tests.simulation.plan import KINDS
from tests.simulation.run import SCENARIOS, Result, never_happened, run
from tests.simulation.seams import simulated

_CHUNK: Final = 25
PROGRESS_S: Final = 5.0


def results(first: int, count: int, mutant: str | None = None, scenario: str = "worker") -> Iterator[Result]:
    """Run *count* seeds from *first* on, with a *mutant* planted if one is named."""
    root = place_for_disks()
    try:
        # What lives for all seeds is left alone by the collector, which would go through it again and again; first what
        # the seeds before left behind is collected, which would be kept for ever.
        gc.collect()
        gc.freeze()
        with simulated(), MUTANTS[mutant]() if mutant else contextlib.nullcontext():
            for seed in range(first, first + count):
                yield run(seed, root, scenario=scenario)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _chunk(first: int, count: int, mutant: str | None, scenario: str) -> list[Result]:
    return list(results(first, count, mutant, scenario))


def _in_parallel(first: int, count: int, jobs: int, mutant: str | None, scenario: str) -> Iterator[Result]:
    if jobs == 1:
        yield from results(first, count, mutant, scenario)
        return
    # Spawned: RocksDB's threads don't survive a fork.
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        starts = range(first, first + count, _CHUNK)
        chunks = [pool.submit(_chunk, start, min(_CHUNK, first + count - start), mutant, scenario) for start in starts]
        try:
            for chunk in as_completed(chunks):
                yield from chunk.result()
        finally:
            # Whoever has seen enough waits for what is under way, not for all that was asked for.
            pool.shutdown(cancel_futures=True)


def shrunk(result: Result, scenario: str = "worker") -> frozenset[str]:
    """Return kinds of faults that are enough to make the seed of *result* fail: each is left out if it fails still."""
    root = place_for_disks()
    kinds = result.kinds
    with simulated():
        for kind in sorted(kinds):
            if run(result.seed, root, kinds - {kind}, scenario=scenario).violations:
                kinds -= {kind}
    shutil.rmtree(root, ignore_errors=True)
    return kinds


def command_line(seed: int, scenario: str, only: frozenset[str] | None = None) -> str:
    """Return what shows a seed again."""
    return f"./dev simulate --scenario {scenario} --seed {seed} --trace" + (
        f" --only '{','.join(sorted(only))}'" if only is not None else ""
    )


def _one(seed: int, trace: bool, only: frozenset[str] | None, scenario: str) -> int:
    root = place_for_disks()
    with simulated():
        result = run(seed, root, only, print if trace else None, scenario)
    shutil.rmtree(root, ignore_errors=True)
    print(f"seed {seed}: {result.steps} steps, {result.seconds:.0f} simulated s, trace {result.hash:08x}")
    for violation in result.violations:
        print(f"FAILED: {violation}")
    return 1 if result.violations else 0


class Tally:
    """What came of the seeds so far."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.happened: Counter[str] = Counter()
        self.failed: list[Result] = []
        self.done = self.steps = 0
        self.simulated_s = 0.0
        self._began_s = self._shown_s = time.monotonic()
        self._cpu_s = time.process_time()

    def add(self, result: Result) -> None:
        """Count *result*; say so if it failed, and now and then how far it is."""
        self.done += 1
        self.happened += result.happened
        self.steps += result.steps
        self.simulated_s += result.seconds
        if result.violations:
            self.failed.append(result)
            line = command_line(result.seed, self.options.scenario)
            print(f"seed {result.seed} FAILED: {result.violations[0]}\n  {line}", file=sys.stderr, flush=True)
        if time.monotonic() - self._shown_s > PROGRESS_S:
            self._shown_s = time.monotonic()
            rate = self.done / (self._shown_s - self._began_s)
            line = f"{self.done}/{self.options.seeds} seeds, {rate:.1f}/s, {len(self.failed)} failed"
            print(line, file=sys.stderr, flush=True)

    def summary(self) -> dict[str, Any]:
        """Return the figures."""
        cpu_ms = (time.process_time() - self._cpu_s) * 1000 / max(1, self.done)
        return {
            "scenario": self.options.scenario,
            "first": self.options.first,
            "seeds": self.done,
            "failed": [result.seed for result in self.failed],
            "seconds": round(time.monotonic() - self._began_s, 1),
            "cpu_ms_per_seed": round(cpu_ms, 1) if self.options.jobs == 1 else None,
            "steps": self.steps,
            "simulated_hours": round(self.simulated_s / 3600, 1),
            "happened": dict(sorted(self.happened.items())),
        }


def _many(options: argparse.Namespace) -> int:
    tally = Tally(options)
    # Told to stop, it ends after the seed under way, with the figures of what was run.
    told: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _frame: told.append(number))
    for result in _in_parallel(options.first, options.seeds, options.jobs, options.mutant, options.scenario):
        tally.add(result)
        if len(tally.failed) >= options.failures or told:
            break
    missing = never_happened(tally.happened, SCENARIOS[options.scenario]) if options.complete else []
    for what in missing:
        print(f"FAILED: never happened: {what}", file=sys.stderr)
    if tally.failed and not options.mutant:
        result = tally.failed[0]
        line = command_line(result.seed, options.scenario, shrunk(result, options.scenario))
        print(f"fewer faults do: {line}", file=sys.stderr)
    summary = tally.summary()
    if options.json:
        print(json.dumps(summary))
    else:
        for what, times in summary.pop("happened").items():
            print(f"{times:>10} {what}")
        print(", ".join(f"{name} {value}" for name, value in summary.items()))
    return 1 if tally.failed or missing else 0


def main() -> int:
    """Return the exit status."""
    parser = argparse.ArgumentParser(prog="./dev simulate", description=__doc__.splitlines()[1])
    parser.add_argument(
        "--scenario", choices=sorted(SCENARIOS), default="worker", help="the worker, or the e-mail service"
    )
    parser.add_argument("--seeds", type=int, default=100, metavar="N", help="how many seeds")
    parser.add_argument("--first", type=int, default=0, metavar="S", help="the first of them")
    parser.add_argument("--seed", type=int, metavar="S", help="this seed only")
    parser.add_argument("--trace", action="store_true", help="with --seed: print what happens")
    parser.add_argument("--only", metavar="KINDS", help=f"with --seed: of its faults only these, of {', '.join(KINDS)}")
    parser.add_argument("--json", action="store_true", help="the summary as JSON")
    parser.add_argument("--jobs", type=int, default=1, metavar="J", help="processes")
    parser.add_argument("--failures", type=int, default=10, metavar="N", help="stop after so many failed seeds")
    parser.add_argument(
        "--complete", action="store_true", help="fail if a kind of fault or a point of death is missing"
    )
    parser.add_argument("--mutant", choices=sorted(MUTANTS), help="plant this bug: some seed must fail")
    options = parser.parse_args()
    if options.seed is not None:
        only = frozenset(filter(None, options.only.split(","))) if options.only is not None else None
        return _one(options.seed, options.trace, only, options.scenario)
    return _many(options)
