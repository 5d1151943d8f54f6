"""What several messages bring about together: order level, attempts, waits, forgetting."""

from __future__ import annotations

import pytest

from tests.topology.world import (
    COMMAND,
    DEADLINE_PASSED,
    EMAIL_ID,
    ORDER,
    ORDER_BODY,
    OTHER_COMMAND,
    OTHER_EMAIL_ID,
    QUERY_IDS,
    TRACEPARENT,
    World,
    cancel,
    command,
    details,
    not_found,
    refused,
    sent,
    snapshot,
)
from topology import events, ids
from topology.actions import actions
from topology.events import Cause
from topology.messages import (
    Action,
    Body,
    FailureReason,
    GetOrderDetails,
    OrderConfirmationFailed,
    OrderConfirmationSent,
    OrderDetailsNotFound,
    SendEmail,
)
from topology.policy import DAY_MS, HOUR_MS, MINUTE_MS, NEVER_ASK, SECOND_MS, Policy
from topology.process import TooManyProcesses
from topology.state import NEVER_MS, Details, Process

NEWER = Body(2, b"the order, changed")

# A life with every kind of event in it.
LONG_LIFE = (
    (0, command()),
    (1, not_found()),
    (MINUTE_MS, DEADLINE_PASSED),
    (HOUR_MS, details()),
    (2 * HOUR_MS, refused()),
    (3 * HOUR_MS, DEADLINE_PASSED),
    (3 * HOUR_MS + DAY_MS, DEADLINE_PASSED),
    (3 * DAY_MS, sent()),
)


def live(world: World) -> list[Action]:
    """Say `LONG_LIFE` to *world*; return what became due."""
    return [action for now_ms, message in LONG_LIFE for action in world.say(now_ms, message)]


def reasons(owed: list[Action]) -> list[FailureReason]:
    """Return the reasons of the bad outcomes among *owed*."""
    return [action.reason for action in owed if isinstance(action, OrderConfirmationFailed)]


def test_same_messages_decide_the_same() -> None:
    """Two orders that hear the same at the same times owe and hold the same."""
    one, other = World(), World()

    assert live(one) == live(other)
    assert snapshot(one.process) == snapshot(other.process)


def test_recorded_events_alone_make_the_state() -> None:
    """A fresh process that is told the recorded events stands where the first one stands, at every point."""
    world = World()
    for now_ms, message in LONG_LIFE:
        world.say(now_ms, message)
        process = world.process
        folded = Process(ORDER, COMMAND, process.traceparent)
        for event in process.recorded:
            folded.record(event)
        # The bodies and the deadline are no events: what to send, and when the policy wants to look again.
        folded.due_ms = process.due_ms
        folded.command, folded.order = process.command, process.order

        assert snapshot(process) == snapshot(folded)


def test_timeline_says_what_was_seen_when_and_why() -> None:
    """Every event carries the clock and the record that it comes from."""
    world = World()
    live(world)

    commands, answers, emails = "order-confirmation.commands", "order-details.events", "email.events"
    expected = [
        events.CommandReceived(0, Cause(commands, 0)),
        events.OrderDetailsQueried(0, Cause(commands, 0), 1),
        events.OrderDetailsMissing(1, Cause(answers, 1), 1),
        events.OrderDetailsQueried(MINUTE_MS, events.DEADLINE, 2),
        events.OrderDetailsRetrieved(HOUR_MS, Cause(answers, 3), 1),
        events.EmailRequested(HOUR_MS, Cause(answers, 3), 1),
        events.EmailFailed(2 * HOUR_MS, Cause(emails, 4), permanent=False, reason="mailbox full"),
        events.EmailRequested(3 * HOUR_MS, events.DEADLINE, 2),
        events.ConfirmationFailed(3 * HOUR_MS + DAY_MS, events.DEADLINE, FailureReason.EMAIL_OUTCOME_UNKNOWN),
        events.EmailSent(3 * DAY_MS, Cause(emails, 7)),
    ]
    assert expected == world.process.recorded


def test_process_keeps_its_commands_traceparent_when_it_is_over() -> None:
    """Whoever looks at a finished process finds its trace."""
    world = World()
    world.say(0, cancel(), command())

    assert world.process.finished
    assert TRACEPARENT == world.process.traceparent


@pytest.mark.parametrize(("version", "kept"), [(4, ORDER_BODY), (5, NEWER), (6, NEWER)])
def test_older_details_never_replace_newer_ones(version: int, kept: Body) -> None:
    """Of two versions the greater is kept, of the same version the one that came last."""
    world = World()
    world.say(0, details(5), details(version, NEWER))

    assert world.order.details is not None
    assert (max(version, 5), kept) == world.order.details[:2]


def test_older_version_that_answers_a_query_sends_the_newer_order() -> None:
    """What is sent is the newest known order, not the one that happened to come."""
    world = World()
    world.say(0, details(5, NEWER))
    world.say(HOUR_MS, command())

    owed = world.say(HOUR_MS + 1, details(4))

    assert [NEWER] == [action.order for action in owed if isinstance(action, SendEmail)]
    assert events.OrderDetailsRetrieved(0, Cause("order-details.events", 0), 5) in world.process.recorded


def test_same_version_again_makes_details_young() -> None:
    """A repeated answer says that the order hasn't changed: its age starts again, and its cause is the newer record."""
    world = World()
    world.say(0, details())
    world.say(HOUR_MS, details())

    assert Details(1, ORDER_BODY, HOUR_MS, Cause("order-details.events", 1)) == world.order.details
    assert [SendEmail] == [type(action) for action in world.say(2 * HOUR_MS - 1, command())]


def test_plain_join_uses_details_of_any_age() -> None:
    """Where nothing is ever asked, nothing younger would come of waiting."""
    world = World(Policy(ask_after_ms=NEVER_ASK))
    world.say(0, details())

    assert [SendEmail] == [type(action) for action in world.say(DAY_MS, command())]


def test_details_serve_every_waiting_command_of_the_order() -> None:
    """One answer is enough for two commands, whichever asked."""
    world = World()
    world.say(0, command(), command(OTHER_COMMAND))

    owed = world.say(1, details())

    assert [EMAIL_ID, OTHER_EMAIL_ID] == [action.email_id for action in owed if isinstance(action, SendEmail)]


def test_second_command_with_same_id_owes_no_second_email() -> None:
    """A duplicate changes nothing, not even when it says something else."""
    world = World()
    world.say(0, details(), command())

    assert [] == world.say(1, command(body=Body(1, b"another")))
    assert ORDER_BODY == world.process.order


def test_changed_order_leaves_a_retried_email_as_it_was() -> None:
    """Each SendEmail of a process is the same, byte for byte."""
    world = World()
    first = world.say(0, details(), command())
    world.say(1, refused(), details(2, NEWER))

    _, again = world.let_pass()

    assert first == again


def test_unanswered_query_is_asked_again_until_it_is_given_up() -> None:
    """Attempts count up, their waits stay within the backoff's bounds, and give_up_after ends them."""
    world = World()
    asked = world.say(0, command())
    waits = []
    last_ms = 0
    for _ in range(100):
        now_ms, owed = world.let_pass()
        waits.append(now_ms - last_ms)
        asked += owed
        last_ms = now_ms
        if world.process.finished:
            break

    *queries, outcome = asked
    assert list(range(1, len(queries) + 1)) == [q.attempt for q in queries if isinstance(q, GetOrderDetails)]
    assert list(QUERY_IDS) == [q.query_id for q in queries[:3] if isinstance(q, GetOrderDetails)]
    assert [world.policy.backoff_ms(COMMAND, n) for n in range(1, len(waits))] == waits[:-1]
    assert world.policy.give_up_after_ms == last_ms
    assert [FailureReason.ORDER_DETAILS_TIMED_OUT] == reasons([outcome])


def test_third_missing_answer_fails_the_process() -> None:
    """`not_found_attempts` answers, one an attempt, are believed."""
    world = World()
    world.say(0, command())
    for attempt in (1, 2):
        assert [] == world.say(world.next_due_ms - 1, not_found(attempt))
        world.let_pass()

    owed = world.say(world.next_due_ms - 1, not_found(3))

    assert [FailureReason.ORDER_NOT_FOUND] == reasons(owed)


def test_unanswered_attempts_are_no_missing_answers() -> None:
    """Only answers count towards `not_found_attempts`, queries that nobody answered don't."""
    world = World()
    world.say(0, command())
    world.let_pass()
    world.let_pass()

    assert [] == world.say(world.next_due_ms - 1, not_found(3))
    world.let_pass()

    owed = world.say(world.next_due_ms - 1, OrderDetailsNotFound(ORDER, ids.query_id(ORDER, COMMAND, 4)))

    assert [] == owed
    assert 2 == world.process.missing_count


def test_refused_email_is_requested_at_most_email_attempts_times() -> None:
    """The tenth refusal is the last, and it fails the process without another wait."""
    world = World(Policy(give_up_after_ms=365 * DAY_MS))
    requested = world.say(0, details(), command())
    now_ms = 0
    for _ in range(10):
        world.say(now_ms, refused())
        now_ms, owed = world.let_pass()
        requested += owed

    *emails, outcome = requested
    assert [emails[0]] * 10 == emails
    assert [FailureReason.EMAIL_REJECTED] == reasons([outcome])
    assert (
        events.ConfirmationFailed(now_ms, events.DEADLINE, FailureReason.EMAIL_REJECTED) == (world.process.recorded[-1])
    )


def test_refusal_after_give_up_after_is_due_at_once_and_not_before() -> None:
    """A deadline lies never before what set it: one that is decided as of a past instant finds nothing newer."""
    world = World(Policy(give_up_after_ms=MINUTE_MS))
    world.say(0, details(), command())

    assert [] == world.say(2 * MINUTE_MS, refused())

    assert 2 * MINUTE_MS == world.process.due_ms
    assert [FailureReason.EMAIL_REJECTED] == reasons(world.let_pass()[1])


def test_unknown_outcome_is_corrected_once() -> None:
    """The late report of a sent mail counts, its duplicate doesn't."""
    world = World()
    world.say(0, details(), command())
    _, failed = world.let_pass()

    corrected = world.say(2 * DAY_MS, sent(), sent(), refused())

    assert [FailureReason.EMAIL_OUTCOME_UNKNOWN] == reasons(failed)
    assert [OrderConfirmationSent(ORDER, COMMAND, EMAIL_ID, 2 * DAY_MS)] == corrected
    assert world.process.reason is None


def test_email_reported_sent_before_its_command_is_not_sent_again() -> None:
    """The command starts as sent, and what was remembered for it is let go."""
    world = World()
    world.say(0, details(), sent(), sent(OTHER_EMAIL_ID))

    owed = world.say(1, command())

    assert [OrderConfirmationSent] == [type(action) for action in owed]
    assert {OTHER_EMAIL_ID: 0} == world.order.remembered


def test_finished_process_holds_no_personal_data() -> None:
    """Both bodies are dropped with the outcome."""
    world = World()
    world.say(0, details(), command(), sent())

    assert (None, None) == (world.process.command, world.process.order)


def test_order_is_empty_when_everything_was_forgotten() -> None:
    """Details go after details_ttl, processes and remembered e-mails after finished_ttl; then nothing is due."""
    world = World()
    world.say(0, details(), command(), sent(), cancel(OTHER_COMMAND))
    world.say(SECOND_MS, sent(OTHER_EMAIL_ID[::-1]))

    passed = [world.let_pass() for _ in range(3)]

    days = 7 * DAY_MS, 35 * DAY_MS, 35 * DAY_MS + SECOND_MS
    assert [(due_ms, []) for due_ms in days] == passed
    assert world.order.empty
    assert NEVER_MS == world.next_due_ms


def test_nothing_is_due_before_its_time() -> None:
    """A deadline that fires too early, as an index entry may, takes no branch."""
    world = World()
    world.say(0, command(), details())

    assert [] == world.decide(world.next_due_ms - 1, DEADLINE_PASSED).taken


@pytest.mark.parametrize("message", [command(OTHER_COMMAND), cancel(OTHER_COMMAND), sent(OTHER_EMAIL_ID)])
def test_order_without_room_refuses_and_stays_as_it_was(message: object) -> None:
    """One command too many, or one unknown sent e-mail too many, is refused whole."""
    world = World(Policy(processes_max=1))
    world.say(0, command(), sent(QUERY_IDS[0]))
    expected = snapshot(world.process)

    with pytest.raises(TooManyProcesses, match=r"'order-1' has 1 .* the most that one order may"):
        world.say(1, message)  # type: ignore[arg-type]

    assert [COMMAND] == list(world.order.processes)
    assert {QUERY_IDS[0]: 0} == world.order.remembered
    assert expected == snapshot(world.process)


def test_full_order_takes_what_it_knows() -> None:
    """The limit is for new commands: messages of known ones are decided."""
    world = World(Policy(processes_max=1))
    world.say(0, command(), sent(QUERY_IDS[0]))

    owed = world.say(1, sent(QUERY_IDS[0]), command(), details())

    assert [SendEmail] == [type(action) for action in owed]


def test_process_owes_what_was_last_emitted() -> None:
    """`actions` reports what `decide` emitted, for as long as nothing new is written down."""
    world = World()
    for now_ms, message in LONG_LIFE:
        owed = world.say(now_ms, message)

        assert not owed or owed == actions(world.process)
