"""
Lag: how far each group is behind, for how long, how fast it catches up, and whether that is well.

Lag is the last stable offset minus the committed position: what a reader of committed records can still get. What lies
between the last stable offset and the end waits for an open transaction, and is told apart (`Look.unstable`); Kafka's
own tools count it into the lag.

The status is Burrow's, which needs no threshold: it looks at a window of commits. Burrow reads commits off their topic,
with their times; here a partition is looked at now and then. A look counts as a commit if the partition then had a
member, which commits as soon as its position moves: a position that stays is committed again, so to speak. Without a
member nothing is committed, and the partition comes to be stopped.

Source: Burrow's wiki, "Consumer Lag Evaluation Rules".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum
from itertools import pairwise
from typing import Final, NamedTuple

WINDOW: Final = 10
"""Commits that a status is judged by, Burrow's own default."""


class Status(Enum):
    """
    How a partition or a group is doing, the worst last.

    WARN: it advances, but never comes nearer to the end. STALL: it has a member, and doesn't move. STOP: nobody has
    committed for longer than the window lasted. REWIND: its position went back. A group is ERR if one of its partitions
    is any of these three.
    """

    OK = "OK"
    WARN = "WARN"
    STALL = "STALL"
    STOP = "STOP"
    REWIND = "REWIND"
    ERR = "ERR"


class Place(NamedTuple):
    """One partition of one group; *topic* is the cluster's name."""

    group: str
    topic: str
    partition: int


class Member(NamedTuple):
    """Who has a partition, as Kafka's tools call it; *client_id* is its web server's URL."""

    consumer_id: str
    client_id: str
    host: str


class Look(NamedTuple):
    """
    One partition at one instant.

    Attributes:
        at_ms: When, Unix milliseconds.
        committed: The position; None if the group has none.
        stable: The last stable offset.
        end: The end offset (high watermark).
        member: Whose it is; None if it is nobody's.
        age_s: How old the first record is that hasn't been committed; 0 without lag, None if it wasn't asked for.
    """

    at_ms: int
    committed: int | None
    stable: int
    end: int
    member: Member | None
    age_s: float | None = None

    @property
    def lag(self) -> int | None:
        """Offsets behind; None without a position."""
        # The position may be newer than the end: they are asked for one after the other.
        return None if self.committed is None else max(0, self.stable - self.committed)

    @property
    def unstable(self) -> int:
        """Offsets that wait for an open transaction to end."""
        return max(0, self.end - max(self.stable, self.committed or 0))


class History:
    """The last looks at one partition, the oldest first; one thread adds, any may read."""

    def __init__(self, window: int = WINDOW) -> None:
        self._window = window
        self._looks: tuple[Look, ...] = ()
        self._commits: tuple[Look, ...] = ()

    def add(self, look: Look) -> None:
        """Take one look more."""
        self._looks = (*self._looks, look)[-self._window :]
        if look.member is not None and look.committed is not None:
            self._commits = (*self._commits, look)[-self._window :]

    @property
    def last(self) -> Look:
        """The newest look; there must have been one."""
        return self._looks[-1]

    @property
    def rate(self) -> float | None:
        """Offsets committed a second, over the window; None before there are two looks, or without a position."""
        return per_second([(look.at_ms, look.committed) for look in self._looks])

    @property
    def eta_s(self) -> float | None:
        """Seconds until the lag is gone, if all goes on as in the window; None if it never is, or nobody knows."""
        lag, rate = self.last.lag, self.rate
        grows = per_second([(look.at_ms, look.stable) for look in self._looks])
        if lag == 0:
            return 0.0
        if lag is None or rate is None or grows is None or rate <= grows:
            return None
        return lag / (rate - grows)

    @property
    def status(self) -> Status | None:
        """Burrow's word for it; None as long as one look says too little."""
        now, commits = self.last, self._commits
        if now.lag == 0 or any(look.lag == 0 for look in commits):
            return Status.OK
        if now.member is None and (not commits or now.at_ms - commits[-1].at_ms > commits[-1].at_ms - commits[0].at_ms):
            return Status.STOP
        # From here on one is compared with the next.
        return _judge(list(pairwise(commits)))


def _judge(pairs: list[tuple[Look, Look]]) -> Status | None:
    """Return what commits, each with the next, say of a partition that always had some lag."""
    if not pairs:
        return None
    if any((b.committed or 0) < (a.committed or 0) for a, b in pairs):
        return Status.REWIND
    if all(a.committed == b.committed for a, b in pairs):
        return Status.STALL
    return Status.WARN if all((b.lag or 0) >= (a.lag or 0) for a, b in pairs) else Status.OK


def status_of(histories: Iterable[History]) -> Status | None:
    """Return the status of the group that has these partitions; None as long as one of them has none."""
    statuses = [history.status for history in histories]
    if any(status in (Status.STALL, Status.STOP, Status.REWIND) for status in statuses):
        return Status.ERR
    if Status.WARN in statuses:
        return Status.WARN
    return None if None in statuses else Status.OK


def sum_of(lags: Iterable[int | None]) -> int | None:
    """Return the sum of *lags*; None if one of them isn't known, which may be of any size."""
    known = list(lags)
    return None if None in known else sum(lag or 0 for lag in known)


class Hanging:
    """For how long an open transaction has held each partition up: its last stable offset stays, before the end."""

    def __init__(self) -> None:
        self._since: dict[Place, tuple[int, int]] = {}

    def seconds(self, place: Place, look: Look) -> float:
        """Return it as of *look*, the next one at *place*; 0 where nothing is held up, or was a moment ago."""
        if not look.unstable:
            self._since.pop(place, None)
            return 0.0
        stable, since_ms = self._since.get(place, (-1, look.at_ms))
        if stable != look.stable:
            since_ms = look.at_ms
        self._since[place] = look.stable, since_ms
        return max(0, look.at_ms - since_ms) / 1000


def per_second(points: Sequence[tuple[int, int | None]]) -> float | None:
    """Return by how much the offsets of *points* (Unix milliseconds, offset) grow a second; None if nobody knows."""
    known = [(at_ms, offset) for at_ms, offset in points if offset is not None]
    if len(known) < 2 or known[-1][0] <= known[0][0]:  # noqa: PLR2004 -- a first and a last.
        return None
    return (known[-1][1] - known[0][1]) * 1000 / (known[-1][0] - known[0][0])
