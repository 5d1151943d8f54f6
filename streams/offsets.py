"""First and last offsets of partitions, asked of their leaders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol

from confluent_kafka import OFFSET_INVALID, IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import ListOffsetsResultInfo, OffsetSpec

_UNANSWERED: Final = "the partition's leader doesn't answer"


class Future(Protocol):
    """What an admin client gives for an answer to come."""

    def done(self) -> bool:
        """Whether it has come."""
        ...

    def result(self, timeout: float | None = None) -> Any:
        """Return it; raises KafkaException, or TimeoutError after *timeout* seconds."""
        ...

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return why there is none."""
        ...


class Listed:
    """
    A partition's offset, to come.

    librdkafka 2.16 passes a leader that didn't answer in time over in silence: it says no error, and `OFFSET_INVALID`
    for an offset. A restore that believed it would find its changelog empty.
    """

    def __init__(self, future: Future) -> None:
        self._future = future

    def done(self) -> bool:
        """Whether it has come."""
        return self._future.done()

    def result(self, timeout: float | None = None) -> ListOffsetsResultInfo:
        """
        Return it.

        Raises:
            KafkaException: there is none; its error is a time-out if the leader didn't answer.
            TimeoutError: nothing came for *timeout* seconds.
        """
        info: ListOffsetsResultInfo = self._future.result(timeout)
        if info.offset == OFFSET_INVALID:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, _UNANSWERED))
        return info

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return why there is none, or None."""
        if error := self._future.exception(timeout):
            return error
        try:
            self.result(timeout)
        except KafkaException as exc:
            return exc
        return None


def list_offsets(
    admin: Any,
    asked: Mapping[TopicPartition, OffsetSpec],
    *,
    isolation_level: IsolationLevel = IsolationLevel.READ_UNCOMMITTED,
    request_timeout: float,
) -> dict[TopicPartition, Listed]:
    """
    Ask *admin*, a client that the caller holds, for the offsets of partitions; within *request_timeout* seconds.

    Always by this, never by the client's own method: see `Listed`.
    """
    found = admin.list_offsets(dict(asked), isolation_level=isolation_level, request_timeout=request_timeout)
    return {partition: Listed(future) for partition, future in found.items()}
