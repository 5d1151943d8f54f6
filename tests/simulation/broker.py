"""
The brokers, as one: logs, the coordinator of transactions, the coordinator of the group.

Faithful where it matters here: the answer to EndTxn comes before the markers are written, which follow one by one,
the one among the group's positions among them; a new epoch of a transactional id first aborts what the old one left
open; a transaction that takes too long is aborted and its producer fenced; nothing is taken from an old epoch.
"""

from __future__ import annotations

from typing import Any

from tests.simulation.group import Group
from tests.simulation.kernel import World
from tests.simulation.log import Entry, Headers, Log, Place, Txn


class ProducerFenced(Exception):
    """An older epoch than the transactional id's."""


class Concurrent(Exception):
    """The transaction before isn't over yet: ask again."""


class TransactionalId:
    """What the coordinator knows of one transactional id."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.epoch = -1
        self.timeout_s = 10.0
        self.txn: Txn | None = None


class Broker:
    """All of the cluster."""

    def __init__(self, world: World, topics: list[str], inputs: list[str], partitions: int, session_s: float) -> None:
        self.world = world
        self.partitions = partitions

        def now() -> tuple[int, float]:
            return world.now_ms(), world.now_s

        self.logs = {
            place: Log(place, now) for topic in topics for place in (Place(topic, n) for n in range(partitions))
        }
        self.group = Group(world, [Place(topic, n) for topic in inputs for n in range(partitions)], session_s)
        self.group.offsets = dict.fromkeys(self.group.places, 0)
        self.ids: dict[str, TransactionalId] = {}
        self.topic_ids = {topic: f"id-of-{topic}" for topic in topics}
        self.slow_markers = 0.0
        """The chance that markers take seconds."""

    # Records.

    def produce(self, topic: str, number: int, key: bytes | None, value: bytes | None, headers: Headers | None) -> None:
        """Append outside of any transaction."""
        self.logs[Place(topic, number)].append(key, value, headers, None)

    def append(self, txn: Txn, place: Place, key: bytes | None, value: bytes | None, headers: Headers | None) -> Entry:
        """Append one record of *txn*, whose epoch must still be the newest and which must be open."""
        self.check(txn)
        return self.logs[place].append(key, value, headers, txn)

    # Transactions.

    def init(self, name: str, timeout_s: float) -> int:
        """Begin a new epoch of a transactional id; return it."""
        owner = self.ids.setdefault(name, TransactionalId(name))
        owner.timeout_s = timeout_s
        if owner.txn is not None and not owner.txn.over:
            if owner.txn.state == "open":
                owner.epoch += 1
                self.world.trace(f"broker: {name} begins anew, its open transaction is aborted")
                self.world.happens("transaction of an older epoch aborted")
                self._end(owner.txn, commit=False)
            raise Concurrent
        owner.epoch += 1
        return owner.epoch

    def begin(self, name: str, epoch: int, maker: Any) -> Txn:
        """Open a transaction at the coordinator, with its first partition or positions."""
        owner = self.ids[name]
        if owner.epoch != epoch:
            raise ProducerFenced
        if owner.txn is not None and not owner.txn.over:
            raise Concurrent
        txn = owner.txn = Txn(name, epoch, self.world.now_s, maker)
        self.world.after(owner.timeout_s + self.world.random.random() * 2, lambda: self._time_out(txn))
        return txn

    def end(self, txn: Txn, commit: bool) -> None:
        """Decide *txn*; saying the same again is no error."""
        owner = self.ids[txn.owner]
        if txn.committed == commit and txn.state != "open":
            if owner.epoch != txn.epoch:
                raise ProducerFenced
            return
        self.check(txn)
        self._end(txn, commit)

    def check(self, txn: Txn) -> None:
        """Refuse an older epoch, and what isn't open."""
        owner = self.ids[txn.owner]
        if owner.epoch != txn.epoch or txn.state != "open":
            raise ProducerFenced

    def _time_out(self, txn: Txn) -> None:
        if txn.state == "open":
            self.ids[txn.owner].epoch += 1
            self.world.trace(f"broker: a transaction of {txn.owner} takes too long, it is aborted")
            self.world.happens("transaction timed out")
            self._end(txn, commit=False)

    def _end(self, txn: Txn, commit: bool) -> None:
        txn.state = "committing" if commit else "aborting"
        self.world.trace(f"broker: {txn.owner} epoch {txn.epoch} {txn.state}: {len(txn.entries)} records")
        random = self.world.random
        left: list[Log | None] = [*txn.logs, None]
        random.shuffle(left)
        slow = random.random() < self.slow_markers
        if slow:
            self.world.happens("slow markers")

        def mark() -> None:
            log = left.pop()
            if log is None:
                self.group.resolve(txn)
                if txn.committed and txn.positions:
                    self.world.plan.committed(txn)
            else:
                log.append(None, None, None, txn, marker=True)
            if left:
                self.world.after(random.random() * (4.0 if slow else 0.003), mark)
            else:
                txn.state = "committed" if commit else "aborted"

        self.world.after(random.random() * (4.0 if slow else 0.002), mark)

    @property
    def unfinished(self) -> list[Txn]:
        """Return all transactions that aren't over."""
        return [owner.txn for owner in self.ids.values() if owner.txn is not None and not owner.txn.over]
