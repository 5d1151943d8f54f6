"""What the world outside sees: per command one outcome, as many e-mails as were asked to be sent again, same bytes."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any, Final

from tests.simulation.checker import Checker
from tests.simulation.kernel import World
from tests.simulation.log import Entry, Place
from tests.simulation.participants import Outside
from tests.simulation.worker import PARTITIONS, codec
from topology import ids
from topology.topics import DEAD_LETTERS, EMAIL_COMMANDS, EMAIL_EVENTS, OUTCOMES

_UNKNOWN: Final = "EMAIL_OUTCOME_UNKNOWN"
_CANCELLED: Final = "CANCELLED"
_WITH_MAIL: Final = frozenset({"SENT", "EMAIL_REJECTED", _UNKNOWN})
_WITHOUT_MAIL: Final = frozenset({"ORDER_NOT_FOUND", "ORDER_DETAILS_TIMED_OUT"})


def _values(world: World, topic: str) -> list[tuple[Place, Entry]]:
    """Return all committed records of *topic*."""
    logs = [world.broker.logs[Place(topic, number)] for number in range(PARTITIONS)]
    return [(log.place, entry) for log in logs for entry in log.committed(0, log.end)]


def check(world: World, checker: Checker, outside: Outside) -> None:
    """Look at all that was committed."""
    mails: defaultdict[str, list[bytes]] = defaultdict(list)
    for _, entry in _values(world, EMAIL_COMMANDS.name):
        mails[_fields(entry)["email_id"]].append(entry.value or b"")
    ends: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for _, entry in _values(world, OUTCOMES.name):
        fields = _fields(entry)
        ends[fields["command_id"]].append(fields)
    again = _asked_again(world, set(checker.refused))
    for order in outside.orders.values():
        for command_id in order.commands:
            email_id = ids.email_id(order.id, command_id)
            sent = mails.pop(email_id, [])
            if len(sent) > 1 + again[email_id]:
                world.violation(f"{order.id}: {len(sent)} e-mails, {again[email_id]} asked for again")
            if len(set(sent)) > 1:
                world.violation(f"{order.id}: e-mails of {email_id} differ")
            _check_ends(world, order.id, ends.pop(command_id, []), len(sent), command_id in outside.cancelled)
    if mails or ends:
        world.violation(f"e-mails {sorted(mails)} and outcomes {sorted(ends)} of nobody's commands")
    _check_dead_letters(world, outside)


def _fields(entry: Entry) -> dict[str, Any]:
    return codec().decode_record(entry.value or b"")[1]


def _asked_again(world: World, refused: set[tuple[Place, int]]) -> Counter[str]:
    """Return how often each e-mail was reported to have failed for the time being."""
    again: Counter[str] = Counter()
    for place, entry in _values(world, EMAIL_EVENTS.name):
        if (place, entry.offset) not in refused:
            fields = _fields(entry)
            again[fields["email_id"]] += fields.get("permanent") is False
    return again


def _check_ends(world: World, order_id: str, ends: list[dict[str, Any]], mails: int, cancelled: bool) -> None:
    reasons = [end.get("reason", "SENT") for end in ends]
    world.happened.update(f"outcome {reason}" for reason in reasons)
    corrected = len(reasons) == 2 and reasons == [_UNKNOWN, "SENT"]
    if len(reasons) != 1 and not corrected:
        world.violation(f"{order_id}: outcomes {reasons or 'none'}")
    # Not by the process manager's own rules, which the serial replay shares with the workers.
    for reason in reasons:
        if (reason in _WITH_MAIL and not mails) or (reason in _WITHOUT_MAIL and mails):
            world.violation(f"{order_id}: {reason} with {mails} e-mails")
        if reason == _CANCELLED and not cancelled:
            world.violation(f"{order_id}: {reason}, which nobody asked for")


def _check_dead_letters(world: World, outside: Outside) -> None:
    found = []
    for _, entry in _values(world, DEAD_LETTERS.name):
        headers = dict(entry.headers or [])
        topic, offset = headers["__streams.errors.topic"].decode(), int(headers["__streams.errors.offset"])
        place = Place(topic, int(headers["__streams.errors.partition"]))
        source = world.broker.logs[place].entries[offset]
        assert source is not None
        if (source.key, source.value) != (entry.key, entry.value):
            world.violation(f"the dead letter of {place} offset {offset} isn't its bytes")
        found.append((place, offset))
    if sorted(found) != sorted(outside.poison):
        world.violation(f"dead letters {sorted(found)}, poison {sorted(outside.poison)}")
