"""
The coordinator of one consumer group under KIP-848.

Members send heartbeats with what they own; the coordinator answers with what they are to own. A member that has to
give partitions up keeps its epoch until it says that it has; nobody gets a partition that another still has. Each
join, leave and loss begins a new epoch of the group, and a member gets it when nothing stands against it. Positions
are taken in a transaction from a member's current epoch only (KIP-447), and are pending until its marker is written:
whoever asks for stable positions waits.
"""

from __future__ import annotations

from typing import Any, Final

from tests.simulation.kernel import World
from tests.simulation.log import Place, Txn

REBALANCE_S: Final = 300.0
"""max.poll.interval.ms by default."""
UNKNOWN_MEMBER: Final = "UNKNOWN_MEMBER_ID"
FENCED_MEMBER: Final = "FENCED_MEMBER_EPOCH"
STALE_EPOCH: Final = "STALE_MEMBER_EPOCH"


class GroupRefusal(Exception):
    """The coordinator refuses; ``name`` is the error's."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class GroupMember:
    """What the coordinator knows of one member."""

    def __init__(self, member_id: str, life: Any) -> None:
        self.id = member_id
        self.life = life
        self.epoch = 0
        self.assigned: set[Place] = set()
        self.revoking: set[Place] = set()
        self.told: set[Place] | None = None
        self.asked_s = 0.0
        """When it was asked to give up what it is ``revoking``."""
        self.heard_s = 0.0


class Group:
    """The group of *places*: every partition of every input."""

    def __init__(self, world: World, places: list[Place], session_s: float) -> None:
        self.world = world
        self.places = places
        self.session_s = session_s
        self.epoch = 0
        self.members: dict[str, GroupMember] = {}
        self.target: dict[str, set[Place]] = {}
        self.offsets: dict[Place, int] = {}
        self.pending: dict[Place, list[Txn]] = {}
        self.scattering = False
        """Whether partition p of the inputs may go to different members, and in pieces: no range assignor does that."""

    # Members.

    def heartbeat(
        self, member_id: str, epoch: int, owned: set[Place] | None, life: Any
    ) -> tuple[int, set[Place] | None]:
        """
        Take a heartbeat; return the member's epoch and what it is to own, None if that was said before. Epoch 0 joins.

        *owned* is told after a change only. While it is None, the member may have all that it was ever given.
        """
        member = self.members.get(member_id)
        if epoch == 0:
            member = self.members[member_id] = GroupMember(member_id, life)
            self.world.trace(f"group: {member_id} joins")
            self.rebalance()
            self.world.after(self.session_s, lambda: self._expire(member_id))
        elif member is None:
            raise GroupRefusal(UNKNOWN_MEMBER)
        elif epoch != member.epoch:
            raise GroupRefusal(FENCED_MEMBER)
        member.heard_s = self.world.now_s
        self._reconcile(member, owned)
        if member.told == member.assigned:
            return member.epoch, None
        member.told = set(member.assigned)
        return member.epoch, set(member.assigned)

    def leave(self, member_id: str) -> None:
        """Forget a member that says goodbye."""
        if self.members.pop(member_id, None) is not None:
            self.world.trace(f"group: {member_id} leaves")
            self.rebalance()

    def _expire(self, member_id: str) -> None:
        member = self.members.get(member_id)
        if member is None:
            return
        left_s = member.heard_s + self.session_s - self.world.now_s
        if left_s > 0:
            self.world.after(left_s, lambda: self._expire(member_id))
            return
        del self.members[member_id]
        self.world.trace(f"group: {member_id} expires")
        self.world.happens("session expired")
        self.rebalance()

    def _time_out(self, member: GroupMember) -> None:
        """Give *member* up if it still has what it was asked for."""
        asked_for_s = self.world.now_s - member.asked_s
        if member.revoking and asked_for_s >= REBALANCE_S and self.members.get(member.id) is member:
            del self.members[member.id]
            self.world.trace(f"group: {member.id} doesn't give up {sorted(member.revoking)}")
            self.world.happens("rebalance timed out")
            self.rebalance()

    def rebalance(self) -> None:
        """Begin a new epoch with a new target."""
        self.epoch += 1
        names = sorted(self.members)
        self.target = {name: set() for name in names}
        if not names:
            return
        if self.scattering:
            self.world.happens("scattered assignment")
            for place in self.places:
                self.target[self.world.random.choice(names)].add(place)
            return
        # The range assignor: each topic by itself, neighbouring partitions together; so partition p of all to one.
        numbers = sorted({place.partition for place in self.places})
        for index, number in enumerate(numbers):
            name = names[index * len(names) // len(numbers)] if len(names) <= len(numbers) else names[index]
            self.target[name] |= {place for place in self.places if place.partition == number}

    def _reconcile(self, member: GroupMember, owned: set[Place] | None) -> None:
        if member.revoking and (owned is None or member.revoking & owned):
            return
        member.revoking.clear()
        target = self.target[member.id]
        if gone := member.assigned - target:
            member.assigned -= gone
            member.revoking = gone
            if owned is None or gone & owned:
                member.asked_s = self.world.now_s
                self.world.after(REBALANCE_S, lambda: self._time_out(member))
                return
            member.revoking = set()
        member.epoch = self.epoch
        held: set[Place] = set()
        for other in self.members.values():
            if other is not member:
                held |= other.assigned | other.revoking
        free = sorted(target - member.assigned - held)
        if self.scattering and len(free) > 1:
            free = free[: self.world.random.randrange(1, len(free) + 1)]
        member.assigned.update(free)

    # Positions.

    def take_positions(self, txn: Txn, member: Any, positions: dict[Place, int]) -> None:
        """Take *positions* into *txn*, from the *member* (its id and epoch) that polled them."""
        member_id, epoch = member
        known = self.members.get(member_id)
        if known is None:
            raise GroupRefusal(UNKNOWN_MEMBER)
        if epoch != known.epoch:
            raise GroupRefusal(STALE_EPOCH)
        txn.positions |= positions
        for place in positions:
            pending = self.pending.setdefault(place, [])
            if txn not in pending:
                pending.append(txn)

    def resolve(self, txn: Txn) -> None:
        """*txn*'s marker is written among the positions."""
        for place in txn.positions:
            self.pending[place].remove(txn)
        if txn.committed and txn.positions:
            self.offsets |= txn.positions

    def stable(self, place: Place) -> bool:
        """Whether no open transaction holds a position of *place*."""
        return not self.pending.get(place)
