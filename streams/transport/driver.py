"""
Faust's transport ``rejoinder://``: the names that Faust looks for.

Faust's own way of a record (channels, acks, its commit and recovery) is left out: the worker's thread runs sessions
that poll, decide and commit (`App.open_session`), and Faust only starts and stops it.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import cached_property
from typing import Any, ClassVar, Final, NoReturn, Protocol

import confluent_kafka
import structlog
from faust.transport import base
from faust.transport.consumer import Consumer as FaustConsumer
from faust.types import TP, RecordMetadata
from mode import Service

from streams.errors import ConfigurationError, RejoinderError
from streams.transport import config
from streams.transport.transaction import Fenced, SessionOver

__all__ = ["Consumer", "Producer", "Transport"]

log = structlog.get_logger(__name__)

SESSION_WAIT_FIRST_S: Final = 0.5
SESSION_WAIT_MOST_S: Final = 10.0
SESSION_WELL_TURNS: Final = 100
"""Turns after which a session counts as well: the next one's wait begins at the first again."""
FENCED_AGAIN_S: Final = 60.0
"""Fenced, and fenced again so soon after a new beginning: no worker that slept, but two that live."""


class Turning(Protocol):
    """What the thread runs: `streams.processing.session.Session`."""

    def turn(self) -> None:
        """Do what there is to do now."""

    def close(self) -> None:
        """Leave the group."""


class SessionThread(threading.Thread):
    """
    Runs one session after another until told to stop; a turn under way is finished first.

    Any error but `SessionOver` ends the process (*crash*), whose supervisor starts it again. So does a fence soon after
    a fence: two live processes with one transactional id would take it from each other for ever.
    """

    def __init__(self, open_session: Callable[[], Turning], crash: Callable[[BaseException], None]) -> None:
        super().__init__(name="rejoinder-session", daemon=True)
        self._open_session = open_session
        self._crash = crash
        self._stopping = threading.Event()
        self._fenced = False

    def run(self) -> None:
        wait_s = SESSION_WAIT_FIRST_S
        try:
            while not self._stopping.is_set():
                try:
                    turns = self._life()
                except SessionOver as exc:
                    log.error("session over, a new one begins", because=str(exc), wait_s=wait_s)
                    turns = 0
                wait_s = SESSION_WAIT_FIRST_S if turns > SESSION_WELL_TURNS else min(wait_s * 2, SESSION_WAIT_MOST_S)
                self._stopping.wait(wait_s)
        except BaseException as exc:
            if not isinstance(exc, RejoinderError):
                log.exception("the session's thread failed")
            self._crash(exc)

    def _life(self) -> int:
        began_s = time.monotonic()
        session = self._open_session()
        turns = 0
        try:
            while not self._stopping.is_set():
                session.turn()
                turns += 1
        except SessionOver as exc:
            self._check_fence(exc, time.monotonic() - began_s)
            log.error("session over, a new one begins", because=str(exc))
        finally:
            session.close()
        return turns

    def _check_fence(self, exc: SessionOver, lived_s: float) -> None:
        """Raise if this session was fenced soon after the one before it was."""
        again = self._fenced and lived_s < FENCED_AGAIN_S
        self._fenced = isinstance(exc, Fenced)
        if isinstance(exc, Fenced) and again:
            raise ConfigurationError(
                f"another live process uses the transactional id {exc.transactional_id}: this one was fenced twice, "
                f"the last time {lived_s:.0f} s after it had begun anew; a transactional id ends with "
                "REJOINDER_INSTANCE_ID: stop the other process, or give each live process an id of its own"
            ) from exc

    def finish(self, timeout_s: float) -> None:
        """Let the turn under way end and the session leave the group; returns when the thread is over."""
        self._stopping.set()
        self.join(timeout_s)


class Consumer(FaustConsumer):
    """Faust's face of the session's thread."""

    STOP_S: ClassVar = 60.0

    app: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._session_thread: SessionThread | None = None

    async def subscribe(self, topics: Iterable[str]) -> None:
        """Begin: Faust calls this when everything else is up. The session knows its topics."""
        if self._session_thread is None:
            self._session_thread = SessionThread(self.app.open_session, self._crash_app)
            self._session_thread.start()

    def _crash_app(self, exc: BaseException) -> None:
        loop = self.loop
        if isinstance(exc, RejoinderError):
            self.app.failure = exc

        def crash() -> None:
            # The task is held by the app, which ends with it.
            self.app.add_future(self.app.crash(exc))

        loop.call_soon_threadsafe(crash)

    @property
    def alive(self) -> bool:
        """Whether the session's thread runs."""
        return self._session_thread is not None and self._session_thread.is_alive()

    async def finish(self) -> None:
        """Finish the turn under way and leave the group."""
        if (thread := self._session_thread) is not None:
            await asyncio.get_running_loop().run_in_executor(None, thread.finish, self.STOP_S)

    async def on_stop(self) -> None:
        await self.finish()
        await super().on_stop()

    def assignment(self) -> set[TP]:
        session = self.app.session
        return {TP(tp.topic, tp.partition) for tp in session.member.owned} if session else set()

    async def commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        """Nothing to do: the session commits."""
        return True

    async def wait_empty(self) -> None:
        """Nothing to wait for: no record is in Faust's hands."""

    def _new_topicpartition(self, topic: str, partition: int) -> TP:
        return TP(topic, partition)

    # Asked by Faust's fetcher, recovery, agents and commit, none of which runs here.

    def _not_here(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise NotImplementedError("the session's thread consumes and commits: see streams.processing.session")

    async def _not_here_either(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._not_here()

    _seek = _commit = _getmany = seek_to_committed = seek_wait = position = _not_here_either
    earliest_offsets = highwaters = create_topic = _not_here_either
    _to_message = highwater = topic_partitions = key_partition = _not_here


class Producer(base.Producer):
    """``topic.send()`` outside of transactions: timers and commands by hand; batches send by ``Batch.send``."""

    app: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._serving = False

    @cached_property
    def _client(self) -> confluent_kafka.Producer:
        # Made when something is sent: most applications never do.
        return confluent_kafka.Producer(config.plain_producer(self.app.settings))

    async def on_stop(self) -> None:
        await self.flush()

    async def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        partition: int | None,
        timestamp: float | None,
        headers: Any,
        *,
        transactional_id: str | None = None,
    ) -> Awaitable[RecordMetadata]:
        """Produce a record; the awaitable resolves when the broker has it, or raises why it doesn't."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[RecordMetadata] = loop.create_future()

        def delivered(error: Any, message: Any) -> None:
            if error is not None:
                future.set_exception(confluent_kafka.KafkaException(error))
            else:
                tp = TP(message.topic(), message.partition())
                future.set_result(RecordMetadata(*tp, tp, message.offset()))

        pairs = list(headers.items()) if isinstance(headers, Mapping) else headers
        self._client.produce(
            topic, value, key, -1 if partition is None else partition, on_delivery=delivered, headers=pairs
        )
        if not self._serving:
            self._serving = True
            self.add_future(self._serve())
        return future

    async def send_and_wait(self, *args: Any, **kwargs: Any) -> RecordMetadata:
        return await (await self.send(*args, **kwargs))

    async def _serve(self) -> None:
        # Delivery reports are served in the main loop, where their futures live; only while there are any to come: an
        # idle worker that asked all the time would spend half of what it takes on it.
        try:
            while len(self._client) and not self.should_stop:
                self._client.poll(0)
                await self.sleep(0.02)
        finally:
            self._serving = False

    async def flush(self) -> None:
        if "_client" in vars(self):
            await asyncio.get_running_loop().run_in_executor(None, self._client.flush, 10)

    async def create_topic(self, topic: str, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError("topics are created by `rejoinder topics apply`")

    def supports_headers(self) -> bool:
        return True


class Fetcher(Service):
    """Faust starts and stops a fetcher around each rebalance; here the session fetches."""

    def __init__(self, app: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)


class Transport(base.Transport):
    """Faust finds this through the entry point ``faust.transports``."""

    Consumer: ClassVar = Consumer
    Producer: ClassVar = Producer
    Fetcher: ClassVar = Fetcher

    default_port = 9092
    driver_version = f"confluent_kafka={confluent_kafka.__version__}"
