"""Web servers for the tests here, and logging as it was before one of them."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from streams import settings as settings_module
from streams.local.process import free_ports
from tests.streams.server import CREATE_APP, PARTITIONS, Server, Start


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Return a function that starts a role's web server."""
    started = []

    async def start_one(role: str = "worker", **settings: Any) -> Server:
        chosen = {"state_dir": tmp_path, "web_port": free_ports(1)[0]} | settings
        app = CREATE_APP[role](settings_module.load(**chosen))
        app.partitions = PARTITIONS
        await app.web.start()
        started.append(Server(app))
        return started[-1]

    yield start_one
    for server in started:
        await server.stop()


@pytest.fixture
def restored_logging() -> Iterator[None]:
    """Take back what a test configures of logging."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
