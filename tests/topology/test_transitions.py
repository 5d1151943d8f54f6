"""A table that isn't whole, or isn't bound to code, is refused before anything is decided by it."""

from __future__ import annotations

from itertools import product

import pytest

from topology.cases import EFFECTS, GUARDS, bind
from topology.messages import CancelOrderConfirmation, EmailSent, Message
from topology.state import Step
from topology.transitions import TABLE, Branch, Cell, Table, Then, When, check

CELLS = [(message, step) for message, step in product(TABLE, Step)]


def with_cell(message: type[Message], step: Step, cell: Cell) -> Table:
    """Return the table with another *cell*."""
    return TABLE | {message: TABLE[message] | {step: cell}}


@pytest.mark.parametrize(("message", "step"), CELLS, ids=lambda part: getattr(part, "__name__", None) or part.title)
def test_removed_cell_is_refused(message: type[Message], step: Step) -> None:
    """Each of the cells must be there."""
    cells = {other: cell for other, cell in TABLE[message].items() if other is not step}

    with pytest.raises(ValueError, match=f"{message.__name__} × {step.title}: a cell ends with its one ALWAYS branch"):
        check(TABLE | {message: cells})


def test_removed_row_is_refused() -> None:
    """Each of the messages must be there."""
    table = {message: cells for message, cells in TABLE.items() if message is not EmailSent}

    with pytest.raises(ValueError, match="EmailSent × absent"):
        check(table)


def test_cell_that_does_not_cover_everything_is_refused() -> None:
    """The last branch of a cell is for everything else, and no other is."""
    asks = Branch(When.HEARD_SENT, Then.CANCEL_EARLY, Step.CANCELLED_EARLY, "")
    always = Branch(When.ALWAYS, Then.CANCEL_EARLY, Step.CANCELLED_EARLY, "")
    for cell in ((asks,), (always, asks), (always, always)):
        with pytest.raises(ValueError, match="CancelOrderConfirmation × absent: a cell ends with its one ALWAYS"):
            check(with_cell(CancelOrderConfirmation, Step.ABSENT, cell))


def test_branch_that_only_counts_leads_nowhere() -> None:
    """A step changes by an effect only."""
    cell = (Branch(When.ALWAYS, Then.COUNT, Step.SENT, ""),)

    with pytest.raises(ValueError, match="EmailSent × absent: a branch that only counts"):
        check(with_cell(EmailSent, Step.ABSENT, cell))


def test_every_name_is_bound_to_code() -> None:
    """All but the two that stand for nothing to be asked and nothing to be done."""
    assert set(When) - {When.ALWAYS} == set(GUARDS)
    assert set(Then) - {Then.COUNT} == set(EFFECTS)


def test_branch_without_code_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name in the table that no code answers to is found out at import."""
    monkeypatch.delitem(EFFECTS, Then.SEND)

    with pytest.raises(ValueError, match=r"bind When.ALWAYS in GUARDS and Then.SEND in EFFECTS"):
        bind(TABLE)
