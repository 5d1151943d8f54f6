"""A task: when it is complete, where it stands, and what its failures come to."""

from __future__ import annotations

import pytest

from streams.batch import Batch, Record
from streams.errors import Corrupt, Unavailable
from streams.processing.task import BACKOFF_FIRST_MS, BACKOFF_MOST_MS, Failed, Phase, Task
from streams.transport.member import TP
from topology.topics import QUERIES

INPUTS = ("commands", "details")
COMMANDS, DETAILS = (TP(topic, 3) for topic in INPUTS)


def _record(topic: str, offset: int) -> Record:
    return Record(topic, 3, offset, 0, b"key", b"value", None)


def _nothing(batch: Batch) -> None:
    for _ in batch:
        pass


def test_task_is_complete_when_all_inputs_are_owned() -> None:
    """Half of a pair can't be joined."""
    task = Task(3, INPUTS)
    assert (False, Phase.WAITING) == (task.complete, task.phase)
    task.owned.add(COMMANDS)
    assert not task.complete
    task.owned.add(DETAILS)
    assert task.complete


def test_positions_are_the_next_offsets_to_read() -> None:
    """Of each topic of the batch; what isn't committed yet is carried along."""
    task = Task(3, INPUTS)
    work = task.decide(_nothing, [_record("commands", 4), _record("details", 9), _record("commands", 7)], 0)
    assert {COMMANDS: 8, DETAILS: 10} == work.positions
    task.committed |= work.positions
    work = task.decide(_nothing, [_record("details", 10)], 0)
    assert {DETAILS: 11} == work.positions


def test_end_of_partition_beyond_the_last_record_is_carried_along() -> None:
    """Transaction markers take offsets: the position at EOF is committed with the next batch."""
    task = Task(3, INPUTS)
    task.positions[COMMANDS] = 12
    work = task.decide(_nothing, [_record("details", 0)], 0)
    assert {COMMANDS: 12, DETAILS: 1} == work.positions


def test_deadlines_alone_carry_the_known_positions() -> None:
    """A transaction without positions would be fenced by nothing."""
    task = Task(3, INPUTS)
    task.positions = {COMMANDS: 8, DETAILS: 10}
    task.committed = {COMMANDS: 8, DETAILS: 10}
    work = task.decide(_nothing, [], 5, [(4, b"key")])
    assert {COMMANDS: 8, DETAILS: 10} == work.positions
    assert {} == task.uncommitted
    assert ([b"key"], 5, [(4, b"key")]) == (work.batch.due, work.batch.now_ms, work.spent)


def test_failure_of_our_own_code_names_its_record() -> None:
    """So that the partition can be held there, and everything before it committed; positions stay."""
    task = Task(3, INPUTS)
    records = [_record("commands", offset) for offset in range(3)]

    def fail(batch: Batch) -> None:
        for record in batch:
            if record.offset == 1:
                raise ZeroDivisionError

    with pytest.raises(Failed) as caught:
        task.decide(fail, records, 0)
    assert records[1] == caught.value.record
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert {} == task.positions


def test_failure_after_the_records_is_a_deadline_s() -> None:
    """No record is to blame."""

    def fail(batch: Batch) -> None:
        _nothing(batch)
        raise ZeroDivisionError

    with pytest.raises(Failed) as caught:
        Task(3, INPUTS).decide(fail, [_record("commands", 0)], 0, [(0, b"key")])
    assert caught.value.record is None


@pytest.mark.parametrize("error", [Unavailable("no answer"), Corrupt("no row")])
def test_failure_of_others_goes_out_as_it_is(error: Exception) -> None:
    """They ask for other duties than a bug of ours."""

    def fail(_batch: Batch) -> None:
        raise error

    task = Task(3, INPUTS)
    with pytest.raises(type(error)) as caught:
        task.decide(fail, [_record("commands", 0)], 0)
    assert error is caught.value
    assert {} == task.positions


def test_back_off_doubles_up_to_a_limit() -> None:
    """Each wait from its own moment; a success begins at the first again."""
    task = Task(3, INPUTS)
    waits = [task.back_off(1_000) for _ in range(100)]
    assert [BACKOFF_FIRST_MS, 2 * BACKOFF_FIRST_MS, 4 * BACKOFF_FIRST_MS] == waits[:3]
    assert {BACKOFF_MOST_MS} == set(waits[6:])
    assert (Phase.BACKING_OFF, 1_000 + BACKOFF_MOST_MS) == (task.phase, task.retry_at_ms)
    task.decide(_nothing, [_record("commands", 0)], 0)
    assert BACKOFF_FIRST_MS == task.back_off(0)


def test_end_of_partition_seen_in_the_same_poll_is_not_taken_back() -> None:
    """It lies behind the transaction marker after the last record."""
    task = Task(3, INPUTS)
    task.positions[COMMANDS] = 6
    work = task.decide(_nothing, [_record("commands", 4)], 0)
    assert {COMMANDS: 6} == work.positions


def test_step_back_returns_to_the_first_of_each_input() -> None:
    """What was read and not decided will be read again, even where the end was seen behind it."""
    task = Task(3, INPUTS)
    task.positions = {COMMANDS: 9, DETAILS: 20}
    first = task.step_back([_record("commands", 4), _record("commands", 5), _record("details", 7)])
    assert {COMMANDS: 4, DETAILS: 7} == first == task.positions


def test_output_that_its_topic_does_not_take_fails_before_it_is_produced() -> None:
    """The broker would refuse it, and abort everybody's transaction, again and again."""

    def send(size: int) -> None:
        def decide(batch: Batch) -> None:
            batch.send(QUERIES.name, b"key", b"x" * size, [])

        Task(3, INPUTS).decide(decide, [], 0)

    send(QUERIES.record_bytes_max // 2)
    with pytest.raises(Failed) as caught:
        send(QUERIES.record_bytes_max + 1)
    assert f"for {QUERIES.name}, key b'key'" in str(caught.value.__cause__)
