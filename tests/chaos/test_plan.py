"""The plan: the same for a seed, with everything in it, and its bytes are what the schemas say."""

from __future__ import annotations

from collections import Counter

import pytest

from schemas.catalog import Catalog
from schemas.codec import Codec
from tests.chaos import wire
from tests.chaos.driver import first_records, later_records
from tests.chaos.plan import Cancel, Details, Email, Plan, Poison, email_id, query_id
from topology import ids
from topology.messages import Body, FailureReason, GetOrderDetails, OrderConfirmationFailed, OrderConfirmationSent
from topology.messages import SendEmail as SendEmailAction

CODEC = Codec(Catalog.from_files())
PLAN = Plan(7)
ORDERS = range(130)
"""More than there are variants of bodies."""


def test_same_seed_same_plan() -> None:
    """The checker and every service compute the same, and another seed is another run."""
    assert [PLAN.order(n) for n in ORDERS] == [Plan(7).order(n) for n in ORDERS]
    assert [PLAN.order(n)[2:] for n in ORDERS] != [Plan(8).order(n)[2:] for n in ORDERS]


def test_plan_has_everything_in_it() -> None:
    """Each way in which the services can answer comes among some thousand orders."""
    orders = [PLAN.order(n) for n in range(5_000)]
    assert set(Details) == {order.details for order in orders}
    assert set(Email) == {mail for order in orders for mail in order.emails}
    assert set(Cancel) == {order.cancel for order in orders}
    assert set(Poison) == {order.poison for order in orders}
    assert {0, 1, 2, 3} == {order.commands for order in orders}


def test_order_is_found_by_its_key() -> None:
    """And a key of another run is refused."""
    assert 12_345_678 == PLAN.number(PLAN.order_id(12_345_678).encode())
    with pytest.raises(ValueError, match="no order of seed 7"):
        PLAN.number(Plan(8).order_id(1).encode())


@pytest.mark.parametrize("version", [1, 2])
def test_inputs_are_what_the_schemas_say(version: int) -> None:
    """Byte for byte what the codec writes of the same fields."""
    for n in ORDERS:
        id_, command_id = PLAN.order_id(n), PLAN.command_id(n, 1)
        command = wire.command_fields(id_, command_id, n)
        assert CODEC.encode_record("communications.SendOrderConfirmationEmail", command) == PLAN.command(n, 1)
        order = wire.order_fields(id_, n, version)
        for asked in (None, query_id(id_, command_id, 3)):
            details = {"query_id": asked, "retrieved_at": wire.BASE_MS + n % 64, "order": order}
            expected = CODEC.encode_record("orders.OrderDetailsRetrieved", details)
            assert expected == PLAN.details(n, version, asked)


def test_send_email_is_what_the_schema_says() -> None:
    """Decoded, it holds the two halves field by field; and the splice of the code under test gives the same bytes."""
    for n in ORDERS:
        id_, command_id = PLAN.order_id(n), PLAN.command_id(n, 0)
        value = PLAN.send_email(n, 0, 2)
        record, fields = CODEC.decode_record(value)
        assert "communications.SendEmail" == record
        assert wire.command_fields(id_, command_id, n) == fields["command"]
        assert wire.order_fields(id_, n, 2) == fields["order"]
        assert command_id.encode() == value[wire.COMMAND_ID_AT : wire.COMMAND_ID_AT + 36]
        command, order = Body(1, PLAN.command(n, 0)[5:]), Body(4, wire.order_body(id_, n, 2))
        assert CODEC.encode(SendEmailAction(id_, ids.email_id(id_, command_id), command, order)) == value


def test_events_are_what_the_schemas_say() -> None:
    """Sent, failed, not found and cancel decode to their fields."""
    id_, command_id = PLAN.order_id(1), PLAN.command_id(1, 0)
    mail, query = email_id(id_, command_id), query_id(id_, command_id, 1)
    values = {
        "EmailSent": wire.sent(mail, id_, 1),
        "EmailFailed": wire.failed(mail, id_, 1, permanent=True),
        "OrderDetailsNotFound": wire.not_found(id_, query, 1),
        "CancelOrderConfirmation": PLAN.cancel(1),
    }
    decoded = {name: CODEC.decode_record(value) for name, value in values.items()}
    assert [*values] == [record.rpartition(".")[2] for record, _ in decoded.values()]
    assert {id_} == {fields["order_id"] for _, fields in decoded.values()}
    assert (mail, True) == (decoded["EmailFailed"][1]["email_id"], decoded["EmailFailed"][1]["permanent"])


def test_ids_are_those_of_the_process_manager() -> None:
    """Derived here by the standard library, there by hand."""
    id_, command_id = PLAN.order_id(3), PLAN.command_id(3, 0)
    assert ids.email_id(id_, command_id) == email_id(id_, command_id)
    assert ids.query_id(id_, command_id, 2) == query_id(id_, command_id, 2)


def test_outputs_are_read_as_they_are_written() -> None:
    """Queries and outcomes of the codec."""
    id_, command_id = PLAN.order_id(3), PLAN.command_id(3, 0)
    asked = wire.read_query(CODEC.encode(GetOrderDetails(id_, query_id(id_, command_id, 2), 2, 1_770_000_000_123)))
    assert wire.Query(query_id(id_, command_id, 2), id_, 2, 1_770_000_000_123) == asked
    mail = email_id(id_, command_id)
    ended = wire.read_ended(CODEC.encode(OrderConfirmationSent(id_, command_id, mail, 1_770_000_000_000)))
    assert wire.Ended(command_id, id_, mail, "", 1_770_000_000_000) == ended
    for reason in FailureReason:
        failed = OrderConfirmationFailed(id_, command_id, reason, "tries: 3, é" * 20, 5)
        assert wire.Ended(command_id, id_, "", reason.name, 5) == wire.read_ended(CODEC.encode(failed))
    with pytest.raises(ValueError, match="of which"):
        wire.read_query(CODEC.encode(GetOrderDetails(id_, mail, 2, 1)) + b"\0")


def test_every_command_is_sent() -> None:
    """At once or later, whatever else comes of its order."""
    for n in range(2_000):
        order = PLAN.order(n)
        sent = Counter(value for *_, value in (*first_records(PLAN, order), *later_records(PLAN, order)))
        assert all(sent[PLAN.command(n, index)] >= 1 for index in range(order.commands))
