"""
Long lives, drawn by Hypothesis: more orders, commands and versions than the explorer can go through, the same promises.

Half of what is said answers what was asked, so that lives get somewhere; the other half is anything.
"""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from tests.model import world
from tests.model.invariants import Violation
from tests.model.mutants import MUTANTS
from tests.model.play import Play
from tests.model.trial import Decide
from topology.messages import (
    Action,
    CancelOrderConfirmation,
    DeadlinePassed,
    GetOrderDetails,
    Message,
    SendEmail,
    SendOrderConfirmationEmail,
)
from topology.policy import DAY_MS, HOUR_MS, MINUTE_MS, NEVER_ASK, SECOND_MS, Policy
from topology.process import decide
from topology.state import NEVER_MS

ORDERS: Final = ("order-1", "bestellung-ä", "3")
COMMANDS: Final = tuple(f"0b5e7a4c-9a55-4f0e-8d0a-3c1f6d2b9e{number:02x}" for number in range(6))
PROCESSES_MAX: Final = 4
BEGIN_MS: Final = 1_764_000_000_000

orders = st.sampled_from(ORDERS)
commands = st.sampled_from(COMMANDS)
policies = st.fixed_dictionaries(
    {
        "ask_after_ms": st.sampled_from([0, MINUTE_MS, NEVER_ASK]),
        "details_max_age_ms": st.sampled_from([SECOND_MS, HOUR_MS]),
        "details_ttl_ms": st.sampled_from([2 * HOUR_MS, 7 * DAY_MS]),
        "retry_first_ms": st.sampled_from([SECOND_MS, HOUR_MS]),
        "not_found_attempts": st.integers(1, 3),
        "give_up_after_ms": st.sampled_from([MINUTE_MS, HOUR_MS, DAY_MS]),
        "email_attempts": st.sampled_from([1, 2, 3, 10]),
        "email_outcome_wait_ms": st.sampled_from([MINUTE_MS, DAY_MS]),
        "processes_max": st.just(PROCESSES_MAX),
    }
).map(lambda drawn: Policy(**drawn))
waits_ms = st.sampled_from([0, 1, SECOND_MS, MINUTE_MS, HOUR_MS, DAY_MS, 8 * DAY_MS, 36 * DAY_MS])
versions = st.integers(1, 5)


def anything(order_id: str) -> st.SearchStrategy[Message]:
    """Return a strategy for whatever may be said of an order."""
    order = st.just(order_id)
    return st.one_of(
        st.builds(world.command, commands, order),
        st.builds(world.cancel, commands, order),
        st.builds(world.details, versions, order),
        st.builds(world.not_found, commands, st.integers(1, 4), order),
        st.builds(world.sent, commands, order),
        st.builds(world.failed, commands, order, permanent=st.booleans()),
    )


def answers(order_id: str, command_id: str, action: Action) -> st.SearchStrategy[Message]:
    """Return a strategy for what may be answered to a query or a SendEmail."""
    if isinstance(action, GetOrderDetails):
        missing = world.not_found(command_id, action.attempt, order_id)
        return st.one_of(st.builds(world.details, versions, st.just(order_id)), st.just(missing))
    refused = st.builds(world.failed, st.just(command_id), st.just(order_id), permanent=st.booleans())
    return st.one_of(st.just(world.sent(command_id, order_id)), refused)


class Lives(RuleBasedStateMachine):
    """Several orders, each a `Play`, by one clock; every decision is checked as it is made."""

    decide: Decide = staticmethod(decide)

    def __init__(self) -> None:
        super().__init__()
        self.now_ms = BEGIN_MS
        self.plays: dict[str, Play] = {}
        self.asked: list[tuple[str, str, Action]] = []
        """What nobody has answered yet: an order, a command, a query or a mail."""

    @initialize(policy=policies)
    def start(self, policy: Policy) -> None:
        """Begin with nothing."""
        self.plays = {order_id: Play(type(self).decide, policy, order_id, COMMANDS) for order_id in ORDERS}

    @rule(policy=policies)
    def restart(self, policy: Policy) -> None:
        """Go on with other waits, as a deployment may."""
        for play in self.plays.values():
            play.policy = policy

    @rule(wait_ms=waits_ms, said=orders.flatmap(anything))
    def say(self, wait_ms: int, said: Message) -> None:
        """Say anything, some time later, whatever is due meanwhile."""
        self.now_ms += wait_ms
        self._say(said.order_id, said, self.now_ms)

    @rule(order_id=orders, command_id=commands)
    def ask_for_a_mail(self, order_id: str, command_id: str) -> None:
        """Begin a process."""
        self._say(order_id, world.command(command_id, order_id), self.now_ms)

    @precondition(lambda self: self.asked)
    @rule(data=st.data(), wait_ms=waits_ms)
    def answer(self, data: st.DataObject, wait_ms: int) -> None:
        """Answer a query or a mail, perhaps not for the last time."""
        self.now_ms += wait_ms
        at = data.draw(st.integers(0, len(self.asked) - 1))
        order_id, command_id, action = self.asked[at]
        if data.draw(st.booleans()):
            del self.asked[at]
        self._say(order_id, data.draw(answers(order_id, command_id, action)), self.now_ms)

    @rule(order_id=orders, late_ms=waits_ms, as_of=st.integers(0, 4))
    def let_pass(self, order_id: str, late_ms: int, as_of: int) -> None:
        """Let an order's next deadline pass, now or late, and as of some instant since it fell due."""
        due_ms = self.plays[order_id].due_ms
        if due_ms != NEVER_MS:
            self.now_ms = max(self.now_ms, due_ms + late_ms)
            self._say(order_id, DeadlinePassed(order_id), due_ms + (self.now_ms - due_ms) * as_of // 4)

    def _say(self, order_id: str, said: Message, now_ms: int) -> None:
        play = self.plays[order_id]
        if isinstance(said, SendOrderConfirmationEmail | CancelOrderConfirmation) and play.told[said.command_id].gone:
            return
        for command_id, action in play.say(now_ms, said).owed:
            if isinstance(action, GetOrderDetails | SendEmail):
                self.asked.append((order_id, command_id, action))

    def teardown(self) -> None:
        """Let time pass: everything ends, and is forgotten."""
        for play in self.plays.values():
            play.end(self.now_ms)


QUICK: Final = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_any_lives() -> None:
    """As many as there is time for."""
    run_state_machine_as_test(Lives, settings=QUICK)


@pytest.mark.soak
@pytest.mark.timeout(3_600)
def test_many_long_lives() -> None:
    """Many more, and longer ones."""
    long = settings(QUICK, max_examples=1_000, stateful_step_count=100, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(Lives, settings=long)


@pytest.mark.parametrize("bug", ["sends again when the outcome is late", "knows duplicates by memory"])
def test_planted_bug_is_found(bug: str) -> None:
    """The machine finds bugs too."""

    class Mutated(Lives):
        decide = staticmethod(MUTANTS[bug])

    find = settings(QUICK, max_examples=500, database=None, print_blob=False, phases=[Phase.generate])
    with pytest.raises(Violation):
        run_state_machine_as_test(Mutated, settings=find)
