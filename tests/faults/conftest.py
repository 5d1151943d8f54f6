"""
Real parts that break in chosen ways, on a real Kafka.

They are the tier ``system``; those that take longer than some ten seconds each are of the tier ``chaos``.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.local.kafka import LocalKafka
from tests.chaos.proxy import Proxy, proxied

_HERE = Path(__file__).parent
_TEST_S_MAX = 400


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all tests below this directory, and only those: the hook is given every test of the session."""
    for item in items:
        if item.path.is_relative_to(_HERE):
            item.add_marker(pytest.mark.broker)
            if item.get_closest_marker("chaos") is None:
                item.add_marker(pytest.mark.system)
            if item.get_closest_marker("timeout") is None:
                # A few starts of whole processes, each of which takes long on a machine that is busy with others.
                item.add_marker(pytest.mark.timeout(_TEST_S_MAX))


@pytest.fixture(scope="session")
def behind_proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LocalKafka, Proxy]]:
    """Return a broker that the tests share, and the proxy before it."""
    with proxied(tmp_path_factory.mktemp("faults") / "kafka") as both:
        yield both


@pytest.fixture
def kafka(behind_proxy: tuple[LocalKafka, Proxy]) -> LocalKafka:
    """Return the broker; its own address goes past the proxy."""
    return behind_proxy[0]


@pytest.fixture
def proxy(behind_proxy: tuple[LocalKafka, Proxy]) -> Iterator[Proxy]:
    """Return the proxy, which passes everything again after the test."""
    yield behind_proxy[1]
    behind_proxy[1].heal()
    behind_proxy[1].forget()


@pytest.fixture
def unique(request: pytest.FixtureRequest) -> str:
    """Return a name for this test's application, groups and topics, which nobody else has on the shared broker."""
    readable = re.sub(r"[^a-zA-Z0-9]+", "-", request.node.name)[:60].strip("-")
    return f"{readable}-{uuid.uuid4().hex[:8]}"
