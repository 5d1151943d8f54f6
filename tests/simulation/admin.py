"""`confluent_kafka.admin.AdminClient`, as far as the worker asks: its answers come by themselves."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any, Final

from confluent_kafka import OFFSET_INVALID, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import ConfigResource

from tests.simulation.kernel import Fiber, the_world
from tests.simulation.log import Place

_SILENT: Final = 0.5
"""Of the questions for an offset that fail: those that nobody answers."""
_NO_OFFSET: Final = SimpleNamespace(offset=OFFSET_INVALID)


class Future:
    """
    An answer that comes.

    *unanswered*: what comes in time's stead of one that doesn't, where librdkafka passes that over in silence.
    """

    def __init__(self, answer: Callable[[], Any], timeout_s: float, unanswered: Any = None) -> None:
        self._world = world = the_world()
        self._life = world.me().life
        self._answer = answer
        self._unanswered = unanswered
        self._value: Any = None
        self._error: KafkaException | None = None
        self._done = False
        self._waiting: list[Fiber] = []
        self._until_s = world.now_s + timeout_s
        # The broker looks at some instant between question and answer.
        world.after(world.latency_s(), self._look)

    def _look(self) -> None:
        world, life = self._world, self._life
        if life.dead:
            return
        if life.cut or life.frozen:
            if life.cut and world.now_s >= self._until_s:
                self._time_out()
                return
            until_s = max(life.frozen_until_s, min(life.cut_until_s, self._until_s))
            world.at(max(until_s, world.now_s) + world.latency_s(), self._look)
            return
        if world.plan.error(life, "admin.answer") == "retriable":
            if self._unanswered is not None and world.random.random() < _SILENT:
                world.happens("unanswered")
                world.at(self._until_s, self._time_out)
                return
            self._error = KafkaException(KafkaError(KafkaError.COORDINATOR_NOT_AVAILABLE, "admin: try again"))
        else:
            self._value = self._answer()
        world.after(world.latency_s(), self._arrive)

    def _time_out(self) -> None:
        self._value = self._unanswered
        if self._value is None:
            self._error = KafkaException(KafkaError(KafkaError._TIMED_OUT, "no answer"))
        self._arrive()

    def _arrive(self) -> None:
        self._done = True
        for fiber in self._waiting:
            fiber.notify()
        self._waiting.clear()

    def done(self) -> bool:
        """Whether it has come."""
        return self._done

    def exception(self, _timeout: float | None = None) -> KafkaException | None:
        """Return why there is none."""
        return self._error

    def result(self, timeout: float | None = None) -> Any:
        """Return it, after waiting for it for *timeout* seconds."""
        world = self._world
        until_s = world.now_s + (timeout or 0.0)
        while not self._done:
            if world.now_s >= until_s:
                raise TimeoutError
            self._waiting.append(world.me())
            world.sleep(until_s - world.now_s)
            if not self._done:
                self._waiting.clear()
        if self._error is not None:
            raise self._error
        return self._value


class AdminClient:
    """See the module."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._world = the_world()
        self._broker = self._world.broker

    def describe_topics(self, topics: TopicCollection, request_timeout: float) -> dict[str, Future]:
        """Return the topics' ids."""
        self._world.point("admin.describe")
        return {
            name: Future(partial(SimpleNamespace, topic_id=self._broker.topic_ids[name]), request_timeout)
            for name in topics.topic_names
        }

    def describe_configs(self, resources: list[ConfigResource], request_timeout: float) -> dict[ConfigResource, Future]:
        """Return how long tombstones are kept."""
        kept = {"delete.retention.ms": SimpleNamespace(value=str(self._world.plan.tombstones_kept_ms))}
        return {resource: Future(lambda: kept, request_timeout) for resource in resources}

    def list_offsets(
        self, asked: dict[TopicPartition, Any], isolation_level: Any, request_timeout: float
    ) -> dict[TopicPartition, Future]:
        """Return first or end offsets, of all records."""
        self._world.point("admin.offsets")
        assert isolation_level.name == "READ_UNCOMMITTED"

        def answer(tp: TopicPartition, latest: bool) -> Callable[[], Any]:
            log = self._broker.logs[Place(tp.topic, tp.partition)]
            return lambda: SimpleNamespace(offset=log.end if latest else 0)

        return {
            tp: Future(answer(tp, type(spec).__name__ == "LatestSpec"), request_timeout, _NO_OFFSET)
            for tp, spec in asked.items()
        }
