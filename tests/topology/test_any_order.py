"""Any messages in any order at any time: the promises hold all the same (Hypothesis, stateful)."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.topology.world import COMMAND, DEADLINE_PASSED, ORDER, OTHER_COMMAND, World, cancel, command, details
from topology import events, ids
from topology.actions import actions
from topology.messages import (
    Action,
    Body,
    EmailFailed,
    EmailSent,
    FailureReason,
    Message,
    OrderConfirmationFailed,
    OrderConfirmationSent,
    OrderDetailsNotFound,
    SendEmail,
)
from topology.policy import DAY_MS, HOUR_MS, MINUTE_MS, NEVER_ASK, SECOND_MS, Policy
from topology.state import FINISHED, NEVER_MS, Process

COMMAND_IDS = (COMMAND, OTHER_COMMAND)
EMAIL_IDS = tuple(ids.email_id(ORDER, command_id) for command_id in COMMAND_IDS)
QUERY_IDS = tuple(ids.query_id(ORDER, command_id, attempt) for command_id in COMMAND_IDS for attempt in (1, 2, 3))

MESSAGES: st.SearchStrategy[Message] = st.one_of(
    st.builds(command, st.sampled_from(COMMAND_IDS), st.builds(Body, st.just(1), st.binary(max_size=2))),
    st.builds(cancel, st.sampled_from(COMMAND_IDS)),
    st.builds(details, st.integers(1, 3), st.builds(Body, st.just(2), st.binary(max_size=2))),
    st.builds(OrderDetailsNotFound, st.just(ORDER), st.sampled_from(QUERY_IDS)),
    st.builds(EmailSent, st.just(ORDER), st.sampled_from(EMAIL_IDS)),
    st.builds(EmailFailed, st.just(ORDER), st.sampled_from(EMAIL_IDS), st.booleans(), st.just("why")),
    st.just(DEADLINE_PASSED),
)
POLICIES = st.tuples(
    st.sampled_from([0, MINUTE_MS, NEVER_ASK]), st.integers(1, 3), st.integers(1, 3), st.sampled_from([HOUR_MS, DAY_MS])
).map(
    lambda drawn: Policy(
        ask_after_ms=drawn[0], not_found_attempts=drawn[1], email_attempts=drawn[2], give_up_after_ms=drawn[3]
    )
)
WAITS_MS = st.sampled_from([0, 1, SECOND_MS, MINUTE_MS, HOUR_MS, DAY_MS, 8 * DAY_MS, 36 * DAY_MS])


class AnyOrder(RuleBasedStateMachine):
    """Two commands of one order."""

    def __init__(self) -> None:
        super().__init__()
        self.now_ms = 0
        self.world = World()
        self.emitted: defaultdict[Process, list[Action]] = defaultdict(list)

    @initialize(policy=POLICIES)
    def start(self, policy: Policy) -> None:
        """Choose the waits."""
        self.world.policy = policy

    @rule(policy=POLICIES)
    def restart(self, policy: Policy) -> None:
        """Choose other waits for the same order, as a deployment may."""
        self.world.policy = policy

    @rule(wait_ms=WAITS_MS, message=MESSAGES)
    def say(self, wait_ms: int, message: Message) -> None:
        """Say a message, some time later."""
        self.now_ms += wait_ms
        self._decide(message)

    @rule()
    def let_pass(self) -> None:
        """Let the next deadline pass, if there is one."""
        if self.world.next_due_ms != NEVER_MS:
            self.now_ms = max(self.now_ms, self.world.next_due_ms)
            self._decide(DEADLINE_PASSED)

    def _decide(self, message: Message) -> None:
        before = {process: len(process.recorded) for process in self.world.order.processes.values()}
        owed = self.world.decide(self.now_ms, message).owed
        for process, action in owed:
            self.emitted[process].append(action)
        for process in self.world.order.processes.values():
            changed = len(process.recorded) > before.get(process, 0)
            # What became due is what is due; and what hasn't changed owes nothing new.
            assert (actions(process) if changed else []) == [action for owes, action in owed if owes is process]

    @invariant()
    def emails_are_one_email(self) -> None:
        """At most one SendEmail more than it was refused for now, all of them the same."""
        for process, emitted in self.emitted.items():
            emails = [action for action in emitted if isinstance(action, SendEmail)]
            refusals = [e for e in process.recorded if isinstance(e, events.EmailFailed) and not e.permanent]
            assert len(emails) <= 1 + len(refusals)
            assert len(set(emails)) <= 1

    @invariant()
    def cancelled_stays_unsent(self) -> None:
        """No e-mail is requested after a cancel that came in time."""
        for process in self.emitted.keys() | self.world.order.processes.values():
            kinds = [type(event) for event in process.recorded]
            if events.CancelReceived in kinds:
                assert events.EmailRequested not in kinds[kinds.index(events.CancelReceived) :]

    @invariant()
    def outcome_is_one(self) -> None:
        """One outcome a process, but for the correction of an unknown one."""
        for emitted in self.emitted.values():
            outcomes = [a for a in emitted if isinstance(a, OrderConfirmationSent | OrderConfirmationFailed)]
            match outcomes:
                case [] | [_]:
                    pass
                case [OrderConfirmationFailed(reason=reason), OrderConfirmationSent()]:
                    assert FailureReason.EMAIL_OUTCOME_UNKNOWN is reason
                case _:
                    raise AssertionError(outcomes)

    @invariant()
    def every_process_ends(self) -> None:
        """Each is looked at again at some instant; a finished one holds no bodies."""
        for process in self.world.order.processes.values():
            assert process.due_ms < NEVER_MS
            assert process.finished == (process.step in FINISHED)
            if process.finished:
                assert (None, None) == (process.command, process.order)

    @invariant()
    def state_is_the_fold(self) -> None:
        """Where a process stands is what it recorded."""
        for process in self.world.order.processes.values():
            folded = Process(process.order_id, process.command_id)
            for event in process.recorded:
                folded.record(event)
            for name in ("step", "query_attempt", "missing_attempt", "missing_count", "email_attempt", "reason"):
                assert getattr(folded, name) == getattr(process, name)

    def teardown(self) -> None:
        """Let all deadlines pass: everything ends, and is forgotten."""
        for _ in range(200):
            if self.world.order.empty:
                return
            self.let_pass()
        raise AssertionError(f"not forgotten: {self.world.order.processes}, {self.world.next_due_ms}")


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
