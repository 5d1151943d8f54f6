"""
What lies between the participants: three input topics, who has yet to say what, and the gate before deadlines.

Of each topic one partition is seen, and of that one key: its unread records, oldest first. A record is neither lost
nor reordered there. What is lost is never said; what is doubled is said again, by a participant that was killed before
it could remember that it had. So `duplicates` bounds what is said again, and nothing bounds what is left unsaid, or how
late and in which order across topics it is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, TypeAlias

from tests.model.alphabet import mail_answers, orders_answers
from topology.topics import COMMANDS, DETAILS, EMAIL_EVENTS

INPUTS: Final = (COMMANDS.name, DETAILS.name, EMAIL_EVENTS.name)

Unread: TypeAlias = tuple[tuple[str, int], ...]
"""Names of messages and their ages in ticks, oldest first."""

Asked: TypeAlias = tuple[int, int]
"""A query or a SendEmail, see `alphabet.asked`."""


class Ends(NamedTuple):
    """Ends of the topics that were asked for *age* ticks ago, and of each topic how many records lie before its end."""

    age: int
    unread: tuple[int, ...]


class Channels(NamedTuple):
    """Everything outside the process manager's row."""

    unread: tuple[Unread, ...]
    """Of each of `INPUTS`, what the process manager hasn't read yet."""
    unsaid: frozenset[str]
    """What the command source and, unasked, the orders service haven't said yet."""
    said: frozenset[str]
    """What they have said, and might say again."""
    open: frozenset[Asked]
    """What the process manager asked for and nobody has answered yet."""
    answered: frozenset[Asked]
    """What was answered, and might be answered again, perhaps otherwise."""
    duplicates: int
    """How often somebody may still say or answer something again."""
    crashes: int
    """How often the worker may still be killed; what it decided and committed is in its row."""
    ends: Ends | None = None
    """What the worker knows about the topics' ends."""


class Sides:
    """The command source, the orders service and the e-mail service; *topics*: which topic a message goes to."""

    def __init__(self, topics: dict[str, int], versions: Sequence[int], age_max: int) -> None:
        self._topics = topics
        self._versions = tuple(versions)
        self._age_max = age_max

    def moves(self, channels: Channels) -> Iterator[tuple[str, Channels]]:
        """Yield what somebody may say now, and what it leads to."""
        for name in sorted(channels.unsaid):
            said = channels._replace(unsaid=channels.unsaid - {name}, said=channels.said | {name})
            yield name, self._append(said, name)
        for asked in sorted(channels.open):
            answered = channels._replace(open=channels.open - {asked}, answered=channels.answered | {asked})
            for name in self._answers(asked):
                yield name, self._append(answered, name)
        if channels.duplicates:
            again = channels._replace(duplicates=channels.duplicates - 1)
            names = set(channels.said).union(*map(self._answers, channels.answered))
            for name in sorted(names):
                yield f"{name}, again", self._append(again, name)
        if channels.crashes and channels.ends:
            yield "the worker is killed", channels._replace(crashes=channels.crashes - 1, ends=None)

    def _answers(self, asked: Asked) -> list[str]:
        number, attempt = asked
        return list(orders_answers(number, attempt, self._versions) if attempt else mail_answers(number))

    def _append(self, channels: Channels, name: str) -> Channels:
        at, unread = self._topics[name], channels.unread
        return channels._replace(unread=(*unread[:at], (*unread[at], (name, 0)), *unread[at + 1 :]))

    def later(self, channels: Channels) -> Channels:
        """Return the channels a tick later."""
        oldest = self._age_max
        unread = tuple(tuple((name, min(age + 1, oldest)) for name, age in records) for records in channels.unread)
        ends = channels.ends
        if ends is not None:
            # Ends older than any deadline may be overdue let nothing pass any more.
            ends = ends._replace(age=ends.age + 1) if ends.age < oldest else None
        return channels._replace(unread=unread, ends=ends)


def read(channels: Channels, at: int) -> tuple[str, Channels]:
    """Return the name of the oldest unread message of the *at*-th topic, and the channels without it."""
    unread, ends = channels.unread, channels.ends
    (name, _), *rest = unread[at]
    if ends is not None:
        before = max(ends.unread[at] - 1, 0)
        ends = ends._replace(unread=(*ends.unread[:at], before, *ends.unread[at + 1 :]))
    return name, channels._replace(unread=(*unread[:at], tuple(rest), *unread[at + 1 :]), ends=ends)


def ask_for_ends(channels: Channels) -> Channels:
    """Return the channels after the worker was told where the topics end now."""
    return channels._replace(ends=Ends(0, tuple(map(len, channels.unread))))


def ask(channels: Channels, asked: Sequence[Asked]) -> Channels:
    """Return the channels after the process manager asked; what it asks again is open again."""
    return channels._replace(open=channels.open.union(asked), answered=channels.answered.difference(asked))
