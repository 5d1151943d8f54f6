"""
What of faust-streaming 0.15 and mode ours leans on without it being public.

A failure here means that Faust has changed, and says what; it is read before the pin in pyproject.toml is moved.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import faust.stores
import faust.transport
import pytest
from faust.transport.consumer import Consumer as FaustConsumer
from faust.types import TP
from mode import Service

import streams.app
import streams.email
import streams.orders
from streams import settings as settings_module
from streams.errors import ConfigurationError
from streams.frame import App, stores_of
from streams.local.process import free_ports
from streams.settings import Settings
from streams.store.driver import Store
from streams.store.tables import TableManager
from streams.transport.assignment import LeaderAssignor, PartitionAssignor
from streams.transport.driver import Consumer, Fetcher, Producer, Transport
from topology.topics import COMMANDS, DETAILS, EMAIL_COMMANDS, EMAIL_EVENTS, PROCESSES_CHANGELOG, QUERIES

CREATE_APP = {"worker": streams.app.create_app, "orders": streams.orders.create_app, "email": streams.email.create_app}
INPUTS = {"worker": (COMMANDS, DETAILS, EMAIL_EVENTS), "orders": (QUERIES,), "email": (EMAIL_COMMANDS,)}
WAIT_S_MAX = 10.0


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Return settings of a process with a web server of its own; its broker isn't there."""
    return settings_module.load(state_dir=tmp_path, web_port=free_ports(1)[0], topic_prefix="eu.")


@pytest.fixture
def app(settings: Settings) -> App:
    """Return the process manager's application."""
    return streams.app.create_app(settings)


class Turns:
    """A session that only turns, and says so in *seen*."""

    def __init__(self, seen: list[str]) -> None:
        self.seen = seen

    def turn(self) -> None:
        """Do nothing for a moment, as a poll does."""
        time.sleep(0.01)

    def close(self) -> None:
        """Leave no group."""
        self.seen.append("session closed")


class Life(NamedTuple):
    """An application that runs without a broker, and what happened to it."""

    app: App
    seen: list[str]

    async def wait_for(self, what: str) -> None:
        """Wait until *what* has been seen."""
        async with asyncio.timeout(WAIT_S_MAX):
            while what not in self.seen:  # noqa: ASYNC110 - the session's thread appends too.
                await asyncio.sleep(0.005)


@pytest.fixture
async def life(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Life]:
    """Start the application as Faust's worker does; the session and the start-up checks are the test's."""
    # Made here, in the running loop: what Faust makes outside of one belongs to another.
    app = streams.app.create_app(settings)
    seen: list[str] = []

    async def check() -> None:
        seen.append("checked")

    def open_session() -> Turns:
        up = {
            "producer": app.producer.started,
            "web": app.web.started,
            "tables": all(table.started for table in app.tables.values()),
        }
        seen.append("session opened while down: " + str([name for name, started in up.items() if not started]))
        return Turns(seen)

    async def stop_tables() -> None:
        seen.append("tables stopped")

    async def flush() -> None:
        seen.append("producer flushed")

    async def task() -> None:
        seen.append("task")

    monkeypatch.setattr(app, "_check", check)
    monkeypatch.setattr(app, "open_session", open_session)
    monkeypatch.setattr(app.tables, "on_stop", stop_tables)
    monkeypatch.setattr(app.producer, "flush", flush)
    app.task(task)
    await app.start()
    yield Life(app, seen)
    await app.stop()


# Versions and names.


def test_faust_is_a_version_that_was_read() -> None:
    """Another minor version is a reason to read these surfaces again."""
    version = importlib.metadata.version("faust-streaming")
    assert ["0", "15"] == version.split(".")[:2], f"faust-streaming is {version}, ours was read against 0.15"


def test_url_scheme_finds_transport_and_store() -> None:
    """``rejoinder://`` is found by the installed package's entry points."""
    assert Transport is faust.transport.by_url("rejoinder://broker:9092"), "Faust finds transports in another way"
    assert Store is faust.stores.by_url("rejoinder://"), "Faust finds stores in another way"


@pytest.mark.parametrize("role", CREATE_APP)
def test_application_needs_no_broker_to_be_made(settings: Settings, role: str) -> None:
    """Its parts are ours, wherever Faust looks for them."""
    app = CREATE_APP[role](settings)
    parts = {
        "transport": (Transport, app.transport),
        "consumer": (Consumer, app.consumer),
        "producer": (Producer, app.producer),
        "_fetcher": (Fetcher, app._fetcher),
        "tables": (TableManager, app.tables),
        "assignor": (PartitionAssignor, app.assignor),
        "_leader_assignor": (LeaderAssignor, app._leader_assignor),
    }
    for name, (ours, part) in parts.items():
        assert ours is type(part), f"Faust takes app.{name} from elsewhere now"


# Interfaces that ours implement.


@pytest.mark.parametrize("ours", [Consumer, Producer, Store, PartitionAssignor, LeaderAssignor, TableManager])
def test_interface_is_implemented_whole(ours: type) -> None:
    """An abstract method that Faust adds fails here, and not when a worker starts."""
    missing = sorted(getattr(ours, "__abstractmethods__", ()))
    assert [] == missing, f"Faust wants more of {ours.__name__}"


OWN: dict[type, set[str]] = {
    Consumer: {"_crash_app", "_not_here", "_not_here_either", "alive", "finish"},
    Producer: {"_client", "_serve"},
    Store: {"_read_only"},
    PartitionAssignor: {"owners"},
}
"""What ours add to Faust's interfaces."""


@pytest.mark.parametrize(
    "ours", [Transport, Consumer, Producer, Fetcher, Store, PartitionAssignor, LeaderAssignor, TableManager]
)
def test_override_overrides_something(ours: type) -> None:
    """A method that Faust renames would be called no more, and nobody would notice."""
    added = OWN.get(ours, set())
    methods = {name for name, value in vars(ours).items() if callable(value) or isinstance(value, property)}
    gone = sorted(name for name in methods - added if not any(hasattr(base, name) for base in ours.__mro__[1:]))
    assert [] == gone, f"Faust has no such methods any more, so those of our {ours.__name__} aren't called"


@pytest.mark.parametrize(
    ("base", "known"),
    [(FaustConsumer, {"_commit_handler", "_commit_livelock_detector"}), (faust.Table, {"_clean_data"})],
)
def test_faust_runs_no_further_background_tasks(base: type[Service], known: set[str]) -> None:
    """Those that there are commit, which does nothing here, and look for stuck partitions and windows: we have none."""
    tasks = {name for service in base.__mro__ for name, value in vars(service).items() if hasattr(value, "fun")}
    assert known == tasks, f"{base.__name__} runs other tasks beside ours: do they touch positions, acks or the store?"


@pytest.mark.parametrize(
    "call",
    [
        lambda consumer: consumer._commit({}),
        lambda consumer: consumer._getmany(None, 1.0),
        lambda consumer: consumer._seek(TP("t", 0), 0),
        lambda consumer: consumer.position(TP("t", 0)),
        lambda consumer: consumer.seek_to_committed(),
    ],
)
async def test_what_faust_would_read_or_commit_is_refused(app: App, call: Callable[[Any], Any]) -> None:
    """Whoever calls it would consume or commit beside the session, and must not be answered."""
    with pytest.raises(NotImplementedError, match="session"):
        await call(app.consumer)


# The start, the stop and the crash.


def test_services_start_in_this_order(app: App) -> None:
    """The consumer starts after the producer, and before the conductor that tells it to begin; the tables are last."""
    expected = [
        app.producer,
        app.cache,
        app.web,
        app.consumer,
        app._leader_assignor,
        app._reply_consumer,
        app.agents,
        app.topics,
        app.tables,
    ]
    actual = list(app.boot_strategy.server())
    assert expected == actual, "Faust's BootStrategy starts other services, or in another order"


async def test_session_begins_last_and_ends_first(life: Life) -> None:
    """It opens when producer, web server and tables are up, and is closed before Faust stops the first of them."""
    await life.wait_for("session opened while down: []")
    await life.wait_for("task")
    assert "checked" == life.seen[0], "Faust starts something before App.on_first_start"
    await life.app.stop()
    order = [what for what in life.seen if what in ("session closed", "tables stopped", "producer flushed")]
    assert "session closed" == order[0], f"Faust stops something before App.on_stop: {order}"


async def test_tables_are_up_without_faust_s_recovery(life: Life) -> None:
    """Our manager sets the events that Faust waits for, and Faust restores nothing."""
    tables = life.app.tables
    assert isinstance(tables, TableManager)
    async with asyncio.timeout(WAIT_S_MAX):
        await tables.wait_until_tables_registered()
    assert tables._tables_finalized.is_set(), "Faust's TableManager has another sign of being complete"
    assert tables._recovery is None, "Faust recovers tables beside our restore"
    assert {} == tables._channels, "Faust reads changelogs beside our restore"


@pytest.mark.parametrize("role", CREATE_APP)
async def test_conductor_subscribes_to_the_inputs(
    settings: Settings, role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `app.topics.add` took is what the consumer is told to subscribe to, and no topic of Faust's own."""
    app = CREATE_APP[role](settings)
    subscribed: asyncio.Future[Iterable[str]] = asyncio.get_running_loop().create_future()

    async def check() -> None:
        pass

    async def subscribe(topics: Iterable[str]) -> None:
        subscribed.set_result(topics)

    monkeypatch.setattr(app, "_check", check)
    monkeypatch.setattr(app.consumer, "subscribe", subscribe)
    await app.start()
    try:
        topics = await asyncio.wait_for(subscribed, WAIT_S_MAX)
    finally:
        await app.stop()
    expected = {f"eu.{topic.name}" for topic in INPUTS[role]}
    assert expected == set(topics), "Faust subscribes to something else: range would split the inputs' pairs"


@pytest.mark.parametrize(
    ("error", "exit_code"), [("Unavailable('nobody there')", 75), ("RuntimeError('a bug')", 1)], ids=["known", "bug"]
)
def test_crash_of_the_session_is_the_process_s_exit_code(settings: Settings, error: str, exit_code: int) -> None:
    """The worker of mode ends with 1 when a service crashes; an error of ours ends with its own exit code."""
    program = (
        "from streams.cli import main\n"
        "from streams.errors import Unavailable\n"
        "from streams.frame import App\n"
        "async def check(self): pass\n"
        f"def open_session(self): raise {error}\n"
        "App._check, App.open_session = check, open_session\n"
        "main()\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, "email", "--web-port", str(settings.web_port)],
        env={"REJOINDER_STATE_DIR": str(settings.state_dir)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert exit_code == ended.returncode, f"a crash ends Faust's worker in another way: {ended.stderr[-2_000:]}"


# Leader and partitions.


def test_leader_is_whoever_owns_partition_0(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """Faust asks our assignor, and has no leader topic."""
    assert app.conf.topic_disable_leader, "Faust would subscribe to a leader topic"
    monkeypatch.setattr(app.consumer, "assignment", lambda: {TP("t", 1)})
    assert not app.is_leader(), "Faust asks somebody else who leads"
    monkeypatch.setattr(app.consumer, "assignment", lambda: {TP("t", 0), TP("t", 1)})
    assert app.is_leader(), "Faust asks somebody else who leads"


def test_router_asks_our_assignor(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """Faust's own pages about tables, such as ``/router``, know the owners from the group's description."""
    monkeypatch.setattr(app.assignor, "owners", lambda: {0: "http://a:1", 1: "http://b:2", 2: "http://a:1"})
    changelog = app.settings.topic(PROCESSES_CHANGELOG.name)
    expected = {"http://a:1": {changelog: [0, 2]}, "http://b:2": {changelog: [1]}}
    assert expected == app.router.tables_metadata(), "Faust's router asks somebody else"


# Tables, and sending outside of transactions.


def test_table_reads_its_store_through(app: App) -> None:
    """``table.data`` is one store, whose partitions the session fills."""
    (table,) = app.tables.values()
    assert Store is type(table.data), "Faust keeps a table's rows elsewhere"
    assert stores_of(table) is stores_of(table), "Faust makes a new store each time"
    assert 0 == table.data._size()


@pytest.mark.parametrize("call", [lambda store: store._set(b"k", b"v"), lambda store: store._del(b"k")])
def test_table_is_written_by_its_function_only(app: App, call: Callable[[Any], Any]) -> None:
    """A write by Faust would be in no transaction."""
    (table,) = app.tables.values()
    with pytest.raises(NotImplementedError, match="transaction"):
        call(table.data)


class Client:
    """A hand-written librdkafka producer that delivers at once."""

    def __init__(self) -> None:
        self.produced: list[tuple[Any, ...]] = []

    def produce(self, *args: Any, on_delivery: Callable[[Any, Any], None], headers: Any) -> None:
        """Deliver to offset 41 of partition 3."""
        self.produced.append((*args, headers))
        on_delivery(None, Delivered(args[0]))

    def poll(self, timeout_s: float) -> int:
        """Have nothing more to report."""
        return int(timeout_s)


class Delivered:
    """The message of a delivery report."""

    def __init__(self, topic: str) -> None:
        self.topic = lambda: topic
        self.partition = lambda: 3
        self.offset = lambda: 41


async def test_send_hands_raw_bytes_to_our_producer(life: Life) -> None:
    """``topic.send()`` comes to `Producer.send` with bytes as they were given, and its awaitable is the delivery."""
    client = Client()
    vars(life.app.producer)["_client"] = client
    headers = [("ce_id", b"1")]
    topic: Any = life.app.declared(DETAILS)
    sent = await topic.send(key=b"k", value=b"v", headers=headers)
    async with asyncio.timeout(WAIT_S_MAX):
        metadata = await sent
    assert [("eu.order-details.events", b"v", b"k", -1, headers)] == client.produced, "Faust changes what is sent"
    assert (3, 41) == (metadata.partition, metadata.offset)


# What an application may declare.


def test_agent_is_refused_with_what_to_use_instead(app: App) -> None:
    """An agent acks when it fails, so it is never registered."""
    with pytest.raises(ConfigurationError, match=r"@app\.transaction\(.*\).* app\.handle\("):
        app.agent(app.declared(DETAILS))


def test_second_function_is_refused(app: App) -> None:
    """An application's inputs are co-partitioned and decided by one function."""
    with pytest.raises(ConfigurationError, match="has its function already"):
        app.transaction(app.declared(DETAILS))(lambda _: None)


async def test_application_without_a_function_does_not_start(settings: Settings) -> None:
    """It is told before anything is asked of a broker, and the worker's command knows why it ended."""
    app = App(settings, "idle")
    with pytest.raises(ConfigurationError, match=r"no function.*@app\.transaction"):
        await app.on_first_start()
    assert isinstance(app.failure, ConfigurationError)


async def test_state_directory_is_made_its_owner_s_alone(settings: Settings) -> None:
    """Also one that was there before, open to others; the stores below it are then out of reach."""
    app = streams.app.create_app(settings)
    (settings.state_dir / "worker").mkdir(mode=0o777)
    (settings.state_dir / "worker").chmod(0o777)
    app._make_state_path()
    assert 0o700 == app.state_path.stat().st_mode & 0o777


async def test_state_directory_that_cannot_be_made_is_a_wrong_setting(tmp_path: Path) -> None:
    """Which one, and why."""
    (tmp_path / "file").write_text("")
    app = streams.app.create_app(settings_module.load(state_dir=tmp_path / "file"))
    with pytest.raises(ConfigurationError, match="set REJOINDER_STATE_DIR"):
        app._make_state_path()
