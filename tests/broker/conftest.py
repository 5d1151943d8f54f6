"""A real Kafka for the tests below here: started once, each test with names of its own."""

import re
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from streams.local.kafka import LocalKafka
from streams.local.secured import Secured
from tests.broker.certificates import Authority
from tests.broker.secured import SecuredKafka

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all tests below this directory, and only those: the hook is given every test of the session."""
    for item in items:
        if item.path.is_relative_to(_HERE):
            item.add_marker(pytest.mark.broker)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalKafka]:
    """Return a broker that all tests share; a test that kills brokers starts its own."""
    with LocalKafka(tmp_path_factory.mktemp("kafka")) as running:
        yield running


@pytest.fixture(scope="session")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    """Return a broker with TLS, logins and an authorizer that all tests share."""
    directory = tmp_path_factory.mktemp("secured")
    authority = Authority(directory / "certificates")
    certificates = Secured(authority.ca, authority.sign("broker", server=True))
    running = LocalKafka(directory / "kafka", secured=certificates)
    running.start(timeout_s=240.0)
    try:
        # Silent: it outlives the broker for a moment.
        admin = AdminClient({"bootstrap.servers": running.bootstrap_servers, "log_level": 0})
        yield SecuredKafka(running, authority, admin)
    finally:
        running.stop()


@pytest.fixture
def unique(request: pytest.FixtureRequest) -> str:
    """Return a name for this test's application, groups and topics, which nobody else has on the shared broker."""
    readable = re.sub(r"[^a-zA-Z0-9]+", "-", request.node.name)[:60].strip("-")
    return f"{readable}-{uuid.uuid4().hex[:8]}"
