"""
Explore the shipped core: ``./dev model WORLD [OPTION …]``.

Of the world ``anything`` all states of one command take seconds and those of two minutes. The world ``topics`` is
larger: bound its depth, or what is doubled. Without bounds it ends with the states, or with the memory.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from typing import Final

from tests.model import world
from tests.model.anything import Anything
from tests.model.counterexample import as_pytest, replay
from tests.model.explorer import STATES_MAX, Explored, Found, Space, explore
from tests.model.over_topics import OverTopics
from tests.model.rows import Rows
from topology.process import decide
from topology.transitions import TABLE

WAITS: Final = {"normal": world.POLICY, "short": world.SHORT}


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser("./dev model", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "world",
        choices=["anything", "topics"],
        help="anything: every message at any time, nothing bounded\n"
        "topics: participants that follow the protocol, over Kafka's topics",
    )
    parser.add_argument("--commands", type=int, default=1, help="of one order, up to 3 (default 1)")
    parser.add_argument("--versions", type=int, default=2, help="of its details (default 2)")
    parser.add_argument("--depth", type=int, help="moves, at most (default: all states)")
    parser.add_argument("--states", type=int, default=STATES_MAX, help=f"at most (default {STATES_MAX:,})")
    parser.add_argument("--waits", choices=WAITS, default="normal", help="in ticks, see tests/model/world.py")
    parser.add_argument("--ask", choices=[*world.ASKS, "any"], default="at once", help="any: it changes (anything)")
    parser.add_argument("--room", type=int, default=100, help="for so many commands of the order (default 100)")
    parser.add_argument("--duplicates", type=int, default=0, help="topics: messages said again (default 0)")
    parser.add_argument(
        "--crashes", type=int, default=0, help="topics: of the worker's memory of ends; of decisions each crashes"
    )
    parser.add_argument("--late", type=int, default=0, help="topics: ticks by which a deadline may be late (default 0)")
    options = parser.parse_args(arguments)
    if not 1 <= options.commands <= len(world.COMMAND_IDS):
        parser.error(f"--commands: 1 to {len(world.COMMAND_IDS)}")
    if options.ask == "any" and options.world == "topics":
        parser.error("--ask any: of the world anything only")
    return options


def build(options: argparse.Namespace) -> tuple[Space, Rows]:
    """Return the space to explore, and its rows."""
    policy = WAITS[options.waits]._replace(processes_max=options.room)
    asks = world.ASKS.values() if options.ask == "any" else [world.ASKS[options.ask]]
    policies = [policy._replace(ask_after_ms=ask_ms) for ask_ms in asks]
    versions = range(1, options.versions + 1)
    if options.world == "anything":
        rows = Rows(decide, policies)
        return Anything(rows, options.commands, versions), rows
    rows = Rows(decide, policies, overdue_ms_max=options.late)
    bounds = {name: getattr(options, name) for name in ("duplicates", "crashes", "late")}
    return OverTopics(rows, options.commands, versions, **bounds), rows


def main(arguments: Sequence[str]) -> int:
    """Explore; return 1 if a promise is broken."""
    options = parse(arguments)
    space, rows = build(options)
    began_s = time.process_time()

    def report(explored: Explored) -> None:
        states, transitions, depth, _ = explored
        cpu_s = time.process_time() - began_s
        print(
            f"depth {depth}: {states:,} states, {transitions:,} transitions, {len(rows.rows):,} rows, "
            f"{rows.decisions:,} decisions, {cpu_s:,.0f} s",
            flush=True,
        )

    try:
        explored = explore(space, options.depth, options.states, report)
    except Found as exc:
        if replay(decide, rows.policies[0], exc.path) is None:
            print("\nNo decision is to blame: it is the gate's, see tests/streams/test_gate.py, or the model errs.")
        print(f"\n{exc.violation}\n", *(f"    {move.says}" for move in exc.path), sep="\n")
        print("\n", as_pytest(exc, rows.policies[0]), sep="")
        return 1
    return conclude(options, rows, explored)


def conclude(options: argparse.Namespace, rows: Rows, explored: Explored) -> int:
    """Say how far the exploration came; return 1 if it should have taken every branch of the table, and didn't."""
    how = "all of them" if explored.complete else f"bounded at {explored.depth} moves or {options.states:,} states"
    print(f"\nNo promise is broken in {explored.states:,} states ({how}), {explored.transitions:,} transitions.")
    left = [
        f"{message.__name__} × {step.title}: {branch.says}"
        for message, cells in TABLE.items()
        for step, cell in cells.items()
        for branch in cell
        if branch not in rows.taken
    ]
    print(f"Branches of the table that were not taken: {len(left)}")
    if explored.complete:
        print(*left, sep="\n")
    return int(bool(left) and explored.complete and options.world == "anything" and options.ask == "any")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
