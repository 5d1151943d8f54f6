"""
Whether the group's coordinator and a member agree on what the member has.

The coordinator says once what is to change (KIP-848): in the answer to a heartbeat. When that answer is lost,
librdkafka 2.16 goes on with heartbeats that don't say what it has, and neither side repeats itself. What the member was
to hand over stays with it until the coordinator's rebalance time-out (max.poll.interval.ms, five minutes), and what it
was given is worked on by nobody, while the group looks well.
"""

from __future__ import annotations

import time
from concurrent.futures import Future
from typing import Any, Final

from confluent_kafka import Consumer
from confluent_kafka.admin import AdminClient

from streams.transport.transaction import SessionOver

EVERY_S: Final = 5.0
ANSWER_S: Final = 10.0
TIMES: Final = 6
"""
Answers in a row that differ from what we have in the same way. A change that is under way takes a heartbeat or two (5
seconds each by Kafka's default), and the turn that a revocation waits for; no answer is taken during a turn.
"""


_Places = frozenset[tuple[str, int]]


class Agreement:
    """Asks the coordinator of *group* now and then, without waiting for its answers."""

    def __init__(self, config: dict[str, Any], group: str) -> None:
        self._config = config
        # Held by name: a collected client never resolves its futures.
        self._admin = AdminClient(config)
        self._group = group
        self._asked_s = time.monotonic()
        self._answer: Future[Any] | None = None
        self._difference: tuple[_Places, _Places, _Places] | None = None
        self._times = 0

    def check(self, consumer: Consumer) -> None:
        """
        Compare what *consumer*, a member, is assigned to with what the coordinator says that it has.

        Raises:
            SessionOver: they have differed for so long that nobody will say it again; who leaves and joins is told.
        """
        if self._answer is None:
            if time.monotonic() - self._asked_s >= EVERY_S:
                self._asked_s = time.monotonic()
                self._answer = self._admin.describe_consumer_groups([self._group], request_timeout=ANSWER_S)[
                    self._group
                ]
        elif self._answer.done():
            answer, self._answer = self._answer, None
            owned = frozenset((tp.topic, tp.partition) for tp in consumer.assignment())
            if answer.exception() is None:
                told, member_id = answer.result(), consumer.memberid()
                self._compare(owned, _of(told, member_id, "assignment"), _of(told, member_id, "target_assignment"))
            else:
                # Brokers that are away or don't let us ask: then it isn't known. A new client asks who coordinates.
                self._admin = AdminClient(self._config)
                self._compare(owned, owned, owned)

    def _compare(self, owned: _Places, told: _Places, target: _Places) -> None:
        # What is ours by the target, but not yet by what was told, another member has still to hand over.
        difference = None if owned == told and owned <= target else (owned, told, target)
        self._times = self._times + 1 if difference == self._difference else 1
        self._difference = difference
        if difference is not None and self._times >= TIMES:
            raise SessionOver(
                f"this member has {_numbers(owned)}; to the coordinator of {self._group} it has {_numbers(told)} and "
                f"is to have {_numbers(target)}, and neither tells the other: an answer to a heartbeat was lost"
            )


def _of(described: Any, member_id: str | None, name: str) -> _Places:
    """Return what the member has by the assignment called *name*."""
    return frozenset(
        (tp.topic, tp.partition)
        for member in described.members
        if member.member_id == member_id and (assignment := getattr(member, name)) is not None
        for tp in assignment.topic_partitions
    )


def _numbers(places: _Places) -> str:
    return f"partitions {sorted({number for _, number in places})}" if places else "no partition"
