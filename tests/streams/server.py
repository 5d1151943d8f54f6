"""A role's web server that runs without the rest of the role, and one request to it as bytes."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import streams.app
import streams.email
import streams.orders
from streams.frame import App

TOKEN: Final = "canary-0123456789"  # noqa: S105 - nobody's.
PARTITIONS: Final = 4
CREATE_APP: Final = {
    "worker": streams.app.create_app,
    "orders": streams.orders.create_app,
    "email": streams.email.create_app,
}


class Answer(NamedTuple):
    """What came back; *raw* is all of it."""

    status: int
    headers: dict[str, str]
    body: bytes
    raw: bytes

    @property
    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)


class Server:
    """A role's web server that runs without the rest of the role."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.port = app.settings.web_port
        self._writers: list[asyncio.StreamWriter] = []

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Return a connection, which ends with the test."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self._writers.append(writer)
        return reader, writer

    async def stop(self) -> None:
        """End it, and all connections to it."""
        for writer in self._writers:
            writer.transport.abort()
        await self.app.web.stop()

    async def send(self, *parts: bytes) -> bytes:
        """Send bytes as they are; return all that comes until the server closes."""
        reader, writer = await self.connect()
        try:
            for part in parts:
                writer.write(part)
                await writer.drain()
            return await read(reader)
        except ConnectionError:
            return b""

    async def get(self, path: str, method: str = "GET", **headers: str) -> Answer:
        """Ask for *path*, quoted by the caller."""
        host = headers.pop("Host", f"127.0.0.1:{self.port}")
        lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *(f"{k}: {v}" for k, v in headers.items())]
        return parse(await self.send("\r\n".join([*lines, "", ""]).encode()))


async def read(reader: asyncio.StreamReader) -> bytes:
    """Return all that comes until the server closes, or breaks off."""
    found = bytearray()
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(30):
            while some := await reader.read(1_000_000):
                found += some
    return bytes(found)


def parse(raw: bytes) -> Answer:
    """Return *raw* as an answer."""
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.title(): value for name, _, value in (line.partition(": ") for line in lines)}
    return Answer(int(first.split()[1]), headers, body, raw)


Start = Callable[..., Any]
