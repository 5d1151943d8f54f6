"""
What is owed now beside what was recorded: by process and id, whatever the order and the time.

Compared are e-mails (each try, with all that is in it), outcomes (which one, and why) and refusals (why). Queries are
counted, and not compared: whether one is sent depends on which of two topics was read first, how often on the time.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any, Final, NamedTuple

from schemas.codec import Codec
from streams.errors import RejoinderError
from topology.topics import EMAIL_COMMANDS, OUTCOMES, QUERIES

OPEN_MAX: Final = 100_000
"""Differences that are kept: more than that is no difference, but another program."""

REFUSAL: Final = "refused"


class TooManyDifferences(RejoinderError):
    """Almost nothing is as it was recorded."""


class Owed(NamedTuple):
    """One thing owed: by which process, what (a word and an id), and what can be compared of it."""

    order_id: str
    command_id: str
    action: str
    content: str


class Difference(NamedTuple):
    """Something that isn't as it was recorded; None: there was, or is, nothing of it."""

    order_id: str
    command_id: str
    action: str
    recorded: str | None
    now: str | None


def owed_of(codec: Codec, topic: str, key: bytes, value: bytes) -> Owed | None:
    """Return what an output record is; None for a query. Raises as `Codec.decode_record`."""
    order_id = key.decode(errors="replace")
    if topic == QUERIES.name:
        return None
    name, fields = codec.decode_record(value)
    short = name.rpartition(".")[2]
    if topic == EMAIL_COMMANDS.name:
        command: dict[str, Any] = fields["command"]
        body = {field: one for field, one in fields.items() if field != "email_id"}
        # Its digest: nobody's address is to be kept, or shown.
        digest = hashlib.sha256(repr(body).encode()).hexdigest()[:16]
        return Owed(order_id, str(command["command_id"]), f"{short} {fields['email_id']}", f"content {digest}")
    assert topic == OUTCOMES.name
    content = f"{short} {fields['reason']}" if "reason" in fields else short
    return Owed(order_id, str(fields["command_id"]), "outcome", content)


class Judge:
    """Takes both sides as they come; what is the same is forgotten at once."""

    def __init__(self) -> None:
        self.same = 0
        self._open: Counter[Owed] = Counter()
        """How much more often something was recorded than it is owed now; less than 0: the other way round."""
        self._at_ms: dict[Owed, int] = {}

    def recorded(self, owed: Owed, at_ms: int) -> None:
        """Take what was recorded, decided at *at_ms*."""
        self._take(owed, 1, at_ms)

    def now(self, owed: Owed, at_ms: int) -> None:
        """Take what is owed now."""
        self._take(owed, -1, at_ms)

    def _take(self, owed: Owed, by: int, at_ms: int) -> None:
        before = self._open[owed]
        self.same += before * by < 0
        if before + by:
            self._open[owed] = before + by
            self._at_ms[owed] = at_ms
        else:
            del self._open[owed], self._at_ms[owed]
        if len(self._open) > OPEN_MAX:
            raise TooManyDifferences(
                f"more than {OPEN_MAX:,} actions aren't as they were recorded; are policy and schemas the same?"
            )

    def open(self) -> list[tuple[Difference, int]]:
        """Return what isn't the same, each with its time; two sides of one action are one difference."""
        sides: dict[tuple[str, str, str], list[tuple[Owed, int]]] = {}
        for owed, count in self._open.items():
            sides.setdefault(owed[:3], []).extend([(owed, count)] * abs(count))
        found = []
        for (order_id, command_id, action), some in sides.items():
            recorded = [owed for owed, count in some if count > 0]
            now = [owed for owed, count in some if count < 0]
            for at in range(max(len(recorded), len(now))):
                was = recorded[at] if at < len(recorded) else None
                is_ = now[at] if at < len(now) else None
                difference = Difference(order_id, command_id, action, was and was.content, is_ and is_.content)
                found.append((difference, self._at_ms[was or is_ or some[0][0]]))
        return found
