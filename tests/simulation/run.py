"""One seed: a world, its faults, its healing, and the verdict."""

from __future__ import annotations

import shutil
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from tests.simulation import mail, outcomes
from tests.simulation.broker import Broker
from tests.simulation.checker import Checker
from tests.simulation.disk import Disk
from tests.simulation.kernel import World, enter, leave
from tests.simulation.participants import Outside
from tests.simulation.plan import KINDS, MAIL_POINTS, POINTS, Plan
from tests.simulation.trouble import Trouble
from tests.simulation.worker import PARTITIONS, Machine, Worker
from topology.topics import TOPICS

FAULTS_S: Final = 60.0
"""How long things go wrong."""

DRAIN_S: Final = 3_000.0
"""In which everything must have ended after the last fault."""

STEPS_MAX: Final = 400_000


class Scenario(NamedTuple):
    """Who works, who asks, and who judges."""

    worker: type[Worker]
    checker: type[Checker]
    outside: type[Outside]
    check: Callable[[World, Checker, Outside], None]
    points: tuple[str, ...]
    without: frozenset[str] = frozenset()


SCENARIOS: Final = {
    "worker": Scenario(Worker, Checker, Outside, outcomes.check, POINTS, frozenset({"notes lost"})),
    "mail": Scenario(
        mail.Mailer,
        mail.MailChecker,
        mail.Shop,
        mail.check,
        (*POINTS, *MAIL_POINTS),
        frozenset({"ages", "poison", "registry away"}),
    ),
}
"""By name; *without*: kinds of faults that don't concern it."""


def never_happened(happened: Mapping[str, int], scenario: Scenario) -> list[str]:
    """Return the faults that seeds so far haven't shown: kinds, and points at which nobody was killed or frozen."""
    kinds = [kind for kind in KINDS if kind not in scenario.without]
    wanted = [*kinds, *(f"{kind} at {point}" for kind in ("kill", "freeze") for point in scenario.points)]
    return [what for what in wanted if not happened.get(what)]


class Result(NamedTuple):
    """What became of one seed."""

    seed: int
    violations: list[str]
    happened: Counter[str]
    hash: int
    steps: int
    seconds: float
    kinds: frozenset[str]


def run(
    seed: int,
    root: Path,
    only: frozenset[str] | None = None,
    tracing: Callable[[str], None] | None = None,
    scenario: str = "worker",
) -> Result:
    """Run *seed*, with its disks under *root*."""
    world = World(seed, tracing)
    enter(world)
    try:
        what = SCENARIOS[scenario]
        world.plan = Plan(world, (frozenset(KINDS) if only is None else only) - what.without, what.points)
        try:
            _run(world, root / str(seed), what)
        except Exception:  # noqa: BLE001 - the seed has failed, whoever is to blame.
            world.violation(f"the simulation failed: {traceback.format_exc()}")
        return Result(
            seed, world.violations, world.happened, world.hash, world.steps, world.now_s, frozenset(world.plan.kinds)
        )
    finally:
        world.close()
        leave()
        shutil.rmtree(root / str(seed), ignore_errors=True)


def _run(world: World, root: Path, scenario: Scenario) -> None:
    random, plan = world.random, world.plan
    topics = [topic.name for topic in TOPICS]
    world.broker = Broker(world, topics, list(scenario.worker.inputs), PARTITIONS, random.choice((8.0, 20.0, 45.0)))
    world.disk = Disk(world, root)
    plan.checker = checker = scenario.checker(world)
    outside = scenario.outside(world, random.randrange(4, 13), FAULTS_S * random.random())
    machines = [Machine(world, number, checker, scenario.worker) for number in range(random.choice((1, 2, 2, 3)))]
    for machine in machines:
        world.after(random.random() * random.choice((0.01, 10.0)), machine.start)
    world.trace(f"seed {world.seed}: {len(machines)} machines, {len(outside.orders)} orders, {sorted(plan.kinds)}")
    trouble = Trouble(world, machines, FAULTS_S, checker.changelog)
    world.run(FAULTS_S)
    world.run(trouble.until_s)
    plan.heal()
    world.trace("healed")
    for worker in checker.workers:
        worker.frozen_until_s = min(worker.frozen_until_s, world.now_s)
        worker.cut_until_s = min(worker.cut_until_s, world.now_s)
    trouble.heal()
    _drain(world, checker, outside)
    if not world.violations:
        checker.at_end()
        scenario.check(world, checker, outside)
    if not world.violations and "ages" in plan.kinds:
        trouble.age()
        _drain(world, checker, outside)
        if not world.violations:
            checker.at_end()
        if any(checker.rows):
            world.violation("weeks later rows are left")
    for worker in checker.workers:
        worker.kill()


def _drain(world: World, checker: Checker, outside: Outside) -> None:
    until_s = world.now_s + DRAIN_S
    while not world.violations:
        world.run(world.now_s + 2.0)
        if not outside.busy and checker.quiet:
            world.trace("drained")
            return
        if world.now_s > until_s or world.steps > STEPS_MAX:
            world.violation(f"not drained in {DRAIN_S:.0f} s: {checker.left}")
