"""
The simulated time, and who runs next.

A world has one event heap. Everything that happens is an event at an instant: a fiber that goes on, a heartbeat, a
marker that the broker writes. A fiber is synchronous code of the worker in a greenlet: it runs until it calls a
simulated client, which puts it to sleep for as long as the call takes. All instants come from one seeded generator,
so the same seed gives the same order.

A life is one operating system process: it can be killed (its fibers never run on, and no call of theirs has an
effect) or frozen (SIGSTOP: neither its fibers nor what its clients do by themselves goes on for a while).
"""

from __future__ import annotations

import heapq
import itertools
import zlib
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any, Final

from greenlet import getcurrent, greenlet

if TYPE_CHECKING:
    from tests.simulation.broker import Broker
    from tests.simulation.disk import Disk
    from tests.simulation.plan import Plan

EPOCH_MS: Final = 1_770_000_000_000
"""The broker's wall clock at the beginning, Unix milliseconds."""

NEVER_S: Final = float("inf")


class Killed(BaseException):
    """This code's process is dead: nothing of it runs any more."""


class SimulationError(Exception):
    """The simulation itself can't go on: no verdict about the worker."""


class Life:
    """One operating system process, from its start to its death."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.dead = False
        self.frozen_until_s = 0.0
        self.cut_until_s = 0.0
        """Until when no broker can be reached."""
        self.wall_offset_ms = 0
        self.fibers: list[Fiber] = []
        self.producer: object = None
        """Its newest one."""
        self.at_death: list[Callable[[], None]] = []
        """What the operating system does for a process that ends, such as closing its files."""

    @property
    def frozen(self) -> bool:
        """Whether nothing of it runs now."""
        return self.frozen_until_s > self.world.now_s

    @property
    def cut(self) -> bool:
        """Whether it can't reach the brokers now."""
        return self.cut_until_s > self.world.now_s

    def start(self, function: Callable[[], None], name: str) -> Fiber:
        """Run *function* as one of its threads."""
        fiber = Fiber(self, function, name)
        self.fibers.append(fiber)
        fiber.wake_in(self.world.latency_s())
        return fiber

    def kill(self) -> None:
        """End it; called from the world only, never from one of its own fibers."""
        if self.dead:
            return
        assert self.world.current is None, "a process is killed from outside"
        self.dead = True
        self.world.disk.crash(self)
        for act in self.at_death:
            act()
        for fiber in self.fibers:
            fiber.throw(Killed())


class Fiber:
    """One thread of a life."""

    __slots__ = ("done", "ended", "greenlet", "life", "name", "ticket", "woken")

    def __init__(self, life: Life, function: Callable[[], None], name: str) -> None:
        self.life = life
        self.name = name
        self.ticket = 0
        self.woken = False
        self.done = False
        self.ended: list[Callable[[], None]] = []
        self.greenlet = greenlet(lambda: self._run(function), life.world.hub)

    def _run(self, function: Callable[[], None]) -> None:
        try:
            function()
        except Killed:
            pass
        finally:
            self.done = True
        for act in self.ended:
            act()

    def wake_in(self, wait_s: float) -> None:
        """Go on after *wait_s*, unless something wakes it before."""
        world = self.life.world
        ticket = self.ticket
        world.at(world.now_s + wait_s, lambda: self._resume(ticket))

    def _resume(self, ticket: int) -> None:
        life = self.life
        if ticket != self.ticket or self.done or life.dead:
            return
        world = life.world
        if life.frozen:
            world.at(life.frozen_until_s + world.latency_s(), lambda: self._resume(ticket))
            return
        self.ticket += 1
        world.switch_to(self)

    def notify(self) -> None:
        """Wake it soon."""
        self.woken = True
        self.wake_in(self.life.world.latency_s())

    def throw(self, exc: BaseException) -> None:
        """Raise *exc* where it sleeps."""
        self.ticket += 1
        if self.greenlet and not self.done:
            self.life.world.switch_to(self, exc)
        self.done = True


class World:
    """One simulated run."""

    def __init__(self, seed: int, tracing: Callable[[str], None] | None = None) -> None:
        self.seed = seed
        self.random = Random(seed)  # noqa: S311 - it is to be repeatable.
        self.now_s = 0.0
        self.wall_shift_ms = 0
        self.hub = getcurrent()
        self.current: Fiber | None = None
        self.broker: Broker
        self.disk: Disk
        self.plan: Plan
        self.steps = 0
        self.hash = 0
        self.happened: Counter[str] = Counter()
        """How often each kind of fault, and each point, really happened."""
        self.violations: list[str] = []
        self.shutdown: list[Callable[[], None]] = []
        self.tracing = tracing is not None
        self._tracing = tracing
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    # Time.

    def now_ms(self) -> int:
        """Return the brokers' wall clock, Unix milliseconds."""
        return EPOCH_MS + self.wall_shift_ms + int(self.now_s * 1000)

    def latency_s(self) -> float:
        """Return how long something small takes: mostly a millisecond, seldom a second."""
        number = self.random.random()
        return 0.0002 + 0.003 * number if number < 0.97 else (number - 0.97) * 30.0

    def at(self, when_s: float, act: Callable[[], None]) -> None:
        """Do *act* at *when_s*."""
        heapq.heappush(self._events, (when_s, next(self._numbers), act))

    def after(self, wait_s: float, act: Callable[[], None]) -> None:
        """Do *act* in *wait_s*."""
        self.at(self.now_s + wait_s, act)

    def run(self, until_s: float, done: Callable[[], bool] | None = None) -> bool:
        """Let events happen until *until_s*, or until *done*; return whether it is done."""
        events = self._events
        while events and not self.violations:
            if events[0][0] > until_s:
                break
            when_s, _, act = heapq.heappop(events)
            self.now_s = max(self.now_s, when_s)
            self.steps += 1
            act()
            if done is not None and done():
                return True
        if not self.violations and until_s != NEVER_S:
            self.now_s = max(self.now_s, until_s)
        return done is not None and done()

    def switch_to(self, fiber: Fiber, exc: BaseException | None = None) -> None:
        """Run *fiber* until it sleeps."""
        before, self.current = self.current, fiber
        try:
            if exc is None:
                fiber.greenlet.switch()
            else:
                fiber.greenlet.throw(exc)
        finally:
            self.current = before

    # What running code calls.

    def me(self) -> Fiber:
        """Return the fiber that runs; raises `Killed` if its process is dead."""
        fiber = self.current
        if fiber is None:
            raise SimulationError("a simulated client was called from outside of any process")
        if fiber.life.dead:
            raise Killed
        return fiber

    def sleep(self, wait_s: float) -> bool:
        """Sleep; return whether it was woken by `Fiber.notify`."""
        fiber = self.me()
        fiber.woken = False
        fiber.wake_in(wait_s)
        self.hub.switch()
        if fiber.life.dead:
            raise Killed
        return fiber.woken

    def point(self, name: str) -> Life:
        """The running process is about to do *name*: it may be killed or frozen here. Return it."""
        life = self.me().life
        self.plan.at(life, name)
        if life.frozen:
            self.sleep(0.0)
        return life

    def kill_me(self) -> None:
        """Kill the running process; doesn't return."""
        life = self.me().life
        self.at(self.now_s, life.kill)
        self.hub.switch()
        raise Killed

    # What is said.

    def trace(self, what: str) -> None:
        """Take *what* into the trace, and its hash."""
        line = f"{self.now_s:.4f} {what}"
        self.hash = zlib.crc32(line.encode(), self.hash)
        if self._tracing is not None:
            self._tracing(line)

    def note(self, what: str) -> None:
        """Show *what* beside the trace; it is made only if somebody looks."""
        if self._tracing is not None:
            self._tracing(f"{self.now_s:.4f} {what}")

    def violation(self, what: str) -> None:
        """A promise was broken."""
        self.trace(f"VIOLATION {what}")
        self.violations.append(what)

    def happens(self, what: str) -> None:
        """Count *what*."""
        self.happened[what] += 1

    def close(self) -> None:
        """Let go of everything."""
        for act in self.shutdown:
            act()


_worlds: list[World] = []


def the_world() -> World:
    """Return the world that runs now."""
    if not _worlds:
        raise SimulationError("no world runs")
    return _worlds[-1]


def enter(world: World) -> None:
    """Make *world* the one that simulated clients belong to."""
    _worlds.append(world)


def leave() -> None:
    """End the newest world."""
    _worlds.pop()


def unused(*_: Any) -> None:
    """Take anything and do nothing."""
