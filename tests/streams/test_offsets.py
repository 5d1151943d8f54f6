"""Offsets that are asked of the partitions' leaders, and leaders that don't answer."""

from __future__ import annotations

import re
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import pytest
from confluent_kafka import OFFSET_INVALID, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec

from streams import offsets
from streams.offsets import list_offsets

ROOT: Final = Path(offsets.__file__).parents[1]
PARTITION: Final = TopicPartition("t", 0)


class Admin:
    """An admin client that gives one future for every offset."""

    def __init__(self) -> None:
        self.future: Future[Any] = Future()

    def list_offsets(self, asked: dict[TopicPartition, Any], **_: Any) -> dict[TopicPartition, Future[Any]]:
        """See `confluent_kafka.admin.AdminClient.list_offsets`."""
        return dict.fromkeys(asked, self.future)


@pytest.fixture
def admin() -> Admin:
    """Return a client that hasn't answered yet."""
    return Admin()


def listed(admin: Admin) -> offsets.Listed:
    """Ask for the end of a partition."""
    return list_offsets(admin, {PARTITION: OffsetSpec.latest()}, request_timeout=1.0)[PARTITION]


def test_leader_that_doesnt_answer_is_a_time_out(admin: Admin) -> None:
    """The library tells no error."""
    end = listed(admin)
    assert not end.done()
    admin.future.set_result(SimpleNamespace(offset=OFFSET_INVALID))
    assert end.done()
    with pytest.raises(KafkaException, match="leader doesn't answer"):
        end.result(0)
    error = end.exception(0)
    assert isinstance(error, KafkaException)
    assert KafkaError._TIMED_OUT == error.args[0].code()


@pytest.mark.parametrize("offset", [0, 7, -1])
def test_offset_is_passed_on(admin: Admin, offset: int) -> None:
    """So is -1, which is told of an instant that nothing has come since."""
    end = listed(admin)
    admin.future.set_result(SimpleNamespace(offset=offset))
    assert offset == end.result(0).offset
    assert end.exception(0) is None


def test_error_is_passed_on(admin: Admin) -> None:
    """As the library tells it."""
    error = KafkaException(KafkaError(KafkaError.LEADER_NOT_AVAILABLE))
    end = listed(admin)
    admin.future.set_exception(error)
    assert error == end.exception(0)
    with pytest.raises(KafkaException):
        end.result(0)


def test_answer_that_takes_long_is_a_time_out_of_the_wait(admin: Admin) -> None:
    """As with any future."""
    with pytest.raises(TimeoutError):
        listed(admin).result(0)


def test_nobody_asks_the_library_itself() -> None:
    """Who did would take silence for an offset."""
    sources = [path for name in ("streams", "bench", "tests") for path in (ROOT / name).rglob("*.py")]
    asking = {str(path.relative_to(ROOT)) for path in sources if re.search(r"\.list_offsets\(", path.read_text())}
    assert {"streams/offsets.py"} == asking
