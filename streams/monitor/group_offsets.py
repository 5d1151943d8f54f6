"""Where the groups stand on the cluster: positions, ends, members, and how old what lies before them is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec

from streams.errors import Unavailable
from streams.monitor.lag import Look, Member, Place
from streams.offsets import list_offsets
from streams.settings import Settings
from streams.transport import config
from streams.transport.refusals import Admin
from streams.transport.topics import ROLES, Cluster, missing_topics
from topology.acls import Role
from topology.policy import DAY_MS
from topology.topics import TOPICS, Topic

ANSWER_S: Final = 3.0
"""A part of `PATIENCE_S`: an answer that a restart has swallowed never comes, and only another client gets one."""
PATIENCE_S: Final = 10.0
PAUSE_S: Final = 0.5
_AGE_MS_MIN: Final = 100
_AGE_MS_MAX: Final = 64 * DAY_MS
"""Twice as long as any input is kept."""
_AGE_PRECISION: Final = 1.05
_GROUP_UNKNOWN: Final = KafkaError.GROUP_ID_NOT_FOUND

_Offsets = dict[TopicPartition, int]


class Found(NamedTuple):
    """
    One look at all groups.

    Attributes:
        looks: Their partitions.
        members: Their members, those without a partition too.
        ends: End offsets, by topic (the cluster's name) and partition: of the groups' topics, and of those beside them.
        at_ms: When the ends were asked for, Unix milliseconds.
    """

    looks: dict[Place, Look]
    members: dict[str, list[Member]]
    ends: Mapping[tuple[str, int], int] = MappingProxyType({})
    at_ms: int = 0


class GroupLooker:
    """
    Looks at the groups of *roles* (all three by default), and at the ends of the topics *beside* theirs.

    A look takes some tenths of a second.

    It needs to describe groups and topics, no more: the age of a record is found by asking for offsets by time, and no
    record is read. Clients are kept between looks, and made anew after a failure: an admin client asks the leaders that
    it saw first for ever (librdkafka 2.16).

    Raises from all methods:
        ConfigurationError: there is no topic, or the brokers don't let us look.
        Unavailable: no broker answers.
    """

    def __init__(
        self, settings: Settings, roles: Iterable[str] = tuple(ROLES.values()), beside: Sequence[Topic] = ()
    ) -> None:
        self._settings = settings
        self._admin = Admin(settings)
        self._consumers: dict[str, Consumer] = {}
        wanted = set(roles)
        inputs = [topic for topic in TOPICS if topic.is_input and ROLES.get(topic.consumer) in wanted]
        counts = Cluster(settings).partitions([*inputs, *beside])
        if missing := [topic.name for topic in (*inputs, *beside) if topic.name not in counts]:
            raise missing_topics(settings, missing)
        self._groups: dict[str, list[TopicPartition]] = {}
        for topic in inputs:
            group = f"{settings.application_id}-{ROLES[topic.consumer]}"
            self._groups.setdefault(group, []).extend(
                TopicPartition(settings.topic(topic.name), number) for number in range(counts[topic.name])
            )
        self._beside = [
            TopicPartition(settings.topic(topic.name), number)
            for topic in beside
            for number in range(counts[topic.name])
        ]

    def close(self) -> None:
        """Let go of the clients."""
        for consumer in self._consumers.values():
            consumer.close()
        self._consumers.clear()

    def look(self) -> Found:
        """Return how things are now; tries again while coordinators and leaders move."""
        deadline_s = time.monotonic() + PATIENCE_S
        while True:
            try:
                return self._look()
            except Unavailable:
                self._admin = Admin(self._settings)
                self.close()
                if time.monotonic() > deadline_s:
                    raise
                time.sleep(PAUSE_S)

    def _look(self) -> Found:
        members = self._members()
        # Positions first: an end that is asked for later is never before them, so no lag is less than it is.
        committed = {
            Place(group, tp.topic, tp.partition): tp
            for group, partitions in self._groups.items()
            for tp in self._committed(group, partitions)
        }
        partitions = [TopicPartition(place.topic, place.partition) for place in committed]
        now_ms = time.time_ns() // 1_000_000
        stable = self._offsets(partitions, IsolationLevel.READ_COMMITTED)
        ends = self._offsets([*partitions, *self._beside], IsolationLevel.READ_UNCOMMITTED)
        looks = {}
        for place, tp in committed.items():
            at = TopicPartition(place.topic, place.partition)
            owners = [member for member, owned in members[place.group] if (place.topic, place.partition) in owned]
            looks[place] = Look(
                now_ms,
                tp.offset if tp.offset >= 0 else None,
                stable[at],
                ends[at],
                owners[0] if owners else None,
            )
        behind = {
            TopicPartition(place.topic, place.partition): look.committed or 0
            for place, look in looks.items()
            if look.lag != 0
        }
        ages = self._ages(behind, stable, now_ms)
        return Found(
            {
                place: look._replace(age_s=ages.get(TopicPartition(place.topic, place.partition), 0.0))
                for place, look in looks.items()
            },
            {group: [member for member, _ in some] for group, some in members.items()},
            {(tp.topic, tp.partition): end for tp, end in ends.items()},
            now_ms,
        )

    def _members(self) -> dict[str, list[tuple[Member, set[tuple[str, int]]]]]:
        """Return each group's members, and what each of them has."""
        asked = self._admin.client.describe_consumer_groups(list(self._groups), request_timeout=ANSWER_S)
        found = {}
        for group, future in asked.items():
            try:
                described = future.result(ANSWER_S * 2).members
            except KafkaException as exc:
                if exc.args[0].code() != _GROUP_UNKNOWN:
                    raise self._admin.failure(exc, Role.OPERATOR) from exc
                described = []
            except TimeoutError as exc:
                raise self._admin.failure(None, Role.OPERATOR) from exc
            found[group] = [
                (
                    Member(member.member_id, member.client_id, member.host),
                    {
                        (tp.topic, tp.partition)
                        for tp in (member.assignment.topic_partitions if member.assignment else ())
                    },
                )
                for member in described
            ]
        return found

    def _committed(self, group: str, partitions: Sequence[TopicPartition]) -> list[TopicPartition]:
        # Not AdminClient.list_consumer_group_offsets, which crashes in librdkafka 2.16 while the coordinator moves.
        if group not in self._consumers:
            # Uncommitted: a look must not wait for the very transaction that hangs.
            own = {"group.id": group, "isolation.level": "read_uncommitted", "error_cb": self._admin.errors}
            self._consumers[group] = Consumer(config.common(self._settings) | own)
        try:
            found = self._consumers[group].committed(list(partitions), ANSWER_S)
        except KafkaException as exc:
            raise self._admin.failure(exc, Role.OPERATOR) from exc
        if failed := [tp for tp in found if tp.error is not None]:
            raise Unavailable(f"no position of {failed[0].topic}/{failed[0].partition}: {failed[0].error}")
        return found

    def _offsets(self, partitions: Iterable[TopicPartition], level: IsolationLevel) -> _Offsets:
        latest: OffsetSpec = OffsetSpec.latest()
        return {tp: info.offset for tp, info in self._list(dict.fromkeys(partitions, latest), level).items()}

    def _list(self, asked: Mapping[TopicPartition, OffsetSpec], level: IsolationLevel) -> dict[TopicPartition, Any]:
        if not asked:
            return {}
        found = list_offsets(self._admin.client, asked, isolation_level=level, request_timeout=ANSWER_S)
        return {tp: self._admin.result(future, ANSWER_S * 2, Role.OPERATOR) for tp, future in found.items()}

    def _ages(
        self, behind: Mapping[TopicPartition, int], stable: Mapping[TopicPartition, int], now_ms: int
    ) -> dict[TopicPartition, float]:
        """Return how old the first record at or after each offset of *behind* is, in seconds, where there is one."""
        earliest: OffsetSpec = OffsetSpec.earliest()
        level = IsolationLevel.READ_UNCOMMITTED
        starts = self._list(dict.fromkeys(behind, earliest), level)
        first = {tp: max(offset, starts[tp].offset) for tp, offset in behind.items()}
        at = {tp: offset for tp, offset in first.items() if offset < stable[tp]}

        def first_since(instants: Mapping[TopicPartition, int]) -> dict[TopicPartition, Any]:
            return self._list({tp: OffsetSpec.for_timestamp(ms) for tp, ms in instants.items()}, level)

        return {tp: max(0, now_ms - ms) / 1000 for tp, ms in times_of(at, now_ms, first_since).items()}


def times_of(
    at: Mapping[TopicPartition, int],
    now_ms: int,
    first_since: Callable[[Mapping[TopicPartition, int]], Mapping[TopicPartition, Any]],
) -> dict[TopicPartition, int]:
    """
    Return the time (Unix milliseconds) of the record at each offset of *at*, by asking for offsets by time.

    By halves, in proportion to the age: exact where an answer hits the offset, else at most a twentieth of the age too
    old. For topics whose times never go back (LogAppendTime).

    Args:
        at: Offsets of records that are there.
        now_ms: The wall clock.
        first_since: Answers with offset and timestamp (-1 if there is none) of the first record since an instant.
    """
    ages = dict.fromkeys(at, (float(_AGE_MS_MIN), float(_AGE_MS_MAX)))
    times = dict.fromkeys(at, now_ms - _AGE_MS_MAX)
    while ages:
        middles = {tp: (low * high) ** 0.5 for tp, (low, high) in ages.items()}
        answers = first_since({tp: now_ms - int(age) for tp, age in middles.items()})
        for tp, info in answers.items():
            low, high = ages[tp]
            if 0 <= info.offset <= at[tp]:
                # As old or younger, down to the one that it found.
                times[tp] = info.timestamp
                high = min(middles[tp], float(max(now_ms - info.timestamp, _AGE_MS_MIN)))
                exact = info.offset == at[tp]
            else:
                low, exact = middles[tp], False
            ages[tp] = (low, high)
            if exact or high <= low * _AGE_PRECISION:
                del ages[tp]
    return times
