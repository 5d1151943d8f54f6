"""What the process manager puts into the dead letters, why, and that all else of the batch goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest

from streams.batch import Record
from streams.processing.process_manager import ROW_BYTES_MAX
from streams.transport.partitioner import partition_of
from tests.streams.manager import NOW_MS, ORDER_ID, Manager
from topology.policy import Policy
from topology.state import Step
from topology.topics import COMMANDS, DETAILS, RECORD_BYTES_MAX

KEY: Final = ORDER_ID.encode()
TTL_MS: Final = Policy().finished_ttl_ms


def _refused(manager: Manager, *records: Record, now_ms: int = NOW_MS) -> list[tuple[str, str]]:
    """Decide *records* between two good ones; return what was refused and why."""
    before, after = manager.command("before"), manager.command("after")
    batch = manager.run(before, *records, after, now_ms=now_ms)
    asked = [manager.fields(output)["order_id"] for output in batch.outputs]
    assert ["before", "after"] == [order_id for order_id in asked if order_id in ("before", "after")]
    assert [record for record in records if record in [r.record for r in batch.refusals]] == [
        refusal.record for refusal in batch.refusals
    ]
    return [(str(refusal.reason), refusal.detail) for refusal in batch.refusals]


def _truncated(manager: Manager) -> Record:
    command = manager.command()
    return command._replace(value=(command.value or b"")[:-1])


BAD: Final[dict[str, tuple[Callable[[Manager], Record], str, str]]] = {
    "null key": (lambda m: m.command()._replace(key=None), "null", "the key is null"),
    "null value": (lambda m: m.command()._replace(value=None), "null", "the value is null"),
    "null both": (lambda m: m.command()._replace(key=None, value=None), "null", "the key is null"),
    "empty value": (lambda m: m.command()._replace(value=b""), "not-framed", "begins with nothing"),
    "JSON": (lambda m: m.command()._replace(value=b'{"order_id": 7}'), "not-framed", "7b 22 6f 72 64"),
    "unknown schema": (
        lambda m: m.command()._replace(value=b"\0\0\1\0\0" + b"x"), "unknown-schema", "schema id 65536",
    ),
    "wrong topic": (
        lambda m: m.details()._replace(topic=COMMANDS.name), "unexpected-record", "OrderDetailsRetrieved",
    ),
    "truncated": (_truncated, "truncated", ""),
    "too long": (lambda m: m.command()._replace(value=(m.command().value or b"") + b"\0"), "trailing-bytes", ""),
    "another key": (lambda m: m.command()._replace(key=b"order-8"), "key-mismatch", "order-8"),
    "key that isn't UTF-8": (lambda m: m.command()._replace(key=b"\xff\xfe"), "key-mismatch", r"\xff\xfe"),
    "empty key": (lambda m: m.command()._replace(key=b""), "key-mismatch", "b''"),
    "expired": (
        lambda m: m.command()._replace(timestamp_ms=NOW_MS - TTL_MS - 1), "expired", "35 days old",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_record_is_refused_and_the_batch_goes_on(case: str) -> None:
    """Raw, with reason and detail; nothing is remembered of it."""
    make, reason, says = BAD[case]
    manager = Manager()
    ((actual, detail),) = _refused(manager, make(manager))
    assert reason == actual
    assert says in detail
    assert {b"before", b"after"} == set(manager.rows)


def test_record_as_old_as_processes_are_remembered_is_taken() -> None:
    """It expires only after finished_ttl."""
    manager = Manager()
    assert [] == _refused(manager, manager.command()._replace(timestamp_ms=NOW_MS - TTL_MS))


def test_key_of_another_partition_is_refused() -> None:
    """Its order's records of the other topics never come here; the detail says where it belongs."""
    right = partition_of(KEY, 4)
    manager = Manager(partitions=4, partition=(right + 1) % 4)
    (refusal,) = manager.run(manager.command()).refusals
    assert "wrong-partition" == refusal.reason
    assert f"belongs to partition {right}" in refusal.detail
    assert [] == Manager(partitions=4, partition=right).run(manager.command()._replace(partition=right)).refusals


def test_details_of_another_partition_are_refused() -> None:
    """Also what would only be kept."""
    manager = Manager(partitions=4, partition=(partition_of(KEY, 4) + 1) % 4)
    assert ["wrong-partition"] == [refusal.reason for refusal in manager.run(manager.details()).refusals]


def test_one_command_more_than_an_order_may_have_is_refused() -> None:
    """The order stays as it was: its row isn't even written again."""
    manager = Manager(Policy(processes_max=2))
    ids = [f"0b5c1f7e-2222-4333-8444-55556666777{number}" for number in range(3)]
    manager.run(*(manager.command(command_id=command_id) for command_id in ids[:2]))
    batch = manager.run(manager.command(command_id=ids[2]))
    assert ["too-many-processes"] == [refusal.reason for refusal in batch.refusals]
    assert ([], []) == (batch.changes, batch.outputs)
    assert ids[:2] == list(manager.order().processes)


def test_too_many_commands_in_one_batch_are_refused_one_by_one() -> None:
    """The first ones are taken, and duplicates of them still are."""
    manager = Manager(Policy(processes_max=2))
    ids = [f"0b5c1f7e-2222-4333-8444-55556666777{number}" for number in (0, 1, 2, 3, 0)]
    records = [manager.command(command_id=command_id) for command_id in ids]
    batch = manager.run(*records)
    assert records[2:4] == [refusal.record for refusal in batch.refusals]


@pytest.mark.parametrize("together", [True, False])
def test_row_that_would_not_fit_its_changelog_is_refused(together: bool) -> None:
    """Whether it grows in one batch or in several; a smaller record still finds room."""
    manager = Manager()
    large = "x" * (RECORD_BYTES_MAX - 1_000)
    ids = [f"0b5c1f7e-2222-4333-8444-55556666777{number}" for number in range(5)]
    records = [manager.command(command_id=command_id, by=large) for command_id in ids[:4]]
    small = manager.command(command_id=ids[4])
    batches = [manager.run(*records, small)] if together else [manager.run(record) for record in [*records, small]]
    refusals = [refusal for batch in batches for refusal in batch.refusals]
    assert [(records[3], "row-too-large")] == [(refusal.record, refusal.reason) for refusal in refusals]
    assert str(ROW_BYTES_MAX) in refusals[0].detail
    assert [*ids[:3], ids[4]] == list(manager.order().processes)
    assert len(manager.rows[KEY]) <= ROW_BYTES_MAX


def test_refused_record_does_not_stop_its_order() -> None:
    """Broken details, then right ones, in one batch: the mail goes out."""
    manager = Manager()
    broken = manager.record(DETAILS.name, KEY, b"\0\0\0\0\1broken")
    batch = manager.run(manager.command(), broken, manager.details())
    assert [broken] == [refusal.record for refusal in batch.refusals]
    assert ["GetOrderDetails", "SendEmail"] == manager.names(batch)
    assert Step.AWAITING_EMAIL is manager.process().step


def test_duplicates_do_not_make_a_row_too_large() -> None:
    """The row is measured, not what came for it: the same details again and again leave it as large as once."""
    manager = Manager()
    details = manager.details()
    times = ROW_BYTES_MAX // len(details.value or b"") + 2
    batch = manager.run(*[details] * times, manager.command())
    assert [] == batch.refusals
