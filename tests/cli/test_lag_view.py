"""What `rejoinder lag` and `status` show, and what they call too much; no broker."""

from __future__ import annotations

import io
import json
from typing import Any, Final

import pytest
from rich.console import Console

from streams.cli.arguments import spoken
from streams.cli.lag import Limits, _show
from streams.monitor.group_offsets import Found
from streams.monitor.lag import History, Look, Member, Place
from streams.overview import picture_of, waiting_of

NOW_MS: Final = 1_770_000_000_000
MEMBER: Final = Member("id-1", "http://one:1", "/10.0.0.1")


def _picture(member: Member | None = MEMBER, **waiting: Any) -> dict[str, Any]:
    """Return a group of two partitions: one 30 behind and catching up, one without a position."""
    histories = {Place("shop-worker", "commands", 0): History(), Place("shop-worker", "commands", 1): History()}
    for at, committed in enumerate((0, 40, 70)):
        looks = (Look(NOW_MS + at * 1_000, committed, 100, 103, member, 12.5), Look(NOW_MS, None, 5, 5, None, 60.0))
        for history, look in zip(histories.values(), looks, strict=True):
            history.add(look)
    found = Found({place: history.last for place, history in histories.items()}, {"shop-worker": [MEMBER]})
    steps = [{"step": "awaiting e-mail", "processes": 1_200, "oldest_s": 3_700.0}]
    return picture_of(found, histories, waiting.get("steps", steps), waiting.get("unanswered", []))


def _shown(picture: dict[str, Any], *, as_json: bool = False) -> list[str]:
    out = io.StringIO()
    _show(Console(file=out, soft_wrap=True, width=400), picture, as_json=as_json, clear=False)
    return out.getvalue().splitlines()


def test_table_is_kafka_s_own_with_more_beside_it() -> None:
    """The same head and order; what isn't known is a dash."""
    head, one, other, *_ = _shown(_picture())
    assert ["GROUP", "TOPIC", "PARTITION", "CURRENT-OFFSET", "LOG-END-OFFSET", "LAG"] == head.split()[:6]
    expected = "shop-worker commands 0 70 103 30 3 12.5 35.0 0s OK id-1 /10.0.0.1 http://one:1"
    assert expected.split() == one.split()
    expected = "shop-worker commands 1 - 5 - 0 60.0 - - STOP - - -"
    assert expected.split() == other.split()
    # Each cell begins where its head does.
    for name, cell in zip(head.split(), one.split(), strict=True):
        assert one[head.index(name) :].startswith(cell)


def test_while_watching_what_is_over_is_told_in_every_look(capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody waits for an exit code then; and a line of JSON holds it too."""
    out, picture = io.StringIO(), _picture()
    over = Limits(10, None, None, status=False).over(picture)
    _show(Console(file=out, soft_wrap=True, width=400), picture, as_json=False, clear=True, over=over)
    assert "over: commands/0 of shop-worker: lag 30, of 10 at most" in out.getvalue()
    _show(Console(file=out), picture, as_json=True, clear=True, over=over)
    assert over == json.loads(capsys.readouterr().out)["over"]


def test_groups_and_who_waits_are_below_the_table() -> None:
    """With what isn't known of them."""
    text = "\n".join(_shown(_picture(unanswered=["http://two:2 doesn't answer"])))
    assert "shop-worker: ERR, lag unknown: there are partitions without a position, members: 1" in text
    assert "awaiting e-mail: 1,200 processes, the oldest for 1h 1m" in text
    assert "isn't all known: http://two:2 doesn't answer" in text
    assert "no process waits for anything" in "\n".join(_shown(_picture(steps=[])))


def test_names_of_others_do_nothing_to_the_terminal() -> None:
    """A client id is whatever somebody joins with."""
    text = "\n".join(_shown(_picture(MEMBER._replace(client_id="[red]\x1b[2J", host="[/]"))))
    assert "\x1b" not in text
    assert "[red]\\x1b[2J" in text
    assert "[/]" in text


def test_picture_is_json() -> None:
    """With everything that the table has."""
    picture = _picture()
    assert picture == json.loads(json.dumps(picture))
    assert (0, 35.0, None) == (
        picture["groups"][0]["partitions"][0]["partition"],
        picture["groups"][0]["partitions"][0]["rate"],
        picture["groups"][0]["lag"],
    )


@pytest.mark.parametrize(
    ("limits", "over"),
    [
        (Limits(None, None, None, status=False), []),
        (Limits(30, None, None, status=False), ["commands/1 of shop-worker: lag unknown, of 30 at most"]),
        (
            Limits(29, None, None, status=False),
            [
                "commands/0 of shop-worker: lag 30, of 29 at most",
                "commands/1 of shop-worker: lag unknown, of 29 at most",
            ],
        ),
        (Limits(None, 20.0, None, status=False), ["commands/1 of shop-worker: 60.0 s behind, of 20 s at most"]),
        (Limits(None, 60.0, 3_700.0, status=False), []),
        (Limits(None, None, 3_600.0, status=False), ["awaiting e-mail: one waits for 3700 s, of 3600 s at most"]),
        (Limits(None, None, None, status=True), ["shop-worker is ERR"]),
    ],
)
def test_thresholds_say_what_is_over_them(limits: Limits, over: list[str]) -> None:
    """A line for each; a lag that nobody knows is over any."""
    assert over == limits.over(_picture())


def test_wait_that_is_not_known_is_over_any_threshold() -> None:
    """A worker that doesn't answer may have the very order that waits."""
    picture = _picture(steps=[], unanswered=["http://two:2 doesn't answer"])
    assert ["who waits isn't known: http://two:2 doesn't answer"] == Limits(None, None, 9e9, status=False).over(picture)


def test_nobody_reads() -> None:
    """A group without a member is over the limit of ``--fail``, whatever its status was; nobody is well so."""
    picture = _picture()
    picture["groups"][0] |= {"members": [], "status": "OK"}
    assert ["shop-worker has no member"] == Limits(None, None, None, status=True).over(picture)
    assert "no member" in "\n".join(_shown(picture))
    picture["groups"][0] |= {"members": [MEMBER._asdict()], "status": None}
    (over,) = Limits(None, None, None, status=True).over(picture)
    assert "too few looks" in over


def test_partition_of_nobody_is_not_known_to_wait_for_nothing() -> None:
    """Its rows are at no worker that could be asked."""
    look = Look(NOW_MS, 5, 5, 5, None, 0.0)
    looks = {Place("shop-worker", topic, number): look for topic in ("commands", "details") for number in (0, 2)}
    looks[Place("shop-worker", "commands", 1)] = look._replace(member=MEMBER)
    looks[Place("shop-email", "mails", 3)] = look
    waiting, unanswered = waiting_of(Found(looks, {"shop-worker": [MEMBER]}), "shop-worker", {})
    assert ([], ["no worker has partition 0, 2"]) == (waiting, unanswered)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "0s"), (0.9, "0s"), (61, "1m 1s"), (3_600, "1h 0m"), (90_061, "1d 1h"), (59.9, "59s")],
)
def test_durations_are_said_in_two_units(seconds: float, expected: str) -> None:
    """The largest ones."""
    assert expected == spoken(seconds)
