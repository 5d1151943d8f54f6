"""The explorer finds what it is there to find: planted bugs, by shortest counterexamples that are ready tests."""

from __future__ import annotations

from typing import Any, Final

import pytest

from schemas import state_codec
from tests.model import invariants, world
from tests.model.anything import Anything
from tests.model.counterexample import as_pytest
from tests.model.explorer import Found, explore
from tests.model.history import GONE, told_after
from tests.model.invariants import Violation
from tests.model.mutants import MUTANTS
from tests.model.over_topics import OverTopics
from tests.model.rows import Rows
from tests.model.trial import Decide
from topology import process
from topology.messages import OrderConfirmationSent
from topology.process import decide
from topology.state import Order

MOVES: Final = {
    "sends again when the outcome is late": 2,
    "revives what failed": 3,
    "forgets a cancel": 2,
    "forgets a cancel that came first": 2,
    "cancels what was sent": 3,
    "cancels what failed": 3,
    "corrects every failure": 3,
    "says sent twice": 3,
    "says sent of what is only late": 2,
    "sends what was sent": 2,
    "sends again at once when refused twice": 4,
    "sends again for ever": 5,
    "believes any not found": 2,
    "forgets what waits": 1,
    "never forgets": 1,
    "sends to a random id": 2,
    "sends the newest details again": 4,
    "takes whatever version comes last": 2,
    "waits for ever": 2,
    "sends unrecorded": 3,
    "counts unrecorded": 2,
    "marks what comes too late": 3,
    "knows duplicates by memory": 3,
    "decides by the clock": 1,
    "forgets reports": 1,
    "mails after the end": 3,
    "asks what nobody needs": 3,
    "answers for nobody": 1,
    "refuses half": 1,
}
"""In how few moves each bug shows; time alone, after them, isn't counted."""

ALONE: Final = [
    # What no single decision shows.
    ("SendEmails ≤ 1 + refusals for now", "sends again when the outcome is late", None, 5),
    ("all SendEmails of a command are one record", "sends the newest details again", None, 6),
    ("no SendEmail after a cancel that came in time", "forgets a cancel", None, 3),
    ("no SendEmail of a mail reported sent", "sends what was sent", None, 3),
    ("no SendEmail after the outcome", "mails after the end", None, 3),
    ("no query whose answer nobody needs", "asks what nobody needs", None, 3),
    ("one outcome a process; only unknown is corrected", "corrects every failure", None, 3),
    ("one outcome a process", "cancels what failed", None, 3),
    ("sent is only said of a mail reported sent", "says sent of what is only late", None, 5),
    ("cancelled is what was cancelled in time", "cancels what was sent", None, 3),
    ("a command has an outcome before it is forgotten", "forgets what waits", None, 3),
    # What is true of every decision, whatever the rules.
    ("what is decided again owes the same", "sends to a random id", None, 2),
    ("who refuses a message stays as it was", "refuses half", None, 1),
    ("decide takes every message", "revives what failed", None, 3),
    # Each rule.
    ("a process goes where the description says", "knows duplicates by memory", "steps_are_the_described_ones", 3),
    ("others record nothing", "believes any not found", "others_stay_as_they_were", 2),
    ("what records nothing doesn't change", "marks what comes too late", "others_stay_as_they_were", 3),
    ("an event is recorded because of its message", "says sent of what is only late", "records_fit_their_message", 5),
    ("an event has its action, with derived ids", "sends to a random id", "actions_are_recorded", 2),
    ("an action has its recorded event", "sends unrecorded", "actions_are_recorded", 3),
    ("the order in the mail stays what it was", "sends the newest details again", "bodies_are_those_that_came", 6),
    ("no more than email_attempts", "sends again for ever", "asking_and_retrying_end", 7),
    ("only newer details replace details", "takes whatever version comes last", "details_only_grow_newer", 2),
    ("reports without a process are remembered", "forgets reports", "remembered_mails_are_those_reported", 1),
    ("a process waits with a deadline", "waits for ever", "everything_waits_with_a_deadline", 2),
    ("a deadline that passed is over", "never forgets", "everything_waits_with_a_deadline", 7),
    ("the state is the fold of what was recorded", "counts unrecorded", "state_is_the_fold", 2),
]
"""A promise, a bug that breaks it, the one rule that is left switched on, and in how many moves it shows."""


def find(mutant: Decide, moves: int) -> Found:
    """Explore one command's world up to so many moves; return the counterexample."""
    with pytest.raises(Found) as caught:
        explore(Anything(Rows(mutant, [world.POLICY]), 1, world.VERSIONS), depth_max=moves)
    return caught.value


def run(module: str) -> None:
    """Run the text of a test module, and its one test."""
    names: dict[str, Any] = {}
    exec(compile(module, "counterexample", "exec"), names)  # noqa: S102 - our own text.
    (test,) = (value for name, value in names.items() if name.startswith("test_"))
    test()


def test_every_mutant_is_explored() -> None:
    """None is left out."""
    assert MUTANTS.keys() == MOVES.keys()


@pytest.mark.parametrize("bug", MUTANTS)
def test_planted_bug_is_found_by_a_shortest_way_which_is_a_test(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The printed test fails with the bug, for the same reason, and passes with the shipped code."""
    found = find(MUTANTS[bug], MOVES[bug])
    assert MOVES[bug] == len(found.path)
    module = as_pytest(found, world.POLICY)
    run(module)
    monkeypatch.setattr(process, "decide", MUTANTS[bug])
    with pytest.raises(Violation) as broken:
        run(module)
    assert _promise(found.violation) == _promise(broken.value)


def _promise(violation: Violation) -> str:
    return str(violation).partition(": ")[0]


@pytest.mark.parametrize(("promise", "bug", "rule", "moves"), ALONE)
def test_promise_is_watched(
    promise: str, bug: str, rule: str | None, moves: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A promise finds its bug by itself, with all rules but its own switched off."""
    monkeypatch.setattr(invariants, "RULES", (getattr(invariants, rule),) if rule else ())
    monkeypatch.setattr(Rows, "require_end", lambda *_: None)
    found = find(MUTANTS[bug], moves)
    assert (promise, moves) == (_promise(found.violation)[: len(promise)], len(found.path))


@pytest.mark.parametrize("bug", ["never forgets", "sends again when the outcome is late"])
def test_what_never_ends_is_found(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """That with time alone everything ends is watched without any other rule."""
    monkeypatch.setattr(invariants, "RULES", ())
    found = find(MUTANTS[bug], 2)
    assert "with time alone everything ends" == _promise(found.violation)


def test_forgotten_command_owes_nothing() -> None:
    """Any action of it is found; no bug here shows it first."""
    late = OrderConfirmationSent(world.ORDER, world.COMMAND_IDS[0], world.email_id(world.COMMAND_IDS[0]), 0)
    with pytest.raises(Violation, match="a forgotten command owes nothing"):
        told_after(GONE, world.COMMAND_IDS[0], world.DEADLINE_PASSED, (late,), forgotten=False)


def test_what_a_row_loses_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash before the store's write shows what the row doesn't hold: here, how often the order was missing."""
    decode = state_codec.decode

    def forgetful(order_id: str, row: bytes) -> Order:
        order = decode(order_id, row)
        for one in order.processes.values():
            one.missing_count = 0
        return order

    monkeypatch.setattr(state_codec, "decode", forgetful)
    found = find(decide, 2)
    assert ["command 1", "query 1 of command 1: not found"] == [move.says for move in found.path]
    assert "what is restored is what was committed" == _promise(found.violation)


def test_deadline_decided_as_of_now_is_found() -> None:
    """The gate lets a row's first deadline pass, not those that fell due since the ends were asked for."""
    rows = Rows(decide, [world.POLICY], overdue_ms_max=1)
    with pytest.raises(Found) as caught:
        explore(OverTopics(rows, 1, world.VERSIONS[:1], late=1, as_of_end=False), depth_max=10)
    assert "a deadline passes when all is read that was there when it fell due" == _promise(caught.value.violation)
    assert 10 == len(caught.value.path)
