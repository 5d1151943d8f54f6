"""From poison to one e-mail: the whole system, a real schema registry, and a person who puts dead letters back."""

from __future__ import annotations

import json
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import Producer

from schemas.catalog import current_text
from schemas.codec import frame
from streams import registry
from streams.demo.system import System
from streams.local.apicurio import LocalRegistry
from streams.local.kafka import LocalKafka
from streams.registry import UNKNOWN_S, open_registry, register, subjects
from streams.transport import config
from tests.broker.harness import PARTITIONS, produce, read_all, wait_for
from tests.broker.letters import put_letters, refusal, said
from tests.broker.test_system import COMMAND, World
from topology import ids
from topology.topics import COMMANDS, DEAD_LETTERS, EMAIL_COMMANDS, EMAIL_EVENTS, LEDGER_CHANGELOG

pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(300),  # Four processes, a broker and a registry start first.
    # Each of them is asked until it answers; what was refused until then is collected whenever it is.
    pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"),
]

NOT_YET = 900_000
"""An id that the registry will not have."""


@pytest.fixture(scope="module")
def world(kafka: LocalKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Return a running system whose schemas are in a registry."""
    directory = tmp_path_factory.mktemp("redrive")
    with LocalRegistry(directory / "registry") as apicurio:
        world = World(kafka, directory / "world", f"redrive-{uuid.uuid4().hex[:8]}", schema_registry_url=apicurio.url)
        register(world.settings)
        world.codec = open_registry(world.settings).codec
        world.environment["REJOINDER_SCHEMA_REGISTRY_URL"] = apicurio.url
        world.seed(10)
        with System(world.directory, world.environment, 1, PARTITIONS):
            yield world
        world.smtp.stop()


def letters(world: World) -> list[Any]:
    """Return the dead letters."""
    return read_all(world.settings, DEAD_LETTERS.name)


def newer_command(world: World, order_id: str) -> tuple[str, bytes]:
    """Return the e-mail id and the value, without its frame, of a command with one field more than ours."""
    command_id = str(uuid.uuid4())
    fields = {"command_id": command_id, "order_id": order_id, "requested_at": 1, "requested_by": "t"}
    return ids.email_id(order_id, command_id), world.codec.encode_record(COMMAND, fields)[5:] + b"\x06web"


def register_newer(world: World) -> int:
    """Register the command with that field, as its team forgot to; return the id."""
    schema = json.loads(current_text(COMMAND))
    schema["fields"].append({"name": "channel", "type": "string", "default": "web"})
    subject = next(subject.name for subject in subjects(world.settings) if subject.record == COMMAND)
    with registry._Remote(world.settings) as remote:
        return remote.register(subject, json.dumps(schema))


def test_unknown_schema_becomes_one_mail_once_it_is_registered(world: World) -> None:
    """Refused, registered, put back twice: one e-mail."""
    (order_id,) = world.orders(1)
    email_id, body = newer_command(world, order_id)
    # Apicurio counts up: the next id that it gives.
    known = max(registered.schema_id for registered in register(world.settings))
    value = frame(known + 1) + body
    produce(world.settings, COMMANDS.name, {order_id: value})
    wait_for(lambda: len(letters(world)) == 1, "the dead letter")
    listed = said(world.settings, "list")
    assert "unknown-schema" in listed
    assert known + 1 == register_newer(world)
    time.sleep(UNKNOWN_S)  # For so long the worker remembers that nobody knows it.
    assert "1 put back" in said(world.settings, "redrive", "--reason", "unknown-schema")
    assert "0 put back" in said(world.settings, "redrive", "--reason", "unknown-schema")
    world.wait_for_mails({order_id: email_id})
    assert "1 put back" in said(world.settings, "redrive", "--reason", "unknown-schema", "--force")
    wait_for(lambda: len(read_all(world.settings, COMMANDS.name)) == 3, "it is there again")
    time.sleep(2)
    assert Counter([email_id]) == world.mails({order_id: email_id})
    assert 1 == len(letters(world))


def test_send_email_that_is_put_back_respects_the_ledger(world: World) -> None:
    """What was sent stays sent once: its event is said again, and no mail goes out."""
    email_ids = world.command(world.orders(1))
    world.wait_for_mails(email_ids)
    ((order_id, email_id),) = email_ids.items()
    of_order = [m for m in read_all(world.settings, EMAIL_COMMANDS.name) if m.key() == order_id.encode()]
    before = len(letters(world))
    (sent,) = of_order
    one = refusal(
        sent.key(), sent.value(), sent.offset(), topic=EMAIL_COMMANDS.name, partition=sent.partition(),
        timestamp_ms=sent.timestamp()[1], headers=sent.headers(), reason="unknown-schema",
    )  # fmt: skip
    put_letters(world.settings, [one])
    wait_for(lambda: len(letters(world)) == before + 1, "the dead letter")
    assert "1 put back" in said(world.settings, "redrive", "--topic", EMAIL_COMMANDS.name)

    def events() -> list[str]:
        found = [world.codec.decode_record(m.value()) for m in read_all(world.settings, EMAIL_EVENTS.name)]
        return [name for name, fields in found if fields["email_id"] == email_id]

    wait_for(lambda: len(events()) == 2, "it is said again")
    assert ["communications.EmailSent"] * 2 == events()
    assert Counter([email_id]) == world.mails(email_ids)
    rows = [m for m in read_all(world.settings, LEDGER_CHANGELOG.name) if m.key() == email_id.encode()]
    assert 2 == len(rows)  # Sending, accepted.


def test_poison_of_each_service_is_put_back_to_it(world: World) -> None:
    """A query and a SendEmail that nobody can read come back as new letters, one higher, once for each redrive."""
    before = len(letters(world))
    producer = Producer(config.plain_producer(world.settings))
    for topic in ("order-details.queries", "email.commands"):
        producer.produce(world.settings.topic(topic), frame(NOT_YET) + b"x", b"poison")
    assert 0 == producer.flush(20)
    wait_for(lambda: len(letters(world)) == before + 2, "both letters")
    assert "1 put back" in said(world.settings, "redrive", "--all", "--topic", "order-details.queries")
    assert "1 put back" in said(world.settings, "redrive", "--reason", "unknown-schema", "--topic", "email.commands")
    wait_for(lambda: len(letters(world)) == before + 4, "refused again")
    time.sleep(1)
    counts = [dict(m.headers()).get("rejoinder.redrive-count") for m in letters(world) if m.key() == b"poison"]
    assert Counter({None: 2, b"1": 2}) == Counter(counts)
