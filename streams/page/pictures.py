"""
What the page shows, one picture after another: made of what `rejoinder status` and `lag` are made of.

A picture is JSON-ready: that of `overview.picture_of`, whose partitions also say for how long an open transaction has
held them up, with ``topics`` and their rates, the last ``failures``, the ``dead_letters`` and the ``verdict``. When the
cluster can't be looked at, it is only when that was (``at_ms``) and the ``problem``.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from typing import Any, Final, Protocol

import structlog

from streams.errors import ConfigurationError, RejoinderError
from streams.monitor.group_offsets import Found, GroupLooker
from streams.monitor.lag import Hanging, History, Place, Status, per_second
from streams.overview import WORKERS, ask_all, members_of, picture_of, waiting_of, with_statuses, worker_group
from streams.page.letters import Letters
from streams.page.verdict import verdict
from streams.processing.waiting import WAITING
from streams.settings import Settings, Switch
from streams.transport.topics import ROLES
from topology.topics import DEAD_LETTERS, OUTCOMES, TOPICS, Topic

log = structlog.get_logger(__name__)

ASK_S: Final = 2.0
"""For each member to answer: a picture isn't held up by one that is away."""
RATE_LOOKS: Final = 4
"""Looks that a topic's rate is taken over."""
LOOKS_MIN: Final = 5
"""Looks before a status other than OK is believed: a batch that takes long stalls its partition for as long."""
FAILURES_MAX: Final = 20

BESIDE: Final = (OUTCOMES, DEAD_LETTERS)
"""Topics that no group of ours reads."""
SHOWN: Final = tuple(topic for topic in TOPICS if topic.is_input or topic in BESIDE)

_STATUS: Final = frozenset({"role", "instance", "version", "partitions", "held", "waiting", "uncounted", "markers"})


class Looker(Protocol):
    """`GroupLooker`'s face."""

    def look(self) -> Found:
        """Return how things are now."""

    def close(self) -> None:
        """Let go of the clients."""


def open_looker(settings: Settings, roles: Iterable[str], beside: Sequence[Topic]) -> Looker:
    """Return what looks at the cluster."""
    return GroupLooker(settings, roles, beside)


class Pictures:
    """Takes pictures, in one thread; the first few know no rates and no statuses."""

    def __init__(
        self,
        settings: Settings,
        open_: Callable[[Settings, Iterable[str], Sequence[Topic]], Looker] = open_looker,
        ask: Callable[..., dict[str, dict[str, Any]]] = ask_all,
    ) -> None:
        self._settings = settings
        self._open = open_
        self._ask = ask
        self._looker: Looker | None = None
        self._roles: Iterable[str] = tuple(ROLES.values())
        self._note: str | None = None
        self._histories: dict[Place, History] = {}
        self._looks = 0
        self._hanging = Hanging()
        self._records: deque[tuple[int, dict[str, int]]] = deque(maxlen=RATE_LOOKS)
        """When, and the ends of topics (the cluster's names) less the markers that were seen to be written since."""
        self._seen: dict[str, dict[str, int]] = {}
        self._markers: Counter[str] = Counter()
        self._letters = Letters(settings)

    def close(self) -> None:
        """Let go of the clients."""
        if self._looker is not None:
            self._looker.close()
            self._looker = None

    def take(self) -> dict[str, Any]:
        """Return what there is now."""
        try:
            return self._take(self._look())
        except RejoinderError as exc:
            return {"at_ms": _now_ms(), "problem": str(exc)}
        except Exception:
            # Whatever it is, a worker goes on without this.
            log.exception("no picture for the page")
            return {"at_ms": _now_ms(), "problem": "no picture could be taken; this worker's log says why"}

    def _look(self) -> Found:
        try:
            return self._opened().look()
        except ConfigurationError as exc:
            if self._note is not None:
                raise
            # A worker needs to see no group but its own; whoever wants to see all here lets it.
            self._note, self._roles = str(exc), (WORKERS,)
            self.close()
            return self._opened().look()

    def _opened(self) -> Looker:
        if self._looker is None:
            self._looker = self._open(self._settings, self._roles, BESIDE)
        return self._looker

    def _take(self, found: Found) -> dict[str, Any]:
        settings = self._settings
        self._looks += 1
        for place, look in found.looks.items():
            self._histories.setdefault(place, History()).add(look)
        ends: Counter[str] = Counter()
        for (topic, _), end in found.ends.items():
            ends[topic] += end
        asked = self._ask(settings, members_of(found), "/status", ASK_S)
        statuses = {url: _checked(url, status) for url, status in asked.items()}
        self._count_markers(statuses)
        self._records.append((found.at_ms, {topic: end - self._markers[topic] for topic, end in ends.items()}))
        group = worker_group(settings)
        urls = members_of(found, [group])
        picture = with_statuses(
            picture_of(found, self._histories, *waiting_of(found, group, {url: statuses[url] for url in urls})),
            statuses,
        )
        for group in picture["groups"]:
            self._believe(group)
            for at in group["partitions"]:
                place = Place(group["group"], at["topic"], at["partition"])
                at["hanging_s"] = self._hanging.seconds(place, found.looks[place])
        picture |= {
            "at_ms": found.at_ms,
            "told_by": {"instance": settings.instance, "version": version("rejoinder")},
            "note": self._note,
            "steps": [step.title for step in WAITING],
            "topics": [self._topic(topic, picture) for topic in SHOWN],
            "failures": self._failures(urls),
            "dead_letters": self._letters.now(ends[settings.topic(DEAD_LETTERS.name)]),
        }
        return picture | {"verdict": verdict(picture, settings.transaction_timeout / 1000)}

    def _believe(self, group: dict[str, Any]) -> None:
        if self._looks < LOOKS_MIN:
            for judged in (group, *group["partitions"]):
                if judged["status"] != Status.OK.value:
                    judged["status"] = None

    def _count_markers(self, statuses: Mapping[str, Mapping[str, Any]]) -> None:
        """Add the transaction markers that the processes say they have written since they were asked last."""
        for url, status in statuses.items():
            if "error" in status:
                continue
            now = {self._settings.topic(str(topic)): int(count) for topic, count in status["markers"].items()}
            if (before := self._seen.get(url)) is not None:
                for topic, count in now.items():
                    written = count - before.get(topic, 0)
                    # Less than before: it has been started anew since.
                    self._markers[topic] += written if written >= 0 else count
            self._seen[url] = now

    def _topic(self, topic: Topic, picture: Mapping[str, Any]) -> dict[str, Any]:
        name = self._settings.topic(topic.name)
        lags = [at["lag"] for group in picture["groups"] for at in group["partitions"] if at["topic"] == name]
        return {
            "topic": name,
            "declared": topic.name,
            "from": [producer.value for producer in topic.producers],
            "to": topic.consumer.value,
            "per_second": self._per_second(name),
            "lag": sum(lag or 0 for lag in lags) if lags else None,
        }

    def _per_second(self, name: str) -> float | None:
        rate = per_second([(at_ms, records.get(name)) for at_ms, records in self._records])
        # Ends and markers are asked for one after the other, so a look's markers may be a few too many.
        return None if rate is None else max(0.0, rate)

    def _failures(self, urls: Sequence[str]) -> dict[str, Any]:
        """Return the last failures that the workers tell of; they tell only those who may see orders."""
        if self._settings.web_orders is not Switch.ON:
            return {"error": "orders aren't served here; REJOINDER_WEB_ORDERS=on serves them"}
        answers = self._ask(self._settings, urls, "/failures", ASK_S)
        told = [answer for answer in answers.values() if "error" not in answer]
        last = sorted((one for answer in told for one in answer["last"]), key=lambda one: -one["at_ms"])
        return {
            "count": sum(answer["count"] for answer in told),
            "since": min((answer["since"] for answer in told), default=None),
            "last": last[:FAILURES_MAX],
            "unanswered": [answer["error"] for answer in answers.values() if "error" in answer],
        }


def _checked(url: str, status: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return *status* if it is one: members are whoever has joined the group."""
    if "error" in status or status.keys() >= _STATUS:
        return status
    return {"error": f"{url} doesn't answer as a process of this release does"}


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
