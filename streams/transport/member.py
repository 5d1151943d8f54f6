"""
One membership in the consumer group: what was polled, and the partitions that come and go.

Everything here runs in one thread. librdkafka calls back about rebalances only inside `Member.poll` and
`Member.close`, so never between the poll of a batch and its commit: a revoke waits for the commit under way.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple, Protocol

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from streams.batch import Record
from streams.errors import ConfigurationError, Unavailable
from streams.transport.heartbeats import Heartbeats
from streams.transport.messages import records_of
from streams.transport.transaction import SessionOver

log = structlog.get_logger(__name__)

CALL_S: Final = 10.0
ENOUGH: Final = 200
"""Records among which a transaction's own cost is little: about 3 ms of a worker's time, and some of the broker's."""

_FORBIDDEN: Final = frozenset(
    {
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError._AUTHENTICATION,
        KafkaError.UNSUPPORTED_ASSIGNOR,
        KafkaError._UNSUPPORTED_FEATURE,
    }
)

_GIVEN_UP: Final = "Failed to fetch committed offset"
"""What librdkafka 2.16 says, by nothing but this text, when it gives up a question for committed positions."""


class TP(NamedTuple):
    """One partition of one topic, by the topic's declared name."""

    topic: str
    partition: int


class Listener(Protocol):
    """Who is told about partitions, between two batches."""

    def assigned(self, partitions: frozenset[TP]) -> None:
        """*partitions* are this member's from now on; they are paused until `Member.resume`."""

    def revoked(self, partitions: frozenset[TP]) -> None:
        """*partitions* are handed over: let go of them before returning."""

    def lost(self, partitions: frozenset[TP]) -> None:
        """*partitions* are another member's already."""

    def out_of_range(self, partition: TP, detail: str) -> None:
        """The position of *partition* isn't in the log: nothing comes from it any more."""


class Polled(NamedTuple):
    """What one poll brought: records by partition number in offset order, and end-of-partition positions."""

    records: dict[int, list[Record]]
    ends: dict[TP, int]
    metadata: Any
    """The group metadata of this moment, for the commit of these records and no others."""


class Member:
    """
    A member of the group that *config* names.

    *topics*: what it subscribes to, declared names to the cluster's. Only here and in the commit are both known.
    *linger_s*: how long after the last records were returned fewer than `ENOUGH` wait for more.
    """

    def __init__(
        self, config: dict[str, Any], topics: Mapping[str, str], listener: Listener, linger_s: float = 0.0
    ) -> None:
        self._listener = listener
        self._cluster_names = dict(topics)
        self._declared_names = {cluster: declared for declared, cluster in topics.items()}
        self._eager = config["group.protocol"] == "classic"
        self._heartbeats = Heartbeats()
        self._linger_s = linger_s
        self._returned_s = -math.inf
        """When records were returned last, on the monotonic clock."""
        self._consumer = Consumer(config, logger=self._heartbeats)
        self._owned: set[TP] = set()
        self._gone: set[TP] = set()
        """Revoked or lost in the poll under way."""
        self._consumer.subscribe(
            list(topics.values()), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )

    @property
    def owned(self) -> frozenset[TP]:
        """The partitions assigned now."""
        return frozenset(self._owned)

    def poll(self, records_max: int, timeout_s: float) -> Polled:
        """
        Return what has come, at most *records_max* (2 or more), waiting up to *timeout_s* for the first.

        A batch grows with the load: what comes while one is decided is the next. Of many workers none has much load,
        though, and four that commit as often as they can take twice the time a join that one takes. So few records that
        come soon after others wait for more; what comes alone doesn't wait, and neither does who has a backlog.

        Raises:
            SessionOver: the membership ended, or may not be what the coordinator thinks that it is.
            ConfigurationError: the broker refuses us.
        """
        # Any: the stubs say that all parts of a message may be None, which holds for errors only.
        self._gone.clear()
        self._heartbeats.check()
        first: Any = self._consumer.poll(timeout_s)
        messages: list[Any] = [first, *self._consumer.consume(records_max - 1, 0)] if first is not None else []
        if messages and (missing := min(ENOUGH, records_max) - len(messages)) > 0:
            wait_s = self._returned_s + self._linger_s - time.monotonic()
            if wait_s > 0:
                messages += self._consumer.consume(missing, wait_s)
        ends: dict[TP, int] = {}
        records = records_of(messages, self._declared_names, lambda message: self._special(message, ends))
        if self._gone:
            # Records may have come before their partition went, in the same poll. Should it have come back in that poll
            # too, they may be another's by now: what is assigned anew is read from its committed position.
            ends = {tp: offset for tp, offset in ends.items() if tp not in self._gone}
            records = {number: left for number, some in records.items() if (left := self._without_gone(some))}
        if records:
            self._returned_s = time.monotonic()
        return Polled(records, ends, self._consumer.consumer_group_metadata())

    def _without_gone(self, records: list[Record]) -> list[Record]:
        return [record for record in records if TP(record.topic, record.partition) not in self._gone]

    def _special(self, message: Any, ends: dict[TP, int]) -> None:
        error = message.error()
        assert error is not None
        code = error.code()
        if code == KafkaError._PARTITION_EOF:
            ends[TP(self._declared_names[message.topic()], message.partition())] = message.offset()
        elif code in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            partition = TP(self._declared_names[message.topic()], message.partition())
            self._listener.out_of_range(partition, error.str())
        elif code in _FORBIDDEN:
            raise ConfigurationError(f"the broker refuses this consumer: {error.name()}: {error.str()}")
        elif error.fatal() or code == KafkaError._FATAL:  # Of the latter, fatal() says False.
            raise SessionOver(f"the consumer failed: {error.name()}: {error.str()}")
        elif error.str().startswith(_GIVEN_UP):
            # It doesn't ask again, reads nothing of these partitions, and answers no rebalance any more: what it was to
            # hand over stays its own until max.poll.interval.ms, five minutes (confluentinc/librdkafka#5586 is a case).
            raise SessionOver(f"the consumer doesn't know where to read from: {error.name()}: {error.str()}")
        else:
            # Brokers that can't be reached and the like: librdkafka goes on trying.
            log.warning("consumer", error=error.name(), detail=error.str())

    def resume(self, partitions: Iterable[TP]) -> None:
        """Let records of *partitions* come."""
        self._consumer.resume(self._for_kafka(partitions))

    def pause(self, partitions: Iterable[TP]) -> None:
        """Let no records of *partitions* come."""
        self._consumer.pause(self._for_kafka(partitions))

    def seek(self, tp: TP, offset: int) -> None:
        """
        Read *tp* again from *offset* on.

        Raises:
            SessionOver: librdkafka can't; a new membership begins from what was committed.
        """
        try:
            self._consumer.seek(TopicPartition(self._cluster_names[tp.topic], tp.partition, offset))
        except KafkaException as exc:
            raise SessionOver(f"seek of {tp} to {offset} failed: {exc.args[0].str()}") from exc

    def place(self, tp: TP, offset: int) -> None:
        """
        Read *tp* from *offset* on, after librdkafka said `Listener.out_of_range`; it is paused.

        Raises:
            SessionOver: under the classic protocol, which has no way but to join again.
        """
        if self._eager:
            raise SessionOver(f"{tp} has to be read from {offset}, which the consumer didn't know")
        cluster_name = self._cluster_names[tp.topic]
        # Not by a seek: librdkafka has stopped to fetch it.
        self._consumer.incremental_unassign([TopicPartition(cluster_name, tp.partition)])
        self._consumer.incremental_assign([TopicPartition(cluster_name, tp.partition, offset)])
        self.pause([tp])

    def close(self) -> None:
        """Leave the group; what was owned is revoked first."""
        self._consumer.close()

    def _for_kafka(self, partitions: Iterable[TP]) -> list[TopicPartition]:
        return [TopicPartition(self._cluster_names[tp.topic], tp.partition) for tp in partitions]

    def _from_kafka(self, partitions: Iterable[TopicPartition]) -> list[TP]:
        return [TP(self._declared_names[tp.topic], tp.partition) for tp in partitions]

    # Rebalance. Callbacks come with empty lists too, and want to be answered all the same.

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._heartbeats.heard()
        new = frozenset(self._from_kafka(partitions))
        if self._eager:
            consumer.assign(partitions)
        else:
            consumer.incremental_assign(partitions)
        # Before a record can come: tasks say when they are ready for them.
        consumer.pause(partitions)
        self._owned |= new
        self._listener.assigned(new)

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._heartbeats.heard()
        gone = frozenset(self._from_kafka(partitions))
        self._listener.revoked(gone)
        self._unassign(consumer, partitions, gone)

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._heartbeats.heard()
        gone = frozenset(self._from_kafka(partitions))
        self._listener.lost(gone)
        self._unassign(consumer, partitions, gone)

    def _unassign(self, consumer: Consumer, partitions: list[TopicPartition], gone: frozenset[TP]) -> None:
        self._owned -= gone
        self._gone |= gone
        if self._eager:
            consumer.unassign()
        else:
            consumer.incremental_unassign(partitions)


class GroupOffsets:
    """
    The committed positions of a group, asked from outside of it.

    A client of its own: while one thread polls a consumer, another's `committed` of the same one starves (tried on
    confluent-kafka 2.16.1).
    """

    def __init__(self, config: dict[str, Any], group: str, topics: Mapping[str, str]) -> None:
        self._cluster_names = dict(topics)
        # Reading committed is what makes the coordinator wait for open transactions.
        self._consumer = Consumer(config | {"group.id": group, "isolation.level": "read_committed"})
        self._declared_names = {cluster: declared for declared, cluster in topics.items()}

    def wait_stable(self, partitions: Iterable[TP], timeout_s: float) -> dict[TP, int]:
        """
        Return the committed positions of *partitions*, negative where there is none; any thread may ask.

        Returns when no open transaction holds them: a zombie that sent its offsets and then slept can still commit
        after the takeover; a restore that began before that would miss its rows for ever.

        Raises:
            Unavailable: not in *timeout_s*.
        """
        asked = [TopicPartition(self._cluster_names[tp.topic], tp.partition) for tp in partitions]
        try:
            found = self._consumer.committed(asked, timeout_s)
        except KafkaException as exc:
            raise Unavailable(f"committed positions aren't stable yet: {exc.args[0].str()}") from exc
        for tp in found:
            if tp.error is not None:
                raise Unavailable(f"no committed position of {tp.topic}/{tp.partition} yet: {tp.error.str()}")
        return {TP(self._declared_names[tp.topic], tp.partition): tp.offset for tp in found}

    def close(self) -> None:
        """Let go of the client."""
        self._consumer.close()
