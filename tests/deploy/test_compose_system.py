"""
What docker-compose.yml starts, started without containers: the same commands with the same environment, in its order.

Brokers, registry and PostgreSQL are real ones; Mailpit's place is taken by the mail server of the demo. What differs is
said here and nowhere else: host names and ports become addresses of this machine, and a volume is a directory.
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql

from streams.errors import Unavailable
from streams.local.apicurio import LocalRegistry
from streams.local.kafka import LocalKafka
from streams.local.process import ChildProcess, JavaProcess
from streams.local.smtp import LocalSmtp
from tests.deploy.tools import composed, image_environment
from tests.postgresql import running_postgresql

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_200)]

COMMANDS: Final = 20
READY_S: Final = 300.0
STEP_S: Final = 120.0
MAILS_S: Final = 180.0
_NOT_PROCESSES: Final = {"prometheus", "grafana", "kafka-ui"}
_PLACES: Final = re.compile("node_id|process_roles|cluster_id|listener|quorum|log_dirs|inter_broker", re.IGNORECASE)
"""What of a broker's environment says where it is, and not how it works."""


class AsDeclared(LocalRegistry):
    """A registry that is told by its environment alone which changes it takes."""

    level = ""

    def _configure_when_ready(self, process: JavaProcess, deadline_s: float) -> None:
        # No proxy: the environment may name one, and it knows another 127.0.0.1.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        while True:
            try:
                with opener.open(f"{self.url}/config", timeout=5) as answer:
                    self.level = json.load(answer)["compatibilityLevel"]
                    return
            except OSError:
                time.sleep(0.1)
            assert process.exit_status is None, process.log_tail()
            assert time.monotonic() < deadline_s, process.log_tail()


class Machine:
    """This machine in the place of Compose."""

    def __init__(self, services: Mapping[str, Any], directory: Path, stack: ExitStack) -> None:
        self.services = services
        self._directory = directory
        self._stack = stack
        self._addresses: dict[str, str] = {}
        self._roles: dict[str, ChildProcess] = {}
        # Each process has port 6066 of an address of its own, as it has in a container.
        start = random.randrange(2, 200)  # noqa: S311 - so that two runs don't meet.
        self._hosts = {name: f"127.0.{start}.{at}" for at, name in enumerate(services, 1)}
        self.smtp: LocalSmtp | None = None

    def start(self) -> None:
        """Start all in the file's order, each after what it depends on."""
        graph = {name: [one for one in service.get("depends_on", {}) if one in self.services]
                 for name, service in self.services.items()}  # fmt: skip
        brokers_started = False
        for name in TopologicalSorter(graph).static_order():
            if name in _NOT_PROCESSES:
                continue
            if name.startswith("kafka-"):
                if not brokers_started:
                    self._start_brokers()
                brokers_started = True
            elif name == "postgres":
                self._start_postgres()
            elif name == "registry":
                self._start_registry()
            elif name == "mailpit":
                self.smtp = self._stack.enter_context(LocalSmtp(self._directory / "mails"))
                self._addresses["mailpit:1025"] = urlsplit(self.smtp.url).netloc
            elif self.services[name]["restart"].startswith("on-failure"):
                self._run_step(name)
            else:
                self._start_role(name)
        self._wait_healthy()

    def run(self, name: str, *arguments: str) -> str:
        """Run a command of ours as in the container *name*; return what it prints."""
        ran = subprocess.run(
            [sys.executable, "-m", "streams", *arguments], check=False, capture_output=True, text=True,
            timeout=STEP_S, env=self._environment(name),
        )  # fmt: skip
        assert ran.returncode == 0, f"{name}: {arguments}: {ran.stdout}{ran.stderr}"
        return ran.stdout

    def ask(self, name: str, *arguments: str, times: int = 5) -> str:
        """Do as `run`, again if it fails: for what may be repeated. On a slow machine brokers take their time."""
        for _ in range(times):
            try:
                return self.run(name, *arguments)
            except AssertionError as exc:
                failure = exc
        raise failure

    def _run_step(self, name: str) -> None:
        """Run a step, as often as its restart policy says."""
        policy, _, times = self.services[name]["restart"].partition(":")
        assert policy == "on-failure"
        self.ask(name, *self.services[name]["command"], times=int(times))

    def _start_brokers(self) -> None:
        brokers = {name: one for name, one in self.services.items() if re.fullmatch(r"kafka-\d", name)}
        # They differ in their place alone.
        (properties,) = {
            tuple(sorted((key, str(value)) for key, value in one["environment"].items() if not _PLACES.search(key)))
            for one in brokers.values()
        }
        kafka = LocalKafka(
            self._directory / "kafka",
            brokers=len(brokers),
            properties={key.removeprefix("KAFKA_").lower().replace("_", "."): value for key, value in properties},
        )
        kafka.start(READY_S)
        self._stack.callback(kafka.stop)
        for name, address in zip(sorted(brokers), kafka.bootstrap_servers.split(","), strict=True):
            self._addresses[f"{name}:9092"] = address

    def _start_postgres(self) -> None:
        environment = self.services["postgres"]["environment"]
        url = self._stack.enter_context(running_postgresql())
        user, database = environment["POSTGRES_USER"], environment["POSTGRES_DB"]
        with psycopg.connect(url, autocommit=True) as connection:
            password = environment["POSTGRES_PASSWORD"]
            connection.execute(
                sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(user), sql.Literal(password))
            )
            connection.execute(
                sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(database), sql.Identifier(user))
            )
        self._addresses["postgres:5432"] = urlsplit(url).netloc.rpartition("@")[2]

    def _start_registry(self) -> None:
        declared = self.services["registry"]["environment"]
        environment = {name: self._here(str(value)) for name, value in declared.items()}
        registry = AsDeclared(self._directory / "registry", environment=environment)
        registry.start(READY_S)
        self._stack.callback(registry.stop)
        assert registry.level == "FULL_TRANSITIVE"
        self._addresses["registry:8080"] = urlsplit(registry.url).netloc

    def _start_role(self, name: str) -> None:
        command = [sys.executable, "-m", "streams", *self.services[name]["command"]]
        child = ChildProcess(name, command, self._directory / f"{name}.log", self._environment(name))
        self._stack.callback(child.stop, 60)
        self._roles[name] = child

    def _wait_healthy(self) -> None:
        """Wait by the file's own health checks."""
        deadline_s = time.monotonic() + READY_S
        waiting = dict(self._roles)
        while waiting:
            for name, child in list(waiting.items()):
                assert time.monotonic() < deadline_s, f"{name} isn't ready\n{child.log_tail()}"
                if child.exit_status is not None:
                    # As the file's restart policy has it; brokers that don't answer in time are no error of ours.
                    assert child.exit_status == Unavailable.exit_code, child.log_tail()
                    self._start_role(name)
                    waiting[name] = self._roles[name]
                    continue
                _, program, *arguments = self.services[name]["healthcheck"]["test"]
                assert program == "rejoinder"
                command = [sys.executable, "-m", "streams", *arguments]
                if not subprocess.run(
                    command, check=False, capture_output=True, env=self._environment(name), timeout=STEP_S
                ).returncode:
                    del waiting[name]
            time.sleep(0.5)

    def _environment(self, name: str) -> dict[str, str]:
        service = self.services[name]
        found = image_environment() | {key: self._here(value) for key, value in service["environment"].items()}
        left = [
            (key, value)
            for key, value in found.items()
            for other in self.services
            if re.search(rf"(?:^|[,@/]){other}:\d", value)
        ]
        assert left == []
        volumes = service.get("volumes") or [{"source": name}]
        places = {
            "REJOINDER_STATE_DIR": str(self._directory / "volumes" / volumes[0]["source"]),
            "REJOINDER_WEB_BIND": self._hosts[name],
        }
        if "REJOINDER_WEB_HOST" in found:
            places["REJOINDER_WEB_HOST"] = self._hosts[found["REJOINDER_WEB_HOST"]]
        return {"PATH": os.environ["PATH"], "HOME": str(self._directory)} | found | places

    def _here(self, value: str) -> str:
        for address, here in self._addresses.items():
            value = value.replace(address, here)
        return value


@pytest.fixture(params=["", "monitoring/full.env"], ids=["small", "full"])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Machine]:
    """Return everything, started."""
    with ExitStack() as stack:
        found = Machine(composed(request.param)["services"], tmp_path, stack)
        found.start()
        yield found


def test_commands_lead_to_mails(machine: Machine) -> None:
    """Sent and explained as README says, in any of the workers' containers; each mail once."""
    workers = [name for name in machine.services if name.startswith("worker")]
    order_ids = [f"order-{number:06}" for number in range(1, COMMANDS + 1)]
    for number, order_id in enumerate(order_ids):
        command_id = machine.run(workers[number % len(workers)], "send", order_id).strip()
        assert str(uuid.UUID(command_id)) == command_id
    deadline_s = time.monotonic() + MAILS_S
    assert machine.smtp is not None
    while len(machine.smtp.received) < COMMANDS and time.monotonic() < deadline_s:
        time.sleep(0.2)
    recipients = sorted(one for mail in machine.smtp.received for one in mail.recipients)
    assert [f"customer-{number:06}@example.com" for number in range(1, COMMANDS + 1)] == recipients
    explained = [json.loads(machine.ask(workers[-1], "explain", "--json", order_id)) for order_id in order_ids[:4]]
    assert order_ids[:4] == [one["order_id"] for one in explained]
    assert {"sent"} == {process["state"] for one in explained for process in one["processes"]}
