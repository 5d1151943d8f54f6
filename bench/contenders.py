"""
Who is compared: Rejoinder and its peers, each as processes that join from the same topics into topics of its own.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from confluent_kafka.admin import AdminClient, NewTopic

from bench.dataset import wait_until
from bench.join import COMMAND, PARTITIONS, RETRIEVED
from bench.peers.environment import kafka_streams_classpath, peers_python
from bench.watching import Meter, Running
from schemas.catalog import Catalog
from streams import settings as settings_module
from streams.demo.system import RoleProcess
from streams.local.process import ChildProcess, JavaProcess
from streams.settings import PREFIX, Settings
from streams.transport.topics import Cluster
from topology.topics import (
    COMMANDS,
    DETAILS,
    EMAIL_COMMANDS,
    OUTCOMES,
    PROCESSES_CHANGELOG,
    QUERIES,
)

CALL_S: Final = 120.0
STOP_S: Final = 30.0
ROOT: Final = Path(__file__).parent.parent
_OURS: Final = (EMAIL_COMMANDS, QUERIES, OUTCOMES, PROCESSES_CHANGELOG)
"""What our worker writes, apart from dead letters, of which there are none here."""


class Place(NamedTuple):
    """
    Where a trial runs.

    *prefix* is the input topics' one, *name* the trial's own: of its application, its output topics, its directory.
    """

    bootstrap_servers: str
    prefix: str
    name: str
    directory: Path

    @property
    def settings(self) -> Settings:
        """Our settings for it."""
        return settings_module.load(
            bootstrap_servers=self.bootstrap_servers,
            topic_prefix=self.prefix,
            application_id=self.name,
            partitions=PARTITIONS,
            replication_factor=1,
        )

    @property
    def emails(self) -> str:
        """A peer's output topic."""
        return f"{self.name}.{EMAIL_COMMANDS.name}"


class Contender(Protocol):
    """Someone who joins; `name` is what reports call it."""

    @property
    def name(self) -> str:
        """What reports call it."""

    @property
    def processes(self) -> int:
        """How many processes, or threads of one, work."""

    def output(self, place: Place) -> str:
        """Return the name of its output topic."""

    def prepare(self, place: Place) -> None:
        """Make its topics."""

    def start(self, place: Place) -> Running:
        """Start it; returns at once."""


class Ours(NamedTuple):
    """Rejoinder's worker processes; *environment* in addition to ``ask = never``."""

    name: str
    processes: int = 1
    environment: Mapping[str, str] = {}

    def output(self, place: Place) -> str:
        """Return the name of its output topic: its names are fixed, the prefix is the inputs'."""
        return place.settings.topic(EMAIL_COMMANDS.name)

    def prepare(self, place: Place) -> None:
        """Make its topics anew, the inputs aside."""
        settings = place.settings
        delete(place.bootstrap_servers, lambda topic: topic in {settings.topic(t.name) for t in _OURS})
        Cluster(settings).apply()

    def start(self, place: Place) -> Running:
        """Start the workers."""
        return Workers(self.workers(place))

    def workers(self, place: Place) -> list[RoleProcess]:
        """Return its worker processes, to be started."""
        environment = {
            f"{PREFIX}BOOTSTRAP_SERVERS": place.bootstrap_servers,
            f"{PREFIX}TOPIC_PREFIX": place.prefix,
            f"{PREFIX}APPLICATION_ID": place.name,
            f"{PREFIX}PARTITIONS": str(PARTITIONS),
            f"{PREFIX}ASK": "never",
            f"{PREFIX}LOG_FORMAT": "json",
            **self.environment,
        }
        place.directory.mkdir(parents=True, exist_ok=True)
        return [RoleProcess("worker", f"worker-{i}", place.directory, environment) for i in range(self.processes)]


class Workers:
    """Worker processes of ours, started."""

    def __init__(self, workers: Sequence[RoleProcess]) -> None:
        self.workers = workers
        for worker in workers:
            worker.start()

    @property
    def pids(self) -> list[int]:
        """Their process ids."""
        return [worker.pid for worker in self.workers]

    def check(self) -> None:
        """Raise if one has ended."""
        for worker in self.workers:
            assert worker.running, f"{worker.name} ended with {worker.exit_status}\n{worker.tail()}"

    def wait_ready(self, timeout_s: float) -> None:
        """Wait until all partitions are worked on."""
        wait_until(lambda: sum(worker.partitions() for worker in self.workers) == PARTITIONS, timeout_s, self.tail())

    def stop(self) -> None:
        """Let them finish their batches and leave the group."""
        for worker in self.workers:
            worker.stop()

    def tail(self) -> str:
        """Return the ends of their logs."""
        return "\n".join(worker.tail() for worker in self.workers)


class Children:
    """Processes of a peer, started."""

    def __init__(self, children: Sequence[ChildProcess]) -> None:
        self.children = children

    @property
    def pids(self) -> list[int]:
        """Their process ids."""
        return [child.pid for child in self.children]

    def check(self) -> None:
        """Raise if one has ended."""
        for child in self.children:
            assert child.exit_status is None, f"{child.name} ended with {child.exit_status}\n{child.log_tail()}"

    def stop(self) -> None:
        """End them, in good order if they can."""
        for child in self.children:
            if child.exit_status is None:
                child.stop(STOP_S)

    def tail(self) -> str:
        """Return the ends of their logs."""
        return "\n".join(child.log_tail() for child in self.children)


TUNED_JVM: Final = ("-Xms768m", "-Xmx768m", "-XX:+UseParallelGC", "-XX:-UsePerfData")
TUNED_STREAMS: Final = {
    # Few and large transactions.
    "commit.interval.ms": "1000",
    "statestore.cache.max.bytes": "0",
    "buffered.records.per.partition": "10000",
    "max.poll.records": "10000",
    "consumer.fetch.min.bytes": "1",
    "consumer.fetch.max.wait.ms": "100",
    "consumer.max.partition.fetch.bytes": str(4 << 20),
    "consumer.receive.buffer.bytes": str(1 << 20),
    "restore.consumer.max.poll.records": "20000",
    "restore.consumer.max.partition.fetch.bytes": str(8 << 20),
    "producer.compression.type": "lz4",
    "producer.linger.ms": "20",
    "producer.batch.size": str(256 << 10),
    "producer.buffer.memory": str(64 << 20),
}


class KafkaStreams(NamedTuple):
    """
    Apache Kafka Streams, one process with *processes* threads.

    *tuned*: the reader by hand, RocksDB's options, the JVM's and Kafka's as one would set them for throughput. Else: as
    it comes, with Avro's generic records. *properties* win over both.
    """

    name: str
    processes: int = 1
    tuned: bool = True
    caching: bool = False
    properties: Mapping[str, str] = {}
    jvm: Sequence[str] | None = None

    def output(self, place: Place) -> str:
        """Return the name of its output topic."""
        return place.emails

    def prepare(self, place: Place) -> None:
        """Make its output topic; the changelog it makes itself."""
        create(place.bootstrap_servers, place.emails, EMAIL_COMMANDS.config)

    def start(self, place: Place) -> Running:
        """Start it."""
        place.directory.mkdir(parents=True, exist_ok=True)
        path = place.directory / "peer.properties"
        lines = [f"{name}={value}" for name, value in self.configuration(place).items()]
        path.write_text("\n".join(lines), encoding="utf-8")
        jvm = self.jvm if self.jvm is not None else TUNED_JVM if self.tuned else ()
        options = [
            *jvm,
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            # Java's own way of loading native code, which says so at every start otherwise.
            "--enable-native-access=ALL-UNNAMED",
            f"-Djava.io.tmpdir={place.directory}",
        ]
        arguments = [*options, "--class-path", kafka_streams_classpath(), "peer.Main", str(path)]
        return Children([JavaProcess(self.name, arguments, place.directory / "peer.log")])

    def configuration(self, place: Place) -> dict[str, str]:
        """Return what the peer is given."""
        settings, catalog = place.settings, Catalog.from_files()
        names = {"command": COMMAND, "details": RETRIEVED, "email": "communications.SendEmail"}
        given = {
            "commands": settings.topic(COMMANDS.name),
            "details": settings.topic(DETAILS.name),
            "emails": place.emails,
            "codec": "fast" if self.tuned else "generic",
            "rocksdb": "tuned" if self.tuned else "default",
            "caching": "on" if self.caching or not self.tuned else "off",
        }
        for name, record in names.items():
            given[f"{name}.id"] = str(catalog.id_of(record))
            given[f"{name}.schema"] = str(ROOT / "schemas" / f"{record.rpartition('.')[2]}.avsc")
        streams = {
            "bootstrap.servers": place.bootstrap_servers,
            "application.id": place.name,
            "state.dir": str(place.directory / "state"),
            "processing.guarantee": "exactly_once_v2",
            "num.stream.threads": str(self.processes),
            "auto.offset.reset": "earliest",
            "replication.factor": "1",
            **(TUNED_STREAMS if self.tuned else {}),
            **self.properties,
        }
        return given | {f"streams.{name}": value for name, value in streams.items()}


class PythonPeer(NamedTuple):
    """A peer in Python: *module* of `bench.peers`, as many processes as *processes*."""

    name: str
    module: str
    processes: int = 1
    options: Mapping[str, Any] = {}

    def output(self, place: Place) -> str:
        """Return the name of its output topic."""
        return place.emails

    def prepare(self, place: Place) -> None:
        """Make its output topic; the changelog it makes itself."""
        create(place.bootstrap_servers, place.emails, EMAIL_COMMANDS.config)

    def start(self, place: Place) -> Running:
        """Start it."""
        settings = place.settings
        place.directory.mkdir(parents=True, exist_ok=True)
        children = []
        for number in range(self.processes):
            directory = place.directory / f"process-{number}"
            directory.mkdir()
            given = {
                "bootstrap_servers": place.bootstrap_servers,
                "application": place.name,
                "commands": settings.topic(COMMANDS.name),
                "details": settings.topic(DETAILS.name),
                "emails": place.emails,
                "partitions": PARTITIONS,
                "state": str(directory / "state"),
                **self.options,
            }
            path = directory / "peer.json"
            path.write_text(json.dumps(given), encoding="utf-8")
            command = [str(peers_python()), "-m", f"bench.peers.{self.module}", str(path)]
            environment = {
                "PATH": os.environ.get("PATH", ""),
                "HOME": str(directory),
                "PYTHONPATH": str(ROOT),
                # Written beside the sources of this checkout otherwise.
                "PYTHONDONTWRITEBYTECODE": "1",
            }
            children.append(ChildProcess(self.name, command, directory / "peer.log", environment))
        return Children(children)


def meter(running: Running) -> Meter:
    """Return what measures the processes of *running*."""
    return Meter(running.pids)


def create(bootstrap_servers: str, topic: str, config: Mapping[str, str]) -> None:
    """Create *topic*."""
    admin = AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 0})
    new = NewTopic(topic, PARTITIONS, 1, config=dict(config))
    admin.create_topics([new], request_timeout=CALL_S)[topic].result(CALL_S)


def delete(bootstrap_servers: str, which: Callable[[str], bool]) -> None:
    """Delete the topics of which *which* says so, and wait until they are gone."""
    admin = AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 0})

    def there() -> list[str]:
        return [topic for topic in admin.list_topics(timeout=CALL_S).topics if which(topic)]

    if topics := there():
        for future in admin.delete_topics(topics, request_timeout=CALL_S).values():
            future.result(CALL_S)
        wait_until(lambda: not there(), CALL_S, f"the deletion of {topics}")


def forget(place: Place) -> None:
    """Remove what a trial left: topics of its own and its directory."""
    own = (f"{place.name}.", f"{place.name}-", f"changelog__{place.name}-")
    delete(place.bootstrap_servers, lambda topic: topic.startswith(own))
    shutil.rmtree(place.directory, ignore_errors=True)
