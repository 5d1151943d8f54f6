"""C1 to C4, each shown what it must report: a checker that can't fail is worthless."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.catalog import Catalog
from schemas.codec import Codec
from tests.chaos import wire
from tests.chaos.checks import Tally, Violation, judge
from tests.chaos.history import Historian, History, Message
from tests.chaos.model import Step
from tests.chaos.plan import Cancel, Details, Email, Order, Plan, Poison, email_id, query_id
from topology.messages import FailureReason, GetOrderDetails, OrderConfirmationFailed, OrderConfirmationSent
from topology.policy import Policy
from topology.topics import COMMANDS, DEAD_LETTERS, DETAILS, EMAIL_COMMANDS, EMAIL_EVENTS, OUTCOMES, QUERIES

CODEC = Codec(Catalog.from_files())
PLAN = Plan(1)
POLICY = Policy(retry_first_ms=400, retry_most_ms=2_000, give_up_after_ms=30_000, email_outcome_wait_ms=12_000)
NOW_MS = 1_770_000_000_000


def find(**wanted: Any) -> Order:
    """Return the first order of this plan that is *wanted* so, and plain otherwise."""
    plain: dict[str, Any] = {
        "commands": 1, "details": Details.ASKED, "emails": (Email.SENT,), "cancel": Cancel.NONE, "poison": Poison.NONE,
    }  # fmt: skip
    wanted = plain | wanted
    return next(
        order
        for order in map(PLAN.order, range(200_000))
        if all(getattr(order, name) == value for name, value in wanted.items())
    )


class World:
    """The topics of one order, as a test writes them: by default, everything that is right of an ordinary order."""

    def __init__(self, order: Order | None = None) -> None:
        self.order = order or find()
        self.historian = Historian(PLAN, 0)
        self.id, self.key, self.n = self.order.id, self.order.id.encode(), self.order.number
        self.command_id = PLAN.command_id(self.n, 0)
        self.email_id = email_id(self.id, self.command_id)
        self.steps = {0: Step.SENT}
        self.tally = Tally()
        self._offset = 0

    def take(self, topic: str, value: bytes | None, at_ms: int = 0, headers: dict[str, bytes] | None = None) -> int:
        """Write a record *at_ms* after the beginning; return its offset."""
        self._offset += 1
        message = Message(self._offset, NOW_MS + at_ms, self.key, value, headers or {})
        self.historian.take(topic, message)
        return self._offset

    def command(self, at_ms: int = 0) -> World:
        """Write the command."""
        self.take(COMMANDS.name, PLAN.command(self.n, 0), at_ms)
        return self

    def cancel(self) -> World:
        """Write a cancel."""
        self.take(COMMANDS.name, PLAN.cancel(self.n))
        return self

    def query(self, attempt: int = 1, at_ms: int = 0) -> World:
        """Write a query."""
        id_ = query_id(self.id, self.command_id, attempt)
        self.take(QUERIES.name, CODEC.encode(GetOrderDetails(self.id, id_, attempt, NOW_MS + at_ms)))
        return self

    def details(self, version: int = 1, at_ms: int = 0) -> World:
        """Write the details."""
        self.take(DETAILS.name, PLAN.details(self.n, version), at_ms)
        return self

    def mail(self, version: int = 1, at_ms: int = 0) -> World:
        """Write a SendEmail."""
        self.take(EMAIL_COMMANDS.name, PLAN.send_email(self.n, 0, version), at_ms)
        return self

    def sent(self) -> World:
        """Write EmailSent."""
        self.take(EMAIL_EVENTS.name, wire.sent(self.email_id, self.id, self.n))
        return self

    def failed(self, at_ms: int = 0, *, permanent: bool = False) -> World:
        """Write EmailFailed."""
        self.take(EMAIL_EVENTS.name, wire.failed(self.email_id, self.id, self.n, permanent=permanent), at_ms)
        return self

    def ended(self, reason: FailureReason | None = None, at_ms: int = 0) -> World:
        """Write an outcome, sent by default."""
        if reason is None:
            action: Any = OrderConfirmationSent(self.id, self.command_id, self.email_id, NOW_MS + at_ms)
        else:
            action = OrderConfirmationFailed(self.id, self.command_id, reason, "", NOW_MS + at_ms)
            self.steps = {0: Step.FAILED}
        self.take(OUTCOMES.name, CODEC.encode(action))
        return self

    def dead(self, offset: int, reason: str, value: bytes | None) -> World:
        """Write a dead letter of the commands' topic."""
        headers = {
            "__streams.errors.topic": COMMANDS.name.encode(),
            "__streams.errors.offset": b"%d" % offset,
            "rejoinder.reason": reason.encode(),
        }
        self.take(DEAD_LETTERS.name, value, headers=headers)
        return self

    @property
    def history(self) -> History:
        """What the checker sees."""
        return self.historian.orders[self.n]

    def judge(self) -> list[Violation]:
        """Return what is wrong."""
        return judge(self.history, self.steps, POLICY, self.tally)

    def checks(self) -> set[str]:
        """Return which checks find something."""
        return {violation.check for violation in self.judge()}


def ordinary() -> World:
    """Return an order that was asked for, answered and sent, but for its SendEmail and what follows."""
    return World().command().query().details()


def test_ordinary_order_is_right() -> None:
    """And it is counted."""
    world = ordinary().mail().sent().ended()
    assert [] == world.judge()
    tally = world.tally
    assert (1, 1, 1, 0, 1) == (tally.commands, tally.ended, tally.emails, tally.resends, tally.outcomes["SENT"])


def test_everything_twice_is_right() -> None:
    """What comes in may be doubled."""
    assert [] == ordinary().command().details().mail().sent().sent().ended().judge()


# C1


def test_c1_missing_mail() -> None:
    """It was reported sent, and ended so, but nobody asked for it."""
    assert {"C1", "C3"} == ordinary().sent().ended().checks()


def test_c1_command_that_nobody_acts_on() -> None:
    """Its details are there, and it waits."""
    world = ordinary()
    world.steps = {0: Step.AWAITING_DETAILS}
    assert {"C1", "C3"} == world.checks()


def test_c1_timed_out_though_its_details_had_come() -> None:
    """They were in the log when its time was up."""
    reason = FailureReason.ORDER_DETAILS_TIMED_OUT
    assert {"C1"} == World().command().query().details(at_ms=100).ended(reason, 31_000).checks()
    assert set() == World().command().query().details(at_ms=30_500).ended(reason, 31_000).checks()


def test_c1_failed_without_a_reason_for_it() -> None:
    """Nobody cancelled it, and nobody said that there is no such order."""
    assert {"C1", "C3"} == ordinary().ended(FailureReason.CANCELLED).checks()
    assert {"C1", "C3"} == ordinary().ended(FailureReason.ORDER_NOT_FOUND).checks()
    assert {"C1", "C3"} == ordinary().ended(FailureReason.EMAIL_REJECTED).checks()


def test_c1_violation_names_the_records() -> None:
    """The command's and the details' coordinates are the evidence."""
    (violation, *_) = [found for found in ordinary().sent().ended().judge() if found.check == "C1"]
    assert World().order.id == violation.order_id
    assert (f"{COMMANDS.name}/0/1", f"{DETAILS.name}/0/3", f"{OUTCOMES.name}/0/5") == violation.where


# C2


def test_c2_mail_too_many() -> None:
    """Two SendEmails, and no failure."""
    assert {"C2", "C3"} == ordinary().mail().mail().sent().ended().checks()


def test_c2_mail_too_many_after_a_failure() -> None:
    """One more is allowed, two aren't."""
    world = ordinary().mail().failed().mail(at_ms=3_000).mail(at_ms=3_000).sent().ended()
    assert {"C2", "C3"} == world.checks()


def test_c2_permanent_failure_allows_none() -> None:
    """Rejected for ever is no reason to send again."""
    assert "C2" in ordinary().mail().failed(permanent=True).mail(at_ms=3_000).sent().ended().checks()


def test_c2_mail_after_a_failure_is_allowed_and_counted() -> None:
    """It is told apart from a duplicate."""
    world = ordinary().mail().failed().mail(at_ms=3_000).sent().ended()
    assert [] == world.judge()
    assert 1 == world.tally.resends


# C3


@pytest.mark.parametrize("at", [10, 70, 130, -1])
def test_c3_altered_mail(at: int) -> None:
    """One bit, wherever it is."""
    world = ordinary()
    value = bytearray(PLAN.send_email(world.n, 0, 1))
    value[at] ^= 1
    world.take(EMAIL_COMMANDS.name, bytes(value))
    assert "C3" in world.sent().ended().checks()


def test_c3_other_orders_details_in_the_mail() -> None:
    """Two halves that don't belong together."""
    world = ordinary()
    other = wire.order_body(world.id, world.n + 1, 1)
    value = PLAN.send_email(world.n, 0, 1).replace(wire.order_body(world.id, world.n, 1), other)
    world.take(EMAIL_COMMANDS.name, value)
    assert {"C3"} == world.sent().ended().checks()


def test_c3_repeated_mail_with_newer_details() -> None:
    """A retry sends what was sent."""
    world = ordinary().details(version=2).mail().failed().mail(version=2, at_ms=3_000).sent().ended()
    assert {"C3"} == world.checks()


def test_c3_mail_of_a_version_that_never_came() -> None:
    """It was made up."""
    assert {"C3"} == ordinary().mail(version=2).sent().ended().checks()


def test_c3_sent_though_cancelled_in_time() -> None:
    """The cancel lies before the command in the same log."""
    assert {"C3"} == World(
        find(cancel=Cancel.BEFORE)
    ).cancel().command().query().details().mail().sent().ended().checks()


def test_c3_wrong_and_second_outcomes() -> None:
    """One outcome, and the right one."""
    assert {"C3"} == ordinary().mail().sent().ended(FailureReason.EMAIL_REJECTED).checks()
    assert {"C3"} == ordinary().mail().sent().ended().ended().checks()


def test_c3_unknown_outcome_may_be_corrected() -> None:
    """Once, to sent."""
    world = ordinary().mail().ended(FailureReason.EMAIL_OUTCOME_UNKNOWN, 13_000).sent().ended(at_ms=14_000)
    world.steps = {0: Step.SENT}
    assert [] == world.judge()
    assert 1 == world.tally.corrections


def test_c3_ids_that_derive_from_nothing() -> None:
    """A query's, an e-mail's and an outcome's."""
    world = ordinary().mail().sent().ended()
    stranger = "0b5c1f7e-2222-4333-8444-555566667777"
    world.take(QUERIES.name, CODEC.encode(GetOrderDetails(world.id, stranger, 1, NOW_MS)))
    value = PLAN.send_email(world.n, 0, 1).replace(world.command_id.encode(), stranger.encode())
    world.take(EMAIL_COMMANDS.name, value)
    world.take(OUTCOMES.name, CODEC.encode(OrderConfirmationSent(world.id, world.command_id, stranger, NOW_MS)))
    assert ["C3"] * 3 == [violation.check for violation in world.judge()]


def test_c3_query_left_out_or_doubled() -> None:
    """Attempts are counted without a gap."""
    assert {"C3"} == ordinary().query(3, at_ms=5_000).mail().sent().ended().checks()
    assert {"C3"} == ordinary().query(1).mail().sent().ended().checks()


def test_c3_too_early() -> None:
    """A deadline that fires before it can have passed."""
    assert {"C3"} == World().command().query().query(2, at_ms=100).details().mail().sent().ended().checks()
    assert {"C3"} == ordinary().mail().failed().mail(at_ms=100).sent().ended().checks()
    reason = FailureReason.ORDER_DETAILS_TIMED_OUT
    assert {"C3"} == World().command().query().ended(reason, 29_000).checks()
    assert {"C3"} == ordinary().mail().ended(FailureReason.EMAIL_OUTCOME_UNKNOWN, 11_000).checks()


# C4


def test_c4_row_that_says_something_else() -> None:
    """It ended, and the table doesn't know."""
    for step in (Step.AWAITING_EMAIL, Step.FAILED, Step.ABSENT):
        world = ordinary().mail().sent().ended()
        world.steps = {0: step}
        assert {"C4"} == world.checks()


def test_c4_command_that_vanished() -> None:
    """Neither ended nor waiting."""
    world = World().command().query()
    world.steps = {}
    assert {"C4"} == world.checks()
    world.steps = {0: Step.AWAITING_DETAILS}
    assert set() == world.checks()
    assert 1 == world.tally.waiting


def test_c4_dead_letters() -> None:
    """One a poison, of these very bytes and for the right reason, and of nothing else."""

    def poisoned() -> tuple[World, int, bytes | None]:
        world = World(find(poison=Poison.TRAILING))
        value = PLAN.poison(world.order)
        offset = world.take(COMMANDS.name, value)
        return world.command().query().details().mail().sent().ended(), offset, value

    world, offset, value = poisoned()
    assert [] == world.dead(offset, "trailing-bytes", value).judge()
    assert 1 == world.tally.dead_letters
    world, _, _ = poisoned()
    assert ["no dead letter"] == [violation.what for violation in world.judge()]
    world, offset, value = poisoned()
    assert {"C4"} == world.dead(offset, "trailing-bytes", value).dead(offset, "trailing-bytes", value).checks()
    world, offset, value = poisoned()
    assert {"C4"} == world.dead(offset, "truncated", value).checks()
    world, offset, _ = poisoned()
    assert {"C4"} == world.dead(offset, "trailing-bytes", b"other").checks()
    assert {"C4"} == ordinary().mail().sent().ended().dead(1, "truncated", b"").checks()


def test_record_that_the_driver_never_sends_is_the_runs_own_fault() -> None:
    """Nothing is judged by a log that isn't ours."""
    world = World()
    for topic in (COMMANDS, DETAILS, EMAIL_EVENTS):
        with pytest.raises(ValueError, match="sends no such record"):
            world.take(topic.name, PLAN.command(world.n + 1, 0) + b"x" * 50)
