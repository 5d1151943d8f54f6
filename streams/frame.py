"""
The frame: a Faust application whose records go librdkafka's way.

An application declares topics and tables as in Faust, and one of two functions instead of agents::

    @app.transaction(commands, details, outcomes, table=processes)
    def advance(batch): ...          # a batch of one partition, decided and committed together

    app.handle(email_commands, open_service, table=ledger, records_max=500)    # for work outside of transactions,
                                                                               # see `streams.processing.logic`
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import time
from collections.abc import Callable, Coroutine, Mapping, MutableMapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, NoReturn, Protocol, TypeVar, cast

import confluent_kafka
import faust
import structlog
from faust.types import TableT, TopicT

from streams.batch import Batch
from streams.errors import Bug, ConfigurationError, RejoinderError, Unavailable
from streams.monitor.group_offsets import GroupLooker
from streams.monitor.lag_watch import LagWatch
from streams.processing.clock import Clock
from streams.processing.commit import Committer, Work
from streams.processing.end_offsets import EndOffsets
from streams.processing.kernel_facts import kernel_module
from streams.processing.logic import Handler, Handling, Transactional, nothing_more
from streams.processing.session import Logic, Session
from streams.settings import Settings
from streams.store.directory import StateDirectory
from streams.store.driver import Store
from streams.store.options import StoreOptions
from streams.store.partition import Partition
from streams.store.restore import Restorer
from streams.transport import config
from streams.transport.acls import check_rights
from streams.transport.driver import Consumer
from streams.transport.member import GroupOffsets, Listener, Member
from streams.transport.sample import check_keys
from streams.transport.topics import check_topics
from streams.transport.transaction import Transaction
from topology.acls import Role
from topology.topics import TOPICS, Topic

log = structlog.get_logger(__name__)
_T = TypeVar("_T")

START_S: Final = 20.0
"""In which brokers come up and coordinators move; if they don't, the process ends, and its supervisor says so."""
START_PAUSE_S: Final = 1.0

HANDLER_S: Final = 240.0
"""The longest that a handler may take with a batch: less than librdkafka's max.poll.interval.ms of five minutes."""

_BY_NAME = {topic.name: topic for topic in TOPICS}


class Beside(Protocol):
    """What runs beside the records, in threads of its own."""

    def start(self) -> None:
        """Begin."""

    def stop(self) -> None:
        """End soon."""


class App(faust.App):
    """`faust.App` whose broker and store are ``rejoinder://``; *role* names its consumer group's suffix."""

    def __init__(self, settings: Settings, role: str, **options: Any) -> None:
        self.settings = settings
        self.role = role
        self.partitions = 0
        """Partitions of every topic; known once the start-up checks have passed."""
        self.session: Session | None = None
        self.failure: RejoinderError | None = None
        """Why it ended, if one of our own errors ended it."""
        self._inputs: tuple[str, ...] = ()
        self._logic: Logic | None = None
        self._table: TableT[bytes, bytes] | None = None
        self._directory: StateDirectory | None = None
        self._clock = Clock()
        self._end_offsets: EndOffsets | None = None
        self._beside: list[Beside] = []
        self.store_options: StoreOptions | None = None
        """Of the table's stores, with their memory; None before there is one."""
        self.group = f"{settings.application_id}-{role}"
        super().__init__(
            self.group,
            broker=[f"rejoinder://{server}" for server in settings.bootstrap_servers.split(",")],
            store="rejoinder://",
            web="rejoinder://",
            datadir=str(settings.state_dir / role),
            web_bind=settings.web_bind,
            web_port=settings.web_port,
            web_host=settings.web_host or settings.web_bind,
            canonical_url=settings.advertised_url,
            TableManager="streams.store.tables:TableManager",
            PartitionAssignor="streams.transport.assignment:PartitionAssignor",
            LeaderAssignor="streams.transport.assignment:LeaderAssignor",
            # A leader topic would be one more subscription, with one partition: range would split the inputs' pairs.
            topic_disable_leader=True,
            topic_allow_declare=False,
            **options,
        )

    # What an application declares.

    def declared(self, topic: Topic) -> TopicT:
        """Return the declared *topic* as Faust's, raw bytes in and out."""
        return self.topic(
            self.settings.topic(topic.name),
            partitions=self.settings.partitions,
            key_type=bytes,
            value_type=bytes,
            key_serializer="raw",
            value_serializer="raw",
        )

    def table_of(self, name: str, changelog: Topic) -> TableT[bytes, bytes]:
        """Return a table whose rows are bytes and whose changelog is the declared topic."""
        return self.Table(
            name,
            key_type=bytes,
            value_type=bytes,
            store="rejoinder://",
            partitions=self.settings.partitions,
            changelog_topic=self.declared(changelog),
        )

    def transaction(
        self,
        *topics: TopicT,
        table: TableT[bytes, bytes] | None = None,
        committed: Callable[[Sequence[Work]], object] = nothing_more,
    ) -> Callable[[Callable[[Batch], object]], Callable[[Batch], object]]:
        """
        Register ``function(batch)`` for co-partitioned *topics*; it may read and write *table*.

        *committed* is told what was committed and is in the stores, in the session's thread.
        """

        def register(function: Callable[[Batch], object]) -> Callable[[Batch], object]:
            self._register(topics, table, Transactional(function, self.settings.batch_records, committed))
            return function

        return register

    def handle(
        self,
        topic: TopicT,
        open_handler: Callable[[], Handler],
        table: TableT[bytes, bytes],
        records_max: int,
        committed: Callable[[Sequence[Work]], object] = nothing_more,
    ) -> None:
        """
        Register a handler for the records of *topic*, *records_max* at a time; it is opened at the first of them.

        *committed* is told what it settled, once that is committed, in the session's thread.
        """
        self._register((topic,), table, Handling(open_handler, self._wait, records_max, committed))

    def beside(self, service: Beside) -> None:
        """Start *service* once the start-up checks have passed, and stop it at the end."""
        self._beside.append(service)

    def agent(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        """
        Refuse: an agent acks when it fails, and sends outside the transaction.

        Raises:
            ConfigurationError: always.
        """
        raise ConfigurationError(
            "agents don't run on this transport: an agent acks when it fails and can't be in the batch's transaction; "
            "register a batch function by @app.transaction(...), or a handler by app.handle(...)"
        )

    def _register(self, topics: Sequence[TopicT], table: TableT[bytes, bytes] | None, logic: Logic) -> None:
        if self._logic is not None:
            raise ConfigurationError(f"{self.group} has its function already; an application has one")
        prefix = self.settings.topic_prefix
        self._inputs = tuple(topic.get_topic_name().removeprefix(prefix) for topic in topics)
        self._table, self._logic = table, logic
        for topic in topics:
            self.topics.add(topic)  # What is added is subscribed to.

    # What the worker runs.

    async def on_first_start(self) -> None:
        """
        Check the topics and lock the state directory before anything is consumed.

        Raises:
            RejoinderError: they aren't as they must be.
        """
        log.info(
            "starting",
            group=self.group,
            instance=self.settings.instance,
            version=version("rejoinder"),
            librdkafka=confluent_kafka.libversion()[0],
            kernel=kernel_module() is not None,
            brokers=self.settings.bootstrap_servers,
        )
        try:
            await self._check()
        except RejoinderError as exc:
            self.failure = exc
            raise
        for service in self._beside:
            service.start()
        await super().on_first_start()

    async def _check(self) -> None:
        if self._logic is None:
            raise ConfigurationError(
                f"{self.group} has no function; register one by @app.transaction(...) or app.handle(...)"
            )
        settings = self.settings
        inputs = [_BY_NAME[name] for name in self._inputs]
        participant = inputs[0].consumer
        # What it produces to as well: a missing one would be found by the first record for it, with everything waiting.
        needed = [topic for topic in TOPICS if participant in (topic.consumer, *topic.producers)]
        self._make_state_path()
        await self._patiently(lambda: check_rights(settings, Role(self.role)))
        self.partitions = await self._patiently(lambda: check_topics(settings, needed))
        await self._patiently(lambda: check_keys(settings, inputs, self.partitions, self.group))
        if self._table is not None:
            self._directory = StateDirectory(self.state_path, settings.instance)
        self._end_offsets = EndOffsets(config.common(settings), settings.topic)

    @staticmethod
    async def _patiently(check: Callable[[], _T]) -> _T:
        """Return what *check* does, in a thread; while brokers come up and coordinators move, it is done again."""
        deadline_s = time.monotonic() + START_S
        while True:
            try:
                return await asyncio.get_running_loop().run_in_executor(None, check)
            except Unavailable as exc:
                if time.monotonic() > deadline_s:
                    raise
                log.warning("can't start yet, trying again", because=str(exc))
            await asyncio.sleep(START_PAUSE_S)

    def _make_state_path(self) -> None:
        """
        Make the directory of the state, which holds customers' data, its owner's alone, whoever made it.

        Raises:
            ConfigurationError: it can't be.
        """
        try:
            self.state_path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self.state_path.stat().st_mode & 0o077:
                self.state_path.chmod(0o700)
        except OSError as exc:
            raise ConfigurationError(
                f"{self.state_path}: no directory for the state that is its owner's alone: {exc}; set "
                "REJOINDER_STATE_DIR"
            ) from exc

    async def on_stop(self) -> None:
        """Finish the turn under way first: what Faust stops next, producer and tables, is the session's too."""
        if self._logic is not None:
            self._logic.stop()
        for service in self._beside:
            await asyncio.get_running_loop().run_in_executor(None, service.stop)
        await self.driver.finish()
        await super().on_stop()
        # A thread that didn't end in time may still write; the lock then goes with the process.
        if self._directory is not None and not self.driver.alive:
            self._directory.close()

    def open_session(self) -> Session:
        """Begin a life in the group; called in the session's thread."""
        settings = self.settings
        assert self._logic is not None, "the application registered no function"
        assert self._end_offsets is not None, "the start-up checks come first"
        table = self._table
        changelog = table.changelog_topic.get_topic_name() if table is not None else None
        transaction = Transaction(config.transactional(settings, self.group))
        self.session = Session(
            self._inputs,
            self._logic,
            self._open_member,
            transaction,
            Committer(transaction, settings.topic, changelog),
            self._restorer_for(changelog) if changelog is not None else None,
            GroupOffsets(config.common(settings), self.group, self._names),
            self._end_offsets,
            self._clock,
            stores_of(table) if table is not None else {},
        )
        return self.session

    def _open_member(self, listener: Listener) -> Member:
        return Member(config.member(self.settings, self.group), self._names, listener, self.settings.linger / 1000)

    @property
    def driver(self) -> Consumer:
        """Faust's consumer, which is ours."""
        return cast("Consumer", self.consumer)

    @property
    def stores(self) -> Mapping[int, Partition]:
        """The table's open partitions, by number; another thread opens and closes them."""
        return stores_of(self._table) if self._table is not None else {}

    @property
    def state_path(self) -> Path:
        """This role's part of the state directory."""
        return self.settings.state_dir / self.role

    @property
    def _names(self) -> dict[str, str]:
        return {name: self.settings.topic(name) for name in self._inputs}

    def _restorer_for(self, changelog: str) -> Callable[[Callable[[Sequence[int]], None]], Restorer]:
        assert self._directory is not None
        assert self._table is not None
        directory, name = self._directory, self._table.name
        options = self.store_options = StoreOptions(self.settings.store_memory_mib)

        def open_partition(number: int) -> Partition:
            path = directory.partition_path(self.settings.application_id, name, number)
            return Partition.open(path, options)

        return lambda offsets_stable: Restorer(
            config.common(self.settings), changelog, open_partition, offsets_stable, group=self.group
        )

    def _wait(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """
        Run *coroutine* in the main loop; called in the session's thread.

        Raises:
            Bug: it takes longer than a handler may.
        """
        future = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        try:
            return future.result(HANDLER_S)
        except concurrent.futures.TimeoutError:
            future.cancel()
            raise Bug(f"a batch's delivery takes longer than {HANDLER_S:.0f} s; the process begins anew") from None


def stores_of(table: TableT[bytes, bytes]) -> MutableMapping[int, Partition]:
    """Return the open partitions of *table* in this worker, by number; another thread opens and closes them."""
    return cast("Store", table.data).partitions


def watch_lag(app: App) -> LagWatch:
    """Return what looks at the lag of *app*'s group, beside it."""
    settings = app.settings
    watch = LagWatch(lambda: GroupLooker(settings, [app.role]), settings.lag_interval / 1000)
    app.beside(watch)
    return watch
