"""Rows of the table: what was remembered is remembered, by this release and by all later ones."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Final, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import state_codec
from schemas.state_codec import CorruptRow, RowTooNew, decode, due_of, encode, timeline
from tests.topology.world import attributes
from topology.events import DEADLINE, Cause, CommandReceived, Event
from topology.ids import email_id, query_id
from topology.messages import (
    Body,
    CancelOrderConfirmation,
    DeadlinePassed,
    EmailFailed,
    EmailSent,
    Message,
    OrderDetailsNotFound,
    OrderDetailsRetrieved,
    SendOrderConfirmationEmail,
)
from topology.policy import NEVER_ASK, Policy
from topology.process import TooManyProcesses, decide
from topology.state import NEVER_MS, Details, Order, Process, Step
from topology.topics import COMMANDS, DETAILS, EMAIL_EVENTS

ORDER: Final = "order-ä"
COMMAND_IDS: Final = tuple(f"0b5e7a4c-9a55-4f0e-8d0a-3c1f6d2b9e0{digit}" for digit in range(3))
T0_MS: Final = 1_764_000_000_000
GOLDEN: Final = [
    (path.name, case)
    for path in sorted((Path(__file__).parent / "golden").glob("rows.*.json"))
    for case in json.loads(path.read_text("utf-8"))
]

bodies = st.builds(Body, st.integers(0, (1 << 32) - 1), st.binary(max_size=30))
command_ids = st.sampled_from(COMMAND_IDS)


def _messages() -> Iterator[st.SearchStrategy[Message]]:
    email_ids = st.builds(email_id, st.just(ORDER), command_ids)
    query_ids = st.builds(query_id, st.just(ORDER), command_ids, st.integers(1, 3))
    traces = st.none() | st.text(max_size=5)
    yield st.builds(SendOrderConfirmationEmail, st.just(ORDER), command_ids, bodies, traces)
    yield st.builds(CancelOrderConfirmation, st.just(ORDER), command_ids)
    yield st.builds(OrderDetailsRetrieved, st.just(ORDER), st.integers(-1, 5), bodies)
    yield st.builds(OrderDetailsNotFound, st.just(ORDER), query_ids)
    yield st.builds(EmailSent, st.just(ORDER), email_ids)
    yield st.builds(EmailFailed, st.just(ORDER), email_ids, st.booleans(), st.text(max_size=5))
    yield st.just(DeadlinePassed(ORDER))


TOPIC_OF: Final[dict[type[Message], str]] = {
    SendOrderConfirmationEmail: COMMANDS.name,
    CancelOrderConfirmation: COMMANDS.name,
    OrderDetailsRetrieved: DETAILS.name,
    OrderDetailsNotFound: DETAILS.name,
    EmailSent: EMAIL_EVENTS.name,
    EmailFailed: EMAIL_EVENTS.name,
}
histories = st.lists(st.tuples(st.one_of(*_messages()), st.integers(0, 40 * 86_400_000)), max_size=25)
policies = st.tuples(st.sampled_from([0, 1_000, NEVER_ASK]), st.integers(1, 2), st.integers(1, 2)).map(
    lambda drawn: Policy(ask_after_ms=drawn[0], not_found_attempts=drawn[1], email_attempts=drawn[2])
)


def said(order: Order, message: Message, offset: int, now_ms: int, policy: Policy) -> None:
    """Decide *message* as the record at *offset* of its topic."""
    topic = TOPIC_OF.get(type(message))
    try:
        decide(order, message, Cause(topic, offset) if topic else DEADLINE, now_ms, policy)
    except TooManyProcesses:
        return


def state(process: Process) -> dict[str, object]:
    """Return what is compared of *process*: everything, its timeline instead of how much of it is stored."""
    fields = {name: getattr(process, name) for name in attributes(Process) if name not in ("past", "recorded")}
    return fields | {"timeline": timeline(process)}


def remembered(order: Order) -> tuple[object, ...]:
    """Return what is compared of *order*."""
    return order.order_id, order.details, [state(process) for process in order.processes.values()], order.remembered


@settings(max_examples=300, deadline=None)
@given(histories, policies, st.integers(-1, NEVER_MS))
def test_what_is_decoded_is_what_was_encoded(history: list[tuple[Message, int]], policy: Policy, due_ms: int) -> None:
    """Any history, stored and loaded again after each message: the same as if it had stayed in memory."""
    kept, stored, now_ms = Order(ORDER), Order(ORDER), T0_MS
    for offset, (message, passed_ms) in enumerate(history):
        now_ms += passed_ms
        said(kept, message, offset, now_ms, policy)
        said(stored, message, offset, now_ms, policy)
        before = remembered(stored)
        row = encode(stored, due_ms)
        assert before == remembered(stored)  # Encoding changes nothing: the commit may yet fail.
        assert stored.empty == (row is None)
        if row is not None:
            assert due_ms == due_of(row)
        stored = Order(ORDER) if row is None else decode(ORDER, row)
        assert remembered(kept) == remembered(stored)


FOLDED: Final = (
    "step", "received_ms", "changed_ms", "query_attempt", "missing_attempt", "missing_count", "email_attempt",
    "reason", "note",
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(histories, policies)
def test_state_is_the_fold_of_its_timeline(history: list[tuple[Message, int]], policy: Policy) -> None:
    """What `explain` shows is what was decided upon: nothing of the state is in the row but not in the events."""
    order, now_ms = Order(ORDER), T0_MS
    for offset, (message, passed_ms) in enumerate(history):
        now_ms += passed_ms
        said(order, message, offset, now_ms, policy)
        row = encode(order, 0)
        order = Order(ORDER) if row is None else decode(ORDER, row)
    for process in order.processes.values():
        folded = Process(ORDER, process.command_id)
        for event in timeline(process):
            folded.record(event)
        assert {name: getattr(folded, name) for name in FOLDED} == {name: getattr(process, name) for name in FOLDED}


def test_body_of_several_places_is_stored_once() -> None:
    """The newest details are mostly what was sent; they are the largest part of a row."""
    body = Body(4, b"the order, whole" * 10)
    order = Order(ORDER)
    order.details = Details(1, body, T0_MS, DEADLINE)
    for command_id in COMMAND_IDS:
        order.processes[command_id] = process = Process(ORDER, command_id)
        process.step = Step.SENT
        process.order = Body(body.schema_id, bytes(bytearray(body.data)))

    row = encode(order, 0)

    assert row is not None
    assert 1 == row.count(body.data)
    assert remembered(order) == remembered(decode(ORDER, row))


def test_topic_of_another_name_is_kept() -> None:
    """A cause on a topic that a later release has, or that has been renamed since."""
    cause = Cause("order-details.éxtra", 7)
    order = Order(ORDER)
    order.details = Details(1, Body(1, b""), T0_MS, cause)
    order.processes[COMMAND_IDS[0]] = Process(ORDER, COMMAND_IDS[0])
    order.processes[COMMAND_IDS[0]].record(CommandReceived(T0_MS, cause))

    row = encode(order, 0)

    assert row is not None
    assert remembered(order) == remembered(decode(ORDER, row))


# Rows that are stored already.


def plain(value: object) -> Any:
    """Return *value* as JSON has it."""
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, get_args(Event)):
        return [type(value).__name__, *map(plain, value)]
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    return value


@pytest.mark.parametrize("case", [case for _, case in GOLDEN], ids=[f"{file}: {case['name']}" for file, case in GOLDEN])
def test_stored_row_is_read_for_ever(case: dict[str, Any]) -> None:
    """Rows that released versions wrote. Never change one: those in production don't change either."""
    row = bytes.fromhex(case["row"])

    assert case["due_ms"] == due_of(row)
    assert case["order"] == plain(remembered(decode(ORDER, row)))


@pytest.mark.parametrize("case", [case for file, case in GOLDEN if file == f"rows.{state_codec.VERSION}.json"])
def test_stored_row_of_this_version_is_written_the_same(case: dict[str, Any]) -> None:
    """A changed byte is a new version, which needs an upcaster."""
    row = encode(decode(ORDER, bytes.fromhex(case["row"])), case["due_ms"])

    assert row is not None
    assert case["row"] == row.hex()


def test_stored_rows_have_every_step_and_event() -> None:
    """None is left out of what is promised for ever."""
    orders = [decode(ORDER, bytes.fromhex(case["row"])) for _, case in GOLDEN]
    processes = [process for order in orders for process in order.processes.values()]

    assert set(Step) - {Step.ABSENT} == {process.step for process in processes}
    assert set(get_args(Event)) == {type(event) for process in processes for event in timeline(process)}
    assert {True, False} == {order.details is None for order in orders} == {not order.remembered for order in orders}


def test_older_row_is_brought_up_version_by_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each upcaster makes the next version; here of a made-up one before the first."""
    order = Order(ORDER)
    order.remembered[email_id(ORDER, COMMAND_IDS[0])] = T0_MS
    row = encode(order, 5)
    assert row is not None
    monkeypatch.setattr(state_codec, "VERSION", 3)
    monkeypatch.setattr(state_codec, "_VERSION", b"\3")
    monkeypatch.setitem(state_codec.UPCASTERS, 1, lambda old: b"\2" + old[1:] + b"some")
    monkeypatch.setitem(state_codec.UPCASTERS, 2, lambda old: b"\3" + old[1:].removesuffix(b"some"))

    assert remembered(order) == remembered(decode(ORDER, row))


# Rows that can't be.

ROWS: Final = [bytes.fromhex(case["row"]) for _, case in GOLDEN]


@pytest.mark.parametrize("row", ROWS, ids=[case["name"] for _, case in GOLDEN])
def test_row_cut_off_or_going_on_is_corrupt(row: bytes) -> None:
    """At every byte: what is left is never taken for a smaller row."""
    for changed in (*(row[:end] for end in range(len(row))), row + b"\0"):
        with pytest.raises(CorruptRow):
            decode(ORDER, changed)


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(ROWS), st.data())
def test_changed_row_is_read_or_corrupt_and_nothing_else(row: bytes, data: st.DataObject) -> None:
    """Whoever reads rows has one error to handle, whatever happened to the bytes."""
    at = data.draw(st.integers(1, len(row) - 1))
    changed = row[:at] + data.draw(st.binary(max_size=4)) + row[at + 1 :]
    with contextlib.suppress(CorruptRow):
        order = decode(ORDER, changed)
        assert all(isinstance(event, get_args(Event)) for p in order.processes.values() for event in timeline(p))


@pytest.mark.parametrize("length", [0, 1, 8])
def test_row_too_short_for_its_due_time_is_corrupt(length: int) -> None:
    """The index of deadlines is rebuilt from rows, too."""
    row = ROWS[0][:length]

    with pytest.raises(CorruptRow):
        due_of(row)
    with pytest.raises(CorruptRow):
        decode(ORDER, row)


def test_row_of_a_version_that_never_was_is_corrupt() -> None:
    """Zeros instead of a row."""
    with pytest.raises(CorruptRow, match="row can't be read at byte 0: there never was a version 0"):
        decode(ORDER, bytes(100))


def test_row_of_a_newer_release_isnt_corrupt() -> None:
    """After a rollback: wiping it and restoring it from the changelog would bring the same."""
    with pytest.raises(RowTooNew, match=r"row of version 9.*: run the newer release"):
        decode(ORDER, b"\x09" + ROWS[0][1:])


def test_absent_process_is_corrupt() -> None:
    """What is absent has no place in a row, and nothing to be shown."""
    order = Order(ORDER)
    order.processes[COMMAND_IDS[0]] = Process(ORDER, COMMAND_IDS[0])
    row = encode(order, 0)
    assert row is not None
    with pytest.raises(CorruptRow, match="a process that is absent"):
        decode(ORDER, row)


def test_details_without_body_are_corrupt() -> None:
    """Body 0 is none, and details always have one."""
    order = Order(ORDER)
    order.details = Details(1, Body(1, b"x"), T0_MS, DEADLINE)
    row = encode(order, 0)
    assert row is not None
    at = row.index(b"x") + 1 + 8

    with pytest.raises(CorruptRow):
        decode(ORDER, row[:at] + b"\0\0" + row[at + 2 :])
