"""What is said about one order, in every step of its processes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

import pytest

from streams.monitor.explain import explain, instant
from tests.streams.manager import COMMAND_ID, EMAIL_ID, NOW_MS, ORDER_ID, TRACEPARENT, Manager
from topology.policy import DAY_MS, MINUTE_MS, Policy
from topology.state import Step

KEY: Final = ORDER_ID.encode()
NOW: Final = "2026-02-02T02:40:00.000Z"
GIVES_UP: Final = "2026-02-03T02:40:00.000Z"
FORGOTTEN: Final = "2026-03-09T02:40:00.000Z"


def _explained(manager: Manager) -> dict[str, Any]:
    found = explain(ORDER_ID, manager.rows.get(KEY), 0, manager.policy)
    assert found == json.loads(json.dumps(found)), "all of it is JSON"
    return found


def _reach(step: Step) -> Manager:
    manager = Manager(Policy())
    records: dict[Step, list[Callable[[], Any]]] = {
        Step.CANCELLED_EARLY: [manager.cancel],
        Step.AWAITING_DETAILS: [manager.command],
        Step.AWAITING_EMAIL: [manager.command, manager.details],
        Step.RETRYING_EMAIL: [manager.command, manager.details, lambda: manager.failed(permanent=False)],
        Step.SENT: [manager.command, manager.details, manager.sent],
        Step.FAILED: [manager.command, manager.details, lambda: manager.failed(permanent=True)],
    }
    for make in records[step]:
        manager.run(make())
    assert step is manager.process().step
    return manager


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (
            Step.CANCELLED_EARLY,
            ("cancelled early", None, "nothing, unless its command comes", 0, 0, FORGOTTEN, None, ["CancelReceived"]),
        ),
        (
            Step.AWAITING_DETAILS,
            (
                "awaiting details", None, "order details", 1, 0, None, GIVES_UP,
                ["CommandReceived", "OrderDetailsQueried"],
            ),
        ),
        (
            Step.AWAITING_EMAIL,
            (
                "awaiting e-mail", None, "the e-mail's outcome", 1, 1, GIVES_UP, GIVES_UP,
                ["CommandReceived", "OrderDetailsQueried", "OrderDetailsRetrieved", "EmailRequested"],
            ),
        ),
        (
            Step.RETRYING_EMAIL,
            (
                "e-mail to be retried", None, "the time to send the e-mail again", 1, 1, None, GIVES_UP,
                ["CommandReceived", "OrderDetailsQueried", "OrderDetailsRetrieved", "EmailRequested", "EmailFailed"],
            ),
        ),
        (
            Step.SENT,
            (
                "sent", None, None, 1, 1, FORGOTTEN, None,
                ["CommandReceived", "OrderDetailsQueried", "OrderDetailsRetrieved", "EmailRequested", "EmailSent"],
            ),
        ),
        (
            Step.FAILED,
            (
                "failed", "EMAIL_REJECTED", None, 1, 1, FORGOTTEN, None,
                [
                    "CommandReceived", "OrderDetailsQueried", "OrderDetailsRetrieved", "EmailRequested", "EmailFailed",
                    "ConfirmationFailed",
                ],
            ),
        ),
    ],
)  # fmt: skip
def test_every_step_is_explained(step: Step, expected: tuple[Any, ...]) -> None:
    """State, reason, what it waits for and until when, attempts, and the timeline."""
    manager = _reach(step)
    (process,) = _explained(manager)["processes"]
    # A backoff has jitter: of those two only that they are soon is said here, and exactly by the row below.
    backing_off = step in (Step.AWAITING_DETAILS, Step.RETRYING_EMAIL)
    assert expected == (
        process["state"],
        process["reason"],
        process["waits_for"],
        process["query_attempt"],
        process["email_attempt"],
        None if backing_off else process["next_deadline_at"],
        process["gives_up_at"],
        [event["event"] for event in process["timeline"]],
    )
    assert instant(manager.process().due_ms) == process["next_deadline_at"]
    if backing_off:
        assert instant(NOW_MS) < process["next_deadline_at"] < instant(NOW_MS + MINUTE_MS)
    assert COMMAND_ID == process["command_id"]


def test_every_step_has_something_to_wait_for() -> None:
    """A step without a word for it would be a `KeyError` at three in the morning."""
    from streams.monitor.explain import _WAITS_FOR  # noqa: PLC0415 - private.

    assert set(Step) - {Step.ABSENT} == set(_WAITS_FOR)


def test_timeline_says_when_what_and_because_of_what() -> None:
    """Each event with its own fields, and the record that it comes from, or a deadline."""
    manager = Manager(Policy())
    manager.run(manager.command(headers=[("traceparent", TRACEPARENT.encode())]))
    due_ms = manager.due_ms()
    manager.run(due=[KEY], now_ms=due_ms)
    manager.run(manager.details(version=7), now_ms=due_ms + 1)
    manager.run(manager.failed(permanent=False), now_ms=due_ms + 2)
    (process,) = _explained(manager)["processes"]
    command = {"topic": "order-confirmation.commands", "offset": 1}
    details = {"topic": "order-details.events", "offset": 2}
    expected = [
        {"at": NOW, "event": "CommandReceived", "cause": command},
        {"at": NOW, "event": "OrderDetailsQueried", "attempt": 1, "cause": command},
        {"at": instant(due_ms), "event": "OrderDetailsQueried", "attempt": 2, "cause": {"deadline": True}},
        {"at": instant(due_ms + 1), "event": "OrderDetailsRetrieved", "version": 7, "cause": details},
        {"at": instant(due_ms + 1), "event": "EmailRequested", "attempt": 1, "cause": details},
        {
            "at": instant(due_ms + 2),
            "event": "EmailFailed",
            "permanent": False,
            "reason": "550 no [/] such user",
            "cause": {"topic": "email.events", "offset": 3},
        },
    ]
    assert (expected, TRACEPARENT) == (process["timeline"], process["traceparent"])


def test_details_are_explained() -> None:
    """Their version, whence they came and until when they are kept; no personal data."""
    manager = Manager()
    manager.run(manager.details(version=7))
    found = _explained(manager)
    expected = {
        "version": 7,
        "seen_at": NOW,
        "cause": {"topic": "order-details.events", "offset": 1},
        "forgotten_at": "2026-02-09T02:40:00.000Z",
    }
    assert (expected, [], True) == (found["details"], found["processes"], found["known"])
    assert "Müller" not in json.dumps(found, ensure_ascii=False)


def test_mail_reported_before_its_command_is_explained() -> None:
    """It is remembered until its command comes."""
    manager = Manager()
    manager.run(manager.sent())
    found = _explained(manager)
    assert [{"email_id": EMAIL_ID, "heard_at": NOW}] == found["sent_before_their_command"]


def test_unknown_order_is_explained_as_unknown() -> None:
    """Without a row nothing is known, which is an answer too."""
    expected = {
        "order_id": ORDER_ID, "partition": 0, "known": False, "details": None, "processes": [],
        "sent_before_their_command": [],
    }  # fmt: skip
    assert expected == _explained(Manager())


def test_instants_are_iso_8601_in_utc() -> None:
    """With milliseconds, and exact at any distance."""
    expected = ["1970-01-01T00:00:00.000Z", NOW, FORGOTTEN]
    assert expected == [instant(0), instant(NOW_MS), instant(NOW_MS + 35 * DAY_MS)]


@pytest.mark.parametrize("at_ms", [1 << 62, -(1 << 62), 10**15])
def test_instant_that_no_calendar_has_is_a_number(at_ms: int) -> None:
    """A row with such a clock can still be explained."""
    assert f"{at_ms} ms" == instant(at_ms)
