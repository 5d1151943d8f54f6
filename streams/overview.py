"""The whole at a glance, as JSON-ready values: what `rejoinder lag` and `rejoinder status` print and the page shows."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, Final

from streams.errors import RejoinderError
from streams.monitor.dead_letter_log import DeadLetterLog
from streams.monitor.dead_letters import Filters
from streams.monitor.group_offsets import Found
from streams.monitor.lag import History, Place, status_of, sum_of
from streams.peers import ASK_S, ask
from streams.settings import Settings
from streams.transport.topics import ROLES
from topology.topics import Participant

WORKERS: Final = ROLES[Participant.PROCESS_MANAGER]
_AT_ONCE: Final = 16
"""Members that are asked at the same time: one that doesn't answer holds nobody up."""


def members_of(found: Found, groups: Iterable[str] | None = None) -> list[str]:
    """Return the addresses of the members of *groups* (all by default), each once."""
    wanted = found.members if groups is None else [group for group in groups if group in found.members]
    return sorted({member.client_id for group in wanted for member in found.members[group]})


def worker_group(settings: Settings) -> str:
    """Return the process manager's group."""
    return f"{settings.application_id}-{WORKERS}"


def ask_all(settings: Settings, urls: Iterable[str], path: str, timeout_s: float = ASK_S) -> dict[str, dict[str, Any]]:
    """Return what each of *urls* answers to *path*, all asked at once; ``{"error": …}`` of one that doesn't."""

    def answer(url: str) -> dict[str, Any]:
        try:
            return ask(settings, url, path, timeout_s=timeout_s)
        except RejoinderError as exc:
            return {"error": str(exc)}

    asked = list(urls)
    if not asked:
        return {}
    with ThreadPoolExecutor(min(len(asked), _AT_ONCE), "rejoinder-ask") as pool:
        return dict(zip(asked, pool.map(answer, asked), strict=True))


def waiting_of(
    found: Found, group: str, statuses: Mapping[str, Mapping[str, Any]]
) -> tuple[list[dict[str, Any]], list[str]]:
    """
    Return who waits, by what *group*'s workers say of themselves (``/status``, by their addresses).

    Returns:
        One entry a step, all partitions together; and what isn't known, a line each.
    """
    steps: dict[str, dict[str, Any]] = {}
    unowned = sorted({at.partition for at, look in found.looks.items() if at.group == group and look.member is None})
    unanswered = [f"no worker has partition {', '.join(map(str, unowned))}"] if unowned else []
    for url, answer in sorted(statuses.items()):
        if "error" in answer:
            unanswered.append(str(answer["error"]))
            continue
        unanswered += [f"{url} is still counting partition {number}" for number in answer.get("uncounted", ())]
        for one in answer.get("waiting", ()):
            step = steps.setdefault(one["step"], {"step": one["step"], "processes": 0, "oldest_s": 0.0})
            step["processes"] += one["processes"]
            step["oldest_s"] = max(step["oldest_s"], one["oldest_s"])
    return list(steps.values()), unanswered


def picture_of(
    found: Found, histories: Mapping[Place, History], waiting: list[dict[str, Any]], unanswered: list[str]
) -> dict[str, Any]:
    """Return the groups with their members and partitions, and who waits."""
    groups = []
    for group, members in found.members.items():
        of_group = {place: histories[place] for place in sorted(found.looks) if place.group == group}
        status = status_of(of_group.values())
        groups.append(
            {
                "group": group,
                "status": status and status.value,
                "members": [member._asdict() for member in members],
                "lag": sum_of(history.last.lag for history in of_group.values()),
                "partitions": [_partition(place, history) for place, history in of_group.items()],
            }
        )
    return {"groups": groups, "waiting": waiting, "unanswered": unanswered}


def with_statuses(picture: dict[str, Any], statuses: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return *picture*, whose members now have what they say of themselves as ``status``."""
    for group in picture["groups"]:
        for member in group["members"]:
            member["status"] = statuses[member["client_id"]]
    return picture


def dead_letters(settings: Settings, since_ms: int, letters_max: int | None = None) -> dict[str, Any]:
    """
    Return how many dead letters of the last *since_ms* there are, by reason; ``{"error": …}`` if they can't be read.

    *letters_max*: no more than so many are read.
    """
    filters = Filters(frozenset(), time.time_ns() // 1_000_000 - since_ms, frozenset())
    try:
        letters = islice(DeadLetterLog(settings).letters(filters), letters_max)
        return dict(Counter(letter.reason for letter in letters).most_common())
    except RejoinderError as exc:
        return {"error": str(exc)}


def _partition(place: Place, history: History) -> dict[str, Any]:
    look = history.last
    return {
        "topic": place.topic,
        "partition": place.partition,
        "committed": look.committed,
        "end": look.end,
        "stable": look.stable,
        "lag": look.lag,
        "unstable": look.unstable,
        "seconds": look.age_s or 0.0,
        "rate": history.rate,
        "eta_s": history.eta_s,
        "status": history.status and history.status.value,
        "member": look.member and look.member._asdict(),
    }
