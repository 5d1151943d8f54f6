"""
The judgement of one order: C1 to C4, each a function of what was read, without a broker.

C1  each command with details has at least one SendEmail
C2  at most one, and one more for each EmailFailed that wasn't permanent
C3  everything that was produced equals what the model allows
C4  inputs = ended + waiting + dead letters
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, NamedTuple

from tests.chaos.history import INPUT_TOPICS, Given, History, Made
from tests.chaos.model import Input, Inputs, Kind, Process, Produced, Step, explain
from tests.chaos.plan import REASONS
from topology.policy import Policy
from topology.topics import COMMANDS, DEAD_LETTERS, EMAIL_COMMANDS, OUTCOMES, QUERIES

EXPLAINED_MAX: Final = 100_000
SLACK_MS: Final = 15_000
"""
How long a record that the broker has stamped may stay invisible, while replicas catch up or a broker is away: a
deadline that passed in that time couldn't see it.
"""


class Violation(NamedTuple):
    """What is wrong with one order; *where* are the records that show it: topic/partition/offset."""

    check: str
    order_id: str
    what: str
    where: tuple[str, ...] = ()


@dataclass(slots=True)
class Tally:
    """What was counted on the way; adds up over orders and partitions."""

    orders: int = 0
    inputs: int = 0
    commands: int = 0
    ended: int = 0
    waiting: int = 0
    emails: int = 0
    queries: int = 0
    dead_letters: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    resends: int = 0
    """SendEmails after the first that the promise allows: each after an EmailFailed that wasn't permanent."""
    resends_of_doubled: int = 0
    """Of these, those beyond what the service refused: it said EmailFailed twice, and each may be answered."""
    corrections: int = 0
    """Sent, after EMAIL_OUTCOME_UNKNOWN."""
    rows: int = 0
    stores: int = 0
    stale_stores: int = 0
    checked: Counter[str] = field(default_factory=Counter)
    """How many things each check has looked at."""

    def add(self, other: Tally) -> None:
        """Add *other*."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


def _where(history: History, topic: str, made: list[Made]) -> tuple[str, ...]:
    return tuple(f"{topic}/{history.partition}/{one.offset}" for one in made)


def _given(history: History, topic: int, kinds: set[Kind], command: int | None = None) -> list[Given]:
    return [
        one
        for one in history.given[topic]
        if one.input.kind in kinds and (command is None or one.input.command == command)
    ]


def _received(history: History) -> list[tuple[int, Given]]:
    """Return the commands that are in the log, each with its first record."""
    found: dict[int, Given] = {}
    for one in _given(history, 0, {Kind.COMMAND}):
        found.setdefault(one.input.command, one)
    return sorted(found.items())


# C1


def sent_at_least_once(history: History, policy: Policy) -> Iterator[Violation]:
    """C1: a command of an order whose details came has a SendEmail, unless it ended before with a reason that holds."""
    details = _given(history, 1, {Kind.DETAILS})
    for command, first in _received(history):
        if history.emails[command]:
            continue
        ended = history.ended[command]
        reason = ended[0].text if ended else None
        early = _given(history, 2, {Kind.EARLY}, command)
        excused = (
            (reason is None and not details)  # It waits, and C4 looks for it.
            or (reason == "" and early)
            or (reason == "CANCELLED" and command == 0 and _given(history, 0, {Kind.CANCEL}))
            or (reason == "ORDER_NOT_FOUND" and _given(history, 1, {Kind.NOT_FOUND}, command))
            or (reason == "ORDER_DETAILS_TIMED_OUT" and not _came_in_time(details, first, policy))
        )
        if not excused:
            what = f"command {command} has no SendEmail; ended: {'no' if reason is None else reason or 'sent'}"
            where = [f"{COMMANDS.name}/{history.partition}/{first.offset}"]
            where += [f"{INPUT_TOPICS[1]}/{history.partition}/{one.offset}" for one in details]
            yield Violation("C1", history.order.id, what, (*where, *_where(history, OUTCOMES.name, ended)))


def _came_in_time(details: list[Given], command: Given, policy: Policy) -> bool:
    """Whether details were in the log when the command's time was up, so that they had to be read first."""
    return any(one.at_ms < command.at_ms + policy.give_up_after_ms - SLACK_MS for one in details)


# C2


def sent_at_most_once(history: History, tally: Tally) -> Iterator[Violation]:
    """C2: one SendEmail a command, and one more for each EmailFailed that wasn't permanent; counts those allowed."""
    for command, emails in history.emails.items():
        failed = [one for one in _given(history, 2, {Kind.FAILED}, command) if not one.input.number]
        if not emails:
            continue
        if len(emails) > 1 + len(failed):
            what = f"command {command} has {len(emails)} SendEmails, and {len(failed)} EmailFailed that allow one more"
            yield Violation("C2", history.order.id, what, _where(history, EMAIL_COMMANDS.name, emails))
            continue
        tally.resends += len(emails) - 1
        if history.order.email_twice:
            tally.resends_of_doubled += max(0, len(emails) - 1 - (len(failed) + 1) // 2)


# C3

_explained: dict[tuple[Inputs, tuple[Produced, ...]], tuple[Process, ...] | None] = {}


def equals_model(history: History) -> Iterator[Violation]:
    """C3: what was produced is what the model yields for some interleaving of the inputs; ids and bytes as derived."""
    order = history.order
    for what in history.strange:
        yield Violation("C3", order.id, what)
    for command, emails in history.emails.items():
        altered = [one for one in emails if one.number < 0]
        if altered or len({one.number for one in emails}) > 1:
            what = f"command {command}: SendEmails that aren't what their halves were, or differ"
            yield Violation("C3", order.id, what, _where(history, EMAIL_COMMANDS.name, emails))
            return
    for command, queries in history.queries.items():
        if [one.number for one in queries] != list(range(1, len(queries) + 1)):
            what = f"command {command}: queries of the attempts {[one.number for one in queries]}"
            yield Violation("C3", order.id, what, _where(history, QUERIES.name, queries))
            return
    inputs, produced = shape(history)
    if explained(inputs, produced) is None:
        what = f"no interleaving of {_told(inputs)} yields {[tuple(one) for one in produced]}"
        yield Violation("C3", order.id, what, _all(history))


def explained(inputs: Inputs, produced: tuple[Produced, ...]) -> tuple[Process, ...] | None:
    """Return what `explain` does; most orders are alike, so that few are looked at."""
    shape = inputs, produced
    if shape not in _explained:
        if len(_explained) >= EXPLAINED_MAX:
            _explained.clear()
        _explained[shape] = explain(inputs, produced)
    return _explained[shape]


def shape(history: History) -> tuple[Inputs, tuple[Produced, ...]]:
    """Return what is to be explained, without what makes this order another than its like."""
    inputs = tuple(tuple(one.input for one in topic) for topic in history.given)
    produced = tuple(
        Produced(
            len(history.queries[command]),
            len(history.emails[command]),
            history.emails[command][0].number if history.emails[command] else 0,
            tuple(one.text for one in history.ended[command]),
        )
        for command in range(history.order.commands)
    )
    return inputs, produced  # type: ignore[return-value]


def _told(inputs: Inputs) -> str:
    def name(one: Input) -> str:
        return f"{one.kind.name}({one.command},{one.number})"

    return "; ".join(" ".join(map(name, topic)) for topic in inputs)


def _all(history: History) -> tuple[str, ...]:
    where = [
        f"{INPUT_TOPICS[topic]}/{history.partition}/{one.offset}" for topic in range(3) for one in history.given[topic]
    ]
    for topic, made in (
        (QUERIES.name, history.queries),
        (EMAIL_COMMANDS.name, history.emails),
        (OUTCOMES.name, history.ended),
    ):
        for some in made.values():
            where += _where(history, topic, some)
    return tuple(where)


def not_too_early(history: History, policy: Policy) -> Iterator[Violation]:
    """C3, the clock's part: nothing that a deadline brings about comes before the deadline can have passed."""
    commands = dict(_received(history))
    for command, queries in history.queries.items():
        for before, after in pairwise(queries):
            wait_ms = _least_ms(policy, before.number)
            if after.at_ms - before.at_ms < wait_ms:
                what = f"command {command}: query {after.number} {after.at_ms - before.at_ms} ms after the one before"
                yield Violation("C3", history.order.id, what, _where(history, QUERIES.name, [before, after]))
    for command, emails in history.emails.items():
        failed = [one for one in _given(history, 2, {Kind.FAILED}, command) if not one.input.number]
        for attempt, (cause, again) in enumerate(zip(failed, emails[1:], strict=False), start=1):
            if again.at_ms - cause.at_ms < _least_ms(policy, attempt):
                what = f"command {command}: SendEmail {attempt + 1} {again.at_ms - cause.at_ms} ms after its failure"
                yield Violation("C3", history.order.id, what, _where(history, EMAIL_COMMANDS.name, [again]))
    waits = {
        "ORDER_DETAILS_TIMED_OUT": policy.give_up_after_ms,
        "EMAIL_OUTCOME_UNKNOWN": policy.email_outcome_wait_ms,
    }
    for command, ended in history.ended.items():
        for one in ended:
            if command in commands and one.at_ms < commands[command].at_ms + waits.get(one.text, 0):
                what = f"command {command}: {one.text} {one.at_ms - commands[command].at_ms} ms after it came"
                yield Violation("C3", history.order.id, what, _where(history, OUTCOMES.name, [one]))


def _least_ms(policy: Policy, attempt: int) -> int:
    """Return the shortest wait after the *attempt*-th try: half of it is jitter."""
    return min(policy.retry_first_ms << min(attempt - 1, 20), policy.retry_most_ms) // 2 - 1


# C4


def all_accounted_for(history: History, steps: Mapping[int, Step], tally: Tally) -> Iterator[Violation]:
    """C4: each command has ended or is in the table, waiting; what was refused, and nothing else, is a dead letter."""
    order = history.order
    letters = Counter((letter.topic, letter.source_offset) for letter in history.dead)
    wanted = Counter((COMMANDS.name, offset) for offset in history.poisons)
    for topic, offset in (letters - wanted).elements():
        what = f"a dead letter too many, of {topic}/{history.partition}/{offset}"
        yield Violation("C4", order.id, what, _letters(history, offset))
    for topic, offset in (wanted - letters).elements():
        yield Violation("C4", order.id, "no dead letter", (f"{topic}/{history.partition}/{offset}",))
    for letter in history.dead:
        if order.poison and (not letter.intact or letter.reason != REASONS[order.poison]):
            what = f"a dead letter that is altered, or wrong about why: {letter.reason}"
            yield Violation("C4", order.id, what, _letters(history, letter.source_offset))
    for command, first in _received(history):
        ended = history.ended[command]
        step = steps.get(command, Step.ABSENT)
        where = (f"{COMMANDS.name}/{history.partition}/{first.offset}", *_where(history, OUTCOMES.name, ended))
        if ended:
            right = Step.FAILED if ended[-1].text else Step.SENT
            if step is not right:
                what = f"command {command} ended {ended[-1].text or 'sent'}, but its row says {step.name}"
                yield Violation("C4", order.id, what, where)
            tally.ended += 1
        elif step in {Step.AWAITING_DETAILS, Step.AWAITING_EMAIL, Step.RETRYING}:
            tally.waiting += 1
        else:
            what = f"command {command} has neither ended nor does it wait: {step.name}"
            yield Violation("C4", order.id, what, where)


def _letters(history: History, source_offset: int) -> tuple[str, ...]:
    return tuple(
        f"{DEAD_LETTERS.name}/{history.partition}/{letter.offset}"
        for letter in history.dead
        if letter.source_offset == source_offset
    )


def judge(history: History, steps: Mapping[int, Step], policy: Policy, tally: Tally) -> list[Violation]:
    """Return all that is wrong with one order, and count it."""
    count(history, tally)
    return [
        *sent_at_least_once(history, policy),
        *sent_at_most_once(history, tally),
        *equals_model(history),
        *not_too_early(history, policy),
        *all_accounted_for(history, steps, tally),
    ]


def count(history: History, tally: Tally) -> None:
    """Count what *history* holds."""
    received = len(_received(history))
    emails = sum(map(len, history.emails.values()))
    tally.orders += 1
    tally.inputs += sum(map(len, history.given)) + len(history.poisons)
    tally.commands += received
    tally.emails += emails
    tally.queries += sum(map(len, history.queries.values()))
    tally.dead_letters += len(history.dead)
    for ended in filter(None, history.ended.values()):
        tally.outcomes[ended[-1].text or "SENT"] += 1
        tally.corrections += len(ended) > 1
    tally.checked["C1"] += received
    tally.checked["C2"] += emails
    tally.checked["C3"] += emails + sum(map(len, history.queries.values())) + sum(map(len, history.ended.values()))
    tally.checked["C4"] += received + len(history.poisons)
