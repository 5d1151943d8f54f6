"""Every branch of the state × message table: a case for each, and none may be missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import pytest

from tests.topology.case import (
    ABSENT,
    DEFAULT,
    DETAILS,
    EARLY,
    EMAIL,
    FAILED,
    RETRY,
    SENT,
    TO_DETAILS,
    TO_RETRY,
    WAYS,
    Case,
    History,
)
from tests.topology.cases_of_answers import ANSWERS
from tests.topology.cases_of_commands import COMMANDS
from tests.topology.cases_of_deadlines import DEADLINES
from tests.topology.world import (
    COMMAND,
    DEADLINE_PASSED,
    ORDER,
    OTHER_EMAIL_ID,
    World,
    cancel,
    command,
    details,
    not_found,
    refused,
    sent,
    snapshot,
)
from topology.messages import (
    CancelOrderConfirmation,
    DeadlinePassed,
    EmailFailed,
    EmailSent,
    Message,
    OrderDetailsNotFound,
    OrderDetailsRetrieved,
    SendOrderConfirmationEmail,
)
from topology.policy import MINUTE_MS, Policy
from topology.state import Process, Step
from topology.transitions import TABLE, Then, When

CASES: Final = (*COMMANDS, *ANSWERS, *DEADLINES)


@dataclass(frozen=True)
class Stays:
    """A branch of the table that leaves its process as it was."""

    message: Message
    step: Step
    branch: int
    history: History


def stays(message: Message, *steps: Step, branch: int = 0) -> list[Stays]:
    """Return a case for each of *steps*."""
    return [Stays(message, step, branch, WAYS[step]) for step in steps]


STAYS: Final = (
    *stays(command(), DETAILS, EMAIL, RETRY, SENT, FAILED),
    *stays(cancel(), EARLY, EMAIL, SENT, FAILED),
    *stays(details(version=9), ABSENT, EARLY, EMAIL, RETRY, SENT, FAILED),
    *stays(not_found(), ABSENT, EARLY, EMAIL, RETRY, SENT, FAILED),
    *stays(not_found(attempt=2), DETAILS, branch=2),
    Stays(not_found(), DETAILS, 2, (*TO_DETAILS, (1, not_found()))),  # Once an attempt.
    Stays(not_found(), DETAILS, 2, (*TO_DETAILS, (MINUTE_MS, DEADLINE_PASSED))),  # The second was asked meanwhile.
    *stays(sent(), ABSENT, SENT),
    *stays(sent(), FAILED, branch=1),
    *stays(refused(), ABSENT, EARLY, DETAILS, RETRY, SENT, FAILED),
    Stays(refused(permanent=True), RETRY, 0, TO_RETRY),
    Stays(DEADLINE_PASSED, ABSENT, 0, ((0, details()),)),
)


def test_no_branch_is_without_a_case() -> None:
    """Each branch of each cell stands in CASES or STAYS."""
    expected = {
        (message, step, branch)
        for message, cells in TABLE.items()
        for step, cell in cells.items()
        for branch in range(len(cell))
    }

    doing = {(type(case.message), case.step, case.branch) for case in CASES}
    staying = {(type(case.message), case.step, case.branch) for case in STAYS}
    assert expected == doing | staying


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_branch_does_what_its_case_says(case: Case) -> None:
    """The branch taken, the step, the events, the actions, the bodies and the deadline are the expected ones."""
    world = World(case.history_policy)
    for now_ms, message in case.history:
        world.say(now_ms, message)
    before = world.order.processes.get(COMMAND, Process(ORDER, COMMAND))
    assert case.step == before.step
    recorded = len(before.recorded)
    world.policy = case.policy

    decision = world.decide(case.now_ms, case.message)

    after = world.order.processes.get(COMMAND)
    process = after or before
    assert [TABLE[type(case.message)][case.step][case.branch]] == decision.taken
    assert case.to == decision.taken[0].to == (after.step if after else ABSENT)
    assert case.recorded == tuple(process.recorded[recorded:])
    assert case.owed == tuple(owed.action for owed in decision.owed)
    assert all(owed.process is process for owed in decision.owed)
    assert case.bodies == (process.command is not None, process.order is not None)
    assert case.due_ms == (after.due_ms if after else None)


@pytest.mark.parametrize(
    "case", STAYS, ids=lambda case: f"{type(case.message).__name__}, {case.step.title}, {len(case.history)} before"
)
def test_branch_that_stays_changes_nothing_of_its_process(case: Stays) -> None:
    """Nothing is recorded, nothing becomes due, no attribute changes."""
    world = World(Policy(details_ttl_ms=MINUTE_MS) if case.message is DEADLINE_PASSED else DEFAULT)
    for now_ms, message in case.history:
        world.say(now_ms, message)
    expected = {command_id: snapshot(process) for command_id, process in world.order.processes.items()}
    assert case.step == (world.process.step if expected else ABSENT)

    decision = world.decide(MINUTE_MS, case.message)

    assert [TABLE[type(case.message)][case.step][case.branch]] == decision.taken
    assert case.step == decision.taken[0].to
    assert [] == decision.owed
    assert expected == {command_id: snapshot(process) for command_id, process in world.order.processes.items()}


def test_every_name_of_a_branch_is_used() -> None:
    """No `When` and no `Then` is left over from an older table."""
    branches = [branch for cells in TABLE.values() for cell in cells.values() for branch in cell]

    assert set(When) == {branch.when for branch in branches}
    assert set(Then) == {branch.then for branch in branches}


def test_an_effect_leads_to_one_step() -> None:
    """Two cells with the same effect lead to the same step."""
    targets: dict[Then, set[Step]] = {}
    for cells in TABLE.values():
        for cell in cells.values():
            for branch in cell:
                if branch.then is not Then.COUNT:
                    targets.setdefault(branch.then, set()).add(branch.to)

    assert dict.fromkeys(targets, 1) == {then: len(steps) for then, steps in targets.items()}


def test_message_of_a_process_nobody_knows_keeps_no_process() -> None:
    """Only a command or its cancel makes a process."""
    world = World()

    world.say(0, details(), not_found(), sent(OTHER_EMAIL_ID), refused(), DEADLINE_PASSED)

    assert {} == world.order.processes


def test_columns_and_rows_are_the_documented_ones() -> None:
    """The table has a row for each message and a column for each step, in order."""
    rows = [
        SendOrderConfirmationEmail,
        CancelOrderConfirmation,
        OrderDetailsRetrieved,
        OrderDetailsNotFound,
        EmailSent,
        EmailFailed,
        DeadlinePassed,
    ]

    assert rows == list(TABLE)
    assert [set(Step)] * 7 == [set(cells) for cells in TABLE.values()]
