"""``./dev simulate``: seeds through the simulator."""
from __future__ import annotations
import sys, time
from tests.simulation.disk import place_for_disks
from tests.simulation.run import run
from tests.simulation.seams import simulated

root = place_for_disks()
with simulated():
    if len(sys.argv) > 2:
        r = run(int(sys.argv[1]), root, frozenset() if sys.argv[2]=="none" else None, print); print(r)
    else:
        from collections import Counter
        total=Counter(); t=time.process_time(); bad=0
        n=int(sys.argv[1])
        for s in range(n):
            r=run(s,root,None); total+=r.happened
            if r.violations: bad+=1; print(s, r.violations[0][:400])
        print(f"{(time.process_time()-t)/n*1e3:.1f} ms a seed, bad {bad}")
        for k,v in sorted(total.items()): print(v,k)
