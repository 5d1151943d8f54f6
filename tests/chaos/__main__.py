"""``./dev chaos``: see `run`."""

import argparse, sys, tempfile, time
from pathlib import Path
from tests.chaos.run import Run
from tests.chaos.system import System, WORKERS

if __name__ == "__main__":
    p = argparse.ArgumentParser()
    p.add_argument("--orders", type=int, default=1000)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--brokers", type=int, default=1)
    p.add_argument("--keep", type=Path)
    a = p.parse_args()
    d = a.keep or Path(tempfile.mkdtemp())
    with System(d, a.brokers, WORKERS) as system:
        t = time.monotonic()
        r = Run(system, a.seed, a.orders, lambda s: print(f"{time.monotonic() - t:6.1f} {s}", flush=True)).execute()
        print(r.verdict.tally, r.verdict.wrong, r.seconds, r.seconds_checking, r.notes)
        for v in r.verdict.violations[:20]:
            print(v)
        print(r.figures.__dict__)
