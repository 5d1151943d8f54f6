"""
``./dev bench``: the comparison with other stream processors; ``./dev bench NAME …``: one of the single benchmarks.
"""

from __future__ import annotations

import runpy
import sys

NAMES = ("codec", "guard", "join", "poison", "process", "restore", "store", "takeover")

if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] in NAMES:
        del sys.argv[0]
        runpy.run_module(f"bench.{sys.argv[0]}", run_name="__main__")
    elif len(sys.argv) > 1 and not sys.argv[1].startswith("-"):
        print(f"usage: ./dev bench [--help] | {'|'.join(NAMES)} …")
        sys.exit(2)
    else:
        runpy.run_module("bench.compare", run_name="__main__")
