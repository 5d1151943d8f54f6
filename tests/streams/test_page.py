"""What the page is told: pictures of a cluster that is played, and what they say of how it is."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import Any, Final

import pytest

from streams.batch import Batch, Failure
from streams.errors import ConfigurationError, RejoinderError, Unavailable
from streams.monitor.group_offsets import Found
from streams.monitor.lag import Hanging, Look, Member, Place
from streams.page.letters import Letters
from streams.page.pictures import BESIDE, FAILURES_MAX, LOOKS_MIN, Pictures
from streams.page.verdict import BEHIND_S, WAIT_S, verdict
from streams.processing.commit import Work
from streams.processing.failures import KEPT, Failures
from streams.settings import Settings, Switch, load
from tests.streams.manager import Manager
from topology.topics import COMMANDS, EMAIL_COMMANDS, OUTCOMES, Topic

NOW_MS: Final = 1_770_000_000_000
EVERY_MS: Final = 2_000
WORKER: Final = Member("id-1", "http://one:1", "/10.0.0.1")
EMAIL: Final = Member("id-2", "http://two:2", "/10.0.0.2")
GROUPS: Final = {"shop-worker": [WORKER], "shop-email": [EMAIL]}
STATUS: Final[dict[str, Any]] = {
    "role": "worker",
    "instance": "worker-0",
    "version": "1",
    "partitions": {"0": "running"},
    "held": [],
    "waiting": [],
    "markers": {},
    "uncounted": [],
}


class Cluster:
    """A cluster of one partition, and its members: what looks and questions find; *error* fails the next look."""

    def __init__(self) -> None:
        self.looks = 0
        self.ends = {COMMANDS.name: 0, EMAIL_COMMANDS.name: 0, OUTCOMES.name: 0}
        self.lag = 0
        self.unstable = 0
        self.members = dict(GROUPS)
        self.statuses: dict[str, dict[str, Any]] = {url: dict(STATUS) for url in ("http://one:1", "http://two:2")}
        self.failures: dict[str, Any] = {"error": "it isn't asked"}
        self.error: RejoinderError | None = None
        self.opened: list[tuple[str, ...]] = []
        self.closed = 0

    def open(self, settings: Settings, roles: Iterable[str], beside: Sequence[Topic]) -> Cluster:
        """Be opened as a looker."""
        assert ("shop", BESIDE) == (settings.application_id, tuple(beside))
        self.opened.append(tuple(roles))
        return self

    def look(self) -> Found:
        """Return how things are."""
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        at_ms = NOW_MS + EVERY_MS * self.looks
        self.looks += 1
        places = {"shop-worker": COMMANDS.name, "shop-email": EMAIL_COMMANDS.name}
        looks = {}
        for group, topic in places.items():
            end = self.ends[topic]
            owner = next(iter(self.members[group]), None)
            stable = end - self.unstable
            looks[Place(group, f"t.{topic}", 0)] = Look(at_ms, stable - self.lag, stable, end, owner, 1.5)
        ends = {(f"t.{topic}", 0): end for topic, end in self.ends.items()}
        return Found(looks, self.members, ends, at_ms)

    def close(self) -> None:
        """Be let go."""
        self.closed += 1

    def ask(self, _: Settings, urls: Iterable[str], path: str, __: float) -> dict[str, dict[str, Any]]:
        """Answer for the members."""
        return {url: self.statuses[url] if path == "/status" else self.failures for url in urls}


@pytest.fixture
def cluster() -> Cluster:
    """Return a cluster that is well."""
    return Cluster()


@pytest.fixture
def pictures(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Pictures:
    """Return what takes pictures of it; of dead letters nothing is known."""
    monkeypatch.setattr(Letters, "now", lambda *_: {"since": "24h", "by_reason": None, "at_ms": None})
    settings = load(application_id="shop", topic_prefix="t.", web_orders=Switch.ON)
    return Pictures(settings, cluster.open, cluster.ask)


def rate(picture: dict[str, Any], topic: Topic) -> float | None:
    """Return *topic*'s rate."""
    (found,) = [one["per_second"] for one in picture["topics"] if one["declared"] == topic.name]
    return None if found is None else float(found)


def test_picture_says_what_status_says(cluster: Cluster, pictures: Pictures) -> None:
    """Groups, members with what they tell of themselves, who waits, and the topics between them."""
    cluster.statuses["http://one:1"]["waiting"] = [
        {"step": "awaiting details", "partition": 0, "processes": 3, "oldest_s": 12.0},
        {"step": "awaiting details", "partition": 1, "processes": 2, "oldest_s": 40.0},
    ]
    picture = pictures.take()
    assert ["shop-worker", "shop-email"] == [group["group"] for group in picture["groups"]]
    assert ["OK", "OK"] == [group["status"] for group in picture["groups"]]
    assert cluster.statuses["http://two:2"] == picture["groups"][1]["members"][0]["status"]
    assert [{"step": "awaiting details", "processes": 5, "oldest_s": 40.0}] == picture["waiting"]
    assert ("well", True, []) == tuple(picture["verdict"].values())
    commands = next(topic for topic in picture["topics"] if topic["declared"] == COMMANDS.name)
    assert ("t." + COMMANDS.name, ["command source"], "process manager", 0) == (
        commands["topic"],
        commands["from"],
        commands["to"],
        commands["lag"],
    )
    assert picture["note"] is None


def test_rate_is_of_records(cluster: Cluster, pictures: Pictures) -> None:
    """Offsets a second, without the markers that the processes say they have written, all of them together."""
    for url in cluster.statuses:
        cluster.statuses[url]["markers"] = {OUTCOMES.name: 1_000}
    assert rate(pictures.take(), OUTCOMES) is None
    for _ in range(3):
        cluster.ends[COMMANDS.name] += 20
        cluster.ends[OUTCOMES.name] += 20 + 8 + 2
        cluster.statuses["http://one:1"] = STATUS | {
            "markers": {OUTCOMES.name: cluster.statuses["http://one:1"]["markers"][OUTCOMES.name] + 8}
        }
        cluster.statuses["http://two:2"] = STATUS | {
            "markers": {OUTCOMES.name: cluster.statuses["http://two:2"]["markers"][OUTCOMES.name] + 2}
        }
        picture = pictures.take()
        assert (10.0, 10.0, 0.0) == (rate(picture, COMMANDS), rate(picture, OUTCOMES), rate(picture, EMAIL_COMMANDS))


def test_process_that_starts_anew_counts_from_nothing(cluster: Cluster, pictures: Pictures) -> None:
    """Its markers aren't taken for fewer than before; and a rate is never below 0."""
    cluster.statuses["http://one:1"]["markers"] = {OUTCOMES.name: 50}
    pictures.take()
    cluster.statuses["http://one:1"] = STATUS | {"markers": {OUTCOMES.name: 4}}
    cluster.ends[OUTCOMES.name] += 24
    assert 10.0 == rate(pictures.take(), OUTCOMES)
    cluster.statuses["http://one:1"] = STATUS | {"markers": {OUTCOMES.name: 400}}
    assert 0.0 == rate(pictures.take(), OUTCOMES)


def test_process_that_is_away_is_no_reason_for_no_picture(cluster: Cluster, pictures: Pictures) -> None:
    """Nor is one that answers with anything else: it is told, and what it knows is missing."""
    cluster.statuses["http://one:1"] = {"error": "http://one:1 doesn't answer"}
    cluster.statuses["http://two:2"] = {"hello": "world"}
    picture = pictures.take()
    assert ["http://one:1 doesn't answer"] == picture["unanswered"]
    assert "error" in picture["groups"][1]["members"][0]["status"]
    assert ["look", "look"] == [finding["level"] for finding in picture["verdict"]["findings"]]


def test_worker_that_may_not_see_all_shows_its_own(cluster: Cluster, pictures: Pictures) -> None:
    """And says what would let it: least privilege stays the default."""
    cluster.error = ConfigurationError("grant it the role operator")
    picture = pictures.take()
    assert [("worker", "orders", "email"), ("worker",)] == cluster.opened
    assert (1, "grant it the role operator") == (cluster.closed, picture["note"])
    assert "grant it the role operator" == pictures.take()["note"]
    cluster.error = ConfigurationError("nor that")
    assert "nor that" == pictures.take()["problem"]


@pytest.mark.parametrize("error", [Unavailable("no broker"), ValueError("secret")])
def test_look_that_fails_is_told_and_tried_again(cluster: Cluster, pictures: Pictures, error: Any) -> None:
    """What a bug says is for the log."""
    cluster.error = error
    found = pictures.take()
    assert {"at_ms", "problem"} == found.keys()
    assert "secret" not in found["problem"]
    assert "groups" in pictures.take()
    pictures.close()
    assert 1 == cluster.closed


def test_first_looks_judge_nobody(cluster: Cluster, pictures: Pictures) -> None:
    """A batch that takes a moment isn't a group that stands still."""
    cluster.ends[COMMANDS.name] = cluster.ends[EMAIL_COMMANDS.name] = 9
    cluster.lag = 5
    for _ in range(LOOKS_MIN - 1):
        picture = pictures.take()
        assert {None} == {group["status"] for group in picture["groups"]}
        assert ("well", False) == (picture["verdict"]["level"], picture["verdict"]["known"])
    picture = pictures.take()
    assert {"ERR"} == {group["status"] for group in picture["groups"]}
    assert "bad" == picture["verdict"]["level"]


def test_open_transaction_that_hangs_is_told(cluster: Cluster, pictures: Pictures) -> None:
    """With the partition and for how long, once it is longer than ours can last."""
    cluster.ends[COMMANDS.name] = cluster.ends[EMAIL_COMMANDS.name] = 9
    cluster.unstable = 4
    pictures.take()
    for _ in range(7):
        cluster.ends[COMMANDS.name] += 1
        cluster.unstable += 1
        cluster.ends[EMAIL_COMMANDS.name] += 1
        picture = pictures.take()
    assert 14.0 == picture["groups"][0]["partitions"][0]["hanging_s"]
    assert "well" == picture["verdict"]["level"]
    found = pictures.take()["verdict"]["findings"]
    assert f"t.{COMMANDS.name}/0: an open transaction has held 11 offsets back for 16 s" in [
        one["what"] for one in found
    ]


def test_failures_of_all_workers_are_one_list(cluster: Cluster, pictures: Pictures) -> None:
    """The newest first; how many there were, since when, and who doesn't tell."""
    cluster.members["shop-worker"] = [WORKER, EMAIL]
    one = {"order_id": "a", "command_id": "b", "reason": "CANCELLED", "at": "now"}
    cluster.failures = {
        "since": "2026-01-01T00:00:00.000Z",
        "count": 100,
        "last": [one | {"at_ms": at_ms} for at_ms in range(50, 0, -1)],
    }
    found = pictures.take()["failures"]
    assert (200, "2026-01-01T00:00:00.000Z", []) == (found["count"], found["since"], found["unanswered"])
    assert [50, 50, 49, 49] == [one["at_ms"] for one in found["last"]][:4]
    assert FAILURES_MAX == len(found["last"])
    cluster.failures = {"error": "away"}
    assert {"count": 0, "since": None, "last": [], "unanswered": ["away", "away"]} == pictures.take()["failures"]


def test_no_order_is_named_where_orders_are_not_served(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the other workers would tell."""
    monkeypatch.setattr(Letters, "now", lambda *_: {"since": "24h", "by_reason": None, "at_ms": None})
    cluster.failures = {"since": "x", "count": 1, "last": [{"order_id": "order-7", "at_ms": 1}]}
    picture = Pictures(load(application_id="shop", topic_prefix="t."), cluster.open, cluster.ask).take()
    assert {"error"} == picture["failures"].keys()
    assert "order-7" not in str(picture)


# The verdict.


def _of(changes: dict[str, Any]) -> dict[str, Any]:
    """Return what *changes* say of a member, which are taken out."""
    found = {"held": changes.pop("held", [])}
    return found | ({"partitions": changes.pop("partitions")} if "partitions" in changes else {})


def _picture(**changes: Any) -> dict[str, Any]:
    partition = {
        "topic": "commands", "partition": 0, "status": "OK", "seconds": 0.0, "hanging_s": 0.0, "unstable": 0,
    }  # fmt: skip
    group = {
        "group": "shop-worker",
        "status": "OK",
        "lag": 1_200,
        "members": [{"client_id": "http://one:1", "status": STATUS | _of(changes)}],
        "partitions": [partition | changes.pop("partition", {})],
    }
    return {
        "groups": [group | changes.pop("group", {})],
        "waiting": [],
        "dead_letters": {"since": "24h", "by_reason": {}},
    } | changes


@pytest.mark.parametrize(
    ("changes", "level", "says", "advises"),
    [
        ({"group": {"members": []}}, "bad", "shop-worker has no member", "start its processes"),
        (
            {"group": {"status": "ERR"}, "partition": {"status": "STALL"}},
            "bad",
            "shop-worker: 1 partitions are STALL, lag 1,200",
            "logs",
        ),
        (
            {"held": [{"topic": "email.events", "partition": 3, "offset": 17}]},
            "bad",
            "worker-0 is held at email.events/3/17",
            "rejoinder skip email.events/3/17",
        ),
        (
            {"group": {"status": "WARN"}, "partition": {"seconds": BEHIND_S + 1}},
            "look",
            "not faster than records come: lag 1,200",
            "more processes",
        ),
        ({"partitions": {"3": "held"}}, "bad", "holds partition 3: it doesn't know where to read", "its log"),
        (
            {"group": {"status": "ERR", "lag": None}, "partition": {"status": "STALL"}},
            "bad",
            "1 partitions are STALL, lag unknown",
            "phases",
        ),
        ({"waiting": [{"step": "awaiting details", "oldest_s": WAIT_S * 2}]}, "look", "2.0 hours", "--older-than 1h"),
        (
            {"dead_letters": {"since": "24h", "by_reason": {"null": 1_000, "expired": 2}}},
            "look",
            "1,002 dead letters in the last 24h",
            "rejoinder dead-letters list",
        ),
    ],
)
def test_what_is_told(changes: dict[str, Any], level: str, says: str, advises: str) -> None:
    """What is the matter, how urgent it is, and what to do."""
    found = verdict(_picture(**changes), 15.0)
    (finding,) = found["findings"]
    assert (level, level) == (found["level"], finding["level"])
    assert says in finding["what"]
    assert advises in finding["do"]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"group": {"status": "WARN"}, "partition": {"seconds": BEHIND_S}},
        {"waiting": [{"step": "awaiting details", "oldest_s": WAIT_S}]},
        {"partition": {"hanging_s": 15.0}},
        {"dead_letters": {"since": "24h", "by_reason": None}},
        {"dead_letters": {"since": "24h", "by_reason": None, "error": "may not"}},
    ],
)
def test_what_is_not(changes: dict[str, Any]) -> None:
    """A page that always complains is looked at by nobody."""
    assert ("well", []) == tuple(verdict(_picture(**changes), 15.0)[name] for name in ("level", "findings"))


def test_the_worst_comes_first() -> None:
    """What stands still before what should be looked at."""
    picture = _picture(
        held=[{"topic": "a", "partition": 0, "offset": 1}], dead_letters={"since": "24h", "by_reason": {"null": 1}}
    )
    found = verdict(picture, 15.0)
    assert ["bad", "look"] == [finding["level"] for finding in found["findings"]]
    assert "bad" == found["level"]


# What it is made of.


def test_hanging_begins_when_the_last_stable_offset_stays() -> None:
    """It ends when that moves, or nothing lies behind it any more."""
    hanging, place = Hanging(), Place("g", "t", 0)
    seconds = [
        hanging.seconds(place, Look(at_ms, 0, stable, end, None))
        for at_ms, stable, end in [(0, 5, 5), (1_000, 5, 7), (3_000, 5, 9), (4_000, 8, 9), (6_000, 8, 9), (7_000, 9, 9)]
    ]
    assert [0.0, 0.0, 2.0, 0.0, 2.0, 0.0] == seconds


def test_letters_are_counted_when_there_are_new_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a thread; what is known meanwhile is what was counted last. Not more often than need be."""
    counted = threading.Semaphore(0)
    answers: list[dict[str, Any]] = [{"null": 2}, {"error": "may not"}]

    def count(_: Settings, since_ms: int, letters_max: int) -> dict[str, Any]:
        assert since_ms == 86_400_000
        assert letters_max
        counted.acquire()
        return answers.pop(0)

    letters = Letters(load(), count)
    assert letters.now(5)["by_reason"] is None
    assert letters.now(6)["by_reason"] is None
    _finish(letters, counted)
    assert ({"null": 2}, False) == (letters.now(5)["by_reason"], letters.now(5)["more"])
    # New ones, but it was counted just now.
    assert {"null": 2} == letters.now(6)["by_reason"]
    monkeypatch.setattr("streams.page.letters.AGAIN_S", 0.0)
    assert {"null": 2} == letters.now(6)["by_reason"]
    _finish(letters, counted)
    assert "may not" == letters.now(6)["error"]
    assert [] == answers


def _finish(letters: Letters, counted: threading.Semaphore) -> None:
    counted.release()
    assert letters._thread is not None
    letters._thread.join(10)


def test_failures_are_kept_when_they_are_committed() -> None:
    """The last of them, and how many there were."""
    manager = Manager()
    batch = manager.run(manager.command(), manager.cancel())
    ((order_id, command_id, reason, _),) = batch.failures
    assert ("CANCELLED", False) == (reason, order_id == command_id)
    failures = Failures()
    assert (0, []) == (failures.count, failures.last())
    failures.committed([Work(batch, {}, None)])
    assert batch.failures == failures.last()
    many = Batch(0, [], 1, lambda keys: [None] * len(keys))
    many.failures = [Failure(str(number), "", "", number) for number in range(KEPT)]
    failures.committed([Work(many, {}, None)])
    assert (KEPT + 1, KEPT, str(KEPT - 1)) == (failures.count, len(failures.last()), failures.last()[0].order_id)
