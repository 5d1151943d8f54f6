"""The whole round trip over TLS, each process with a login of its own and its role's ACLs; and what its logs say."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import ssl
import urllib.request
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AclOperation, AdminClient, OffsetSpec, ResourceType

from schemas.catalog import Catalog
from schemas.codec import Codec
from streams.demo.system import RoleProcess, System
from streams.local.smtp import LocalSmtp, Stage
from streams.offsets import list_offsets
from streams.services.orders.database import Database
from tests.broker.harness import PARTITIONS, deliver, read_to_end, wait_for
from tests.broker.secured import Deployment, SecuredKafka, password_of, rejoinder
from topology import ids
from topology.acls import Role
from topology.topics import COMMANDS, DEAD_LETTERS, EMAIL_COMMANDS, OUTCOMES, QUERIES

pytestmark = pytest.mark.system

COMMAND: Final = "communications.SendOrderConfirmationEmail"
TOKEN: Final = "canary-token-0123456789"  # noqa: S105 - nobody's.
SMTP_PASSWORD: Final = "canary-smtp-password"  # noqa: S105
CANARY: Final = re.compile(r"canary|p4ssw0rd", re.IGNORECASE)
"""In every secret, every address, every name of a customer."""


class World:
    """A secured deployment at work."""

    def __init__(self, secured: SecuredKafka, directory: Path) -> None:
        directory.mkdir()
        self.directory = directory
        self.deployment = Deployment(secured, f"system-{uuid.uuid4().hex[:8]}")
        self.codec = Codec(Catalog.from_files())
        certificate = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        certificate.load_cert_chain(secured.authority.sign("mail", server=True))
        self.smtp = LocalSmtp(None, tls=certificate, logins={"shop": SMTP_PASSWORD})
        self.database_url = f"sqlite:///{directory / 'orders.sqlite'}"
        self.orders = self._seed(120)
        self.system = System(directory, {}, 0, PARTITIONS)
        self.system.workers = [self._process(Role.WORKER, f"worker-{i}") for i in range(2)]
        self.system.orders = self._process(Role.ORDERS, "orders-0")
        self.system.email = self._process(Role.EMAIL, "email-0")

    def start(self) -> None:
        """Start all; the topics are made by the deployer."""
        self.smtp.start()
        for _ in range(2):  # The second time there is nothing to do.
            ran = rejoinder(["topics", "apply"], self.environment(Role.DEPLOYER))
            assert 0 == ran.returncode, ran.stderr
        for process in self.system.processes:
            process._environment |= {"REJOINDER_SMTP_URL_FILE": str(self._secret("smtp", self._smtp_url))}
            process._environment |= {"REJOINDER_SMTP_CA": str(self.deployment.secured.authority.ca)}
        self.system.start()

    def stop(self) -> None:
        """Stop all."""
        self.system.stop()
        self.smtp.stop()

    @property
    def _smtp_url(self) -> str:
        return self.smtp.url.replace("://", f"://shop:{SMTP_PASSWORD}@")

    def environment(self, role: Role) -> dict[str, str]:
        """Return the environment of a process of *role*, with secrets in files and in the environment."""
        environment = self.deployment.environment(
            role,
            REJOINDER_WEB_ORDERS="on",
            REJOINDER_WEB_TOKEN_FILE=str(self._secret("token", TOKEN)),
            REJOINDER_DATABASE_URL=self.database_url,
            REJOINDER_PUBLISH_CHANGES="on",
            REJOINDER_TRANSACTION_TIMEOUT="10s",
            REJOINDER_RETRY_FIRST="1s",
            REJOINDER_LOG_LEVEL="DEBUG",
            REJOINDER_LOG_FORMAT="json",
            # All that librdkafka says of its configuration and logins.
            REJOINDER_KAFKA_DEBUG="conf,security,feature,cgrp",
        )
        if role is not Role.EMAIL:
            password = environment.pop("REJOINDER_KAFKA_SASL_PASSWORD")
            environment["REJOINDER_KAFKA_SASL_PASSWORD_FILE"] = str(self._secret(role.value, password))
        return environment

    def _secret(self, name: str, text: str) -> Path:
        path = self.directory / f"{name}.secret"
        path.touch(mode=0o600)
        path.write_text(f"{text}\n")
        return path

    def _process(self, role: Role, name: str) -> RoleProcess:
        return RoleProcess(role.value, name, self.directory, self.environment(role))

    def _seed(self, count: int) -> list[str]:
        """Return *count* orders, of as many customers whose names and addresses are canaries."""
        with Database(self.database_url) as database:
            database.create_schema()
            orders = database.seed(count)
        connection = sqlite3.connect(self.database_url.removeprefix("sqlite:///"))
        with connection:
            connection.execute(
                "UPDATE customers SET name = 'Canary ' || customer_id, "
                "email = 'canary.' || customer_id || '@example.com'"
            )
        connection.close()
        return orders

    def take(self, count: int) -> list[str]:
        """Return *count* order ids that no test has had yet."""
        taken, self.orders = self.orders[:count], self.orders[count:]
        assert count == len(taken), "seed more"
        return taken

    def client(self, role: Role) -> dict[str, Any]:
        """Return librdkafka's properties of a program that logs in as *role*."""
        return {**self.deployment.secured.login(self.deployment.user(role))}

    def command(self, order_ids: Sequence[str]) -> dict[str, str]:
        """Send a command for each order as the command source; return the e-mail ids they lead to, by order id."""
        producer = Producer(self.client(Role.SOURCE) | {"enable.idempotence": True, "partitioner": "murmur2_random"})
        command_ids = {order_id: str(uuid.uuid4()) for order_id in order_ids}
        values = {}
        for order_id, command_id in command_ids.items():
            fields = {"command_id": command_id, "order_id": order_id, "requested_at": 1, "requested_by": "test"}
            values[order_id] = self.codec.encode_record(COMMAND, fields)
        deliver(producer, self.topic(COMMANDS.name), values)
        return {order_id: ids.email_id(order_id, command_id) for order_id, command_id in command_ids.items()}

    def topic(self, name: str) -> str:
        """Return *name* as the cluster knows it."""
        return f"{self.deployment.name}.{name}"

    def read(self, role: Role, topic: str) -> list[Any]:
        """Return what there is in a topic by now, read as *role*, which must be allowed to."""
        group = f"{self.deployment.name}-{role.value}"
        consumer = Consumer(
            self.client(role)
            | {"group.id": group, "isolation.level": "read_committed", "enable.partition.eof": True}
            | {"enable.auto.commit": False}
        )
        return read_to_end(consumer, self.topic(topic))

    def outcomes(self) -> dict[str, str]:
        """Return how each order ended, as an outsider reads it."""
        messages = self.read(Role.READER, OUTCOMES.name)
        decoded = (self.codec.decode_record(message.value()) for message in messages)
        return {fields["order_id"]: record.rpartition(".")[2] for record, fields in decoded}

    def mails(self, email_ids: Mapping[str, str]) -> Counter[str]:
        """Return how many mails arrived of each of *email_ids*' values."""
        found = (received.message_id.strip("<>").partition("@")[0] for received in self.smtp.received)
        return Counter(email_id for email_id in found if email_id in set(email_ids.values()))

    def wait_sent(self, email_ids: Mapping[str, str]) -> None:
        """Wait until each order has its outcome, and one mail."""
        wait_for(lambda: set(email_ids) <= set(self.outcomes()), "all outcomes", 90)
        assert Counter(email_ids.values()) == self.mails(email_ids)


@pytest.fixture(scope="module")
def started(secured: SecuredKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Return the deployment, at work."""
    world = World(secured, tmp_path_factory.mktemp("secured-system") / "world")
    try:
        world.start()
        yield world
    finally:
        world.stop()


@pytest.fixture
def world(started: World) -> World:
    """Return it with everybody at work, whatever an earlier test did."""
    for process in started.system.processes:
        if not process.running:
            process.start()
    for process in started.system.processes:
        wait_for(process.partitions, f"{process.name} works", 90)
    started.system.wait_ready()
    return started


def test_round_trip_works_with_just_the_granted_rights(world: World) -> None:
    """One mail a command, by processes that log in each with its own name, over TLS everywhere."""
    world.wait_sent(world.command(world.take(30)))


def test_killed_and_wiped_workers_restore_with_just_the_granted_rights(world: World) -> None:
    """A rebalance, a restart with its state, and one that restores all of it from the changelog."""
    worker = world.system.workers[0]
    worker.kill()
    email_ids = world.command(world.take(10))
    worker.start()
    for process in (worker, world.system.email):
        wait_for(process.partitions, f"{process.name} works", 90)
        process.stop()
        assert 0 == process.exit_status, process.tail()
        shutil.rmtree(world.directory / process.name)
        process.start()
        wait_for(process.partitions, f"{process.name} works again", 90)
    world.system.wait_ready()
    world.wait_sent(email_ids | world.command(world.take(10)))


def test_deadlines_fire_with_just_the_granted_rights(world: World) -> None:
    """While the orders service is away the question is asked again; then it is answered."""
    world.system.orders.stop()
    email_ids = world.command(world.take(5))
    # QUERIES' end is what the operator may see, its records aren't.
    wait_for(lambda: _ends(world, QUERIES.name) >= 2 * len(email_ids) + _ends_before(world), "asked again")
    world.system.orders.start()
    world.wait_sent(email_ids)


def _ends_before(world: World) -> int:
    return len(world.outcomes())


def _ends(world: World, topic: str) -> int:
    admin = AdminClient(world.client(Role.OPERATOR))
    asked = {TopicPartition(world.topic(topic), number): OffsetSpec.latest() for number in range(PARTITIONS)}
    return sum(future.result(20).offset for future in list_offsets(admin, asked, request_timeout=20).values())


def test_order_that_changed_is_published_with_just_the_granted_rights(world: World) -> None:
    """By the orders service's producer without transactions."""
    (order_id,) = world.take(1)
    with Database(world.database_url, publish_changes=True) as database:
        database.change(order_id, shipping_address="canary street 1")
        wait_for(lambda: not database.unpublished(10), "the outbox is emptied")


def test_dead_letters_are_written_and_read_with_just_the_granted_rights(world: World) -> None:
    """By all three services, and by the operator."""
    before = len(world.read(Role.OPERATOR, DEAD_LETTERS.name))
    producer = Producer(world.client(Role.REDRIVER) | {"partitioner": "murmur2_random"})
    for topic in (COMMANDS, QUERIES, EMAIL_COMMANDS):
        producer.produce(world.topic(topic.name), b"canary.poison@example.com", b"order-poison")
    assert producer.flush(30) == 0
    wait_for(lambda: len(world.read(Role.OPERATOR, DEAD_LETTERS.name)) == before + 3, "three dead letters")


def test_dead_letters_are_listed_and_put_back_with_just_the_granted_rights(world: World) -> None:
    """By the commands that people use: they are put back, and refused once more."""
    producer = Producer(world.client(Role.REDRIVER) | {"partitioner": "murmur2_random"})
    before = len(world.read(Role.OPERATOR, DEAD_LETTERS.name))
    producer.produce(world.topic(COMMANDS.name), b"canary.again@example.com", b"order-again")
    assert producer.flush(30) == 0
    wait_for(lambda: len(world.read(Role.OPERATOR, DEAD_LETTERS.name)) == before + 1, "a dead letter")
    environments = {role: world.environment(role) for role in (Role.OPERATOR, Role.REDRIVER)}
    for environment in environments.values():
        del environment["REJOINDER_KAFKA_DEBUG"]
    listed = rejoinder(["dead-letters", "list", "--json"], environments[Role.OPERATOR])
    assert 0 == listed.returncode, listed.stderr
    letters = [json.loads(line) for line in listed.stdout.splitlines()]
    assert before + 1 == len(letters)
    (letter,) = [letter for letter in letters if letter["key"] == "order-again"]
    ran = rejoinder(["dead-letters", "redrive", letter["letter"]], environments[Role.REDRIVER])
    assert 0 == ran.returncode, ran.stderr
    wait_for(lambda: len(world.read(Role.OPERATOR, DEAD_LETTERS.name)) == before + 2, "it is refused again")


def _get(url: str, headers: Mapping[str, str]) -> str:
    asked = urllib.request.Request(url, headers=dict(headers))  # noqa: S310 - our own.
    with urllib.request.urlopen(asked, timeout=20) as answer:  # noqa: S310 - our own.
        return str(answer.read().decode())


@pytest.mark.parametrize("as_json", [False, True])
def test_operator_is_told_of_an_order_by_whichever_worker(world: World, as_json: bool) -> None:
    """With the token, which is passed on; without it nobody is told."""
    order_id = world.orders[0]
    email_ids = world.command(world.take(1))
    world.wait_sent(email_ids)
    environment = world.environment(Role.OPERATOR)
    del environment["REJOINDER_KAFKA_DEBUG"]
    ran = rejoinder(["explain", order_id, *(["--json"] if as_json else [])], environment)
    assert 0 == ran.returncode, ran.stderr
    assert "EmailSent" in ran.stdout
    for worker in world.system.workers:
        answer = _get(f"{worker.url}/orders/{order_id}", {"Authorization": f"Bearer {TOKEN}"})
        assert order_id == json.loads(answer)["order_id"]
        assert 401 == worker.get(f"/orders/{order_id}")[0]
    ran = rejoinder(
        ["explain", order_id], environment | {"REJOINDER_WEB_TOKEN_FILE": str(world._secret("wrong", "x" * 16))}
    )
    assert 2 == ran.returncode
    assert "have their REJOINDER_WEB_TOKEN" in ran.stderr


def test_commands_work_with_just_the_granted_rights(world: World) -> None:
    """The source sends and cancels, the operator compares the topics."""
    (order_id,) = world.take(1)
    sent = rejoinder(["send", order_id], world.environment(Role.SOURCE))
    assert 0 == sent.returncode, sent.stderr
    cancelled = rejoinder(["cancel", order_id, sent.stdout.strip()], world.environment(Role.SOURCE))
    assert 0 == cancelled.returncode, cancelled.stderr
    for command in (["topics", "diff"], ["lag", "--fail"], ["status"], ["waiting"], ["doubtful", "list"]):
        ran = rejoinder(command, world.environment(Role.OPERATOR))
        assert 0 == ran.returncode, ran.stderr + ran.stdout
        assert not CANARY.search(ran.stdout + ran.stderr)
    ran = rejoinder(["replay", "--from-topics"], world.environment(Role.AUDITOR))
    assert (0, True) == (ran.returncode, "different       0" in ran.stdout), ran.stderr + ran.stdout
    ran = rejoinder(["replay", "--from-topics"], world.environment(Role.OPERATOR))
    assert (2, True) == (ran.returncode, "--role auditor" in ran.stderr), ran.stderr + ran.stdout
    ran = rejoinder(["doubtful", "resend", "--all"], world.environment(Role.REDRIVER))
    assert (0, True) == (ran.returncode, "0 told" in ran.stdout), ran.stderr


def test_refused_addresses_are_told_without_them(world: World) -> None:
    """A mail server's refusal quotes the address; the event, the log and `explain` have the rest of it."""
    world.smtp.react(Stage.RCPT, "550 5.1.1 <canary.quoted@example.com>: user unknown")
    email_ids = world.command(world.take(1))
    [order_id] = email_ids
    wait_for(lambda: order_id in world.outcomes(), "its outcome")
    assert "OrderConfirmationFailed" == world.outcomes()[order_id]
    ran = rejoinder(["explain", order_id], world.environment(Role.OPERATOR))
    assert "550 5.1.1 <***@example.com>: user unknown" in ran.stdout
    assert not CANARY.search(ran.stdout + ran.stderr)


def test_address_that_is_none_is_told_without_it(world: World) -> None:
    """In whatever form it can't be used."""
    order_ids = world.take(3)
    wrong = ("canary.at.nowhere", "canary two@example.com", "canäry@example.com")
    connection = sqlite3.connect(world.database_url.removeprefix("sqlite:///"))
    with connection:
        for order_id, address in zip(order_ids, wrong, strict=True):
            connection.execute(
                "UPDATE customers SET email = ? WHERE customer_id = "
                "(SELECT customer_id FROM orders WHERE order_id = ?)",
                (address, order_id),
            )
    connection.close()
    world.command(order_ids)
    wait_for(lambda: set(order_ids) <= set(world.outcomes()), "their outcomes")
    for order_id in order_ids:
        ran = rejoinder(["explain", order_id], world.environment(Role.OPERATOR))
        assert "the customer's address can't be used" in ran.stdout, ran.stderr
        assert not re.search("can[aä]ry", ran.stdout)


def test_a_right_that_is_taken_away_at_run_time_ends_the_worker(world: World) -> None:
    """With the reason; once it is given back, the next start goes on where it was."""
    worker_user = f"User:{world.deployment.user(Role.WORKER)}"
    right = (worker_user, ResourceType.TOPIC, world.topic(EMAIL_COMMANDS.name), AclOperation.WRITE)
    world.deployment.secured.revoke(*right)
    try:
        email_ids = world.command(world.take(8))
        # Whoever is left has all partitions then, and what is refused in them.
        wait_for(lambda: not any(worker.running for worker in world.system.workers), "the workers' ends", 90)
        assert {2} == {worker.exit_status for worker in world.system.workers}
        assert all("Topic authorization failed" in worker.tail() for worker in world.system.workers)
    finally:
        world.deployment.secured.grant(*right)
    for worker in world.system.workers:
        worker.start()
    world.system.wait_ready()
    world.wait_sent(email_ids)


# Last: over all that the tests above made the processes say.


def test_nothing_said_has_a_secret_or_an_address(world: World) -> None:
    """All logs, at the level of debugging, librdkafka's own lines too, and the settings as they are shown."""
    logs = {process.name: process.log.read_text() for process in world.system.processes}
    for name, log in logs.items():
        assert "Client configuration" in log, f"{name} didn't debug librdkafka"
        assert not CANARY.search(log), CANARY.search(log)
    for role in (Role.WORKER, Role.EMAIL):
        ran = rejoinder(["settings"], world.environment(role))
        assert "REJOINDER_KAFKA_SASL_PASSWORD" in ran.stdout
        assert not CANARY.search(ran.stdout + ran.stderr)


def test_no_process_shows_a_secret_among_its_arguments(world: World) -> None:
    """Everybody on the machine sees them; of the environment, only those that were given in it."""
    for process in world.system.processes:
        arguments = Path(f"/proc/{process.pid}/cmdline").read_text()
        assert not CANARY.search(arguments)
        in_environment = CANARY.findall(Path(f"/proc/{process.pid}/environ").read_text())
        assert (["p4ssw0rd"] if process is world.system.email else []) == in_environment


def test_metrics_have_no_address_and_no_order(world: World) -> None:
    """Whatever came by."""
    for process in world.system.processes:
        text = _get(f"{process.url}/metrics", {})
        assert not CANARY.search(text)
        assert "order-0" not in text


def test_state_is_its_owner_s_alone(world: World) -> None:
    """Directories, stores, notes and locks: nobody else may read, write or enter."""
    for process in world.system.processes:
        paths = [world.directory / process.name, *(world.directory / process.name).rglob("*")]
        assert len(paths) > 1
        open_to_others = [path for path in paths if path.lstat().st_mode & 0o077]
        assert [] == open_to_others


def test_passwords_are_what_the_tests_look_for() -> None:
    """Else a leak would go unseen."""
    assert CANARY.search(password_of("anybody"))
    assert all(CANARY.search(secret) for secret in (TOKEN, SMTP_PASSWORD))
