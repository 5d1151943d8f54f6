"""
librdkafka's consumer, as its callers see it: a member, a reader of assigned partitions, or who asks for positions.

Heartbeats go on by themselves, whatever the worker does. What they bring, partitions to give up or to take, waits
until the worker polls or closes: rebalance callbacks run there only. A member that the group has given up joins again
after its callback for what it lost.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from streams.transport.heartbeats import TIMED_OUT
from tests.simulation.group import GroupRefusal
from tests.simulation.kernel import Fiber, the_world
from tests.simulation.log import Log, Place
from tests.simulation.message import Message
from tests.simulation.producer import timed_out

HEARTBEAT_S: Final = 3.0

_Callback = Callable[["Consumer", list[TopicPartition]], None]


class Fetching:
    """One assigned partition."""

    __slots__ = ("end", "ended_at", "log", "paused", "place", "position", "told")

    def __init__(self, place: Place, log: Log, position: int | None) -> None:
        self.place = place
        self.log = log
        self.position = position
        """The next offset to deliver; None until the group's position is known."""
        self.end = 0
        """The stable end, as of the last fetch."""
        self.ended_at = -1
        self.paused = False
        self.told = False
        """Whether its position was said to be out of range."""

    @property
    def news(self) -> bool:
        """Whether there may be something to deliver of it."""
        end = self.log.stable_end
        return self.position != end or self.ended_at != end


class Consumer:
    """See the module."""

    def __init__(self, config: dict[str, Any], logger: Any = None) -> None:
        self._world = world = the_world()
        self._broker = world.broker
        self._life = world.me().life
        self._fetching: dict[Place, Fetching] = {}
        self._closed = False
        self._reader: Fiber | None = None
        self._idle = 0
        self._news = True
        """Whether there may be something to deliver."""
        # A member's.
        self._member_id = ""
        self._epoch = 0
        self._owned: set[Place] = set()
        self._target: set[Place] | None = None
        self._changed = False
        """Whether what is owned has changed since the last heartbeat."""
        self._lost = False
        self._callbacks: tuple[_Callback, _Callback, _Callback] | None = None
        self._beats = itertools.count(1)
        self._fatal = False
        self._deciding = False
        """Whether a batch was polled and the next poll hasn't come: no callback can run."""
        self._logger = logger
        self._deafened = False
        """Whether an answer was lost since the last poll, which tells of it."""
        self._life.at_death.append(self._die)

    def _die(self) -> None:
        self._closed = True
        for fetching in self._fetching.values():
            fetching.log.watchers.pop(self, None)

    def notify(self) -> None:
        """Something may be there to read."""
        self._news = True
        if self._reader is not None:
            reader, self._reader = self._reader, None
            reader.notify()

    # The member.

    def subscribe(self, topics: list[str], on_assign: _Callback, on_revoke: _Callback, on_lost: _Callback) -> None:
        """Join the group."""
        assert {place.topic for place in self._broker.group.places} == set(topics)
        self._callbacks = on_assign, on_revoke, on_lost
        self._member_id = self._world.plan.member_id(self._life)
        self._beat_in(self._world.latency_s())

    def _beat_in(self, wait_s: float) -> None:
        beat = next(self._beats)
        self._beat = beat
        self._world.after(wait_s, lambda: self._heartbeat(beat))

    def _heartbeat(self, beat: int) -> None:
        if beat != self._beat or self._closed or self._life.dead:
            return
        world, life = self._world, self._life
        if life.frozen or life.cut:
            until_s = max(life.frozen_until_s, life.cut_until_s)
            self._beat_in(until_s - world.now_s + world.latency_s())
            return
        # What was lost is given up first, and then it joins again.
        if not self._lost:
            try:
                owned = self._owned if self._changed else None
                self._changed = False
                epoch, target = self._broker.group.heartbeat(self._member_id, self._epoch, owned, life)
            except GroupRefusal as exc:
                world.trace(f"{life.name}: heartbeat refused: {exc.name}")
                world.happens("member fenced")
                self._epoch = 0
                self._target = None
                if self._owned:
                    self._lost = True
                    self.notify()
                    self._rejoin_at_once()
                else:
                    self._beat_in(world.latency_s())
                    return
            else:
                if world.plan.deaf(life):
                    target, self._deafened = None, True
                else:
                    self._epoch = epoch
                if target is not None and target != self._owned:
                    self._target = target
                    self.notify()
                elif target is not None:
                    # Given and taken away again before the worker heard of it, or before it was even told.
                    self._target, self._changed = None, True
                    self._beat_in(world.latency_s())
                    return
        self._beat_in(HEARTBEAT_S * (0.9 + 0.2 * world.random.random()))

    def _rejoin_at_once(self) -> None:
        """
        Join again before the worker has heard of its loss, as if another thread polled beside it.

        librdkafka waits for the callback; that a batch is committed under the epoch of its poll must not hang on that.
        """
        world, life = self._world, self._life
        if self._deciding and world.plan.on("rejoin"):
            world.happens("rejoin")
            self._epoch, self._target = self._broker.group.heartbeat(self._member_id, 0, set(), life)

    def _rebalance(self) -> bool:
        """Call back about what came; return whether there was something."""
        if self._callbacks is None:
            return False
        on_assign, on_revoke, on_lost = self._callbacks
        if self._lost:
            gone = sorted(self._owned)
            self._world.trace(f"{self._life.name}: lost {_short(gone)}")
            self._world.happens("partitions lost")
            on_lost(self, _for_client(gone))
            # It joins again when all is given up, and not before.
            self._lost = False
        elif self._target is not None and (gone := sorted(self._owned - self._target)):
            self._world.trace(f"{self._life.name}: revoked {_short(gone)}")
            self._world.happens("partitions revoked")
            on_revoke(self, _for_client(gone))
        elif self._target is not None and (new := sorted(self._target - self._owned)):
            self._world.trace(f"{self._life.name}: assigned {_short(new)}")
            target = self._target
            on_assign(self, _for_client(new))
            if self._target is target:  # Else there is news already.
                self._target = None
        else:
            return False
        self._changed = True
        self._beat_in(self._world.latency_s())
        return True

    def incremental_assign(self, partitions: list[TopicPartition]) -> None:
        """Read these too."""
        self._world.point("consumer.assign")
        for tp in partitions:
            place = Place(tp.topic, tp.partition)
            log = self._broker.logs[place]
            self._fetching[place] = Fetching(place, log, tp.offset if tp.offset >= 0 else None)
            log.watchers[self] = None
            self._owned.add(place)
        self._news = True

    def incremental_unassign(self, partitions: list[TopicPartition]) -> None:
        """Read these no more."""
        self._world.point("consumer.unassign")
        for tp in partitions:
            place = Place(tp.topic, tp.partition)
            del self._fetching[place]
            self._broker.logs[place].watchers.pop(self, None)
            self._owned.discard(place)

    @property
    def owned_by_group(self) -> set[Place]:
        """What both it and the group say that it owns; nothing while a polled batch is in hand."""
        member = self._broker.group.members.get(self._member_id)
        return set() if member is None or self._lost or self._deciding else self._owned & member.assigned

    def memberid(self) -> str:
        """Return the member's id."""
        return self._member_id

    def assignment(self) -> list[TopicPartition]:
        """Return what it is assigned to."""
        return _for_client(sorted(self._owned))

    def consumer_group_metadata(self) -> tuple[str, int]:
        """Return the member's id and epoch of now."""
        self._world.point("consumer.metadata")
        self._deciding = True
        return self._member_id, self._epoch

    # Reading.

    def poll(self, timeout_s: float) -> Message | None:
        """Return the next message; None after a while without any."""
        found = self._read(1, timeout_s, "consumer.poll")
        return found[0] if found else None

    def consume(self, most: int, timeout_s: float) -> list[Message]:
        """Return what is there, waiting for *most*."""
        return self._read(most, timeout_s, "consumer.consume")

    def _read(self, most: int, timeout_s: float, name: str) -> list[Message]:
        world, life = self._world, self._life
        world.me()
        if self._closed:
            raise RuntimeError("Consumer closed")
        world.point(name)
        if self._deafened:
            self._deafened = False
            self._logger.log(5, "%s [%s] %s", "REQTMOUT", self._member_id, TIMED_OUT)
        if self._callbacks is not None and timeout_s:
            world.plan.polled(life)
            self._deciding = False
        # A worker with nothing to do may be slow: with the waits stretched, an idle hour costs few steps.
        self._idle = self._idle + 1 if timeout_s else self._idle
        stretch = 1.0 if self._idle < 3 else min(6.0, 0.15 * 1.7 ** min(self._idle - 3, 9)) / max(timeout_s, 0.05)
        until_s = world.now_s + timeout_s * stretch
        found: list[Message] = []
        while True:
            while self._rebalance():
                pass
            if self._fatal:
                self._fatal = False
                return [*found, Message(None, None, KafkaError(KafkaError._FATAL, "consumer: fatal"))]
            if more := self._available(most - len(found)):
                self._idle = 0
                found += more
            if len(found) == most or not timeout_s or world.now_s >= until_s:
                return found
            self._reader = world.me()
            world.sleep(until_s - world.now_s)
            self._reader = None
            world.me()

    def _available(self, most: int) -> list[Message]:
        random = self._world.random
        if not self._news or self._life.cut:
            return []
        ready = [fetching for fetching in self._fetching.values() if not fetching.paused and fetching.news]
        if len(ready) > 1:
            random.shuffle(ready)
        found: list[Message] = []
        for fetching in ready:
            if len(found) < most:
                self._fetch(fetching, most - len(found), found)
        self._news = any(fetching.news for fetching in ready)
        return found

    def _fetch(self, fetching: Fetching, most: int, found: list[Message]) -> None:
        place, log = fetching.place, fetching.log
        if fetching.position is None:
            group = self._broker.group
            if not group.stable(place):
                return
            if place not in group.offsets:
                self._out_of_range(fetching, found, "no position")
                return
            fetching.position = fetching.end = group.offsets[place]
        if not 0 <= fetching.position <= log.end:
            self._out_of_range(fetching, found, "out of range")
            return
        if self._world.random.random() < 0.8:
            fetching.end = log.stable_end
        if most > 1 and self._world.random.random() < 0.3:
            most = self._world.random.randrange(1, most + 1) if most < 5 else self._world.random.randrange(1, 5)
        position, entries, end = fetching.position, log.entries, fetching.end
        while position < end and most:
            entry = entries[position]
            position += 1
            if entry is not None and entry.committed:
                found.append(Message(place, entry, None))
                most -= 1
        fetching.position = max(position, fetching.position)
        if position == end and most and fetching.ended_at != end:
            fetching.ended_at = end
            error = KafkaError(KafkaError._PARTITION_EOF, "end of partition")
            found.append(Message(place, None, error, end))

    @staticmethod
    def _out_of_range(fetching: Fetching, found: list[Message], reason: str) -> None:
        if not fetching.told:
            fetching.told = True
            found.append(Message(fetching.place, None, KafkaError(KafkaError._AUTO_OFFSET_RESET, reason)))

    def fail(self) -> None:
        """Say at the next poll that it is broken."""
        self._fatal = True
        self.notify()

    def seek(self, tp: TopicPartition) -> None:
        """Read from another offset."""
        self._world.point("consumer.seek")
        fetching = self._fetching.get(Place(tp.topic, tp.partition))
        if fetching is None:
            raise KafkaException(KafkaError(KafkaError._STATE, "Local: Erroneous state"))
        fetching.position = tp.offset
        fetching.ended_at = -1
        self._news = True

    def pause(self, partitions: list[TopicPartition]) -> None:
        """Let nothing come of these."""
        self._set_paused(partitions, paused=True)

    def resume(self, partitions: list[TopicPartition]) -> None:
        """Let these come."""
        self._set_paused(partitions, paused=False)

    def _set_paused(self, partitions: list[TopicPartition], paused: bool) -> None:
        self._world.point("consumer.resume")
        for tp in partitions:
            fetching = self._fetching.get(Place(tp.topic, tp.partition))
            if fetching is not None:
                fetching.paused = paused
        self._news = True

    # Positions, and the end.

    def committed(self, partitions: list[TopicPartition], timeout_s: float) -> list[TopicPartition]:
        """Return the group's positions once they are stable."""
        world, group = self._world, self._broker.group
        until_s = world.now_s + timeout_s
        world.point("consumer.committed")
        if world.plan.error(self._life, "consumer.committed") == "retriable":
            raise timed_out("committed")
        places = [Place(tp.topic, tp.partition) for tp in partitions]
        world.sleep(world.latency_s())
        while self._life.cut or not all(group.stable(place) for place in places):
            if world.now_s >= until_s:
                world.happens("unstable positions waited for")
                raise timed_out("committed")
            world.sleep(0.3)
        world.point("consumer.committed, done")
        return [TopicPartition(*place, group.offsets.get(place, -1001)) for place in places]

    def close(self) -> None:
        """Give back what is owned, and leave."""
        self._world.me()
        if self._closed:
            raise RuntimeError("Consumer already closed")
        self._world.point("consumer.close")
        if self._callbacks is not None:
            gone = sorted(self._owned)
            self._callbacks[2 if self._lost else 1](self, _for_client(gone))
            self._world.point("consumer.close, leave")
            if not self._life.cut:
                self._broker.group.leave(self._member_id)
        self._die()


def _for_client(places: list[Place]) -> list[TopicPartition]:
    return [TopicPartition(place.topic, place.partition) for place in places]


def _short(places: list[Place]) -> str:
    return " ".join(f"{place.topic.rsplit('.', 2)[-2][-8:]}/{place.partition}" for place in places) or "nothing"
