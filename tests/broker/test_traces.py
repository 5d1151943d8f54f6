"""One trace for one order, through all three processes, as a real receiver of OTLP sees it."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from typing import Final

import pytest
from confluent_kafka import Producer

from streams.local.kafka import LocalKafka
from streams.local.process import free_ports
from streams.transport import config
from tests.broker.harness import wait_for
from tests.broker.otlp import Received, Receiver
from tests.broker.test_system import COMMAND, World, running
from topology import ids
from topology.topics import COMMANDS

pytestmark = pytest.mark.system

TRACE: Final = "4bf92f3577b34da6a3ce929d0e0e4736"
SOURCE: Final = "00f067aa0ba902b7"
STEPS: Final = (
    ("worker", "process order-confirmation.commands", "CONSUMER"),
    ("worker", "send order-details.queries", "PRODUCER"),
    ("orders", "process order-details.queries", "CONSUMER"),
    ("orders", "send order-details.events", "PRODUCER"),
    ("worker", "process order-details.events", "CONSUMER"),
    ("worker", "send email.commands", "PRODUCER"),
    ("email", "process email.commands", "CONSUMER"),
    ("email", "send email.events", "PRODUCER"),
    ("worker", "process email.events", "CONSUMER"),
    ("worker", "send order-confirmation.events", "PRODUCER"),
)
"""The way of an order: each step is the child of the one before."""


@pytest.fixture(scope="module")
def port() -> int:
    """Return the port of a collector that isn't there yet."""
    return free_ports(1)[0]


@pytest.fixture(scope="module")
def world(kafka: LocalKafka, tmp_path_factory: pytest.TempPathFactory, port: int) -> Iterator[World]:
    """Return a running system that is told of the collector."""
    world = World(kafka, tmp_path_factory.mktemp("traces") / "world", f"traces-{uuid.uuid4().hex[:8]}")
    world.seed(50)
    world.environment |= {
        "REJOINDER_PUBLISH_CHANGES": "off",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "2",
        "OTEL_BSP_SCHEDULE_DELAY": "200",
    }
    with running(world):
        yield world


def command(world: World, order_id: str, traceparent: str | None) -> str:
    """Send a command for an order, as a source that traces does; return its id."""
    command_id = str(uuid.uuid4())
    fields = {"command_id": command_id, "order_id": order_id, "requested_at": 1, "requested_by": "test"}
    headers: list[tuple[str, str | bytes | None]] = [("traceparent", traceparent)] if traceparent else []
    producer = Producer(config.plain_producer(world.settings))
    value = world.codec.encode_record(COMMAND, fields)
    producer.produce(world.settings.topic(COMMANDS.name), value, order_id.encode(), headers=headers)
    assert 0 == producer.flush(30)
    return command_id


def test_trace_is_whole_though_the_collector_was_away_at_first(world: World, port: int) -> None:
    """Mails go out without a collector; once it is there, each step of an order is the child of the one before."""
    early = world.orders(20)
    world.wait_for_mails(world.command(early))
    with Receiver(port) as receiver:
        (order_id,) = world.orders(1)
        command_id = command(world, order_id, f"00-{TRACE}-{SOURCE}-01")
        world.wait_for_mails({order_id: ids.email_id(order_id, command_id)})
        wait_for(lambda: len(receiver.of_trace(TRACE)) > len(STEPS), "all spans")
        spans = receiver.of_trace(TRACE)
        _is_the_way_of(world, spans, SOURCE)
        assert {command_id} == {
            span.attributes["messaging.message.conversation_id"] for span in spans if span.name != "SMTP"
        }
        (own,) = world.orders(1)
        command_id = command(world, own, None)
        world.wait_for_mails({own: ids.email_id(own, command_id)})
        wait_for(lambda: len(_about(receiver, own)) >= len(STEPS), "all spans of the one without a trace")
        (trace,) = {span.trace for span in _about(receiver, own)}
        _is_the_way_of(world, receiver.of_trace(trace), "")


def test_log_lines_are_json_and_have_no_address(world: World) -> None:
    """Whatever was logged in all this, also by the exporter that found no collector."""
    logs = [path.read_text() for path in world.directory.glob("*.log")]
    lines = [json.loads(line) for log in logs for line in log.splitlines() if line.strip()]
    assert {"worker-0", "worker-1", "orders-0", "email-0"} == {path.stem for path in world.directory.glob("*.log")}
    assert any("collector" in str(line) or "export" in str(line).lower() for line in lines), "nobody missed it"
    assert [] == [found for log in logs for found in re.findall(r"[\w.+-]+@[\w-]+\.\w+", log)]


def _about(receiver: Receiver, order_id: str) -> list[Received]:
    found = [span for span in list(receiver.spans) if span.attributes.get("messaging.kafka.message.key") == order_id]
    return [span for span in found if span.name != "SMTP"]


def _is_the_way_of(world: World, spans: list[Received], source: str) -> None:
    """Demand that *spans* are `STEPS`, the first a child of *source*, and the mail server's part."""
    prefix = world.settings.topic_prefix
    by_id = {span.id: span for span in spans}
    assert len(by_id) == len(spans), "an id that two have"
    parent = source
    for role, name, kind in STEPS:
        operation, topic = name.split()
        (span,) = (one for one in spans if one.name == f"{operation} {prefix}{topic}")
        assert (f"{world.settings.application_id}-{role}", kind, parent) == (span.service, span.kind, span.parent)
        assert "kafka" == span.attributes["messaging.system"]
        assert prefix + topic == span.attributes["messaging.destination.name"]
        began, ended = span.nanoseconds
        assert began < ended
        if (before := by_id.get(parent)) is not None:
            assert before.nanoseconds[0] <= began
        parent = span.id
    (smtp,) = (span for span in spans if span.name == "SMTP")
    assert f"process {prefix}email.commands" == by_id[smtp.parent].name
    assert {"CLIENT", world.smtp.url} == {smtp.kind, f"smtp://127.0.0.1:{smtp.attributes['server.port']}"}
    assert len(STEPS) + 1 == len(spans)
