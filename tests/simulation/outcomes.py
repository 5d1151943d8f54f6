"""What the world outside sees: per command one outcome, as many e-mails as were asked to be sent again, same bytes."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any, Final

from tests.simulation.checker import Checker
from tests.simulation.kernel import World
from tests.simulation.log import Place
from tests.simulation.participants import Outside
from tests.simulation.worker import PARTITIONS, codec
from topology import ids
from topology.topics import DEAD_LETTERS, EMAIL_COMMANDS, EMAIL_EVENTS, OUTCOMES

_UNKNOWN: Final = "EMAIL_OUTCOME_UNKNOWN"


def check(world: World, checker: Checker, outside: Outside) -> None:
    """Look at all that was committed."""

    def values(topic: str) -> list[bytes]:
        return [
            entry.value or b""
            for number in range(PARTITIONS)
            for entry in world.broker.logs[Place(topic, number)].committed(0, 1 << 40)
        ]

    mails: defaultdict[str, list[bytes]] = defaultdict(list)
    for value in values(EMAIL_COMMANDS.name):
        mails[codec().decode_record(value)[1]["email_id"]].append(value)
    temporary: Counter[str] = Counter()
    refused = set(checker.refused)
    for number in range(PARTITIONS):
        place = Place(EMAIL_EVENTS.name, number)
        for entry in world.broker.logs[place].committed(0, 1 << 40):
            if (place, entry.offset) not in refused:
                record, fields = codec().decode_record(entry.value or b"")
                temporary[fields["email_id"]] += record.endswith("EmailFailed") and not fields["permanent"]
    ends: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for value in values(OUTCOMES.name):
        _, fields = codec().decode_record(value)
        ends[fields["command_id"]].append(fields)
    for order in outside.orders.values():
        for command_id in order.commands:
            email_id = ids.email_id(order.id, command_id)
            sent = mails.pop(email_id, [])
            if len(sent) > 1 + temporary[email_id]:
                world.violation(f"{order.id}: {len(sent)} e-mails, {temporary[email_id]} asked for again")
            if len(set(sent)) > 1:
                world.violation(f"{order.id}: e-mails of {email_id} differ")
            _check_ends(world, order.id, ends.pop(command_id, []))
    if mails or ends:
        world.violation(f"e-mails {sorted(mails)} and outcomes {sorted(ends)} of nobody's commands")
    _check_dead_letters(world, checker, outside)


def _check_ends(world: World, order_id: str, ends: list[dict[str, Any]]) -> None:
    reasons = [end.get("reason", "SENT") for end in ends]
    world.happened.update(f"outcome {reason}" for reason in reasons)
    corrected = len(reasons) == 2 and reasons == [_UNKNOWN, "SENT"]
    if len(reasons) != 1 and not corrected:
        world.violation(f"{order_id}: outcomes {reasons or 'none'}")


def _check_dead_letters(world: World, checker: Checker, outside: Outside) -> None:
    found = []
    for number in range(PARTITIONS):
        for entry in world.broker.logs[Place(DEAD_LETTERS.name, number)].committed(0, 1 << 40):
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
