"""Is everything well? What in a picture wants somebody's attention, the worst first, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any, Final, NamedTuple

from streams.monitor.lag import Status
from topology.policy import HOUR_MS

BEHIND_S: Final = 10.0
"""A group that doesn't catch up is told of when it is behind by more: a few records always are under way."""
WAIT_S: Final = HOUR_MS / 1000
"""A process that waits for longer is worth a look."""

_BROKEN: Final = frozenset({Status.STALL.value, Status.STOP.value, Status.REWIND.value})


class Level(Enum):
    """How urgent it is."""

    BAD = "bad"
    """Something stands still."""
    LOOK = "look"
    """All goes on, but somebody should look."""


class Finding(NamedTuple):
    """*what* is the matter, what to *do*, and which part of the page shows it."""

    level: Level
    what: str
    do: str
    where: str


def verdict(picture: Mapping[str, Any], hanging_s: float) -> dict[str, Any]:
    """
    Return what there is to say of *picture* (of `collector.Collector`), JSON-ready.

    *hanging_s*: an open transaction that holds a partition up for longer is told of.
    ``known`` is false as long as there were too few looks to judge by.
    """
    found = [*_groups(picture), *_members(picture), *_hanging(picture, hanging_s), *_orders(picture)]
    found.sort(key=lambda finding: finding.level is not Level.BAD)
    known = all(group["status"] is not None for group in picture["groups"])
    return {
        "level": found[0].level.value if found else "well",
        "known": known,
        "findings": [finding._asdict() | {"level": finding.level.value} for finding in found],
    }


def _groups(picture: Mapping[str, Any]) -> Iterator[Finding]:
    for group in picture["groups"]:
        name, lag = group["group"], "unknown" if group["lag"] is None else f"{group['lag']:,}"
        if not group["members"]:
            what = f"{name} has no member: nobody reads"
            yield Finding(Level.BAD, what, "start its processes; nothing is lost, they go on where they were", "lag")
            continue
        if group["status"] == Status.ERR.value:
            broken = [at for at in group["partitions"] if at["status"] in _BROKEN]
            words = ", ".join(sorted({at["status"] for at in broken}))
            what = f"{name}: {len(broken)} partitions are {words}, lag {lag}"
            yield Finding(Level.BAD, what, "look at its members' phases below, and at their logs", "lag")
        elif group["status"] == Status.WARN.value and any(at["seconds"] > BEHIND_S for at in group["partitions"]):
            what = f"{name} gets on, but not faster than records come: lag {lag}"
            yield Finding(Level.LOOK, what, "more processes, up to the number of partitions", "lag")


def _members(picture: Mapping[str, Any]) -> Iterator[Finding]:
    for group in picture["groups"]:
        for member in group["members"]:
            status = member["status"]
            if "error" in status:
                what = f"{member['client_id']} of {group['group']} doesn't tell how it is: {status['error']}"
                yield Finding(Level.LOOK, what, "does it run, and may it be asked? Its log says more", "members")
                continue
            known = {at["partition"] for at in status["held"]}
            held = [number for number, phase in status["partitions"].items() if phase == "held"]
            if unknown := [number for number in held if int(number) not in known]:
                what = f"{status['instance']} holds partition {', '.join(unknown)}: it doesn't know where to read from"
                yield Finding(Level.BAD, what, "its log says which position is missing, and what to do", "members")
            for at in status["held"]:
                record = f"{at['topic']}/{at['partition']}/{at['offset']}"
                what = f"{status['instance']} is held at {record}: our own code fails on that record"
                yield Finding(Level.BAD, what, f"roll back the release, or: rejoinder skip {record}", "members")


def _hanging(picture: Mapping[str, Any], hanging_s: float) -> Iterator[Finding]:
    for group in picture["groups"]:
        for at in group["partitions"]:
            if at["hanging_s"] > hanging_s:
                what = (
                    f"{at['topic']}/{at['partition']}: an open transaction has held {at['unstable']:,} offsets back "
                    f"for {at['hanging_s']:.0f} s"
                )
                yield Finding(Level.LOOK, what, "whose it is: kafka-transactions.sh find-hanging", "lag")


def _orders(picture: Mapping[str, Any]) -> Iterator[Finding]:
    for step in picture["waiting"]:
        if step["oldest_s"] > WAIT_S:
            what = f"{step['step']}: a process has waited for {step['oldest_s'] / 3600:.1f} hours"
            yield Finding(Level.LOOK, what, f'rejoinder waiting --step "{step["step"]}" --older-than 1h', "waiting")
    letters = picture["dead_letters"]
    if count := sum((letters.get("by_reason") or {}).values()):
        what = f"{count:,} dead letter{'s' if count > 1 else ''} in the last {letters['since']}"
        yield Finding(Level.LOOK, what, "rejoinder dead-letters list", "dead-letters")
