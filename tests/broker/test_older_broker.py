"""A broker of before Kafka 4.0, with the classic group protocol: the same round trip, and the same promises."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from streams.local.kafka import LocalKafka
from streams.settings import GroupProtocol
from streams.transport import heartbeats
from tests.broker.harness import Worker, settings_for, wait_for
from tests.broker.test_system import World, running
from topology.topics import OUTCOMES

pytestmark = pytest.mark.system

PINS = Path(__file__).with_name("kafka-3.9.2.pins")
ORDERS = 100


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalKafka]:
    """Return a broker of Kafka 3.9."""
    with LocalKafka(tmp_path_factory.mktemp("older") / "kafka", pins=PINS) as kafka:
        yield kafka


def test_each_command_has_one_mail_whoever_is_killed(older: LocalKafka, tmp_path: Path, unique: str) -> None:
    """A worker is killed and starts again; then both are restarted, one after the other, while orders go through."""
    world = World(older, tmp_path / "world", unique, group_protocol=GroupProtocol.CLASSIC)
    # The classic protocol's session time-out is the member's; its default is 45 s.
    world.environment |= {"REJOINDER_GROUP_PROTOCOL": "classic", "REJOINDER_KAFKA_SESSION_TIMEOUT_MS": "6000"}
    world.seed(3 * ORDERS)
    with running(world) as system:
        email_ids = world.command(world.orders(ORDERS))
        system.workers[0].kill()
        email_ids |= world.command(world.orders(ORDERS))
        system.workers[0].start()
        world.wait_for_mails(email_ids)
        for worker in system.workers:
            worker.stop()
            worker.start()
            email_ids |= world.command(world.orders(ORDERS // 2))
        world.wait_for_mails(email_ids)
        wait_for(lambda: len(world.read(OUTCOMES.name)) == 3 * ORDERS, "all outcomes")
        assert Counter(email_ids.values()) == world.mails(email_ids)
        # Two workers, and the two services.
        wait_for(lambda: world.rejoinder("status").stdout.count("running") == 4, "all share the work")


def test_newer_protocol_is_told_what_helps(
    older: LocalKafka, tmp_path: Path, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Librdkafka goes on trying, and says nothing."""
    monkeypatch.setattr(heartbeats, "FIRST_S", 2.0)
    with capture_logs() as lines, Worker(settings_for(older.bootstrap_servers, unique), tmp_path):
        wait_for(lambda: any("REJOINDER_GROUP_PROTOCOL=classic" in str(line["event"]) for line in lines), "the hint")
