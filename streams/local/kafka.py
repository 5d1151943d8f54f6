"""
Apache Kafka on this machine: real brokers, KRaft mode, one or three.

Measured on 2 shared cores: one broker is formatted, started and usable in 3.0 s and takes 340 MiB; three take
8 s and 340 MiB each. Sources: Kafka's documentation, "Broker Configs" and "KRaft"; its tool StorageTool.
"""

import base64
import json
import socket
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, Self

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from streams.local.artifacts import cache_directory, fetch, read_pins
from streams.local.errors import LocalKafkaError
from streams.local.process import JavaProcess, free_ports, java_executable
from streams.local.secured import Secured

KAFKA_VERSION: Final = "4.4.0"

_PINS = Path(__file__).with_name(f"kafka-{KAFKA_VERSION}.pins")
_HEAP_MIB_MAX = 512
_FORMAT_S_MAX = 60.0
_STOP_S_MAX = 20.0
_PROBE_S_MIN = 0.1
_PROBE_S_MAX = 5.0
_PROBE_PAUSE_S = 0.02
_PROBE_NAME = "rejoinder-ready"

_JVM_OPTIONS = (
    # The quick compiler only: a broker starts in 1.7 s instead of 2.4 s with it, and takes half the CPU time in the
    # first million records, measured; what the slow one would gain comes later than demo, tests and benchmarks last.
    "-XX:TieredStopAtLevel=1",
    # Smaller than the default collector, and what Java itself picks on a small machine.
    "-XX:+UseSerialGC",
    "-XX:-UsePerfData",
    "-Djava.awt.headless=true",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
)


class LocalKafka:
    """
    A Kafka cluster whose brokers are also its controllers, listening on 127.0.0.1 only.

    Its data stays in *directory*, so another LocalKafka there goes on with it; two at a time are refused by Kafka's own
    lock. Brokers are counted from 0 here; Kafka's node ids count from 1.

    Attributes:
        bootstrap_servers: The brokers' addresses, ``host:port`` joined by commas.
        outside_targets: Where a proxy reaches the brokers.
        outside_ports: Where the proxy's clients reach them.
        pids: Process ids of the running brokers.
    """

    def __init__(
        self,
        directory: Path,
        port: int | None = None,
        brokers: int = 1,
        properties: Mapping[str, str] | None = None,
        session_timeout_ms: int = 6_000,
        outside_ports: Sequence[int] = (),
        secured: Secured | None = None,
        pins: Path = _PINS,
    ) -> None:
        """
        Plan a cluster; nothing runs before :meth:`start`.

        Args:
            directory: Where the brokers' settings, logs and data are; made if need be.
            port: Of the first broker; the others get the next ones. None: free ones.
            brokers: 1 or 3. All topics, Kafka's own included, are by default on every broker.
            properties: Broker settings that go before ours.
            session_timeout_ms: After which a silent group member has left: KIP-848's, and the least that a classic one
                may ask for.
            outside_ports: One a broker, on 127.0.0.1, of a proxy before it: a client that begins there is told of no
                other addresses. The proxy is to forward them to `outside_targets`, in the brokers' order.
            pins: The jars, of another version of Kafka than `KAFKA_VERSION`.
            secured: With it, the brokers also listen with SASL_SSL (SCRAM-SHA-512) and SSL (client certificates).
        """
        if brokers not in {1, 3}:
            raise LocalKafkaError(f"{directory}: {brokers} brokers can't be had; ask for 1 or for 3")
        self.directory = directory.absolute()
        self._brokers = brokers
        self._properties = dict(properties or {})
        self._pins = pins
        self._session_timeout_ms = session_timeout_ms
        if outside_ports and len(outside_ports) != brokers:
            raise LocalKafkaError(
                f"{directory}: {len(outside_ports)} outside ports for {brokers} brokers; give one each"
            )
        if outside_ports and secured:
            raise LocalKafkaError(f"{directory}: outside ports are of plain listeners; leave them or the security out")
        chosen = free_ports(5 * brokers)
        self._controller_ports = chosen[:brokers]
        self._outside = chosen[4 * brokers :] if outside_ports else []
        self.outside_ports = list(outside_ports)
        self._secured = secured
        self._sasl_ports, self._mtls_ports = chosen[2 * brokers : 3 * brokers], chosen[3 * brokers : 4 * brokers]
        self._ports = chosen[brokers : 2 * brokers] if port is None else [port + broker for broker in range(brokers)]
        self._processes: dict[int, JavaProcess] = {}

    @property
    def bootstrap_servers(self) -> str:
        """Return the brokers' addresses, joined by commas."""
        return ",".join(f"127.0.0.1:{port}" for port in self._ports)

    @property
    def outside_targets(self) -> list[str]:
        """Return where a proxy reaches each broker, ``host:port``; nothing without outside ports."""
        return [f"127.0.0.1:{port}" for port in self._outside]

    @property
    def sasl_servers(self) -> str:
        """Return the brokers' addresses for SASL_SSL; nobody listens there unless they are secured."""
        return ",".join(f"127.0.0.1:{port}" for port in self._sasl_ports)

    @property
    def mtls_servers(self) -> str:
        """Return the brokers' addresses for SSL with client certificates; as above."""
        return ",".join(f"127.0.0.1:{port}" for port in self._mtls_ports)

    @property
    def pids(self) -> list[int]:
        """Return the process ids of the running brokers, in the brokers' order."""
        return [process.pid for _, process in sorted(self._processes.items())]

    def start(self, timeout_s: float = 60.0) -> None:
        """
        Start all brokers that don't run, and return when they can be used.

        That is: metadata, the group coordinator and the transaction coordinator have answered. A first start also
        downloads Kafka (39 MB), which doesn't count towards *timeout_s*.

        Raises:
            ArtifactError: Kafka can't be downloaded.
            LocalKafkaError: A broker ended or wasn't usable in time; those that this call started are killed.
        """
        self._start([broker for broker in range(self._brokers) if broker not in self._processes], timeout_s)

    def stop(self, timeout_s: float = _STOP_S_MAX) -> None:
        """Stop all brokers in good order (SIGTERM), and kill those that haven't ended after *timeout_s*."""
        with ThreadPoolExecutor(self._brokers) as pool:
            list(pool.map(lambda process: process.stop(timeout_s), self._processes.values()))
        self._processes.clear()

    def kill(self, broker: int = 0) -> None:
        """
        Kill one broker at once (SIGKILL), as a power cut would.

        Raises:
            LocalKafkaError: It doesn't run.
        """
        self._running(broker).kill()
        del self._processes[broker]

    def halt(self, broker: int = 0, timeout_s: float = _STOP_S_MAX) -> None:
        """
        Stop one broker in good order (SIGTERM), and kill it if it hasn't ended after *timeout_s*.

        Raises:
            LocalKafkaError: It doesn't run.
        """
        self._running(broker).stop(timeout_s)
        del self._processes[broker]

    def restart(self, broker: int = 0, timeout_s: float = 60.0) -> None:
        """
        Start *broker* again on its old port, after stopping it if it runs; return when the cluster can be used.

        Raises:
            LocalKafkaError: See :meth:`start`.
        """
        if broker in self._processes:
            self._processes.pop(broker).stop(_STOP_S_MAX)
        self._start([broker], timeout_s)

    def detach(self) -> list[int]:
        """Let the brokers outlive this Python process; return their process ids. Afterwards they aren't ours."""
        pids = self.pids
        for process in self._processes.values():
            process.detach()
        self._processes.clear()
        return pids

    def __enter__(self) -> Self:
        """Start all brokers."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop all brokers."""
        self.stop()

    def _start(self, brokers: Sequence[int], timeout_s: float) -> None:
        jars = fetch(read_pins(self._pins), cache_directory())
        deadline_s = time.monotonic() + timeout_s
        for broker in brokers:
            if _listens(self._ports[broker]):
                raise LocalKafkaError(
                    f"127.0.0.1:{self._ports[broker]}: somebody listens here already; take another port"
                )
        self.directory.mkdir(parents=True, exist_ok=True)
        cluster_id = self._cluster_id()
        for broker in brokers:
            self._configure(broker)
        with ThreadPoolExecutor(self._brokers) as pool:
            list(pool.map(lambda broker: self._format(broker, jars, cluster_id), brokers))
        try:
            for broker in brokers:
                self._processes[broker] = self._launch(broker, jars)
            self._wait_until_usable(deadline_s)
        except BaseException:
            for broker in brokers:
                if broker in self._processes:
                    self._processes.pop(broker).kill()
            raise

    def _running(self, broker: int) -> JavaProcess:
        try:
            return self._processes[broker]
        except KeyError:
            raise LocalKafkaError(f"{self._home(broker)}: broker {broker} doesn't run; start it first") from None

    def _home(self, broker: int) -> Path:
        return self.directory / f"broker-{broker}"

    def _configure(self, broker: int) -> None:
        home = self._home(broker)
        home.mkdir(parents=True, exist_ok=True)
        properties = {
            **_cluster_properties(self._brokers, self._session_timeout_ms),
            "node.id": str(broker + 1),
            "log.dirs": str(home / "data"),
            "controller.quorum.voters": ",".join(
                f"{node}@127.0.0.1:{port}" for node, port in enumerate(self._controller_ports, start=1)
            ),
            **self._listeners(broker),
            **self._properties,
        }
        lines = (f"{key}={_escaped(value)}\n" for key, value in sorted(properties.items()))
        (home / "server.properties").write_text("".join(lines), encoding="utf-8")

    def _listeners(self, broker: int) -> dict[str, str]:
        ports = {"CLIENT": self._ports[broker], "CONTROLLER": self._controller_ports[broker]}
        if self._secured is not None:
            return self._secured.broker_properties(
                ports | {"SASL": self._sasl_ports[broker], "MTLS": self._mtls_ports[broker]}
            )
        advertised = {"CLIENT": ports["CLIENT"]}
        if self._outside:
            ports["OUTSIDE"], advertised["OUTSIDE"] = self._outside[broker], self.outside_ports[broker]
        return {"listeners": _addresses(ports), "advertised.listeners": _addresses(advertised)}

    def _format(self, broker: int, jars: Sequence[Path], cluster_id: str) -> None:
        """Prepare the broker's data directory, unless it has been."""
        home = self._home(broker)
        if (home / "data" / "meta.properties").exists():
            return
        arguments = ["format", f"--cluster-id={cluster_id}", "--config", str(home / "server.properties")]
        command = [*_java(jars), "kafka.tools.StorageTool", *arguments]
        with JavaProcess(f"{home}: formatting", command, home / "format.log") as process:
            status = process.wait(_FORMAT_S_MAX)
            if status:
                raise LocalKafkaError(f"{home}: can't be formatted, exit status {status}\n{process.log_tail()}")

    def _cluster_id(self) -> str:
        """
        Return the cluster's id: 16 bytes, all but the first random, chosen once for each directory.

        Raises:
            LocalKafkaError: The directory has another number of brokers.
        """
        path = self.directory / "cluster.json"
        if not path.exists():
            # The first byte keeps the id from beginning with a dash, which Kafka's tools would take for an option.
            cluster_id = base64.urlsafe_b64encode(b"R" + uuid.uuid4().bytes[1:]).decode().rstrip("=")
            unfinished = path.with_suffix(".new")
            unfinished.write_text(json.dumps({"id": cluster_id, "brokers": self._brokers}), encoding="utf-8")
            unfinished.replace(path)
        cluster = json.loads(path.read_text(encoding="utf-8"))
        if cluster["brokers"] != self._brokers:
            raise LocalKafkaError(
                f"{self.directory}: has the data of {cluster['brokers']} brokers, not of {self._brokers}; ask for "
                f"{cluster['brokers']}, or take another directory"
            )
        return str(cluster["id"])

    def _launch(self, broker: int, jars: Sequence[Path]) -> JavaProcess:
        home = self._home(broker)
        command = [*_java(jars), f"-Xmx{_HEAP_MIB_MAX}m", "kafka.Kafka", str(home / "server.properties")]
        return JavaProcess(f"{home}: Kafka broker", command, home / "broker.log")

    def _wait_until_usable(self, deadline_s: float) -> None:
        for port in (self._ports[broker] for broker in self._processes):
            while not _listens(port):
                self._pause_before_retry(deadline_s, f"port {port} is closed")
        probes = (_probe_metadata, _probe_groups, _probe_transactions)
        with ThreadPoolExecutor(len(probes)) as pool:
            list(pool.map(lambda probe: self._wait_until_answered(probe, deadline_s), probes))
        self._check_alive()

    def _wait_until_answered(self, probe: Callable[[dict[str, Any], int, float], str], deadline_s: float) -> None:
        # Silent: until all brokers know of each other, librdkafka has a lot to say that isn't wrong.
        client = {"bootstrap.servers": self.bootstrap_servers, "log_level": 0, "error_cb": lambda _: None}
        # A new client each time, and patience that grows: librdkafka asks a coordinator that isn't there yet again only
        # after 0.5 to 1 s, and both coordinators need a moment to make their topics.
        wait_s = _PROBE_S_MIN
        while reason := probe(client, len(self._processes), wait_s):
            self._pause_before_retry(deadline_s, reason)
            wait_s = min(1.5 * wait_s, _PROBE_S_MAX)

    def _pause_before_retry(self, deadline_s: float, reason: str) -> None:
        """
        Wait for a moment.

        Raises:
            LocalKafkaError: A broker has ended, or *deadline_s* (monotonic clock) has passed.
        """
        self._check_alive()
        if time.monotonic() > deadline_s:
            tails = "\n".join(process.log_tail() for process in self._processes.values())
            raise LocalKafkaError(f"{self.bootstrap_servers}: not usable in time: {reason}; allow more time\n{tails}")
        time.sleep(_PROBE_PAUSE_S)

    def _check_alive(self) -> None:
        for process in self._processes.values():
            if (status := process.exit_status) is not None:
                raise LocalKafkaError(f"{process.name} ended while starting, status {status}\n{process.log_tail()}")


def _cluster_properties(brokers: int, session_timeout_ms: int) -> dict[str, str]:
    """Return the settings that all brokers share."""
    replicas = str(brokers)
    replicas_min = "2" if brokers > 1 else "1"
    heartbeat_ms = str(max(session_timeout_ms // 12, 100))
    return {
        "process.roles": "broker,controller",
        "listener.security.protocol.map": "CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT,OUTSIDE:PLAINTEXT",
        "inter.broker.listener.name": "CLIENT",
        "controller.listener.names": "CONTROLLER",
        # A topic that is missing must be an error here as in production.
        "auto.create.topics.enable": "false",
        "default.replication.factor": replicas,
        "min.insync.replicas": replicas_min,
        # Each partition is a directory and a load at start; nobody here needs the default 50.
        "offsets.topic.num.partitions": "4",
        "offsets.topic.replication.factor": replicas,
        "transaction.state.log.num.partitions": "4",
        "transaction.state.log.replication.factor": replicas,
        "transaction.state.log.min.isr": replicas_min,
        "share.coordinator.state.topic.num.partitions": "1",
        "share.coordinator.state.topic.replication.factor": replicas,
        "share.coordinator.state.topic.min.isr": replicas_min,
        # Groups that notice a dead member while one watches.
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": str(min(session_timeout_ms, 6_000)),
        "group.consumer.session.timeout.ms": str(session_timeout_ms),
        "group.consumer.min.session.timeout.ms": str(min(session_timeout_ms, 45_000)),
        "group.consumer.heartbeat.interval.ms": heartbeat_ms,
        "group.consumer.min.heartbeat.interval.ms": heartbeat_ms,
        "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
        # How long a broker that was killed is kept from coming back: its old registration has to end first.
        "broker.session.timeout.ms": "2000",
        "broker.heartbeat.interval.ms": "500",
    }


def _probe_metadata(client: dict[str, Any], brokers: int, timeout_s: float) -> str:
    """Return why metadata isn't complete yet, or an empty text."""
    try:
        known = len(AdminClient(client).list_topics(timeout=timeout_s).brokers)
    except KafkaException as error:
        return f"metadata: {error}"
    return "" if known == brokers else f"metadata: {known} of {brokers} brokers known"


def _probe_groups(client: dict[str, Any], _: int, timeout_s: float) -> str:
    """Return why the group coordinator can't be used yet, or an empty text."""
    # Not by AdminClient.list_consumer_group_offsets: when the coordinator is still moving, librdkafka 2.16 follows a
    # null pointer there (rd_kafka_handle_OffsetFetch, rd_kafka_cgrp_op) and takes the process down.
    consumer = Consumer({**client, "group.id": _PROBE_NAME})
    try:
        consumer.committed([TopicPartition(_PROBE_NAME, 0)], timeout=timeout_s)
    except KafkaException as error:
        return f"group coordinator: {error}"
    finally:
        consumer.close()
    return ""


def _probe_transactions(client: dict[str, Any], _: int, timeout_s: float) -> str:
    """Return why the transaction coordinator can't be used yet, or an empty text."""
    try:
        Producer({**client, "transactional.id": _PROBE_NAME}).init_transactions(timeout_s)
    except KafkaException as error:
        return f"transaction coordinator: {error}"
    return ""


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(_PROBE_S_MAX)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def java_command(more: Sequence[Path] = ()) -> list[str]:
    """
    Return how a program of Kafka's own is run, up to its main class; *more* are jars that the broker doesn't need.

    Raises:
        ArtifactError: Kafka can't be downloaded.
    """
    return [str(java_executable()), *_java([*fetch(read_pins(_PINS), cache_directory()), *more])]


def _java(jars: Sequence[Path]) -> list[str]:
    """Return java's arguments up to, and without, the main class."""
    return [*_JVM_OPTIONS, "--class-path", ":".join(str(jar) for jar in jars)]


def _addresses(ports: Mapping[str, int]) -> str:
    """Return the listeners of *ports*, by name, as a broker's settings have them."""
    return ",".join(f"{name}://127.0.0.1:{port}" for name, port in ports.items())


def _escaped(value: str) -> str:
    """Return *value* as Java reads it in a properties file."""
    return value.replace("\\", "\\\\")
