"""
The kernel, held against the same way in Python: the same bytes, or the record is left to Python.

`test_straight` draws orders' histories, and decides them by the kernel too where it is compiled. Here is what histories
don't reach: broken bytes, foreign headers, other schemas, and that the happy path isn't left to Python at all.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from functools import cache
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.catalog import Catalog
from schemas.codec import Codec
from streams.batch import Batch, Record
from streams.processing import kernel_facts, process_manager, straight
from streams.transport.partitioner import partition_of
from tests.schemas.avro_bytes import broken
from tests.streams.manager import COMMAND_ID, NOW_MS, ORDER_ID, TRACEPARENT, Manager
from tests.streams.test_straight import counts, shown, taken
from topology import ids
from topology.policy import HOUR_MS, NEVER_ASK, Policy
from topology.topics import COMMANDS, DETAILS

KERNEL: Final = kernel_facts.kernel_module()
pytestmark = pytest.mark.skipif(KERNEL is None, reason="runs where the kernel is compiled (./dev native)")
KEY: Final = ORDER_ID.encode()
CE_ID: Final = ("ce_id", b"11111111-2222-4333-8444-555566667777")


def outcome(manager: Manager, records: Sequence[Record], now_ms: int = NOW_MS) -> object:
    """Return all that came of *records*, the table's branches included; or the error that they end with."""
    before = counts()
    try:
        batch = manager.decide(*records, now_ms=now_ms)
    except Exception as exc:  # noqa: BLE001 - whichever it is, it must be the same.
        return type(exc), str(exc)
    return shown(batch), taken(before)


@cache
def manager_of(policy: Policy, partitions: int, natively: bool) -> Manager:
    """Return a manager that decides only, whose codec has met every schema: before, all is left to Python."""
    return Manager(policy, partitions=partitions, natively=natively).meet()


def assert_same(rows: dict[bytes, bytes], *records: Record, policy: Policy | None = None, partitions: int = 1) -> Any:
    """Assert that *records* over *rows* come to the same with and without the kernel; return what."""
    found = []
    for natively in (False, True):
        manager = manager_of(policy or Policy(), partitions, natively)
        manager.rows = dict(rows)
        found.append(outcome(manager, records))
    assert found[0] == found[1]
    return found[1]


def history() -> list[tuple[dict[bytes, bytes], Record]]:
    """Return each record of the happy path, both halves first, and the rows that it comes to."""
    found = []
    for first in ("details", "command"):
        manager = Manager(natively=False)
        halves = [manager.details(headers=[CE_ID]), manager.command(headers=[("traceparent", TRACEPARENT.encode())])]
        for record in [*(halves if first == "details" else reversed(halves)), manager.sent()]:
            found.append((dict(manager.rows), record))
            manager.run(record)
    return found


HISTORY: Final = history()


@pytest.mark.parametrize("ask_after_ms", [0, NEVER_ASK, HOUR_MS])
@pytest.mark.parametrize("headers", [None, [], [CE_ID, ("traceparent", TRACEPARENT.encode()), ("other", None)]])
@pytest.mark.parametrize("first", ["details", "command"])
def test_happy_path_is_the_kernels(ask_after_ms: int, headers: Any, first: str) -> None:
    """From either half to the outcome; nothing is left to Python, once the codec has met each schema."""
    manager = Manager(Policy(ask_after_ms=ask_after_ms)).meet()
    kernel = manager._decide._kernel
    assert kernel is not None
    halves = [manager.details(headers=headers), manager.command(headers=headers)]
    if first == "command":
        halves.reverse()
    for record in [*halves, manager.sent()]:
        rows: dict[bytes, bytes | None] = {}
        known: dict[bytes, bytes | None] = {KEY: manager.rows.get(KEY)}
        assert 1 == kernel.decide([record], 0, 1, NOW_MS, b"", known, rows, {}, {}, [], [])
        manager.run(record)
        assert {KEY: manager.rows[KEY]} == rows


@pytest.mark.parametrize("at", range(len(HISTORY)))
@settings(max_examples=150, deadline=None)
@given(st.data())
def test_broken_record_comes_to_the_same(at: int, data: st.DataObject) -> None:
    """Any byte of a value or key changed, inserted or removed."""
    rows, record = HISTORY[at]
    value = data.draw(broken(record.value or b""))
    key = data.draw(st.just(KEY) | broken(KEY))
    assert_same(rows, record._replace(value=value, key=key))


@pytest.mark.parametrize("at", [number for number, (rows, _) in enumerate(HISTORY) if rows])
@settings(max_examples=200, deadline=None)
@given(st.data())
def test_broken_row_comes_to_the_same(at: int, data: st.DataObject) -> None:
    """Any byte of a row changed, inserted or removed: the same row again, or the same error."""
    rows, record = HISTORY[at]
    assert_same({KEY: data.draw(broken(rows[KEY]))}, record)


def test_each_byte_of_each_row_in_turn() -> None:
    """Every cut, and every byte turned into others: nothing is read beyond a row's end."""
    for rows, record in HISTORY:
        row = rows.get(KEY, b"")
        for end in range(len(row)):
            for some in (row[:end], *(row[:end] + bytes([row[end] ^ bits]) + row[end + 1 :] for bits in (1, 128, 255))):
                assert_same({KEY: some}, record)


HEADERS: Final = st.lists(
    st.tuples(
        st.sampled_from(
            ["traceparent", "ce_id", "ce_type", "rejoinder.original-timestamp", "Traceparent", "ce_iD", "", "ü"]
        ),
        st.none()
        | st.sampled_from([b"", b"ascii", TRACEPARENT.encode(), b"x" * 55, b"x" * 56, b"x" * 256, b"x" * 257])
        | st.sampled_from(["ü".encode(), b"\xff", str(NOW_MS - HOUR_MS).encode(), b"1"]),
    ),
    max_size=4,
)


@pytest.mark.parametrize("at", range(len(HISTORY)))
@given(HEADERS)
def test_foreign_headers_come_to_the_same(at: int, headers: list[tuple[str, bytes | None]]) -> None:
    """Those that are read, twice, null, too long, or no text; and others."""
    rows, record = HISTORY[at]
    assert_same(rows, record._replace(headers=headers))


@pytest.mark.parametrize("size", [*range(130), 1023, 1024, 1025, 2000])
def test_keys_of_any_length_have_their_ids_and_partitions(size: int) -> None:
    """SHA-1's padding and murmur2's tail at each of their bounds."""
    maker = Manager()
    text = "ö-" * (size // 3)
    order_id = text + "x" * (size - len(text.encode()))
    assert size == len(order_id.encode())
    records = [maker.command(order_id), maker.details(order_id)]
    records.append(maker.sent(ids.email_id(order_id, COMMAND_ID))._replace(key=order_id.encode()))
    assert_same({}, *records[:2])
    partitions = 7
    right = partition_of(order_id.encode(), partitions)
    for number in (right, (right + 1) % partitions):
        (_, _, refusals, *_), _ = assert_same(
            {}, *(record._replace(partition=number) for record in records), partitions=partitions
        )
        assert (number != right) == any(refusal[1] == "wrong-partition" for refusal in refusals)


def test_details_of_another_version_of_the_schema_are_pythons() -> None:
    """They are resolved; a body that was stored by another id is too."""
    catalog = Catalog.from_files()
    codec = Codec(catalog)
    manager = Manager()
    record = manager.details()
    codec.decode(("orders.OrderDetailsRetrieved",), KEY, record.value or b"")
    assert {(record.value or b"")[:5]: "orders.OrderDetailsRetrieved"} == codec.as_is
    rows, record = next((rows, record) for rows, record in HISTORY if rows and record.topic == COMMANDS.name)
    other_id = rows[KEY][:16] + b"\0\0\0\x63" + rows[KEY][20:]
    error, text = assert_same({KEY: other_id}, record)
    assert error is not None
    assert "99" in text


def told(codec: Codec) -> kernel_facts.KernelFacts:
    """Return what a kernel that asks at once is told."""
    found = kernel_facts.facts(
        codec, Policy(), 1, "/", process_manager._TOPIC, straight.BRANCHES, 1 << 20, 55, with_headers=True
    )
    assert found is not None
    return found


def test_failure_in_the_kernel_knows_its_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it raises, the partition is held at the record in hand."""
    manager = Manager(Policy(ask_after_ms=0)).meet()
    records = [manager.details(f"order-{number}") for number in range(3)] + [manager.command("order-9")]

    batch = Batch(0, records, NOW_MS, lambda keys: [None] * len(keys))
    decider = manager._decide

    def fail(*_: object) -> int:
        raise ZeroDivisionError

    found = told(manager.codec)
    policy: Any = type("FailingPolicy", (), {**Policy(ask_after_ms=0)._asdict(), "backoff_ms": staticmethod(fail)})
    monkeypatch.setattr(decider, "_kernel", KERNEL.Kernel(found._replace(policy=policy)))
    with pytest.raises(ZeroDivisionError):
        decider(batch)
    assert len(records) - 1 == batch.at


@pytest.mark.parametrize(
    ("fact", "other"),
    [("version", 2), ("layouts", {}), ("operations", {"string": 2}), ("copied_chars_max", 255)],
)
def test_kernel_that_was_built_for_something_else_is_refused(fact: str, other: Any) -> None:
    """A layout that changes in Python only doesn't become a row that nobody can read."""
    found = told(Codec(Catalog.from_files()))
    KERNEL.Kernel(found)
    with pytest.raises(ValueError, match="kernel"):
        KERNEL.Kernel(found._replace(**{fact: other}))


def test_what_is_taken_is_taken_over_the_topic_that_it_belongs_to() -> None:
    """A command among the details is refused."""
    record = Manager().command()._replace(topic=DETAILS.name)
    (_, _, refusals, *_), _ = assert_same({}, record)
    assert ["unexpected-record"] == [reason for _, reason, _ in refusals]


def test_nothing_is_left_behind() -> None:
    """Each reference that the kernel takes it gives back: after many batches there are as many objects as before."""
    manager = manager_of(Policy(), 1, natively=True)

    def blocks() -> int:
        for rows, record in HISTORY:
            manager.rows = dict(rows)
            for _ in range(200):
                manager.decide(record)
                manager.decide(record._replace(value=(record.value or b"")[:-1]))
        manager.loads.clear()
        gc.collect()
        return sys.getallocatedblocks()

    before = blocks()
    assert blocks() - before < 100
