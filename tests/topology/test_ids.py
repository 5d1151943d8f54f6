"""Derived ids: version 5 UUIDs, the same for ever, different for what is different."""

from __future__ import annotations

import uuid
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.topology.world import COMMAND, EMAIL_ID, ORDER, OTHER_COMMAND, OTHER_EMAIL_ID, QUERY_IDS
from topology import ids

NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "rejoinder")
ODD_ORDERS = [
    "",
    "/",
    "1/1",
    "query/1/x",
    "email/x",
    "x/email",
    "\x00",
    " ",
    "ä",
    "a\u0308",
    "🧾",
    f"{COMMAND}/email/x",
]


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_uuid5_is_the_standard_librarys(name: str) -> None:
    """The id made by hand is the one that `uuid.uuid5` makes, of every name."""
    assert str(uuid.uuid5(NAMESPACE, name)) == ids.uuid5(name)


def test_ids_are_the_golden_ones() -> None:
    """An id that changes with the code would send second mails for first ones."""
    assert NAMESPACE.bytes == ids.NAMESPACE
    assert [EMAIL_ID, OTHER_EMAIL_ID] == [ids.email_id(ORDER, COMMAND), ids.email_id(ORDER, OTHER_COMMAND)]
    assert list(QUERY_IDS) == [ids.query_id(ORDER, COMMAND, attempt) for attempt in (1, 2, 3)]
    assert "86133bb5-4647-5ef2-9156-078bfda4dd9e" == ids.outcome_id(ORDER, COMMAND, "OrderConfirmationSent")
    assert "a455f190-89fa-54f4-9df0-2b0cc2db4bc8" == ids.outcome_id(ORDER, COMMAND, "OrderConfirmationFailed")


def test_ids_of_odd_orders_differ() -> None:
    """No two (order, command, purpose) share an id, whatever characters the order ids hold."""
    made = [
        id_
        for order_id, command_id in product(ODD_ORDERS, (COMMAND, OTHER_COMMAND))
        for id_ in (
            ids.email_id(order_id, command_id),
            *(ids.query_id(order_id, command_id, attempt) for attempt in (1, 2, 11)),
            ids.outcome_id(order_id, command_id, "OrderConfirmationSent"),
            ids.outcome_id(order_id, command_id, "OrderConfirmationFailed"),
        )
    ]

    assert len(ODD_ORDERS) * 2 * 6 == len(set(made))


@pytest.mark.parametrize("attempt", [1, 2, 33])
def test_fraction_is_the_same_every_time_and_below_one(attempt: int) -> None:
    """Jitter depends on the command and the attempt only."""
    first = ids.fraction(COMMAND, attempt)

    assert 0 <= first < 1
    assert first == ids.fraction(COMMAND, attempt)
    assert first != ids.fraction(OTHER_COMMAND, attempt)


def test_fraction_is_the_golden_one() -> None:
    """A replay of an old history waits as long as its first run did."""
    assert 0.40316853275954045 == ids.fraction(COMMAND, 1)
