"""The page's routes, by real sockets: who gets what, and that nobody can hold a worker up by looking."""

from __future__ import annotations

import asyncio
import json
import re
import time
from typing import Any, Final

import pytest

from streams import web_server
from streams.page import collector, routes
from streams.page.routes import EVENTS, POLICY, static_files
from streams.settings import Switch
from tests.streams.server import TOKEN, Server, Start, parse, read

GET: Final = f"GET {EVENTS} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
HOSTILE: Final = ("..", "..%2F__init__.py", "%2e%2e%2froutes.py", "index.html%00", "routes.py", "a/b", "")
MARKUP: Final = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function"


class Camera:
    """Takes pictures of nothing; *text* makes them large."""

    opened = 0
    text = ""

    def __init__(self, *_: Any) -> None:
        type(self).opened += 1
        self._taken = 0

    def take(self) -> dict[str, Any]:
        """Return how many were taken."""
        self._taken += 1
        return {"picture": self._taken, "text": self.text}

    def close(self) -> None:
        """Nothing is held."""


@pytest.fixture
def camera(monkeypatch: pytest.MonkeyPatch) -> type[Camera]:
    """Let all pictures be this one's, and quickly."""
    kind = type("Own", (Camera,), {})
    monkeypatch.setattr(routes, "Pictures", kind)
    monkeypatch.setattr(routes, "Collector", lambda open_: collector.Collector(open_, every_s=0.02, linger_s=0.1))
    return kind


async def look(server: Server) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return a connection that looks, after its first picture."""
    reader, writer = await server.connect()
    writer.write(GET)
    async with asyncio.timeout(10):
        await reader.readuntil(b'{"picture":')
    return reader, writer


async def test_page_is_off_unless_somebody_says_so(start: Start) -> None:
    """Nothing of it is there, and nothing collects."""
    server = await start()
    for path in ("/", "/page/main.js", EVENTS):
        assert 404 == (await server.get(path)).status


@pytest.mark.parametrize("role", ["orders", "email"])
async def test_page_is_the_workers(role: str, start: Start) -> None:
    """The setting may be the same everywhere; the services have none."""
    assert 404 == (await (await start(role, web_page=Switch.ON)).get("/")).status


async def test_files_need_no_token_and_tell_nothing(start: Start) -> None:
    """Each is served with its type and the policy; what isn't one of them isn't there."""
    server = await start(web_page=Switch.ON, web_token=TOKEN)
    files = static_files()
    assert {"index.html", "page.css", "main.js", "icon.svg"} <= files.keys()
    for path in ("/", *(f"/page/{name}" for name in files)):
        answer = await server.get(path)
        content, content_type = files[path.removeprefix("/page/").removeprefix("/") or "index.html"]
        assert (200, content, content_type) == (answer.status, answer.body, answer.headers["Content-Type"])
        assert (POLICY, "nosniff") == (
            answer.headers["Content-Security-Policy"],
            answer.headers["X-Content-Type-Options"],
        )
    for name in HOSTILE:
        answer = await server.get(f"/page/{name}")
        assert 404 == answer.status
        assert {"error"} == answer.json.keys()


def test_policy_lets_nothing_in() -> None:
    """All comes from the worker itself; nothing is inline, framed, sent elsewhere or made of text."""
    rules = dict(rule.split(" ", 1) for rule in POLICY.split("; "))
    assert "'none'" == rules["default-src"]
    assert {"'none'", "'self'", "'script'"} == set(rules.values())
    assert {"script-src", "style-src", "img-src", "connect-src"} == {k for k, v in rules.items() if v == "'self'"}


def test_files_load_nothing_from_elsewhere() -> None:
    """Nor do they have what the policy refuses, or turn text into markup."""
    for name, (content, _) in static_files().items():
        text = content.decode()
        assert [] == re.findall(r"https?://(?!www\.w3\.org/2000/svg)\S+", text), name
        assert [] == re.findall(MARKUP, text), name
        assert [] == re.findall(r"localStorage|sessionStorage|document\.cookie", text), name
        if name.endswith(".html"):
            assert [] == re.findall(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\bsrc=)", text), name


@pytest.mark.parametrize(
    ("settings", "headers", "status"),
    [
        ({"web_token": TOKEN}, {}, 401),
        ({"web_token": TOKEN}, {"Authorization": "Bearer another-0123456789"}, 401),
        ({"web_token": TOKEN}, {"Authorization": f"Bearer {TOKEN}"}, 200),
        ({}, {}, 200),
        ({}, {"Host": "evil.example"}, 403),
    ],
)
async def test_who_may_look(
    settings: dict[str, Any], headers: dict[str, str], status: int, start: Start, camera: type[Camera]
) -> None:
    """Whoever knows the token; without one, this machine's own browser. A HEAD says what a GET would."""
    server = await start(web_page=Switch.ON, **settings)
    answer = await server.get(EVENTS, "HEAD", **headers)
    assert (status, b"") == (answer.status, answer.body)
    assert ("Bearer" if status == 401 else None) == answer.headers.get("Www-Authenticate")
    assert 0 == camera.opened


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
async def test_page_only_shows(method: str, start: Start) -> None:
    """There is nothing to be done on it."""
    server = await start(web_page=Switch.ON)
    for path in ("/", "/page/main.js", EVENTS):
        assert 405 == (await server.get(path, method)).status


async def test_one_collects_for_all_who_look(start: Start, camera: type[Camera]) -> None:
    """And only while somebody does."""
    server = await start(web_page=Switch.ON)
    lookers = [await look(server) for _ in range(3)]
    for reader, _ in lookers:
        async with asyncio.timeout(10):
            event = (await reader.readuntil(b"\n\n")) + await reader.readuntil(b"\n\n")
        assert b"event: picture\ndata: {" in event
    assert 1 == camera.opened
    for _, writer in lookers:
        writer.close()
    await asyncio.sleep(0.5)
    await look(server)
    assert 2 == camera.opened


async def test_lookers_beyond_the_limit_are_told_to_try_again(
    start: Start, camera: type[Camera], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other pages are answered all the while; when one leaves there is a place."""
    monkeypatch.setattr(web_server, "STREAMS_MAX", 2)
    server = await start(web_page=Switch.ON)
    (_, first), _ = await look(server), await look(server)
    answer = parse(await server.send(GET))
    assert (503, "application/json") == (answer.status, answer.headers["Content-Type"].partition(";")[0])
    assert "try again" in answer.json["error"]
    assert 200 == (await server.get("/metrics")).status
    first.close()
    async with asyncio.timeout(10):
        while parse(await _begin(server)).status != 200:  # noqa: ASYNC110 - the server knows of no waiter.
            await asyncio.sleep(0.05)
    assert 1 == camera.opened


async def _begin(server: Server) -> bytes:
    """Return the beginning of an answer to whoever wants to look."""
    reader, writer = await server.connect()
    writer.write(GET)
    found = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    return found


async def test_stream_ends_in_time(start: Start, camera: type[Camera], monkeypatch: pytest.MonkeyPatch) -> None:
    """As answers do, by its last chunk; whoever still looks asks again."""
    monkeypatch.setattr(web_server, "STREAM_S", 0.3)
    raw = await (await start(web_page=Switch.ON)).send(GET)
    assert raw.endswith(b"0\r\n\r\n")
    assert raw.count(b"event: picture") >= 2
    assert 1 == camera.opened


async def test_looker_that_does_not_read_is_cut_off(
    start: Start, camera: type[Camera], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its place is free again, and the others have missed nothing."""
    monkeypatch.setattr(web_server, "STREAM_WRITE_S", 0.3)
    camera.text = "a" * 4_000_000
    server = await start(web_page=Switch.ON)
    web: Any = server.app.web
    _, writer = await server.connect()
    writer.write(GET)
    async with asyncio.timeout(20):
        while not web.connections:  # noqa: ASYNC110 - the server knows of no waiter.
            await asyncio.sleep(0.01)
        while web.connections:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    camera.text = ""


async def test_silence_is_broken(start: Start, camera: type[Camera], monkeypatch: pytest.MonkeyPatch) -> None:
    """While no picture comes, whoever looks hears that the worker is there."""
    monkeypatch.setattr(collector, "BEAT_S", 0.05)

    def take(_: Camera) -> dict[str, Any]:
        time.sleep(1.0)
        return {}

    monkeypatch.setattr(camera, "take", take)
    server = await start(web_page=Switch.ON)
    reader, writer = await server.connect()
    writer.write(GET)
    async with asyncio.timeout(10):
        found = await reader.readuntil(collector.BEAT)
    assert b"text/event-stream" in found
    assert b"event: picture" not in found


async def test_worker_that_stops_waits_for_nobody_who_looks(start: Start, camera: type[Camera]) -> None:
    """The stream ends as one does that has lasted."""
    server = await start(web_page=Switch.ON)
    reader, _ = await look(server)
    async with asyncio.timeout(5):
        await server.app.web.stop()
        assert (await read(reader)).endswith(b"0\r\n\r\n")
    assert 1 == camera.opened


async def test_events_are_json(start: Start, camera: type[Camera]) -> None:
    """One line each, whatever is in them."""
    camera.text = "\n\n\u2028event: other"
    server = await start(web_page=Switch.ON)
    reader, _ = await look(server)
    async with asyncio.timeout(10):
        await reader.readuntil(b"\n\n")
        event = (await reader.readuntil(b"\n\n")).decode()
    (data,) = [line.removeprefix("data: ") for line in event.splitlines() if line.startswith("data: ")]
    assert "\n\n\u2028event: other" == json.loads(data)["text"]
