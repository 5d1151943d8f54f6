"""
What goes wrong, and when: all of it by the seed.

Each seed has some kinds of faults on and the others off: many different mixtures find more than all at once. A fault
happens at a point, which is a call of a client or a store, or at an instant. Points are named, and some faults are
aimed at a name: rare points are hit as surely as frequent ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from tests.simulation.kernel import Life, World
from tests.simulation.log import Txn

if TYPE_CHECKING:
    from tests.simulation.checker import Checker

AT_POINTS: Final = ("kill", "freeze", "cut")
ERRORS: Final = ("retriable", "abortable", "fatal", "lost", "full")
DISK: Final = ("disk refuses", "disk corrupt")
AT_INSTANTS: Final = (
    "clock jump",
    "downtime",
    "scale",
    "scatter",
    "twin",
    "slow markers",
    "consumer fatal",
    "compaction",
    "registry away",
    "store damage",
    "flush",
    "outside transactions",
    "poison",
    "duplicates",
    "late answers",
    "ages",
    "rejoin",
    "deaf",
    "zombie",
    "notes lost",
)
KINDS: Final = (*AT_POINTS, *ERRORS, *DISK, *AT_INSTANTS)

POINTS: Final = (
    "admin.describe",
    "admin.offsets",
    "consumer.assign",
    "consumer.close",
    "consumer.close, leave",
    "consumer.committed",
    "consumer.committed, done",
    "consumer.consume",
    "consumer.metadata",
    "consumer.poll",
    "consumer.resume",
    "consumer.seek",
    "consumer.unassign",
    "producer.abort",
    "producer.abort, done",
    "producer.append",
    "producer.begin",
    "producer.commit",
    "producer.commit, done",
    "producer.commit, end",
    "producer.init",
    "producer.init, done",
    "producer.poll",
    "producer.positions",
    "producer.positions, done",
    "producer.positions, group",
    "store.close",
    "store.flush",
    "store.get",
    "store.open",
    "store.remove",
    "store.remove, half",
    "store.write",
    "store.write, done",
)
"""Every point at which a process may be killed or frozen."""

_RARE: Final = (
    "consumer.close, leave",
    "consumer.seek",
    "producer.abort",
    "producer.abort, done",
    "producer.poll",
    "store.remove",
    "store.remove, half",
)
"""Points that most seeds never come to: aimed at more often."""

MAIL_POINTS: Final = ("smtp.begin", "smtp.dot", "smtp.answer", "smtp.answered")
"""Those of the e-mail service besides."""

_DECIDED: Final = (
    "producer.append",
    "producer.begin",
    "producer.commit",
    "producer.commit, end",
    "producer.positions",
    "producer.positions, done",
    "producer.positions, group",
    "store.get",
)
"""Points between the decision on a batch and the end of its transaction."""

_DISK_ERRORS: Final = {
    "disk refuses": "IO error: No space left on device: While appending to file: 000123.sst",
    "disk corrupt": "Corruption: block checksum mismatch: stored = 1, computed = 2",
}
_DEAF: Final = 0.2
_RETRIABLE_ONLY: Final = frozenset({"consumer.committed", "admin.answer", "producer.init"})


class Plan:
    """The faults of one seed; *only*: the kinds that may happen, all by default."""

    def __init__(self, world: World, only: frozenset[str] | None = None, points: Sequence[str] = POINTS) -> None:
        self.world = world
        random = world.random
        share = random.choice((0.0, 0.2, 0.4, 0.7, 1.0))
        on = {kind for kind in KINDS if random.random() < share}
        if "zombie" in on and random.random() < 0.5:
            on.add("rejoin")
        self.kinds = on if only is None else on & only
        self.active = True
        self.checker: Checker
        self.tombstones_kept_ms = 7 * 86_400_000
        self.freezes_s = (0.05, 2.0, 20.0, 70.0)
        self.registry_away_until_s = 0.0
        self._members = 0
        self._at_points = [kind for kind in AT_POINTS if kind in self.kinds]
        self._every = random.choice((200, 600, 2_000, 6_000))
        self._left = self._next()
        self._error_rate = random.choice((0.002, 0.01, 0.05))
        self._flush_rate = random.choice((0.1, 0.5)) if "flush" in self.kinds else 0.0
        self._zombies = {random.choice(_DECIDED): random.choice((1, 2, 4, 8))} if "zombie" in self.kinds else {}
        self._aimed: dict[str, int] = {}
        for _ in range(random.randrange(5)):
            self._aimed[random.choice(points)] = random.choice((1, 1, 2, 3, 5, 10))
        for _ in range(random.randrange(4)):
            self._aimed[random.choice(_RARE)] = 1

    def on(self, kind: str) -> bool:
        """Whether *kind* may happen."""
        return self.active and kind in self.kinds

    def heal(self) -> None:
        """Let nothing go wrong from now on."""
        self.active = False

    def _next(self) -> int:
        return int(self.world.random.expovariate(1.0) * self._every) + 1

    # Faults at points.

    def at(self, life: Life, point: str) -> None:
        """*life* is about to do *point*."""
        self.world.happened[point] += 1
        if not self.active:
            return
        if point in self._zombies:
            self._zombies[point] -= 1
            if not self._zombies[point]:
                self._zombies[point] = 40
                self._fall_asleep(life, point)
                return
        if not self._at_points:
            return
        if point in self._aimed:
            self._aimed[point] -= 1
            if not self._aimed[point]:
                del self._aimed[point]
                self._strike(life, point)
                return
        self._left -= 1
        if self._left <= 0:
            self._left = self._next()
            self._strike(life, point)

    def _strike(self, life: Life, point: str) -> None:
        world, random = self.world, self.world.random
        kind = random.choice(self._at_points)
        world.happens(kind)
        world.happens(f"{kind} at {point}")
        if kind == "kill":
            world.trace(f"{life.name}: killed at {point}")
            world.kill_me()
        for_s = random.choice(self.freezes_s) * (0.5 + random.random())
        if kind == "freeze":
            world.trace(f"{life.name}: frozen at {point} for {for_s:.1f} s")
            life.frozen_until_s = world.now_s + for_s
        else:
            world.trace(f"{life.name}: cut off at {point} for {for_s:.1f} s")
            life.cut_until_s = world.now_s + for_s

    def _fall_asleep(self, life: Life, point: str) -> None:
        """Freeze *life* until the group has given it up, with a decided batch in hand."""
        world = self.world
        for_s = world.broker.group.session_s * (1.0 + world.random.random())
        world.happens("zombie")
        world.happens(f"zombie at {point}")
        world.trace(f"{life.name}: falls asleep at {point} for {for_s:.1f} s")
        life.frozen_until_s = world.now_s + for_s

    def error(self, life: Life, call: str) -> str | None:
        """Return how *call* fails, None if it doesn't."""
        random = self.world.random
        if not self.active or random.random() >= self._error_rate:
            return None
        if call.endswith("answer") and call != "admin.answer":
            kind = "lost"
        elif call == "producer.produce":
            kind = "full"
        elif call in _RETRIABLE_ONLY:
            kind = "retriable"
        else:
            kind = random.choice(("retriable", "abortable", "fatal"))
            if call == "producer.abort" and kind == "abortable":
                kind = "retriable"
        if kind not in self.kinds:
            return None
        self.world.happens(kind)
        self.world.happens(f"{kind} at {call}")
        self.world.trace(f"{life.name}: {kind} at {call}")
        return kind

    def deaf(self, life: Life) -> bool:
        """Whether the answer to a heartbeat of *life* gets lost."""
        if not self.on("deaf") or self.world.random.random() >= _DEAF:
            return False
        self.world.happens("deaf")
        self.world.trace(f"{life.name}: the answer to a heartbeat is lost")
        return True

    def disk_error(self, call: str) -> str | None:
        """Return what the disk says instead, None if it does what it is told."""
        random = self.world.random
        if not self.active or random.random() >= self._error_rate:
            return None
        kind = random.choice(DISK)
        if kind not in self.kinds:
            return None
        self.world.happens(kind)
        self.world.happens(f"{kind} at {call}")
        return _DISK_ERRORS[kind]

    def flushes(self, life: Life) -> bool:
        """Whether the memtable is flushed just now."""
        if not self._flush_rate or life.dead or self.world.random.random() >= self._flush_rate:
            return False
        self.world.happens("flush")
        return True

    # What the clients tell.

    def member_id(self, life: Life) -> str:
        """Return a new member id."""
        self._members += 1
        return f"{life.name}-m{self._members}"

    def polled(self, life: Life) -> None:
        """*life* begins a new turn."""
        self.checker.polled(life)

    def begun(self, life: Life) -> None:
        """*life* begins a transaction."""
        self.checker.begun(life)

    def decided_by(self, life: Life) -> list[Any]:
        """Return what *life* says it decided in the transaction that it opens."""
        return self.checker.decided_by(life)

    def inited(self, life: Life, transactional_id: str) -> None:
        """*life* has a new epoch of *transactional_id*."""
        self.checker.inited(life, transactional_id)

    def committed(self, txn: Txn) -> None:
        """The positions of *txn* count from now on."""
        self.checker.committed(txn)

    # Faults at instants.

    def sometime(self, kind: str, chance: float, within_s: tuple[float, float], act: Callable[[], None]) -> None:
        """Do *act* at an instant, if *kind* is on and by *chance*."""
        random = self.world.random
        if kind not in self.kinds or random.random() >= chance:
            return

        def happen() -> None:
            if self.active:
                self.world.happens(kind)
                act()

        self.world.at(random.uniform(*within_s), happen)
