"""
Whether the group's coordinator and a member agree on what the member has.

The coordinator says once what is to change (KIP-848): in the answer to a heartbeat. When that answer is lost,
librdkafka 2.16 goes on with heartbeats that don't say what it has, and neither side repeats itself. What the member was
to hand over stays with it until the coordinator's rebalance time-out (max.poll.interval.ms, five minutes), and what it
was given is worked on by nobody, while the group looks well.
"""

from __future__ import annotations

import logging
import time
from concurrent.futures import Future
from typing import Any, Final

from confluent_kafka import Consumer
from confluent_kafka.admin import AdminClient

from streams.transport.transaction import SessionOver

QUIET_S: Final = 5.0
"""
After trouble with the coordinator it is asked nothing for so long: describing a group while its connection comes and
goes may take the process down (confluentinc/librdkafka#5397).
"""
EVERY_S: Final = 5.0
ANSWER_S: Final = 10.0
TIMES: Final = 6
"""
Answers in a row that differ from what we have in the same way. A change that is under way takes a heartbeat or two (5
seconds each by Kafka's default), and the turn that a revocation waits for; no answer is taken during a turn.
"""
AGREED: Final = 2
"""Answers in a row by which there is no difference: then all is well."""
COORDINATOR: Final = "[thrd:GroupCoordinator]"
"""Who says it, in librdkafka's log, when there is trouble with the connection to the coordinator."""

_librdkafka = logging.getLogger("librdkafka")
_Places = frozenset[tuple[str, int]]


class Agreement:
    """
    The log of a member's client, which tells of trouble with the coordinator of *group*; asks it then, without waiting.

    Else nothing is asked: where no answer was lost, both mean the same.
    """

    def __init__(self, config: dict[str, Any], group: str) -> None:
        self._config = config
        self._group = group
        self._in_doubt = False
        self._next_s = 0.0
        self._admin: AdminClient | None = None
        self._answer: Future[Any] | None = None
        self._difference: tuple[_Places, _Places, _Places] | None = None
        self._times = 0

    def log(self, level: int, message: str, *args: object) -> None:
        """Take what librdkafka logs, and pass it on."""
        _librdkafka.log(level, message, *args)
        if any(COORDINATOR in str(arg) for arg in args):
            self._doubt()

    def _doubt(self) -> None:
        self._in_doubt = True
        self._next_s = time.monotonic() + QUIET_S
        self._difference, self._times = None, 0

    def check(self, consumer: Consumer) -> None:
        """
        Compare what *consumer*, a member, is assigned to with what the coordinator says that it has.

        Raises:
            SessionOver: they have differed for so long that nobody will say it again; who leaves and joins is told.
        """
        if self._answer is not None and self._answer.done():
            answer, self._answer = self._answer, None
            self._next_s = max(self._next_s, time.monotonic() + EVERY_S)
            if answer.exception() is None:
                owned = frozenset((tp.topic, tp.partition) for tp in consumer.assignment())
                told, member_id = answer.result(), consumer.memberid()
                self._compare(owned, _of(told, member_id, "assignment"), _of(told, member_id, "target_assignment"))
        elif self._answer is None and self._in_doubt and time.monotonic() >= self._next_s:
            # A new client has no connection that may break just now. Held by name: a collected one never answers.
            self._admin = AdminClient(self._config)
            self._answer = self._admin.describe_consumer_groups([self._group], request_timeout=ANSWER_S)[self._group]

    def _compare(self, owned: _Places, told: _Places, target: _Places) -> None:
        # What is ours by the target, but not yet by what was told, another member has still to hand over.
        difference = None if owned == told and owned <= target else (owned, told, target)
        self._times = self._times + 1 if difference == self._difference else 1
        self._difference = difference
        if difference is None and self._times >= AGREED:
            self._in_doubt, self._admin = False, None
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
