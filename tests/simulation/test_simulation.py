"""The simulator: the same seed is the same run, everything that can go wrong does, and nothing is lost or doubled."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.simulation.command import results, shrunk
from tests.simulation.disk import place_for_disks
from tests.simulation.mutants import MUTANTS, OF_MAIL
from tests.simulation.plan import KINDS
from tests.simulation.run import SCENARIOS, run
from tests.simulation.seams import simulated

ROOT = Path(__file__).parents[2]
SEEDS = 100

SEEDS_OF_MUTANTS = {
    "store written before the commit": 30,
    "restore before offsets are stable": 1_000,
    "group metadata of the commit": 1_500,
    "checkpoint apart from its rows": 100,
    "deadlines without the gate": 30,
    "transactional id by chance": 100,
    "no seek back after an abort": 100,
    "unknown outcome taken for an abort": 500,
    "restore to the stable end only": 1_500,
    "offset that nobody told taken for one": 300,
    "store behind its changelog goes on": 100,
    "positions without the group's fence": 100,
    "half owned partitions run": 300,
    "every other e-mail forgotten": 10,
    "lost answers to heartbeats unnoticed": 1_000,
    "mail without a note": 100,
    "another machine's mail taken for unsent": 300,
    "claim moves the position": 100,
}
"""In how many seeds each planted bug must be found: several times as many as it took."""

QUICK = (
    "store written before the commit",
    "deadlines without the gate",
    "no seek back after an abort",
    "mail without a note",
    "every other e-mail forgotten",
)


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    """Where the machines' disks are."""
    root = place_for_disks()
    yield root
    shutil.rmtree(root)


def test_no_seed_breaks_a_promise_and_every_kind_of_fault_happens() -> None:
    """Whatever goes wrong, each record is decided once; and each kind of fault really happened."""
    happened: Counter[str] = Counter()
    for result in results(0, SEEDS):
        assert [] == result.violations, f"./dev simulate --seed {result.seed} --trace"
        happened += result.happened
    without = SCENARIOS["worker"].without
    assert [] == [kind for kind in KINDS if kind not in without and not happened[kind]]


def test_no_mail_is_missing_and_none_comes_twice_without_a_counted_doubt() -> None:
    """The e-mail service at every step of its ledger: what the mail server took is what is said, or in doubt."""
    happened: Counter[str] = Counter()
    for result in results(0, SEEDS, scenario="mail"):
        assert [] == result.violations, f"./dev simulate --scenario mail --seed {result.seed} --trace"
        happened += result.happened
    assert happened["mails taken"] > happened["mails taken twice"] > 0
    assert happened["mail in doubt, resend"] > 0
    assert happened["notes lost"] > 0


def test_world_without_faults_drains_soon(root: Path) -> None:
    """With nothing going wrong each order ends within its own waits."""
    with simulated():
        result = run(1, root, only=frozenset())
    assert [] == result.violations
    assert result.seconds < 300


def test_same_seed_gives_the_same_trace(root: Path) -> None:
    """A failing seed can be looked at: it fails again, in the same way."""
    seeds = range(3, 15)
    with simulated():
        first = [run(seed, root).hash for seed in seeds]
        second = [run(seed, root).hash for seed in seeds]
    assert first == second


def test_trace_hangs_on_nothing_but_the_seed(root: Path) -> None:
    """Another process, with other hashes of text, runs the same."""
    with simulated():
        here = [f"trace {run(seed, root).hash:08x}" for seed in (4, 8)]
    there = [
        subprocess.run(
            [sys.executable, "-m", "tests.simulation", "--seed", seed],
            cwd=ROOT,
            env=os.environ | {"PYTHONHASHSEED": hashes},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout.strip()[-14:]
        for seed, hashes in (("4", "1"), ("8", "2"))
    ]
    assert here == there


def test_seeds_in_two_processes_are_the_same_seeds() -> None:
    """`--jobs` changes nothing but the time."""

    def summary(*options: str) -> dict[str, Any]:
        command = [sys.executable, "-m", "tests.simulation", "--seeds", "30", "--json", *options]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=True)
        found: dict[str, Any] = json.loads(ended.stdout)
        return {name: found[name] for name in ("seeds", "failed", "steps", "happened")}

    assert summary() == summary("--jobs", "2")


def test_run_that_has_seen_enough_ends() -> None:
    """Told to stop, with more seeds before it than a day is long: what is under way is counted, the rest left."""
    command = [sys.executable, "-m", "tests.simulation", "--seeds", "1000000", "--json", "--jobs", "2"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert "0 failed" in process.stderr.readline()
        process.terminate()
        out, _ = process.communicate(timeout=100)
    assert 0 < json.loads(out)["seeds"] < 1_000
    assert 0 == process.returncode


def found(mutant: str) -> int:
    """Return how many seeds it takes until one fails with *mutant* planted."""
    scenario = "mail" if mutant in OF_MAIL else "worker"
    for count, result in enumerate(results(0, SEEDS_OF_MUTANTS[mutant], mutant, scenario), 1):
        if result.violations:
            return count
    pytest.fail(f"no seed of {SEEDS_OF_MUTANTS[mutant]} finds: {mutant}")


@pytest.mark.parametrize("mutant", QUICK)
def test_planted_bug_is_found(mutant: str) -> None:
    """Bugs that show soon: some seed fails."""
    assert found(mutant)


@pytest.mark.soak
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("mutant", MUTANTS)
def test_every_planted_bug_is_found(mutant: str) -> None:
    """Some seed fails with each of the known bugs."""
    assert found(mutant)


def test_failing_seed_is_shrunk_to_the_faults_that_it_needs() -> None:
    """Kinds of faults that a failure doesn't hang on are left out."""
    with MUTANTS["deadlines without the gate"]():
        failing = next(result for result in results(0, 30) if result.violations and len(result.kinds) > 3)
        assert len(shrunk(failing)) < len(failing.kinds)
