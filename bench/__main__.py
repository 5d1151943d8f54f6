"""``python -m bench NAME …``: run one of the benchmarks in this folder."""

from __future__ import annotations

import runpy
import sys

NAMES = ("codec", "join", "poison", "process", "restore", "store", "takeover")

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in NAMES:
        print(f"usage: ./dev bench {'|'.join(NAMES)} …")
        sys.exit(0 if sys.argv[1:] in (["-h"], ["--help"]) else 2)
    del sys.argv[0]
    runpy.run_module(f"bench.{sys.argv[0]}", run_name="__main__")
