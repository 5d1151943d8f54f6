"""
Whether the way of a record has become slower: what its steps cost beside a library that stays as it is.

    python -m bench guard [--show]

Each step's CPU time is a part of, or so many times, what the official avro package takes to decode the same pair of
records (fastavro, where ours is compiled: both are then C). They are measured in turns in one process, and the least
of many rounds counts, which neighbours and clock rates hardly change. A step that takes more than its bar fails: make
it quicker again, or raise the bar in the commit that says what was bought for it.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from typing import Final

from bench.codec import codecs, rows
from bench.process import records
from schemas.catalog import Catalog
from schemas.codec import Codec
from streams.batch import Batch
from streams.cli.roles import collect_rarely
from streams.processing.process_manager import ProcessManager
from tools import native
from topology.policy import NEVER_ASK, Policy

ROUNDS: Final = 80
RUN_S: Final = 0.02
PAIRS: Final = 500
NOW_MS: Final = 1_767_700_000_000
SLACK: Final = 1.25
"""A bar is this many times what was measured when it was set."""

BASELINE: Final = {False: "pair by avro", True: "pair by fastavro"}
"""By whether ours is compiled."""

DECODE: Final = "pair to messages (Codec.decode)"
ENCODE: Final = "SendEmail spliced (Codec.encode)"
NEW_ROW: Final = "row of a new process, 2 events: encode"
READ_ROW: Final = "row of a new process: decode"
JOIN: Final = "join: both halves decoded, decided, rows and e-mail encoded"
IN_PYTHON: Final = "the same without the kernel"

BARS: Final[dict[bool, dict[str, float]]] = {
    False: {DECODE: 0.080, ENCODE: 0.013, NEW_ROW: 0.036, READ_ROW: 0.035, JOIN: 0.30},
    True: {DECODE: 0.205, ENCODE: 0.031, NEW_ROW: 0.165, READ_ROW: 0.157, JOIN: 0.34, IN_PYTHON: 1.05},
}


def joins(natively: bool = True) -> Callable[[], object]:
    """Return what decides `PAIRS` joins, without a store; *natively*: by the kernel, where it is compiled."""
    codec = Codec(Catalog.from_files())
    decide = ProcessManager(codec, lambda _: None, Policy(ask_after_ms=NEVER_ASK), 1, natively=natively)
    made = list(records(codec, PAIRS, PAIRS))

    def run() -> None:
        table: dict[bytes, bytes | None] = {}

        def get_many(keys: Sequence[bytes]) -> list[bytes | None]:
            return [table.get(key) for key in keys]

        for half in (made[:PAIRS], made[PAIRS:]):
            batch = Batch(0, half, NOW_MS, get_many)
            decide(batch)
            table |= {change.key: change.new for change in batch.changes}
        assert len(batch.outputs) == PAIRS

    return run


def costs(calls: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Return the least CPU seconds that each call took, measured in turns."""
    least = dict.fromkeys(calls, float("inf"))
    times = {name: max(1, int(RUN_S / _seconds(call, 1))) for name, call in calls.items()}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            least[name] = min(least[name], _seconds(call, times[name]) / times[name])
    return least


def ratios(least: dict[str, float], compiled: bool) -> dict[str, float]:
    """Return what each step with a bar costs beside the baseline."""
    return {name: least[name] / least[BASELINE[compiled]] for name in BARS[compiled]}


def _seconds(call: Callable[[], object], times: int) -> float:
    began_s = time.thread_time()
    for _ in range(times):
        call()
    return max(time.thread_time() - began_s, 1e-9)


def main() -> None:
    """
    Measure, and compare with the bars.

    Raises:
        SystemExit: a step takes more than its bar.
    """
    parser = argparse.ArgumentParser(prog="bench guard", description=__doc__)
    parser.add_argument("--show", action="store_true", help="only show what is measured, and the bar that it would be")
    show = parser.parse_args().show
    compiled = native.in_use()
    collect_rarely()
    known = codecs() | rows()
    calls = {name: known[name] for name in (BASELINE[compiled], DECODE, ENCODE, NEW_ROW, READ_ROW)}
    calls |= {name: joins(natively=name == JOIN) for name in (JOIN, IN_PYTHON) if name in BARS[compiled]}
    least = costs(calls)
    for name in (JOIN, IN_PYTHON):
        if name in least:
            least[name] /= PAIRS
    told = ratios(least, compiled)
    baseline = BASELINE[compiled]
    print(f"{'compiled' if compiled else 'in Python'}; {baseline}: {least[baseline] * 1e6:.2f} µs of CPU")
    for name, ratio in told.items():
        print(f"{ratio:7.3f}  {f'would be {ratio * SLACK:.3f}' if show else f'bar {BARS[compiled][name]:.3f}'}  {name}")
    if not show and (slow := [name for name, ratio in told.items() if ratio > BARS[compiled][name]]):
        sys.exit(f"slower than the bars of bench/guard.py: {'; '.join(slow)}")


if __name__ == "__main__":
    main()
