"""The process manager on batches: what is sent, what is remembered, and that the same batch always says the same."""

from __future__ import annotations

from itertools import permutations
from uuid import UUID

import pytest
from prometheus_client import REGISTRY

from schemas.catalog import current_text
from streams.batch import Batch, Headers, RowChange
from streams.errors import Unavailable
from streams.headers import header
from tests.streams.manager import (
    COMMAND,
    COMMAND_ID,
    EMAIL_ID,
    NOW_MS,
    ORDER_ID,
    SEND_EMAIL,
    TRACEPARENT,
    Manager,
    command_fields,
    official,
    order_fields,
)
from topology import ids
from topology.policy import DAY_MS, NEVER_ASK, Policy
from topology.state import NEVER_MS, Step
from topology.topics import EMAIL_COMMANDS, OUTCOMES, QUERIES

KEY = ORDER_ID.encode()
JOINED = {"email_id": EMAIL_ID, "template": "order-confirmation", "command": command_fields(), "order": order_fields()}


def _shown(batch: Batch) -> tuple[object, ...]:
    return batch.outputs, batch.changes, [(refusal.record, refusal.reason) for refusal in batch.refusals]


# The join.


def test_command_then_details_are_joined_whole() -> None:
    """A query at once, and with its answer a SendEmail that holds both records: the official avro package is judge."""
    manager = Manager()
    asked = manager.run(manager.command())
    assert ["GetOrderDetails"] == manager.names(asked)
    joined = manager.run(manager.details())
    (output,) = joined.outputs
    assert (EMAIL_COMMANDS.name, KEY) == (output.topic, output.key)
    assert (JOINED, 0) == official(SEND_EMAIL, output.value)


def test_details_then_command_are_joined_unasked() -> None:
    """Young details are used: the same SendEmail, and no query."""
    manager = Manager()
    assert [] == manager.run(manager.details()).outputs
    (output,) = manager.run(manager.command()).outputs
    assert (JOINED, 0) == official(SEND_EMAIL, output.value)


def test_order_of_the_sides_makes_no_difference_to_the_mail() -> None:
    """Byte for byte, in one batch or in two."""
    values = set()
    for first, second in permutations(("command", "details")):
        for together in (True, False):
            manager = Manager(Policy(ask_after_ms=NEVER_ASK))
            records = [getattr(manager, first)(), getattr(manager, second)()]
            batches = [manager.run(*records)] if together else [manager.run(record) for record in records]
            (value,) = (output.value for batch in batches for output in batch.outputs)
            values.add(value)
    assert 1 == len(values)


def test_old_details_are_asked_for_again() -> None:
    """Details that are older than details_max_age don't do for a new command."""
    manager = Manager(Policy(details_max_age_ms=1_000))
    manager.run(manager.details())
    assert ["GetOrderDetails"] == manager.names(manager.run(manager.command(), now_ms=NOW_MS + 1_000))


def test_same_command_again_owes_no_second_mail() -> None:
    """Duplicates in the same batch, while waiting, and after the mail: one query, one mail."""
    manager = Manager()
    names = manager.names(manager.run(manager.command(), manager.command()))
    names += manager.names(manager.run(manager.command()))
    names += manager.names(manager.run(manager.details(), manager.command(), manager.details()))
    names += manager.names(manager.run(manager.sent(), manager.command(), manager.sent()))
    assert ["GetOrderDetails", "SendEmail", "OrderConfirmationSent"] == names


def test_records_of_one_key_in_one_batch_follow_each_other() -> None:
    """Each sees what the ones before it did, and one row comes of them all."""
    manager = Manager()
    batch = manager.run(manager.command(), manager.details(), manager.sent())
    assert ["GetOrderDetails", "SendEmail", "OrderConfirmationSent"] == manager.names(batch)
    assert [QUERIES.name, EMAIL_COMMANDS.name, OUTCOMES.name] == [output.topic for output in batch.outputs]
    assert [(KEY, None)] == [(change.key, change.old) for change in batch.changes]
    assert Step.SENT is manager.process().step


def test_orders_of_one_batch_have_nothing_to_do_with_each_other() -> None:
    """Each has its own mail; all rows are read at once, each key once."""
    manager = Manager()
    names = [f"order-{number}" for number in range(50)]
    batch = manager.run(*map(manager.command, names), *map(manager.details, names))
    mails = [manager.fields(output) for output in batch.outputs if output.topic == EMAIL_COMMANDS.name]
    assert names == [mail["command"]["order_id"] for mail in mails] == [mail["order"]["order_id"] for mail in mails]
    (keys,) = manager.loads
    assert sorted(name.encode() for name in names) == sorted(keys)


# Headers.


def test_headers_say_what_it_is_about_and_what_caused_it() -> None:
    """CloudEvents' names; the cause is the record's event id, and traceparent is the command's on all that follows."""
    manager = Manager()
    causes: list[Headers] = [[("ce_id", b"cause-1"), ("traceparent", TRACEPARENT.encode())], [("ce_id", b"cause-2")]]
    asked = manager.run(manager.command(headers=causes[0]))
    joined = manager.run(manager.details(headers=causes[1]))
    ended = manager.run(manager.sent())
    outputs = [*asked.outputs, *joined.outputs, *ended.outputs]
    common = {
        "ce_specversion": "1.0",
        "ce_source": "/rejoinder/process-manager",
        "ce_time": "2026-02-02T02:40:00.000Z",
        "ce_correlationid": COMMAND_ID,
        "traceparent": TRACEPARENT,
    }
    own = [
        ("orders.GetOrderDetails", ids.query_id(ORDER_ID, COMMAND_ID, 1), "cause-1"),
        (SEND_EMAIL, EMAIL_ID, "cause-2"),
        (
            "communications.OrderConfirmationSent",
            ids.outcome_id(ORDER_ID, COMMAND_ID, "OrderConfirmationSent"),
            # A cause without an event id is named by where it is.
            "email.events/0/3",
        ),
    ]
    expected = [common | {"ce_type": type_, "ce_id": id_, "ce_causationid": causation} for type_, id_, causation in own]
    assert expected == [{name: value.decode() for name, value in output.headers} for output in outputs]


def test_ids_of_events_are_uuids_of_their_bodies() -> None:
    """The header's id is the body's, so that a consumer may dedupe by either."""
    manager = Manager()
    asked, joined = manager.run(manager.command(), manager.details()).outputs
    assert header(asked.headers, "ce_id") == manager.fields(asked)["query_id"]
    assert header(joined.headers, "ce_id") == manager.fields(joined)["email_id"]
    assert 5 == UUID(header(joined.headers, "ce_id")).version


def test_headers_can_be_left_out() -> None:
    """With headers off there are none, and the values are the same."""
    plain, full = Manager(with_headers=False), Manager()
    one, other = (manager.run(manager.command(), manager.details()).outputs for manager in (plain, full))
    assert [[], []] == [output.headers for output in one]
    assert [output.value for output in other] == [output.value for output in one]


# Deadlines.


def test_deadline_asks_again() -> None:
    """The second attempt, caused by no record, still with the command's trace."""
    manager = Manager()
    manager.run(manager.command(headers=[("traceparent", TRACEPARENT.encode())]))
    due_ms = manager.due_ms()
    assert NOW_MS + 15_000 <= due_ms <= NOW_MS + 30_000
    (output,) = manager.run(due=[KEY], now_ms=due_ms).outputs
    assert (2, due_ms) == (manager.fields(output)["attempt"], manager.fields(output)["asked_at"])
    assert ("deadline", TRACEPARENT) == (
        header(output.headers, "ce_causationid"),
        header(output.headers, "traceparent"),
    )
    assert due_ms < manager.due_ms()


@pytest.mark.parametrize("known", [True, False])
def test_stale_hint_changes_nothing(known: bool) -> None:
    """An index entry is a hint only: the row may be gone, or not due any more."""
    manager = Manager()
    if known:
        manager.run(manager.command())
    batch = manager.decide(due=[KEY], now_ms=NOW_MS + 1)
    assert ([], [], []) == _shown(batch)


def test_answer_in_the_same_batch_forestalls_the_deadline() -> None:
    """Records come first: the query isn't asked again when its answer is at hand."""
    manager = Manager()
    manager.run(manager.command())
    batch = manager.run(manager.details(), due=[KEY], now_ms=manager.due_ms())
    assert ["SendEmail"] == manager.names(batch)


def test_deadline_passed_since_the_ends_were_asked_for_waits() -> None:
    """A row holds several deadlines: one that is due lets no later one pass whose answer may lie unread."""
    manager = Manager()
    other_id = "0b5c1f7e-2222-4333-8444-000000000000"
    manager.run(manager.command())
    manager.run(manager.command(command_id=other_id), now_ms=NOW_MS + 5_000)
    _, second_ms = sorted(process.due_ms for process in manager.order().processes.values())
    batch = manager.run(due=[KEY], now_ms=second_ms, due_ms=second_ms - 1)
    assert ["GetOrderDetails"] == manager.names(batch)
    assert second_ms == manager.due_ms()
    assert second_ms - 1 == manager.fields(batch.outputs[0])["asked_at"]


def test_give_up_after_is_a_deadline_of_its_own() -> None:
    """A query to be asked again lets nothing fail whose give_up_after was over only after the ends were asked for."""
    manager = Manager(Policy(give_up_after_ms=20_000, retry_first_ms=20_000))
    manager.run(manager.command())
    due_ms = manager.due_ms()
    assert due_ms < NOW_MS + 20_000
    batch = manager.run(due=[KEY], now_ms=NOW_MS + 21_000, due_ms=due_ms)
    assert ["GetOrderDetails"] == manager.names(batch)
    assert ["SendEmail"] == manager.names(manager.run(manager.details(), now_ms=NOW_MS + 21_001))


def test_deadline_of_a_finished_order_deletes_its_row() -> None:
    """When nothing is remembered any more, a tombstone."""
    manager = Manager()
    manager.run(manager.command(), manager.details(), manager.sent())
    manager.run(due=[KEY], now_ms=NOW_MS + 7 * DAY_MS)
    row = manager.rows[KEY]
    batch = manager.run(due=[KEY], now_ms=NOW_MS + 35 * DAY_MS)
    assert [RowChange(KEY, row, None)] == batch.changes
    assert [] == batch.outputs


# The row.


def test_row_is_due_when_its_first_deadline_is() -> None:
    """The due time in the row's head, which the index is made of, is the earliest of the order's deadlines."""
    manager = Manager(Policy(details_ttl_ms=5_000))
    manager.run(manager.details())
    assert NOW_MS + 5_000 == manager.due_ms()
    manager.run(manager.command(), now_ms=NOW_MS + 1_000)
    assert NOW_MS + 5_000 == manager.due_ms()
    manager.run(due=[KEY], now_ms=NOW_MS + 5_000)
    assert NOW_MS + 1_000 + DAY_MS == manager.due_ms()


def test_row_is_written_only_when_it_changed() -> None:
    """A record that is only counted costs no changelog record."""
    manager = Manager()
    manager.run(manager.command())
    assert [] == manager.run(manager.command(), manager.not_found(attempt=9)).changes


def test_finished_process_keeps_no_personal_data() -> None:
    """When details are forgotten too, neither name nor address is left in the row."""
    manager = Manager(Policy(details_ttl_ms=1_000))
    manager.run(manager.command(), manager.details(), manager.sent())
    manager.run(due=[KEY], now_ms=NOW_MS + 1_000)
    assert "Müller".encode() not in manager.rows[KEY]
    assert b"shop" not in manager.rows[KEY]
    assert manager.due_ms() < NEVER_MS


# Redelivery.


def test_same_batch_from_same_rows_says_the_same() -> None:
    """After an abort the records come again: outputs, rows and refusals are byte for byte those that were lost."""
    manager, again = Manager(), Manager()
    orders = [f"order-{number}" for number in range(20)]
    setup = [manager.command(order_id) for order_id in orders]
    for one in (manager, again):
        one.run(*setup)
    due = [order_id.encode() for order_id in orders[10:]]
    records = [
        *map(manager.details, orders[:10]),
        manager.command(headers=[("traceparent", TRACEPARENT.encode())]),
        manager.record("order-confirmation.commands", b"x", b"broken"),
        manager.cancel(orders[15]),
        manager.sent(),
    ]
    first = manager.decide(*records, due=due, now_ms=NOW_MS + 40_000)
    second = manager.decide(*records, due=due, now_ms=NOW_MS + 40_000)
    by_another = again.decide(*records, due=due, now_ms=NOW_MS + 40_000)
    # Ten mails, nine queries, one mail reported sent, one cancel.
    assert (21, 20, 1) == (len(first.outputs), len(first.changes), len(first.refusals))
    assert _shown(first) == _shown(second)
    assert _shown(first) == _shown(by_another)


def test_cut_of_batches_makes_no_difference() -> None:
    """Whether records are decided together or one by one, the same is sent and remembered."""
    one, other = Manager(), Manager()
    records = [one.command(), one.details(), one.failed(permanent=False), one.cancel(), one.sent(), one.command()]
    together = one.run(*records).outputs
    singly = [output for record in records for output in other.run(record).outputs]
    assert together == singly
    assert one.rows == other.rows


# The registry.


def test_registry_that_does_not_answer_is_no_refusal() -> None:
    """`Unavailable` goes out: the batch is tried again as a whole."""

    def resolve(schema_id: int) -> None:
        raise Unavailable(f"no answer about {schema_id}")

    manager = Manager(resolve=resolve)
    unknown = manager.record("order-confirmation.commands", KEY, b"\0\0\0\0\x63")
    with pytest.raises(Unavailable, match="no answer about 99"):
        manager.decide(unknown)


def test_schema_learned_while_deciding_is_used_at_once() -> None:
    """A registry that knows the id teaches it to the codec, and the record is decided."""
    asked: list[int] = []

    def resolve(schema_id: int) -> None:
        asked.append(schema_id)
        manager.codec._catalog.add(schema_id, current_text(COMMAND))

    manager = Manager(resolve=resolve)
    command = manager.command()
    foreign = command._replace(value=b"\0\0\0\x10\x00" + (command.value or b"")[5:])
    assert ["GetOrderDetails"] == manager.names(manager.run(foreign))
    assert [4096] == asked


# Counting.


def test_decisions_are_counted_by_cell() -> None:
    """Message, step and branch, as the table has them; once a taken branch."""
    labels = {"message": "SendOrderConfirmationEmail", "step": "awaiting details", "branch": "duplicate"}
    name = "rejoinder_decisions_total"
    before = REGISTRY.get_sample_value(name, labels) or 0
    manager = Manager()
    manager.run(manager.command(), manager.command(), manager.command())
    assert 2 == (REGISTRY.get_sample_value(name, labels) or 0) - before


def test_changes_are_of_rows_that_were_loaded() -> None:
    """The old row of a change is the one the store has."""
    manager = Manager()
    manager.run(manager.command())
    old = manager.rows[KEY]
    (change,) = manager.run(manager.details()).changes
    assert RowChange(KEY, old, manager.rows[KEY]) == change
