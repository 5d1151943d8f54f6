"""
Who else takes part: a shop that sends commands, the orders service and the e-mail service, as programs outside.

They answer late, twice, in an order of their own, in transactions that are aborted or stay open for a while; the
e-mail service never reports two different ends of one request.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, Final
from uuid import UUID

from streams.transport.partitioner import partition_of
from tests.simulation.kernel import World
from tests.simulation.log import Log, Place
from tests.simulation.worker import PARTITIONS, codec
from tests.streams.manager import CANCEL, COMMAND, FAILED, NOT_FOUND, RETRIEVED, SENT, command_fields, order_fields
from topology.messages import Body, OrderDetailsRetrieved
from topology.topics import COMMANDS, DETAILS, EMAIL_COMMANDS, EMAIL_EVENTS, QUERIES


@lru_cache(10_000)
def _command(order_id: str, command_id: str) -> bytes:
    return codec().encode_record(COMMAND, command_fields(order_id, command_id))


@lru_cache(10_000)
def _cancel(order_id: str, command_id: str) -> bytes:
    fields = {"command_id": command_id, "order_id": order_id, "requested_at": 1}
    return codec().encode_record(CANCEL, fields)


@lru_cache(10_000)
def _details(order_id: str, version: int) -> bytes:
    return codec().encode_record(RETRIEVED, {"retrieved_at": 1, "order": order_fields(order_id, version)})


def command_body(order_id: str, command_id: str) -> Body:
    """Return a command's record without its frame."""
    value = _command(order_id, command_id)
    return Body(int.from_bytes(value[1:5], "big"), value[5:])


def details_body(order_id: str, version: int) -> Body:
    """Return the details that the orders service nests."""
    message = codec().decode(DETAILS.records, order_id.encode(), _details(order_id, version))
    assert isinstance(message, OrderDetailsRetrieved)
    return message.body


class Order:
    """One order, and the commands about it."""

    def __init__(self, order_id: str, random: Any) -> None:
        self.id = order_id
        self.partition = partition_of(order_id.encode(), PARTITIONS)
        self.version = 0
        self.unknown = random.random() < 0.15
        self.commands = [str(UUID(int=random.getrandbits(128), version=4)) for _ in range(random.choice((1, 1, 2)))]


class Outside:
    """All programs outside."""

    def __init__(self, world: World, orders: int, within_s: float) -> None:
        self.world = world
        self.random = random = world.random
        self.busy = 0
        """What they still mean to do."""
        self.orders = {f"o{n}": Order(f"o{n}", random) for n in range(orders)}
        self.poison: list[tuple[Place, int]] = []
        self.cancelled: set[str] = set()
        self._duplicates = 0.2 if world.plan.on("duplicates") else 0.0
        self._late = 0.2 if world.plan.on("late answers") else 0.0
        self._transactions = 0.3 if world.plan.on("outside transactions") else 0.0
        self._txns = 0
        self._begin(within_s)

    def _begin(self, within_s: float) -> None:
        """Plan what is done unasked, and listen."""
        world, random = self.world, self.random
        for order in self.orders.values():
            self._plan_order(order, within_s)
        if world.plan.on("poison"):
            for _ in range(random.randrange(1, 5)):
                self._in(random.random() * within_s, self._poison)
        for topic, handle in ((QUERIES.name, self._queried), (EMAIL_COMMANDS.name, self._mail)):
            for number in range(PARTITIONS):
                Subscription(world, world.broker.logs[Place(topic, number)], handle)

    def _in(self, wait_s: float, act: Callable[[], None]) -> None:
        """Do *act* in *wait_s*, and count it as something that is still to come."""
        self.busy += 1

        def happen() -> None:
            self.busy -= 1
            act()

        self.world.after(wait_s, happen)

    def _plan_order(self, order: Order, within_s: float) -> None:
        random = self.random
        for command_id in order.commands:
            at_s = random.random() * within_s
            value = _command(order.id, command_id)
            self._in(at_s, partial(self.send, COMMANDS.name, order, value))
            if random.random() < 0.15:
                self.cancelled.add(command_id)
                cancel = _cancel(order.id, command_id)
                cancel_s = at_s + random.choice((-3.0, 0.002, 2.0, 20.0)) * random.random()
                self._in(max(0.0, cancel_s), partial(self.send, COMMANDS.name, order, cancel))
        if not order.unknown and random.random() < 0.3:
            self._in(random.random() * within_s, lambda: self._publish(order))

    # Producing.

    def send(self, topic: str, order: Order, value: bytes) -> None:
        """Produce *value* about *order*, sometimes twice, sometimes in a transaction."""
        times = 1
        if self.random.random() < self._duplicates:
            times = 2
            self.world.happens("duplicates")
        for _ in range(times):
            if self.random.random() < self._transactions:
                self._in_transaction(topic, order, value)
            else:
                self._put(topic, order.partition, order.id.encode(), value)

    def _put(self, topic: str, number: int, key: bytes | None, value: bytes | None) -> int:
        self.world.trace(f"outside: {topic}/{number} {key!r}")
        log = self.world.broker.logs[Place(topic, number)]
        return log.append(key, value, None, None).offset

    def _in_transaction(self, topic: str, order: Order, value: bytes) -> None:
        broker, random = self.world.broker, self.random
        self._txns += 1
        name = f"outside-{self._txns}"
        txn = broker.begin(name, broker.init(name, 60.0), None)
        broker.append(txn, Place(topic, order.partition), order.id.encode(), value, None)
        self.world.happens("outside transactions")
        self.world.trace(f"outside: {topic}/{order.partition} {order.id} in a transaction")
        aborts = random.random() < 0.3

        def end() -> None:
            broker.end(txn, commit=not aborts)
            if aborts:
                self._put(topic, order.partition, order.id.encode(), value)

        self._in(random.choice((0.01, 0.5, 8.0)) * random.random(), end)

    def _delay_s(self) -> float:
        if self.random.random() < self._late:
            self.world.happens("late answers")
            return self.random.random() * 60.0
        return self.random.random() * self.random.choice((0.01, 0.3, 3.0))

    # The orders service.

    def _queried(self, value: bytes) -> None:
        _, fields = codec().decode_record(value)
        order, random = self.orders[fields["order_id"]], self.random
        if random.random() < 0.05:
            return  # Its answer never comes; it is asked again.
        if order.unknown:
            answer = {"query_id": fields["query_id"], "order_id": order.id, "answered_at": 1}
            missing = codec().encode_record(NOT_FOUND, answer)
            self._in(self._delay_s(), lambda: self.send(DETAILS.name, order, missing))
            if random.random() < 0.1:
                order.unknown = False
        else:
            self._in(self._delay_s(), lambda: self._publish(order))

    def _publish(self, order: Order) -> None:
        if not order.version or self.random.random() < 0.5:
            order.version += 1
        version = max(1, order.version - (1 if self.random.random() < 0.1 else 0))
        self.send(DETAILS.name, order, _details(order.id, version))

    # The e-mail service.

    def _mail(self, value: bytes) -> None:
        _, fields = codec().decode_record(value)
        order, random = self.orders[fields["command"]["order_id"]], self.random
        email_id = fields["email_id"]
        chance = random.random()
        if chance < 0.04:
            self.world.happens("mail outcome never reported")
            return
        if chance < 0.70:
            record = SENT
            event = {"email_id": email_id, "order_id": order.id, "message_id": "<m@example.com>", "sent_at": 1}
        else:
            record = FAILED
            permanent = chance > 0.93
            event = {
                "email_id": email_id, "order_id": order.id, "permanent": permanent, "reason": "no", "failed_at": 1,
            }  # fmt: skip
        outcome = codec().encode_record(record, event)
        self._in(self._delay_s(), lambda: self.send(EMAIL_EVENTS.name, order, outcome))

    # What can't be handled.

    def _poison(self) -> None:
        random = self.random
        order = random.choice(list(self.orders.values()))
        key: bytes | None = order.id.encode()
        topic = random.choice((COMMANDS.name, DETAILS.name, EMAIL_EVENTS.name))
        value: bytes | None = random.choice(
            (
                b"",
                None,
                b"no Avro at all",
                b"\0" + (999).to_bytes(4, "big") + b"unknown schema",
                _command("somebody-else", order.commands[0]),
                _details(order.id, 1)[:-3],
                codec().encode_record("orders.GetOrderDetails", _QUERY),
            )
        )
        number = order.partition
        if random.random() < 0.2:
            key = None
        elif random.random() < 0.2:
            # An order that nobody knows, on a partition that its key doesn't belong to.
            key = b"stray"
            number = 1 - partition_of(key, PARTITIONS)
            topic, value = COMMANDS.name, _command("stray", order.commands[0])
        self.world.happens("poison")
        self.poison.append((Place(topic, number), self._put(topic, number, key, value)))


_QUERY: Final = {"query_id": "0b5c1f7e-2222-4333-8444-555566667777", "order_id": "o0", "attempt": 1, "asked_at": 1}


class Subscription:
    """Calls *handle* for each committed record, once."""

    def __init__(self, world: World, log: Log, handle: Callable[[bytes], None]) -> None:
        self._world = world
        self._log = log
        self._handle = handle
        self._position = 0
        self._reading = False
        log.watchers[self] = None

    def notify(self) -> None:
        """More may be there; it is read soon."""
        if not self._reading:
            self._reading = True
            self._world.after(self._world.latency_s(), self._read)

    def _read(self) -> None:
        self._reading = False
        end = self._log.stable_end
        found, self._position = self._log.committed(self._position, end), end
        for entry in found:
            assert entry.value is not None
            self._handle(entry.value)
