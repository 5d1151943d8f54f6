"""The reference model: what it explains, and what it doesn't."""

from __future__ import annotations

import pytest

from tests.chaos.model import EMAIL_ATTEMPTS, NOT_FOUND_ATTEMPTS, Input, Inputs, Kind, Produced, Step, explain
from tests.chaos.system import POLICY

COMMAND = Input(Kind.COMMAND, 0, 0)
CANCEL = Input(Kind.CANCEL, 0, 0)
DETAILS = Input(Kind.DETAILS, 0, 1)
NEWER = Input(Kind.DETAILS, 0, 2)
SENT = Input(Kind.SENT, 0, 0)
EARLY = Input(Kind.EARLY, 0, 0)
REFUSED = Input(Kind.FAILED, 0, 0)
REJECTED = Input(Kind.FAILED, 0, 1)
UNKNOWN = "EMAIL_OUTCOME_UNKNOWN"


def missing(attempt: int) -> Input:
    """Return «not found» to the query of *attempt*."""
    return Input(Kind.NOT_FOUND, 0, attempt)


def given(commands: tuple[Input, ...], details: tuple[Input, ...] = (), emails: tuple[Input, ...] = ()) -> Inputs:
    """Return the inputs."""
    return commands, details, emails


EXPLAINED = {
    "asked, answered, sent": (given((COMMAND,), (DETAILS,), (SENT,)), Produced(1, 1, 1, ("",)), Step.SENT),
    "details were there": (given((COMMAND,), (DETAILS,), (SENT,)), Produced(0, 1, 1, ("",)), Step.SENT),
    "everything twice": (
        given((COMMAND, COMMAND), (DETAILS, DETAILS), (SENT, SENT)), Produced(1, 1, 1, ("",)), Step.SENT,
    ),
    "the newer version came first": (given((COMMAND,), (DETAILS, NEWER)), Produced(0, 1, 2, ()), Step.AWAITING_EMAIL),
    "the newer version came after": (given((COMMAND,), (DETAILS, NEWER)), Produced(1, 1, 1, ()), Step.AWAITING_EMAIL),
    "not found three times": (
        given((COMMAND,), (missing(1), missing(2), missing(3))), Produced(3, 0, 0, ("ORDER_NOT_FOUND",)), Step.FAILED,
    ),
    "no answer": (given((COMMAND,)), Produced(4, 0, 0, ("ORDER_DETAILS_TIMED_OUT",)), Step.FAILED),
    "refused once": (given((COMMAND,), (DETAILS,), (REFUSED, SENT)), Produced(1, 2, 1, ("",)), Step.SENT),
    "refused always": (
        given((COMMAND,), (DETAILS,), (REFUSED,) * 3), Produced(1, 3, 1, ("EMAIL_REJECTED",)), Step.FAILED,
    ),
    "rejected": (given((COMMAND,), (DETAILS,), (REJECTED,)), Produced(1, 1, 1, ("EMAIL_REJECTED",)), Step.FAILED),
    "unknown": (given((COMMAND,), (DETAILS,)), Produced(1, 1, 1, (UNKNOWN,)), Step.FAILED),
    "unknown, then sent": (given((COMMAND,), (DETAILS,), (SENT,)), Produced(1, 1, 1, (UNKNOWN, "")), Step.SENT),
    "cancelled early": (given((CANCEL, COMMAND)), Produced(0, 0, 0, ("CANCELLED",)), Step.FAILED),
    "cancelled while it waits": (given((COMMAND, CANCEL), (DETAILS,)), Produced(1, 0, 0, ("CANCELLED",)), Step.FAILED),
    "cancelled too late": (given((COMMAND, CANCEL), (DETAILS,), (SENT,)), Produced(1, 1, 1, ("",)), Step.SENT),
    "cancelled while it is to be retried": (
        given((COMMAND, CANCEL), (DETAILS,), (REFUSED,)), Produced(1, 1, 1, ("CANCELLED",)), Step.FAILED,
    ),
    "reported sent before": (given((COMMAND,), (), (EARLY,)), Produced(0, 0, 0, ("",)), Step.SENT),
    "waits": (given((COMMAND,)), Produced(1, 0, 0, ()), Step.AWAITING_DETAILS),
    "nothing came": (given(()), Produced(0, 0, 0, ()), Step.ABSENT),
}  # fmt: skip

UNEXPLAINED = {
    "sent twice": (given((COMMAND,), (DETAILS,), (SENT,)), Produced(1, 2, 1, ("",))),
    "sent once more than it was refused": (given((COMMAND,), (DETAILS,), (REFUSED, SENT)), Produced(1, 3, 1, ("",))),
    "not sent": (given((COMMAND,), (DETAILS,), ()), Produced(1, 0, 0, ())),
    "sent without details": (given((COMMAND,)), Produced(1, 1, 1, ())),
    "sent without a command": (given((), (DETAILS,)), Produced(0, 1, 1, ())),
    "sent after an early cancel": (given((CANCEL, COMMAND), (DETAILS,)), Produced(0, 1, 1, ())),
    "a version that never came": (given((COMMAND,), (DETAILS,)), Produced(1, 1, 2, ())),
    "no outcome": (given((COMMAND,), (DETAILS,), (SENT,)), Produced(1, 1, 1, ())),
    "two outcomes": (given((COMMAND,), (DETAILS,), (SENT,)), Produced(1, 1, 1, ("", ""))),
    "sent though rejected": (given((COMMAND,), (DETAILS,), (REJECTED,)), Produced(1, 1, 1, ("",))),
    "rejected though sent": (given((COMMAND,), (DETAILS,), (SENT,)), Produced(1, 1, 1, ("EMAIL_REJECTED",))),
    "corrected without a report": (given((COMMAND,), (DETAILS,)), Produced(1, 1, 1, (UNKNOWN, ""))),
    "cancelled by nobody": (given((COMMAND,), (DETAILS,)), Produced(1, 0, 0, ("CANCELLED",))),
    "not found after two": (given((COMMAND,), (missing(1), missing(2))), Produced(2, 0, 0, ("ORDER_NOT_FOUND",))),
    "not asked": (given((COMMAND,)), Produced(0, 0, 0, ())),
    "asked after it was sent": (given((COMMAND,), (DETAILS,), (SENT,)), Produced(0, 1, 1, ("", "CANCELLED"))),
}


@pytest.mark.parametrize("name", EXPLAINED)
def test_allowed(name: str) -> None:
    """There is an interleaving that yields it, and it ends where it must."""
    inputs, produced, step = EXPLAINED[name]
    processes = explain(inputs, (produced,))
    assert processes
    assert [step] == [process.step for process in processes]


@pytest.mark.parametrize("name", UNEXPLAINED)
def test_not_allowed(name: str) -> None:
    """No interleaving yields it."""
    inputs, produced = UNEXPLAINED[name]
    assert None is explain(inputs, (produced,))


def test_processes_of_one_order_are_told_apart() -> None:
    """Two commands share details; a mail too many of one isn't made good by one too few of the other."""
    other = Input(Kind.COMMAND, 1, 0)
    inputs = given((COMMAND, other), (DETAILS,))
    assert explain(inputs, (Produced(1, 1, 1, ()), Produced(0, 1, 1, ())))
    assert explain(inputs, (Produced(1, 1, 1, ()), Produced(1, 1, 1, ())))
    assert None is explain(inputs, (Produced(1, 2, 1, ()), Produced(1, 0, 0, ())))


def test_model_counts_as_the_workers_are_told_to() -> None:
    """The attempts of a run's policy are those of the model."""
    assert POLICY["not_found_attempts"] == NOT_FOUND_ATTEMPTS
    assert POLICY["email_attempts"] == EMAIL_ATTEMPTS
