"""
librdkafka's transactional producer, as its callers see it.

Records wait in a queue and are sent by and by, at the latest at the commit; what a process that dies hadn't sent is
gone. Errors are of three classes, which stick: after an abortable one all calls but the abort say so, after a fatal
one all calls do. A call whose answer doesn't come ends with a retriable time-out, whether or not it had its effect.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from tests.simulation.broker import Concurrent, ProducerFenced
from tests.simulation.group import FENCED_MEMBER, STALE_EPOCH, UNKNOWN_MEMBER, GroupRefusal
from tests.simulation.kernel import the_world
from tests.simulation.log import Headers, Place, Txn
from tests.simulation.message import Message

_REFUSALS: Final = {
    UNKNOWN_MEMBER: KafkaError.UNKNOWN_MEMBER_ID,
    FENCED_MEMBER: KafkaError.FENCED_MEMBER_EPOCH,
    STALE_EPOCH: KafkaError.STALE_MEMBER_EPOCH,
}


def timed_out(what: str) -> KafkaException:
    """Return librdkafka's retriable time-out."""
    return KafkaException(KafkaError(KafkaError._TIMED_OUT, f"{what}: timed out", retriable=True))


class Producer:
    """See the module."""

    def __init__(self, config: dict[str, Any], logger: object = None) -> None:
        self._world = the_world()
        self._broker = self._world.broker
        self._life = self._world.me().life
        self._id: str = config["transactional.id"]
        self._timeout_s = config["transaction.timeout.ms"] / 1000
        self._epoch = -1
        self._txn: Txn | None = None
        self._in_transaction = False
        self._queue: deque[tuple[Place, bytes | None, bytes | None, Headers | None, Any]] = deque()
        self._reports: list[Callable[[], None]] = []
        self._error: KafkaError | None = None
        self._life.producer = self

    # Errors.

    def _check(self, name: str) -> None:
        """Raise the error that sticks, or one that goes wrong just now."""
        self._world.point(name)
        self._raise(aborting=name == "producer.abort")
        kind = self._world.plan.error(self._life, name)
        if kind == "retriable":
            self._world.sleep(self._world.latency_s())
            code = KafkaError.COORDINATOR_NOT_AVAILABLE
            raise KafkaException(KafkaError(code, f"{name}: try again", retriable=True))
        if kind == "abortable":
            self._fail(KafkaError.UNKNOWN_TOPIC_OR_PART, f"{name}: a record was refused", abortable=True)
        elif kind == "fatal":
            self._fail(KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, f"{name}: the producer is broken")
        self._raise(aborting=name == "producer.abort")

    def _fail(self, code: int, reason: str, abortable: bool = False) -> None:
        self._error = KafkaError(code, reason, fatal=not abortable, txn_requires_abort=abortable)
        self._world.trace(f"{self._life.name}: producer fails: {reason}")

    def _raise(self, aborting: bool = False) -> None:
        if self._error is not None and not (aborting and not self._error.fatal()):
            raise KafkaException(self._error)

    def _fenced(self, name: str) -> None:
        self._world.happens("producer fenced")
        self._fail(KafkaError._FENCED, f"{name}: a newer producer of {self._id} exists")

    def _reach(self, name: str, until_s: float) -> None:
        """Get through to the broker, or time out."""
        world, life = self._world, self._life
        world.sleep(world.latency_s())
        while life.cut:
            if world.now_s >= until_s:
                raise timed_out(name)
            world.sleep(min(life.cut_until_s, until_s) - world.now_s + world.latency_s())

    def _answer(self, name: str, until_s: float) -> None:
        """Hear of what the broker did, or not."""
        world, life = self._world, self._life
        world.point(f"{name}, done")
        if world.plan.error(life, f"{name}, answer") == "lost" or life.cut:
            world.sleep(max(0.0, until_s - world.now_s))
            raise timed_out(f"{name}, answer")

    # The calls.

    def init_transactions(self, timeout_s: float) -> None:
        """Begin a new epoch."""
        world, until_s = self._world, self._world.now_s + timeout_s
        self._check("producer.init")
        while True:
            self._reach("producer.init", until_s)
            try:
                self._epoch = self._broker.init(self._id, self._timeout_s)
            except Concurrent:
                if world.now_s > until_s:
                    raise timed_out("producer.init") from None
                world.sleep(0.02 + world.latency_s())
            else:
                break
        world.trace(f"{self._life.name}: {self._id} has epoch {self._epoch}")
        world.plan.inited(self._life, self._id)
        self._answer("producer.init", until_s)

    def begin_transaction(self) -> None:
        """Begin, here only."""
        self._check("producer.begin")
        self._txn, self._in_transaction = None, True
        self._queue.clear()
        # A call that was given up may come back when a newer session's producer is at work; it takes nothing of that.
        if self._life.producer is self:
            self._world.plan.begun(self._life)

    def produce(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        partition: int,
        on_delivery: Any,
        _callback: Any,
        _timestamp: int,
        headers: Headers | None,
    ) -> None:
        """Queue a record; some are sent at once."""
        if self._world.plan.error(self._life, "producer.produce") == "full":
            raise BufferError("Local: Queue full")
        if self._error is not None and self._error.fatal():
            raise KafkaException(KafkaError(KafkaError._FATAL, "Local: Fatal error", fatal=True))
        self._queue.append((Place(topic, partition), key, value, headers, on_delivery))
        if self._world.random.random() < 0.1:
            self._send(self._world.random.randrange(1, 4))

    def poll(self, timeout_s: float) -> int:
        """Serve reports."""
        self._world.point("producer.poll")
        self._world.sleep(timeout_s)
        self._send(1_000)
        return self._report()

    def _open(self, until_s: float | None) -> Txn | None:
        """Return the transaction at the coordinator, opened now if need be; None when it can't be now."""
        world = self._world
        while self._txn is None:
            try:
                self._txn = self._broker.begin(self._id, self._epoch, self._life)
                self._txn.decided = world.plan.decided_by(self._life)
            except ProducerFenced:
                self._fenced("begin")
                return None
            except Concurrent:
                if until_s is None or world.now_s > until_s:
                    return None
                world.sleep(0.02 + world.latency_s())
        return self._txn

    def _send(self, most: int, until_s: float | None = None) -> None:
        """Append up to *most* queued records, as far as the broker takes them."""
        if not self._queue or self._error is not None or self._life.cut:
            return
        txn = self._open(until_s)
        while txn is not None and self._queue and most:
            self._world.point("producer.append")
            if self._life.cut:
                return
            most -= 1
            place, key, value, headers, on_delivery = self._queue[0]
            try:
                entry = self._broker.append(txn, place, key, value, headers)
            except ProducerFenced:
                self._fenced("append")
                return
            self._queue.popleft()
            if on_delivery is not None:
                message = Message(place, entry, None)
                self._reports.append(partial(on_delivery, None, message))

    def _report(self) -> int:
        reports, self._reports = self._reports, []
        for report in reports:
            report()
        return len(reports)

    def send_offsets_to_transaction(self, positions: list[TopicPartition], member: Any, timeout_s: float) -> None:
        """Take the positions into the transaction."""
        until_s = self._world.now_s + timeout_s
        self._check("producer.positions")
        self._reach("producer.positions", until_s)
        txn = self._open(until_s)
        if txn is None:
            self._raise()
            raise timed_out("producer.positions")
        self._world.point("producer.positions, group")
        if self._life.cut:
            self._reach("producer.positions", until_s)
        try:
            self._broker.check(txn)
            taken = {Place(tp.topic, tp.partition): tp.offset for tp in positions}
            self._broker.group.take_positions(txn, member, taken)
        except ProducerFenced:
            self._fenced("positions")
        except GroupRefusal as exc:
            self._world.happens(f"positions refused: {exc.name}")
            self._fail(_REFUSALS[exc.name], f"positions: {exc.name}", abortable=True)
        self._raise()
        self._answer("producer.positions", until_s)

    def commit_transaction(self, timeout_s: float) -> None:
        """Send what is queued, then end the transaction."""
        world, until_s = self._world, self._world.now_s + timeout_s
        self._check("producer.commit")
        while self._queue:
            self._reach("producer.commit", until_s)
            self._send(1_000_000, until_s)
            self._raise()
            if self._queue and world.now_s > until_s:
                raise timed_out("producer.commit, flush")
        self._report()
        if self._txn is not None:
            world.point("producer.commit, end")
            self._end(self._txn, commit=True, until_s=until_s)
            self._answer("producer.commit", until_s)
        self._txn, self._in_transaction = None, False

    def abort_transaction(self, timeout_s: float) -> None:
        """Forget what is queued, and end the transaction."""
        until_s = self._world.now_s + timeout_s
        self._check("producer.abort")
        self._queue.clear()
        self._reports.clear()
        if self._txn is not None:
            self._end(self._txn, commit=False, until_s=until_s)
            self._answer("producer.abort", until_s)
        self._error = None
        self._txn, self._in_transaction = None, False

    def _end(self, txn: Txn, commit: bool, until_s: float) -> None:
        name = "producer.commit" if commit else "producer.abort"
        self._reach(name, until_s)
        try:
            self._broker.end(txn, commit)
        except ProducerFenced:
            self._fenced(name)
            self._raise()
