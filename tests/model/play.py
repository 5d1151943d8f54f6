"""
One order's life, said message by message, with whole rows and timelines and the instants as they are.

What a way of the explorer, a printed counterexample and the stateful tests run. Two workers live through it side by
side. One is never killed, its order stays in memory; the other is killed before every commit and after it, so that it
decides everything twice and goes on from stored rows. They must agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tests.model.canonical import Row, load, store
from tests.model.described import email_id
from tests.model.history import NOTHING, Told, told_after
from tests.model.invariants import require
from tests.model.trial import Decide, Result, Said, attempt, decide_again, known
from tests.model.world import COMMAND_IDS, ORDER, TOPIC_OF
from topology.events import DEADLINE, Cause
from topology.messages import DeadlinePassed, Message
from topology.policy import Policy
from topology.process import TooManyProcesses
from topology.state import NEVER_MS, Order
from topology.transitions import Branch

DEADLINES_MAX: Final = 10_000
"""Far more than any policy here lets an order have."""


class Play:
    """
    One order under *decide* and *policy*, which may be replaced, as a deployment does.

    *command_ids* are all its commands: what becomes of a mail may be reported before its command comes.

    Everything raises `invariants.Violation` as soon as a promise is broken.
    """

    def __init__(
        self, decide: Decide, policy: Policy, order_id: str = ORDER, command_ids: Sequence[str] = COMMAND_IDS
    ) -> None:
        self.policy = policy
        self.row: Row = None
        self.live = Order(order_id)
        self.told: dict[str, Told] = dict.fromkeys(command_ids, NOTHING)
        self.taken: set[Branch] = set()
        self.said = 0
        self._decide = decide

    @property
    def due_ms(self) -> int:
        """When something is due next."""
        return self.live.next_due_ms(self.policy.details_ttl_ms, self.policy.finished_ttl_ms)

    def say(self, now_ms: int, message: Message) -> Result:
        """Decide *message* at *now_ms*; return what came of it."""
        topic = TOPIC_OF.get(type(message))
        cause = Cause(topic, self.said) if topic else DEADLINE
        self.said += 1
        before = load(self.row, self.live.order_id)
        said = Said(message, cause, now_ms, self.policy)
        result = attempt(self._decide, self.row, before, said)
        decide_again(self._decide, self.row, said, result._replace(after=load(result.row, before.order_id)), now_ms)
        self._go_on_in_memory(result, said)
        self._tell(message, before, result)
        self.row = result.row
        self.taken.update(result.taken)
        return result

    def _go_on_in_memory(self, result: Result, said: Said) -> None:
        try:
            decision = self._decide(self.live, *said)
        except TooManyProcesses:
            require("a crash changes nothing", result.refused, said)
            return
        owed = tuple((process.command_id, action) for process, action in decision.owed)
        require("a crash changes nothing of what is owed", owed == result.owed, owed, result.owed)
        row = store(self.live, self.policy)
        require("a crash changes nothing of what is remembered", row == result.row, row, result.row)

    def _tell(self, message: Message, before: Order, result: Result) -> None:
        if result.refused:
            return
        then, now = known(before), known(result.after)
        for command_id, told in self.told.items():
            ids = {command_id, email_id(command_id, self.live.order_id)}
            owed = tuple(action for owner, action in result.owed if owner == command_id)
            forgotten = bool(ids & then) and not ids & now
            self.told[command_id] = told_after(told, command_id, message, owed, forgotten=forgotten)

    def end(self, now_ms: int = 0) -> None:
        """Let time pass, and nothing else, until nothing is remembered; every timeline is told to the end."""
        for _ in range(DEADLINES_MAX):
            if self.live.empty:
                require("of an order without anything a tombstone is left", self.row is None, self.row)
                return
            require("what is remembered has a deadline", self.due_ms != NEVER_MS, self.row)
            self.say(max(self.due_ms, now_ms), DeadlinePassed(self.live.order_id))
        require("with time alone everything ends", False, self.live.processes)
