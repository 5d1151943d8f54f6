import argparse, tempfile, time
from pathlib import Path
from tests.chaos.run import Run
from tests.chaos.faults import Waits
from tests.chaos.schedule import schedule, Fault
from tests.chaos.system import System, WORKERS

if __name__ == "__main__":
    p = argparse.ArgumentParser()
    p.add_argument("--orders", type=int, default=1000)
    p.add_argument("--kills", type=int, default=0)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--brokers", type=int, default=1)
    p.add_argument("--keep", type=Path)
    p.add_argument("--only", default="")
    a = p.parse_args()
    d = a.keep or Path(tempfile.mkdtemp())
    faults = schedule(a.seed, a.kills, a.brokers)
    if a.only:
        faults = [f for f in faults if f.name in a.only.split(",")]
    print([f.name for f in faults])
    with System(d, a.brokers, WORKERS) as system:
        t = time.monotonic()
        last = 0

        def show(s):
            global last
            if not isinstance(s, str) or time.monotonic() - last > 5:
                last = time.monotonic()
                print(f"{time.monotonic() - t:6.1f} {s}", flush=True)

        r = Run(system, a.seed, a.orders, faults, Waits(), show).execute()
        print(r.verdict.tally, r.verdict.wrong, r.seconds, r.seconds_checking, r.notes)
        for v in r.verdict.violations[:20]:
            print(v)
        print(r.figures.__dict__)
