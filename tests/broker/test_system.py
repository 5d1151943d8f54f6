"""The whole system as processes of this machine: real workers, services, broker and mailbox, some of them killed."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote
from urllib.request import urlopen

import pytest
from typer.testing import CliRunner, Result

from schemas.catalog import Catalog
from schemas.codec import Codec
from streams.cli import app as cli
from streams.demo.system import RoleProcess, System
from streams.local.kafka import LocalKafka
from streams.local.process import ChildProcess
from streams.local.smtp import LocalSmtp
from streams.services.email import ledger
from streams.services.orders.database import Database
from streams.settings import Settings
from tests.broker.harness import PARTITIONS, environment_of, produce, read_all, settings_for, wait_for
from topology import ids
from topology.topics import COMMANDS, DETAILS, EMAIL_COMMANDS, LEDGER_CHANGELOG, OUTCOMES, QUERIES

pytestmark = pytest.mark.system

COMMAND: Final = "communications.SendOrderConfirmationEmail"
RETRIEVED: Final = "orders.OrderDetailsRetrieved"
ODD_IDS: Final = ("a/b", "../up", "Bestellung Ä 1", "100%", "%2F", "a?b=1&c#d", "a+b;c", "[bold]x[/]", "日本")


class World:
    """A running system, its mailbox, and what outsiders do: command, answer, look at the topics."""

    def __init__(self, kafka: LocalKafka, directory: Path, name: str, **settings: Any) -> None:
        directory.mkdir()
        self.directory = directory
        self.settings: Settings = settings_for(kafka.bootstrap_servers, name, **settings)
        self.codec = Codec(Catalog.from_files())
        self.smtp = LocalSmtp(None)
        self.smtp.start()
        self.database_url = f"sqlite:///{directory / 'orders.sqlite'}"
        self.environment = environment_of(self.settings) | {
            "REJOINDER_SMTP_URL": self.smtp.url,
            "REJOINDER_DATABASE_URL": self.database_url,
            "REJOINDER_RETRY_FIRST": "1s",
            "REJOINDER_PUBLISH_CHANGES": "on",
            "REJOINDER_LOG_FORMAT": "json",
            "REJOINDER_WEB_ORDERS": "on",
        }
        self._orders: list[str] = []

    def seed(self, count: int) -> None:
        """Put *count* orders into the database."""
        with Database(self.database_url) as database:
            database.create_schema()
            self._orders = database.seed(count)

    def orders(self, count: int) -> list[str]:
        """Return *count* order ids of the database that no test has had yet."""
        taken, self._orders = self._orders[:count], self._orders[count:]
        assert count == len(taken), "seed more"
        return taken

    def command(self, order_ids: Sequence[str]) -> dict[str, str]:
        """Send a command for each order; return the e-mail ids that they must lead to, by order id."""
        command_ids = {order_id: str(uuid.uuid4()) for order_id in order_ids}
        values = {
            order_id: self.codec.encode_record(
                COMMAND,
                {"command_id": command_id, "order_id": order_id, "requested_at": 1, "requested_by": "test"},
            )
            for order_id, command_id in command_ids.items()
        }
        produce(self.settings, COMMANDS.name, values)
        return {order_id: ids.email_id(order_id, command_id) for order_id, command_id in command_ids.items()}

    def publish(self, order_ids: Sequence[str]) -> None:
        """Publish details of orders that the database needn't know."""
        values = {
            order_id: self.codec.encode_record(RETRIEVED, {"retrieved_at": 1, "order": _order(order_id)})
            for order_id in order_ids
        }
        produce(self.settings, DETAILS.name, values)

    def mails(self, email_ids: Mapping[str, str]) -> Counter[str]:
        """Return how many mails arrived of each of *email_ids*' values; those without any are left out."""
        wanted = set(email_ids.values())
        found = (received.message_id.strip("<>").partition("@")[0] for received in self.smtp.received)
        return Counter(email_id for email_id in found if email_id in wanted)

    def wait_for_mails(self, email_ids: Mapping[str, str]) -> None:
        """Wait until each of *email_ids*' values has a mail."""
        wait_for(lambda: len(self.mails(email_ids)) == len(email_ids), "a mail of each command")

    def read(self, topic: str) -> list[tuple[str, dict[str, Any]]]:
        """Return all records of a topic, decoded."""
        return [self.codec.decode_record(message.value()) for message in read_all(self.settings, topic)]

    def rejoinder(self, *arguments: str) -> Result:
        """Run ``rejoinder`` with this system's settings."""
        return CliRunner().invoke(cli, list(arguments), env=self.environment)


def _order(order_id: str) -> dict[str, Any]:
    return {
        "order_id": order_id,
        "version": 1,
        "placed_at": 1,
        "customer": {"customer_id": "customer-1", "name": "Zoë Weiß", "email": "zoe@example.com"},
        "currency": "EUR",
        "lines": [{"sku": "TEA-1", "name": "Tea", "quantity": 1, "unit_price": 500}],
        "total": 500,
        "shipping_address": "Königstraße 1",
    }


def _each_once(email_ids: Mapping[str, str]) -> Counter[str]:
    return Counter(email_ids.values())


def _page(order_id: str) -> str:
    return f"/orders/{quote(order_id, safe='')}"


@pytest.fixture(scope="module")
def world(kafka: LocalKafka, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Return topics, mailbox and 1,500 orders."""
    world = World(kafka, tmp_path_factory.mktemp("system") / "world", f"system-{uuid.uuid4().hex[:8]}")
    world.seed(1_500)
    return world


@contextlib.contextmanager
def running(world: World) -> Iterator[System]:
    """Run two workers and the services on *world*; its mail server ends with them."""
    system = System(world.directory, world.environment, 2, world.settings.partitions)
    try:
        system.start()
        yield system
    finally:
        system.stop()
        world.smtp.stop()


@pytest.fixture(scope="module")
def started(world: World) -> Iterator[System]:
    """Return the system, started."""
    with running(world) as system:
        yield system


@pytest.fixture
def system(started: System) -> System:
    """Return the system with all partitions worked on, whatever an earlier test did to it."""
    for process in started.processes:
        if not process.running:
            process.start()
    started.wait_ready()
    return started


@pytest.mark.usefixtures("system")
def test_each_command_leads_to_one_mail(world: World) -> None:
    """The round trip of 300 orders, and as many outcomes."""
    email_ids = world.command(world.orders(300))
    world.wait_for_mails(email_ids)
    wait_for(lambda: len(world.read(OUTCOMES.name)) >= 300, "all outcomes")
    outcomes = [(name, fields["order_id"]) for name, fields in world.read(OUTCOMES.name)]
    assert Counter(("communications.OrderConfirmationSent", order_id) for order_id in email_ids) == Counter(outcomes)
    assert _each_once(email_ids) == world.mails(email_ids)


def test_every_worker_answers_for_every_order(world: World, system: System) -> None:
    """Orders of all partitions, asked of both workers: one of them passes the question on."""
    email_ids = world.command(world.orders(12))
    world.wait_for_mails(email_ids)
    wait_for(
        lambda: all(
            system.workers[0].get(_page(order_id))[1]["processes"][0]["state"] == "sent" for order_id in email_ids
        ),
        "all sent",
    )
    one, other = ([worker.get(_page(order_id)) for order_id in email_ids] for worker in system.workers)
    assert one == other
    assert {200} == {status for status, _ in one}
    assert {worker.url for worker in system.workers} == {answer["owner"] for _, answer in one}


def test_unknown_order_is_not_found(world: World, system: System) -> None:
    """Status 404 from both workers, and one line from the command line."""
    assert [404, 404] == [worker.get(_page("nobody-knows"))[0] for worker in system.workers]
    result = world.rejoinder("explain", "nobody-knows")
    assert "nothing is remembered of order nobody-knows" in str(result.exception)


def test_odd_order_ids_survive_every_way(world: World, system: System) -> None:
    """Slashes, spaces, umlauts, percent signs and markup: in the mail's way, the web's and the command line's."""
    world.publish(ODD_IDS)
    email_ids = world.command(ODD_IDS)
    world.wait_for_mails(email_ids)
    for order_id in ODD_IDS:
        for worker in system.workers:
            status, answer = worker.get(_page(order_id))
            assert (200, order_id) == (status, answer.get("order_id"))
        result = world.rejoinder("explain", order_id)
        assert 0 == result.exit_code, result.exception
        assert f"order {order_id}, partition" in result.output
        result = world.rejoinder("explain", "--json", order_id)
        assert order_id == json.loads(result.stdout)["order_id"]


@pytest.mark.usefixtures("system")
def test_commands_can_be_sent_and_cancelled_by_hand(world: World) -> None:
    """The one that is cancelled beforehand fails, the other one is sent, and asking twice changes nothing."""
    sent_order, cancelled_order = world.orders(2)
    cancelled_id = str(uuid.uuid4())
    assert 0 == world.rejoinder("cancel", cancelled_order, cancelled_id).exit_code
    assert cancelled_id == world.rejoinder("send", cancelled_order, "--command-id", cancelled_id).stdout.strip()
    sent_id = world.rejoinder("send", sent_order, "--locale", "de").stdout.strip()
    assert sent_id == world.rejoinder("send", sent_order, "--command-id", sent_id).stdout.strip()
    expected = {
        ("communications.OrderConfirmationFailed", cancelled_id, "CANCELLED"),
        ("communications.OrderConfirmationSent", sent_id, None),
    }

    def outcomes() -> list[tuple[str, str, str | None]]:
        found = ((name, fields["command_id"], fields.get("reason")) for name, fields in world.read(OUTCOMES.name))
        return [outcome for outcome in found if outcome[1] in (sent_id, cancelled_id)]

    wait_for(lambda: len(outcomes()) >= 2, "both outcomes")
    assert (expected, 2) == (set(outcomes()), len(outcomes()))
    email_ids = {"sent": ids.email_id(sent_order, sent_id), "not": ids.email_id(cancelled_order, cancelled_id)}
    assert Counter([email_ids["sent"]]) == world.mails(email_ids)


def test_every_process_has_its_pages(world: World, system: System) -> None:
    """Alive, ready, and with metrics of what it did, on Faust's web server."""
    world.wait_for_mails(world.command(world.orders(4)))
    for process in system.processes:
        assert (200, {"live": True}) == process.get("/health/live")
        with urlopen(f"{process.url}/metrics", timeout=5) as answer:  # noqa: S310 - our own.
            lines = answer.read().decode().splitlines()
        commits = next(line for line in lines if line.startswith("rejoinder_commit_seconds_count "))
        assert float(commits.split()[1]) >= 1


def test_change_of_an_order_is_published_unasked(world: World, system: System) -> None:
    """With publish_changes=on a new version reaches the process manager although nobody asked."""
    (order_id,) = world.orders(1)
    with Database(world.database_url, publish_changes=True) as database:
        version = database.change(order_id, shipping_address="elsewhere")
    known = wait_for(lambda: system.workers[0].get(_page(order_id))[1].get("details"), "the details are known")
    assert (2, 2) == (version, known["version"])
    assert order_id not in {fields["order_id"] for _, fields in world.read(QUERIES.name)}
    wait_for(lambda: Database(world.database_url).unpublished(10) == [], "the outbox is emptied")


def test_kill_of_a_worker_while_commands_come(world: World, system: System) -> None:
    """One mail a command, though a worker is gone in the middle of them and comes back."""
    orders = world.orders(300)
    email_ids = world.command(orders[:150])
    wait_for(lambda: len(world.mails(email_ids)) >= 20, "some mails")
    system.workers[0].kill()
    email_ids |= world.command(orders[150:])
    system.workers[0].start()
    world.wait_for_mails(email_ids)
    system.wait_ready()
    assert _each_once(email_ids) == world.mails(email_ids)


def test_kill_of_the_email_service_while_it_sends(world: World, system: System) -> None:
    """No mail is missing; one that came twice is in the ledger as having been in doubt, as often as it came again."""
    email_ids = world.command(world.orders(300))
    wait_for(lambda: len(world.mails(email_ids)) >= 20, "some mails")
    system.email.kill()
    assert len(world.mails(email_ids)) < len(email_ids), "killed too late"
    system.email.start()
    world.wait_for_mails(email_ids)
    wanted = set(email_ids.values())

    def rows() -> dict[str, ledger.Row]:
        found = {message.key().decode(): message.value() for message in read_all(world.settings, LEDGER_CHANGELOG.name)}
        return {email_id: ledger.decode(row) for email_id, row in found.items() if email_id in wanted}

    wait_for(lambda: all(row.status is ledger.Status.ACCEPTED for row in rows().values()), "all accepted")
    reported = {email_id: row.doubts for email_id, row in rows().items()}
    again = {email_id: times - 1 for email_id, times in world.mails(email_ids).items() if times > 1}
    assert wanted == set(reported)
    assert all(times <= reported[email_id] for email_id, times in again.items()), (again, reported)
    assert sum(reported.values()) <= world.settings.email_concurrency


def test_queries_are_asked_again_while_the_orders_service_is_away(world: World, system: System) -> None:
    """A second attempt goes out, and when the service is back every command has its mail."""
    system.orders.stop()
    email_ids = world.command(world.orders(20))

    def attempts() -> set[int]:
        return {fields["attempt"] for _, fields in world.read(QUERIES.name) if fields["order_id"] in email_ids}

    wait_for(lambda: 2 in attempts(), "a second attempt")
    assert not world.mails(email_ids)
    system.orders.start()
    world.wait_for_mails(email_ids)
    time.sleep(1)  # Both answers of an order have come by now; a second mail would be on its way.
    assert _each_once(email_ids) == world.mails(email_ids)


def test_logs_are_json_lines(system: System) -> None:
    """Each line with its level and time, and nothing else among them: a collector parses every line."""
    lines = [line for process in system.processes for line in process.log.read_text().splitlines()]
    entries = [json.loads(line) for line in lines]
    assert entries
    assert all({"event", "level", "timestamp"} <= set(entry) for entry in entries)


@pytest.fixture(scope="module")
def plain_join(kafka: LocalKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Return topics on which nobody but a worker is at work, which Faust's own command started and which never asks."""
    world = World(kafka, tmp_path_factory.mktemp("join") / "world", f"join-{uuid.uuid4().hex[:8]}")
    worker = RoleProcess("worker", "worker-0", world.directory, world.environment | {"REJOINDER_ASK": "never"})
    faust = [sys.executable, "-m", "faust", "-A", "streams.app", "worker", "--loglevel", "warn"]
    child = ChildProcess("faust", faust, world.directory / "faust.log", worker._environment)
    try:
        wait_for(lambda: worker.partitions() == PARTITIONS or child.exit_status is not None, "Faust's worker is ready")
        assert child.exit_status is None, child.log_tail()
        yield world
    finally:
        child.stop(30)
        world.smtp.stop()
    assert 0 == child.exit_status


def test_plain_join_emits_no_queries(plain_join: World) -> None:
    """Commands and details come from outside, in either order: a SendEmail each, and nobody is asked for anything."""
    details_first, command_first = ([f"{name}-{number}" for number in range(20)] for name in ("d", "c"))
    plain_join.publish(details_first)
    email_ids = plain_join.command(details_first) | plain_join.command(command_first)
    plain_join.publish(command_first)
    wait_for(lambda: len(read_all(plain_join.settings, EMAIL_COMMANDS.name)) >= 40, "all joined")
    joined = [(fields["order"]["order_id"], fields["email_id"]) for _, fields in plain_join.read(EMAIL_COMMANDS.name)]
    assert sorted(email_ids.items()) == sorted(joined)
    assert [] == plain_join.read(QUERIES.name)


def test_demo_prints_its_summary_as_json(tmp_path: Path) -> None:
    """One line on standard output, for programs; everything else goes to standard error."""
    command = [sys.executable, "-m", "streams", "demo", "--orders", "50", "--json", "--dir", str(tmp_path / "demo")]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    assert 0 == ran.returncode, ran.stderr
    summary = json.loads(ran.stdout)
    expected = "commands delivered failed duplicates lost seconds per_second latency_ms_p50 latency_ms_p99 kills"
    assert expected.split() == list(summary)
    counts = [summary[name] for name in ("commands", "delivered", "failed", "duplicates", "lost", "kills")]
    assert [50, 50, 0, 0, 0, 0] == counts
    assert 0 < summary["latency_ms_p50"] <= summary["latency_ms_p99"] <= summary["seconds"] * 1_000 + 1_000
