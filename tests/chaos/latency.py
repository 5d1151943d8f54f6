"""How long orders took, by the brokers' clock: from the command to its SendEmail, both as they were appended."""

from __future__ import annotations

import statistics
from typing import NamedTuple

from streams.settings import Settings
from streams.transport import config
from tests.chaos import history
from tests.chaos.moments import Event
from tests.chaos.plan import Cancel, Details, Plan
from tests.chaos.system import PARTITIONS
from topology.topics import COMMANDS, EMAIL_COMMANDS


class Latency(NamedTuple):
    """Of *orders*, in milliseconds."""

    orders: int
    p50_ms: float
    p99_ms: float
    most_ms: int


def during(settings: Settings, plan: Plan, began_ms: int, event: Event) -> Latency:
    """
    Return the latency of the commands that came while *event* lasted.

    Of orders whose details were published before, so that nothing but the workers is waited for. What is appended is
    seen by readers once its transaction is committed, some milliseconds later.
    """
    since_ms = began_ms + event.at_s * 1_000
    until_ms = since_ms + event.seconds * 1_000
    came = _first(settings, COMMANDS.name)
    found = sorted(
        sent_ms - came[key]
        for key, sent_ms in _first(settings, EMAIL_COMMANDS.name).items()
        if key in came and since_ms <= came[key] <= until_ms and _plain(plan, key)
    )
    cuts = statistics.quantiles(found, n=100, method="inclusive")
    return Latency(len(found), cuts[49], cuts[98], found[-1])


def _plain(plan: Plan, key: bytes) -> bool:
    order = plan.order(plan.number(key))
    early = {Details.BEFORE, Details.TWICE}
    return order.details in early and order.commands == 1 and order.cancel is Cancel.NONE and not order.poison


def _first(settings: Settings, topic: str) -> dict[bytes, int]:
    """Return when each key's first record was appended, Unix milliseconds."""
    found: dict[bytes, int] = {}
    for number in range(PARTITIONS):
        for message in history.read(config.common(settings), settings.topic(topic), number):
            found.setdefault(message.key, message.at_ms)
    return found
