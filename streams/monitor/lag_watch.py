"""A worker's own look at its group's lag, now and then, for whoever scrapes it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final, NamedTuple

import structlog

from streams.errors import RejoinderError
from streams.monitor.group_offsets import Found, GroupLooker
from streams.monitor.lag import History, Place

log = structlog.get_logger(__name__)

_FAILURES_TOLD: Final = 1
"""Failures one after another that are told: brokers that are away tell of themselves."""


class Watched(NamedTuple):
    """What was seen last; *at_s*: when, on the monotonic clock."""

    at_s: float
    found: Found
    histories: dict[Place, History]

    def told_by(self, url: str) -> dict[Place, History]:
        """
        Return what the member called *url* tells of: its own partitions, and the first member those of nobody.

        So each partition is told of once, however many members are scraped.
        """
        first = self.is_first(url)
        return {
            place: history
            for place, history in self.histories.items()
            if ((member := history.last.member) is None and first) or (member is not None and member.client_id == url)
        }

    def is_first(self, url: str) -> bool:
        """Return whether *url* is its group's first member; one who is in no group is, if nobody else is there."""
        members = [member.client_id for some in self.found.members.values() for member in some]
        return url == min(members, default=url)


class LagWatch:
    """Looks every *every_s* seconds, in a thread of its own, with a looker that *open_looker* makes there."""

    def __init__(self, open_looker: Callable[[], GroupLooker], every_s: float) -> None:
        self._open_looker = open_looker
        self._every_s = every_s
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._histories: dict[Place, History] = {}
        self._began_s = time.monotonic()
        self.last: Watched | None = None
        """Replaced as a whole at each look."""

    def start(self) -> None:
        """Begin to look."""
        self._began_s = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="rejoinder-lag", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Look no more; a look under way ends by itself."""
        self._stopping.set()

    @property
    def age_s(self) -> float:
        """How long ago it last saw how things are; since it began to look, if it never did."""
        return time.monotonic() - (self.last.at_s if self.last is not None else self._began_s)

    @property
    def alive(self) -> bool:
        """Whether its thread runs."""
        return self._thread is not None and self._thread.is_alive()

    def _run(self) -> None:
        looker: GroupLooker | None = None
        failures = 0
        while not self._stopping.is_set():
            try:
                looker = looker or self._open_looker()
                self._take(looker.look())
                failures = 0
            except RejoinderError as exc:
                failures += 1
                if failures == _FAILURES_TOLD:
                    log.warning("no look at the lag", because=str(exc))
            except Exception:
                # Whatever it is, a worker goes on without this.
                log.exception("no look at the lag")
            self._stopping.wait(self._every_s)
        if looker is not None:
            looker.close()

    def _take(self, found: Found) -> None:
        for place, look in found.looks.items():
            self._histories.setdefault(place, History()).add(look)
        self.last = Watched(time.monotonic(), found, self._histories)
