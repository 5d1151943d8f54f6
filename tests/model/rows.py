"""Rows in canonical form, numbered; what a decision makes of one is worked out once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from tests.model.canonical import NOW_MS, Row, canonical, load
from tests.model.invariants import require
from tests.model.trial import Decide, Result, Said, attempt, decide_again, known, timeless
from tests.model.world import DEADLINE_PASSED, TOPIC_OF
from topology.events import DEADLINE, Cause
from topology.messages import Action, Message
from topology.policy import Policy
from topology.state import NEVER_MS, Order, Step
from topology.transitions import Branch

WAY_MAX: Final = 1_000
"""Ticks and deadlines until everything is forgotten, far more than any policy here needs."""

_EMPTY: Final = 0


class Decided(NamedTuple):
    """What a decision brought about, instants left out: of a few kinds only."""

    message: Message
    owed: tuple[tuple[str, Action], ...]
    forgotten: frozenset[str]
    known: frozenset[str]
    refused: bool


class Rows:
    """
    All rows seen, by number; 0 is the absent one.

    *decide* is on trial, under each of *policies*, which differ in nothing that a row keeps.
    """

    def __init__(self, decide: Decide, policies: Sequence[Policy], overdue_ms_max: int = 0) -> None:
        self.policies = tuple(policies)
        self.decisions = 0
        self.taken: set[Branch] = set()
        self.rows: list[Row] = [None]
        self.kinds: list[Decided] = []
        self._decide = decide
        self._overdue_ms_max = overdue_ms_max
        self._number_of: dict[Row, int] = {None: _EMPTY}
        self._kind_of: dict[Decided, int] = {}
        self._done: dict[tuple[int, Message, int, int], tuple[int, int]] = {}
        self._later: dict[int, int] = {_EMPTY: _EMPTY}
        self._due: dict[int, int] = {}
        self._overdue: dict[tuple[int, int], int] = {}
        self._looked_at = _EMPTY, load(None)
        self._ending: set[tuple[int, int]] = {(_EMPTY, policy) for policy in range(len(self.policies))}

    def decide(self, row: int, message: Message, policy: int = 0, ago_ms: int = 0) -> tuple[int, int]:
        """
        Return the row after *message*, and the number of what kind of decision it was (`kinds`).

        *ago_ms*: as of how many milliseconds ago it is decided.

        Raises:
            Violation: a rule is broken.
        """
        key = row, message, policy, ago_ms
        done = self._done.get(key)
        if done is None:
            done = self._done[key] = self._work_out(row, message, self.policies[policy], ago_ms)
        return done

    def _work_out(self, number: int, message: Message, policy: Policy, ago_ms: int) -> tuple[int, int]:
        self.decisions += 1
        row, before = self._look_at(number)
        topic = TOPIC_OF.get(type(message))
        cause = Cause(topic, 1) if topic else DEADLINE
        said = Said(message, cause, NOW_MS - ago_ms, policy)
        result = attempt(self._decide, row, before, said)
        self.taken.update(result.taken)
        kind = self._number_kind(_kind(before, result, said))
        if result.row == row:
            return number, kind
        # What happened *ago_ms* ago is seen from now.
        return self._number(decide_again(self._decide, row, said, result, NOW_MS, self._overdue_ms_max)), kind

    def _look_at(self, number: int) -> tuple[Row, Order]:
        """Return a row and its order, which is only looked at; every message is said to one row after the other."""
        if self._looked_at[0] != number:
            self._looked_at = number, load(self.rows[number])
        return self.rows[number], self._looked_at[1]

    def later(self, row: int) -> int:
        """Return the row a tick later."""
        later = self._later.get(row)
        if later is None:
            policy = self.policies[0]
            order = load(self.rows[row])
            later = self._later[row] = self._number(canonical(order, NOW_MS + 1, policy, self._overdue_ms_max))
        return later

    def due_in_ms(self, row: int) -> int:
        """Return in how many milliseconds the row is due, not above 0 if it is; `NEVER_MS` if it never is."""
        due = self._due.get(row)
        if due is None:
            policy = self.policies[0]
            due_ms = load(self.rows[row]).next_due_ms(policy.details_ttl_ms, policy.finished_ttl_ms)
            due = self._due[row] = due_ms if due_ms == NEVER_MS else due_ms - NOW_MS
        return due

    def overdue_ms(self, row: int, ago_ms: int) -> int:
        """Return by how much what falls due last of all that is due as of *ago_ms* ago is overdue."""
        key = row, ago_ms
        overdue = self._overdue.get(key)
        if overdue is None:
            due_ms = _due_until(load(self.rows[row]), NOW_MS - ago_ms, self.policies[0])
            overdue = self._overdue[key] = NOW_MS - max(due_ms)
        return overdue

    def require_end(self, row: int, policy: int = 0) -> None:
        """
        Follow *row* with time alone until nothing is remembered.

        Raises:
            Violation: that never happens.
        """
        on_the_way: list[tuple[int, int]] = []
        while (row, policy) not in self._ending:
            ends = (row, policy) not in on_the_way and len(on_the_way) < WAY_MAX
            require("with time alone everything ends", ends, self.rows[row])
            on_the_way.append((row, policy))
            require("what is remembered has a deadline", self.due_in_ms(row) != NEVER_MS, self.rows[row])
            if self.due_in_ms(row) > 0:
                row = self.later(row)
            else:
                row, _ = self.decide(row, DEADLINE_PASSED, policy)
        self._ending.update(on_the_way)

    def _number(self, row: Row) -> int:
        number = self._number_of.get(row)
        if number is None:
            number = self._number_of[row] = len(self.rows)
            self.rows.append(row)
        return number

    def _number_kind(self, kind: Decided) -> int:
        number = self._kind_of.get(kind)
        if number is None:
            number = self._kind_of[kind] = len(self.kinds)
            self.kinds.append(kind)
        return number


def _due_until(order: Order, now_ms: int, policy: Policy) -> Iterator[int]:
    """Yield the instants at which what is due by *now_ms* fell due."""
    for process in order.processes.values():
        if process.due_ms <= now_ms:
            give_up_at_ms = process.received_ms + policy.give_up_after_ms
            gives_up = process.step in {Step.AWAITING_DETAILS, Step.RETRYING_EMAIL} and give_up_at_ms <= now_ms
            yield max(process.due_ms, give_up_at_ms) if gives_up else process.due_ms
    if order.details is not None and order.details.seen_ms + policy.details_ttl_ms <= now_ms:
        yield order.details.seen_ms + policy.details_ttl_ms
    for seen_ms in order.remembered.values():
        if seen_ms + policy.finished_ttl_ms <= now_ms:
            yield seen_ms + policy.finished_ttl_ms


def _kind(before: Order, result: Result, said: Said) -> Decided:
    now_known = known(result.after)
    return Decided(said.message, timeless(result, said), known(before) - now_known, now_known, result.refused)
