"""What goes wrong at instants of its own, whatever the workers do just then."""

from __future__ import annotations

from typing import Final

from tests.simulation.kernel import World
from tests.simulation.log import Place
from tests.simulation.worker import PARTITIONS, Machine
from topology.policy import DAY_MS

AGE_MS: Final = 40 * DAY_MS
"""Longer than anything is remembered, and than tombstones are kept."""


class Trouble:
    """The instants of one seed; all lie before *until_s*, but for what lasts."""

    def __init__(self, world: World, machines: list[Machine], until_s: float, changelog: str) -> None:
        self.world = world
        self.machines = machines
        self.changelog = changelog
        self.until_s = until_s
        """When the last of it is over."""
        plan, within = world.plan, (0.5, until_s)
        for _ in range(3):
            plan.sometime("clock jump", 0.5, within, self._jump)
            plan.sometime("compaction", 0.5, within, self._compact)
            plan.sometime("consumer fatal", 0.4, within, self._consumer_fatal)
            plan.sometime("scale", 0.5, within, self._scale)
            plan.sometime("registry away", 0.6, within, self._registry_away)
        for _ in range(2):
            plan.sometime("scatter", 0.6, within, self._scatter)
        plan.sometime("twin", 0.8, within, self._twin)
        plan.sometime("downtime", 0.5, within, self._downtime)
        if plan.on("slow markers"):
            world.broker.slow_markers = 0.4

    def heal(self) -> None:
        """End all of it."""
        world = self.world
        world.broker.slow_markers = 0.0
        world.broker.group.scattering = False
        world.broker.group.rebalance()
        world.plan.registry_away_until_s = 0.0
        for machine in self.machines:
            machine.wanted, machine.down_until_s = True, 0.0
            machine.start()

    def age(self) -> None:
        """Let weeks go by: on all clocks, while nothing happens."""
        self.world.happens("ages")
        self.world.trace("weeks go by")
        self.world.wall_shift_ms += AGE_MS

    def _some(self) -> Machine:
        return self.world.random.choice(self.machines)

    def _jump(self) -> None:
        random = self.world.random
        machine = self._some()
        by_ms = random.choice((-600_000, -90_000, -2_000, 2_000, 90_000, 600_000))
        self.world.trace(f"{machine.instance}: clock jumps by {by_ms} ms")
        machine.jump(by_ms)

    def _compact(self) -> None:
        for number in range(PARTITIONS):
            gone = self.world.broker.logs[Place(self.changelog, number)].compact(drop_tombstones=False)
            self.world.trace(f"broker: changelog {number} compacted, {gone} gone")

    def _consumer_fatal(self) -> None:
        worker = self._some().worker
        if worker is not None and not worker.dead and worker.session is not None and not worker.session.closed:
            worker.session.member._consumer.fail()  # type: ignore[attr-defined]

    def _scale(self) -> None:
        machine = self._some()
        machine.wanted = False
        self.world.trace(f"{machine.instance}: is stopped")
        if machine.worker is not None:
            machine.worker.stop()

        def back() -> None:
            machine.wanted = True
            machine.start()

        self.world.after(self.world.random.random() * 20.0, back)

    def _registry_away(self) -> None:
        self.world.plan.registry_away_until_s = self.world.now_s + self.world.random.random() * 20.0

    def _scatter(self) -> None:
        group = self.world.broker.group
        group.scattering = True
        group.rebalance()

        def gather() -> None:
            group.scattering = False
            group.rebalance()

        self.world.after(self.world.random.random() * 20.0, gather)

    def _twin(self) -> None:
        random = self.world.random
        machine = self._some()
        if machine.worker is not None and not machine.worker.dead:
            for_s = 1.0 + random.random() * 60.0
            self.world.trace(f"{machine.worker.name}: frozen for {for_s:.1f} s, and a twin starts")
            machine.worker.frozen_until_s = self.world.now_s + for_s
            machine.twin(random.random() * 80.0)

    def _downtime(self) -> None:
        until_s = self.world.now_s + 20.0 + self.world.random.random() * 200.0
        self.until_s = max(self.until_s, until_s + 10.0)
        self.world.trace(f"all machines are down until {until_s:.0f} s")
        for machine in self.machines:
            machine.down_until_s = until_s
            if machine.worker is not None:
                machine.worker.kill()
