"""
Rejoinder beside Kafka Streams, Quix Streams and plain Faust: the same input, the same output, in turns, in one run.

    ./dev bench [--quick] [--only NAME ...] [--rounds 3] [--json] [--report] [--save FILE]

Needs nothing but this checkout: it starts a broker of its own and fetches its peers, pinned by hashes. Every record
that comes out of every trial is compared with what it must be. The sections:

    joins       joins a second and a CPU-second, memory: 1 and 2 workers against Kafka Streams
    peers       the same against Quix Streams (exactly once) and plain Faust (at least once)
    latency     from a command's production to its e-mail's visibility, at a quarter of the full rate
    waiting     what a join costs while 10,000,000 orders wait in the table
    restore     how fast a lost table comes back
    round-trip  the whole process, asked at once and followed, beside the plain join
    scaling     what more workers cost at a fixed rate
    tuning      only when asked for: is Kafka Streams' tuned configuration its best on this machine?
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from bench import report
from bench.machine import compile_bytecode, machine, versions
from bench.sections.joins import joins, peers, tuning
from bench.sections.latency import latency, scaling
from bench.sections.restore import restore
from bench.sections.round_trip import round_trip
from bench.sections.waiting import waiting
from bench.stage import QUICK, TINY, Section, Sizes, Stage, say
from streams.local.kafka import LocalKafka

SECTIONS: Final[dict[str, Section]] = {
    "joins": joins,
    "peers": peers,
    "latency": latency,
    "waiting": waiting,
    "restore": restore,
    "round-trip": round_trip,
    "scaling": scaling,
    "tuning": tuning,
}
USUAL: Final = tuple(name for name in SECTIONS if name != "tuning")
START_S: Final = 180.0
BROKER: Final = {"broker.session.timeout.ms": "30000"}
"""A broker that is busy isn't one that is gone: it must not lose its leaderships within a trial."""
_DOCS: Final = Path(__file__).parent.parent / "docs"


def run(names: Sequence[str], sizes: Sizes) -> dict[str, Any]:
    """Run the sections with these names on a broker of their own; return the results as JSON has them."""
    about = {"date": time.strftime("%Y-%m-%d", time.gmtime()), "machine": machine(), "versions": versions()}
    sections = []
    with tempfile.TemporaryDirectory(prefix="rejoinder-bench-") as directory:
        kafka = LocalKafka(Path(directory) / "kafka", properties=BROKER)
        kafka.start(START_S)
        try:
            stage = Stage(kafka, Path(directory), sizes)
            for name in names:
                say(f"== {name}")
                outcome = SECTIONS[name](stage)
                stage.measured[name] = outcome
                sections.append(report.as_json(name, outcome))
        finally:
            kafka.stop()
    return {**about, "sizes": dataclasses.asdict(sizes), "sections": sections}


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the options that *arguments* are."""
    parser = argparse.ArgumentParser(
        prog="./dev bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="some minutes; coarse figures")
    size.add_argument("--tiny", action="store_true", help="does it work at all? the figures mean nothing")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, metavar="NAME", help=f"of {', '.join(SECTIONS)}")
    parser.add_argument("--rounds", type=int, help="turns of each contender")
    parser.add_argument("--pairs", type=int, help="of the section joins")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    parser.add_argument("--save", type=Path, metavar="FILE", help="write the results as JSON to a file")
    parser.add_argument(
        "--load",
        type=Path,
        metavar="FILE",
        nargs="+",
        help="run nothing, take the results of files; of a section that several have, the last",
    )
    parser.add_argument("--report", action="store_true", help="write them into docs/performance.md, with a plot")
    return parser.parse_args(arguments)


def sizes_of(options: argparse.Namespace) -> Sizes:
    """Return how large everything is to be."""
    sizes = QUICK if options.quick else TINY if options.tiny else Sizes()
    given = {"rounds": options.rounds, "far_pairs": options.pairs}
    return dataclasses.replace(sizes, **{name: value for name, value in given.items() if value is not None})


def merged(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the results of several runs as those of one, of the last one's machine."""
    sections = {section["name"]: section for run in runs for section in run["sections"]}
    return runs[-1] | {"sections": [sections[name] for name in SECTIONS if name in sections]}


def main(arguments: Sequence[str]) -> int:
    """Run, and print or write what was found; return 1 if a bar wasn't reached, unless the figures mean nothing."""
    options = parse(arguments)
    if options.load:
        results = merged([json.loads(path.read_text(encoding="utf-8")) for path in options.load])
    else:
        if not options.tiny:
            compile_bytecode()
        results = run(options.only or USUAL, sizes_of(options))
    if options.save:
        options.save.write_text(json.dumps(results, indent=1), encoding="utf-8")
    if options.report:
        report.write(results, _DOCS)
    print(json.dumps(results) if options.json else report.markdown(results))
    return int(
        not options.tiny and not all(bar["reached"] for section in results["sections"] for bar in section["bars"])
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
