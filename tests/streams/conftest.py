"""Web servers for the tests here."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

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
