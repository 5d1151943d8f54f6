"""
Recordings of real systems, one order each, run through today's code.

`rejoinder export ORDER_ID --into tests/replay/recordings/NAME.jsonl` adds one: what went wrong once is a test then.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from streams import settings as settings_module
from streams.batch import Record
from streams.errors import ConfigurationError
from streams.registry import open_registry
from streams.replay.engine import BEGUN_BEFORE, DETAILS_BEFORE, LATER, OVERDUE, Replay, Result
from streams.replay.recording import Recording, as_line, of_line, policy_of, write_file
from streams.settings import Settings
from topology.policy import Policy
from topology.topics import COMMANDS, DETAILS, EMAIL_COMMANDS, EMAIL_EVENTS, OUTCOMES

RECORDINGS = sorted((Path(__file__).parent / "recordings").glob("*.jsonl"))
SENT = Path(__file__).parent / "recordings" / "sent.jsonl"
NOT_FOUND = Path(__file__).parent / "recordings" / "not_found.jsonl"


def _settings() -> Settings:
    return settings_module.load(partitions=4)


def _replayed(records: list[Record], policy: Policy | None = None) -> Result:
    chosen = _settings()
    with Recording() as recording:
        for record in records:
            recording.add(record)
        return Replay(chosen, open_registry(chosen), recording, policy).run()


def _records(path: Path) -> list[Record]:
    return [of_line(line) for line in path.read_bytes().splitlines()[1:]]


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_recording_repeats_itself(path: Path) -> None:
    """Every e-mail, every outcome and every refusal is the recorded one."""
    result = _replayed(_records(path), policy_of(path))
    assert [] == result.differences
    assert {} == result.not_judged
    assert result.same >= 1


def test_line_keeps_null_apart_from_empty() -> None:
    """Of key, value and headers: a tombstone is no empty record."""
    record = Record(COMMANDS.name, 0, 7, 1, None, None, [("null", None), ("empty", b"")])
    assert record == of_line(as_line(record))
    assert record._replace(key=b"", value=b"", headers=None) == of_line(
        as_line(record._replace(key=b"", value=b"", headers=None))
    )


def test_records_may_come_in_any_order() -> None:
    """They are sorted by their time."""
    assert _replayed(_records(SENT)) == _replayed(_records(SENT)[::-1])


def test_missing_and_extra_actions_are_told() -> None:
    """Both sides, by process and id."""
    records = _records(SENT)
    for topic, action in ((EMAIL_COMMANDS.name, "SendEmail "), (OUTCOMES.name, "outcome")):
        (one,) = _replayed([record for record in records if record.topic != topic]).differences
        assert one.action.startswith(action)
        assert one.recorded is None
        assert one.now
    without_answer = [record for record in records if record.topic != EMAIL_EVENTS.name]
    (one,) = _replayed(without_answer).differences
    assert ("outcome", "OrderConfirmationSent", None) == (one.action, one.recorded, one.now)


def test_another_content_is_told_without_showing_it() -> None:
    """Both contents' digests: a customer's data is in neither."""
    records = _records(SENT)
    (details,) = [record for record in records if record.topic == DETAILS.name]
    registry = open_registry(_settings())
    name, fields = registry.codec.decode_record(details.value or b"")
    fields["order"]["total"] += 1
    changed = details._replace(value=registry.codec.encode_record(name, fields))
    (one,) = _replayed([changed if record is details else record for record in records]).differences
    assert one.recorded
    assert one.now
    assert one.recorded != one.now
    assert {"content"} == {side.split()[0] for side in (one.recorded, one.now)}


def test_changed_rule_is_seen() -> None:
    """An order that nobody knows fails after another number of answers."""
    policy = policy_of(NOT_FOUND)
    (one,) = _replayed(_records(NOT_FOUND), policy._replace(not_found_attempts=5)).differences
    assert ("outcome", "OrderConfirmationFailed ORDER_NOT_FOUND", None) == (one.action, one.recorded, one.now)


def test_what_began_before_the_recording_is_no_difference() -> None:
    """Its command isn't there, or its details aren't; that is counted."""
    records = _records(SENT)
    result = _replayed([record for record in records if record.topic != COMMANDS.name])
    assert ([], 2) == (result.differences, result.not_judged[BEGUN_BEFORE])
    result = _replayed([record for record in records if record.topic != DETAILS.name])
    assert ([], 1) == (result.differences, result.not_judged[DETAILS_BEFORE])


def test_deadline_of_which_no_output_tells_is_counted() -> None:
    """It isn't made up: whether it would have fired first can't be known."""
    records = _records(SENT)
    later = [
        record._replace(timestamp_ms=record.timestamp_ms + 3 * 86_400_000)
        if record.topic == EMAIL_EVENTS.name
        else record
        for record in records
    ]
    elsewhere = [record._replace(key=b"other") if record.topic == EMAIL_EVENTS.name else record for record in later]
    assert 1 == _replayed(elsewhere).not_judged[OVERDUE]


def test_deadline_that_would_pass_later_is_counted() -> None:
    """With a longer backoff the query that was recorded isn't due at its time."""
    policy = policy_of(NOT_FOUND)._replace(retry_first_ms=600_000)
    assert 1 == _replayed(_records(NOT_FOUND), policy).not_judged[LATER]


def test_file_says_how_many_partitions_there_were(tmp_path: Path) -> None:
    """Whatever they are here: every key would lie in a wrong one."""
    chosen = settings_module.load(partitions=24)
    path = tmp_path / "exported.jsonl"
    write_file(path, _records(SENT), policy_of(SENT), 4)
    with Recording() as recording:
        recording.read_file(path)
        assert [] == Replay(chosen, open_registry(chosen), recording, policy_of(path)).run().differences


def test_file_that_can_not_be_written_is_told(tmp_path: Path) -> None:
    """With what the system says."""
    with pytest.raises(ConfigurationError, match=r"nowhere.*can't be written: No such file or directory"):
        write_file(tmp_path / "nowhere" / "x.jsonl", [], Policy(), 4)
