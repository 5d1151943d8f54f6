"""The short way of what most records are, held against the table's way: the same bytes, counts and refusals."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from schemas import state_codec, straight_rows
from streams.batch import Batch, Record
from streams.processing import process_manager
from tests.streams.manager import COMMAND_ID, NOW_MS, ORDER_ID, TRACEPARENT, Manager
from topology import ids
from topology.policy import DAY_MS, HOUR_MS, NEVER_ASK, Policy

OTHER_ID: Final = "0b5c1f7e-2222-4333-8444-555566668888"
ORDERS: Final = (ORDER_ID, "order-8", "órder-9")
POLICIES: Final = (
    Policy(),
    Policy(ask_after_ms=NEVER_ASK),
    Policy(ask_after_ms=HOUR_MS, details_max_age_ms=2 * HOUR_MS),
    Policy(processes_max=1),
    Policy(ask_after_ms=NEVER_ASK, details_ttl_ms=HOUR_MS, email_outcome_wait_ms=2 * HOUR_MS),
)


class Step(NamedTuple):
    """One record to come: *kind* is the maker's name."""

    kind: str
    order_id: str
    command_id: str
    version: int
    traced: bool


STEPS: Final = st.builds(
    Step,
    # Mostly what is decided straight, so that much of it is; the rest makes the orders for which it isn't.
    st.sampled_from(["details"] * 4 + ["command"] * 4 + ["sent"] * 3 + ["cancel", "failed", "not_found", "broken"]),
    st.sampled_from(ORDERS),
    st.sampled_from([COMMAND_ID, OTHER_ID]),
    st.integers(1, 3),
    st.booleans(),
)


def record_of(manager: Manager, step: Step) -> Record:
    """Return the next record of *manager* that *step* says."""
    headers = [("traceparent", TRACEPARENT.encode())] if step.traced else None
    makers: dict[str, Callable[[], Record]] = {
        "details": lambda: manager.details(step.order_id, step.version, headers),
        "command": lambda: manager.command(step.order_id, step.command_id, headers),
        "cancel": lambda: manager.cancel(step.order_id, step.command_id),
        "sent": lambda: manager.sent(ids.email_id(ORDER_ID, step.command_id)),
        "failed": lambda: manager.failed(permanent=step.traced),
        "not_found": lambda: manager.not_found(step.version),
        "broken": lambda: manager.details(step.order_id)._replace(value=b"\0"),
    }
    return makers[step.kind]()


def shown(batch: Batch) -> tuple[object, ...]:
    """Return all that came of *batch*; its rows in the order of their keys, as no one is before another."""
    refusals = [(refusal.record, refusal.reason, refusal.detail) for refusal in batch.refusals]
    moved = {bucket: by for bucket, by in batch.moved.items() if by}
    return batch.outputs, sorted(batch.changes), refusals, moved, batch.failures


def counts() -> dict[tuple[str, ...], float]:
    """Return how often each branch of the table was taken until now."""
    return {
        tuple(sample.labels.values()): sample.value
        for metric in REGISTRY.collect()
        for sample in metric.samples
        if sample.name == "rejoinder_decisions_total"
    }


def taken(before: dict[tuple[str, ...], float]) -> dict[tuple[str, ...], float]:
    """Return the branches taken since *before*."""
    return {labels: value - before.get(labels, 0) for labels, value in counts().items() if value != before.get(labels)}


@given(
    st.sampled_from(POLICIES),
    st.lists(st.tuples(st.lists(STEPS, min_size=1, max_size=6), st.sampled_from([0, HOUR_MS, DAY_MS])), max_size=6),
)
def test_both_ways_lead_to_the_same(policy: Policy, batches: Sequence[tuple[Sequence[Step], int]]) -> None:
    """Whatever comes, in whatever batches and however late: the same mails, rows, refusals, counts and branches."""
    # With the kernel, where it is compiled, and without it.
    shorts = [Manager(policy).meet(), Manager(policy, natively=False).meet()]
    table = Manager(policy, straightly=False).meet()
    now_ms = NOW_MS
    for steps, later_ms in batches:
        now_ms += later_ms
        due = sorted(key for key, row in table.rows.items() if state_codec.due_of(row) <= now_ms)
        before = counts()
        expected = table.run(*(record_of(table, step) for step in steps), due=due, now_ms=now_ms)
        by_table = taken(before)
        for short in shorts:
            before = counts()
            found = short.run(*(record_of(short, step) for step in steps), due=due, now_ms=now_ms)
            assert shown(expected) == shown(found)
            assert by_table == taken(before)
            assert table.rows == short.rows


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("first", ["details", "command"])
def test_the_happy_path_goes_straight(
    policy: Policy, traced: bool, first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From either half to the outcome, each a while after the other: as by the table, and without it."""
    expected = list(_happy_path(Manager(policy, straightly=False), traced, first))
    monkeypatch.setattr(process_manager, "decide", None)
    found = list(_happy_path(Manager(policy), traced, first))
    assert expected == found
    asked = first == "command" and policy.ask_after_ms == 0
    assert [asked, 1, 1] == [len(outputs) for (outputs, *_), _ in found]  # type: ignore[arg-type]


def _happy_path(manager: Manager, traced: bool, first: str) -> Iterator[tuple[tuple[object, ...], dict[bytes, bytes]]]:
    """Yield what came of each record, and the rows after it."""
    headers = [("traceparent", TRACEPARENT.encode())] if traced else None
    halves = [manager.details(), manager.command(headers=headers)]
    if first == "command":
        halves.reverse()
    for number, record in enumerate([*halves, manager.sent()]):
        yield shown(manager.run(record, now_ms=NOW_MS + number * 60_000)), dict(manager.rows)


def test_many_slices_lead_to_what_single_records_lead_to() -> None:
    """One batch of several slices, its orders in all of them, and as many batches of one record: the same at last."""
    steps = [
        Step(kind, ORDERS[number % 3], (COMMAND_ID, OTHER_ID)[number // 3 % 2], number % 5, False)
        for number in range(process_manager.SLICE_RECORDS)
        for kind in ("details", "command", "not_found")
    ]
    assert len(steps) > 2 * process_manager.SLICE_RECORDS
    whole, single = Manager(Policy(ask_after_ms=NEVER_ASK)), Manager(Policy(ask_after_ms=NEVER_ASK))
    batch = whole.run(*(record_of(whole, step) for step in steps))
    parts = [single.run(record_of(single, step)) for step in steps]
    assert whole.rows == single.rows
    assert batch.outputs == [output for part in parts for output in part.outputs]


def test_failure_in_a_later_slice_knows_its_record() -> None:
    """The index in hand is that of the whole batch, for whoever holds the partition there."""

    def fail(_: int) -> None:
        raise ZeroDivisionError

    manager = Manager()
    records = [manager.details(f"order-{number}") for number in range(process_manager.SLICE_RECORDS + 2)]
    records[-2] = records[-2]._replace(value=b"\0\0\0\x03\xe7")
    batch = Batch(0, records, NOW_MS, lambda keys: [None] * len(keys))
    with pytest.raises(ZeroDivisionError):
        process_manager.ProcessManager(manager.codec, fail, manager.policy, 1)(batch)
    assert batch.at == len(records) - 2


def rows() -> dict[str, bytes]:
    """Return a row of each shape that is read the short way, as the codec writes it."""
    manager, found = Manager(straightly=False), {}
    for name, record in (("waiting", manager.command()), ("requested", manager.details()), ("sent", manager.sent())):
        manager.run(record)
        found[name] = manager.rows[ORDER_ID.encode()]
    manager = Manager(straightly=False)
    manager.run(manager.details())
    return found | {"details": manager.rows[ORDER_ID.encode()]}


READ: Final[dict[str, Callable[[bytes], object]]] = {
    "details": straight_rows.decode_details,
    "waiting": straight_rows.decode_waiting,
    "requested": straight_rows.decode_requested,
}


@pytest.mark.parametrize("shape", READ)
def test_each_shape_is_read_by_its_own_reader_only(shape: str) -> None:
    """Of the four rows, each reader takes its own, and leaves the others to the codec."""
    assert [shape] == [name for name, row in rows().items() if READ[shape](row) is not None]


@pytest.mark.parametrize("shape", READ)
def test_broken_row_is_left_to_the_codec(shape: str) -> None:
    """A row that is cut off anywhere, or longer, or of a newer version, is none that is read the short way."""
    row = rows()[shape]
    broken = [row[:end] for end in range(len(row))] + [row + b"\0", b"\x02" + row[1:]]
    assert [None] * len(broken) == [READ[shape](some) for some in broken]


@pytest.mark.parametrize("shape", READ)
def test_flipped_bits_never_are_an_error_of_another_kind(shape: str) -> None:
    """Whatever a byte is turned into, the short way reads the row, or leaves it to the codec."""
    row = rows()[shape]
    for at in range(len(row)):
        for bits in (1, 128, 255):
            READ[shape](row[:at] + bytes([row[at] ^ bits]) + row[at + 1 :])
