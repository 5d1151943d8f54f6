"""The running web server, by real sockets: what it serves to whom, and what it lets nobody do."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, Final, NamedTuple, cast
from urllib.parse import quote

import aiohttp
import pytest
from structlog.testing import capture_logs

from streams import web_server
from streams.access import ACT
from streams.exposition import Exposition
from streams.metrics import DECLARED
from streams.processing.task import HeldAt, Phase, Task
from streams.settings import Settings, Switch
from streams.transport.partitioner import partition_of
from streams.web_server import CONNECTIONS_OF_ONE_MAX, HEADERS, LINE_BYTES_MAX, REQUEST_BYTES_MAX, Web
from tests.streams.server import CREATE_APP, PARTITIONS, TOKEN, Answer, Server, Start, parse, read

HOSTILE: Final = (
    "<script>alert(1)</script>", "../../etc/passwd", "..", ".", "a/b", "%2F", "%00", "\0", "\r\nSet-Cookie: a=b",
    "'\"`", "\u202e", "😀", "a" * 2_000, "{order_id}", "%s%s%n", "\x1b[31m",
)  # fmt: skip


# What is served.


@pytest.mark.parametrize("role", CREATE_APP)
async def test_all_pages_are_ours(role: str, start: Start) -> None:
    """None of Faust's, which show every row of every table, and no method but GET and HEAD, except to skip."""
    server = await start(role)
    routes = {(route.method, route.resource.canonical) for route in server.app.web.web_app.router.routes()}
    skip = "/skip/{topic}/{partition}/{offset}"
    pages = ["/health/live", "/health/ready", "/metrics", "/status", skip]
    pages += ["/orders/{order_id}", "/waiting/{partition}", "/failures"] if role == "worker" else []
    assert {(method, page) for page in pages for method in ("GET", "HEAD")} | {("POST", skip)} == routes
    for path in ("/", "/table/", "/table/processes/", "/router/", "/graph/", "/stats/", "/performance/"):
        assert 404 == (await server.get(path)).status


async def test_health_and_metrics_need_no_token(start: Start) -> None:
    """They tell nothing of anybody, and supervisors have no secrets."""
    server = await start(web_orders=Switch.ON, web_token=TOKEN)
    assert {"live": False} == (await server.get("/health/live")).json
    assert {"ready": False, "partitions": {}} == (await server.get("/health/ready")).json
    answer = await server.get("/metrics")
    assert (200, "text/plain") == (answer.status, answer.headers["Content-Type"])
    assert b"rejoinder_commit_seconds" in answer.body


async def test_labels_of_metrics_are_few_known_words(start: Start) -> None:
    """So that no order id or address can become one."""
    server = await start()
    text = (await server.get("/metrics")).body.decode()
    ours = [line for line in text.splitlines() if line.startswith("rejoinder_")]
    names = {name for line in ours for name in re.findall(r'(\w+)="', line)}
    assert ours
    declared = {label for metric in DECLARED for label in metric.labels}
    assert names <= declared | {"le"}
    assert not {label for label in declared if "order" in label or "mail" in label or "id" in label}


SKIP_ONE: Final = "/skip/email.commands/0/7"


@pytest.mark.parametrize(
    ("method", "headers", "settings", "status"),
    [
        ("GET", {ACT: "yes"}, {}, 405),
        ("PUT", {ACT: "yes"}, {}, 405),
        # What a page in somebody's browser can send.
        ("POST", {}, {}, 403),
        ("POST", {ACT: "yes"}, {"web_orders": Switch.OFF}, 403),
        ("POST", {ACT: "yes", "Host": "evil.example"}, {}, 403),
        ("POST", {ACT: "yes"}, {"web_token": TOKEN}, 401),
        ("POST", {ACT: "yes", "Authorization": f"Bearer {TOKEN}"}, {"web_token": TOKEN}, 409),
        ("POST", {ACT: "yes"}, {}, 409),
        ("POST", {ACT: "yes", "Content-Length": "1"}, {}, 413),
    ],
)
async def test_skip_is_done_for_those_who_may(
    method: str, headers: dict[str, str], settings: dict[str, Any], status: int, start: Start
) -> None:
    """And for no browser; 409: nothing is held there."""
    server = await start("email", **{"web_orders": Switch.ON} | settings)
    answer = await server.get(SKIP_ONE, method, **headers)
    assert status == answer.status
    _check_harmless(answer)


@pytest.mark.parametrize("at", ["x/0/7", "email.commands/-1/7", "email.commands/0/x", f"email.commands/0/{'9' * 99}"])
async def test_skip_takes_coordinates_only(at: str, start: Start) -> None:
    """Status 400 or 409, whatever is written there."""
    server = await start("email", web_orders=Switch.ON)
    assert (await server.get(f"/skip/{at}", "POST", **{ACT: "yes"})).status in (400, 409)


async def test_skip_tells_the_session(start: Start) -> None:
    """Of the record by its topic's declared name; status 202, for the session does it in its own time."""
    server = await start("email", web_orders=Switch.ON, topic_prefix="shop.")
    asked: list[HeldAt] = []

    def skip(at: HeldAt) -> bool:
        asked.append(at)
        return True

    session: Any = SimpleNamespace(skip=skip, tasks={})
    server.app.session = session
    answer = await server.get("/skip/shop.email.commands/0/7", "POST", **{ACT: "yes"})
    at = HeldAt("email.commands", 0, 7)
    assert (202, {"skips": at._asdict()}, [at]) == (answer.status, answer.json, asked)


async def test_status_says_what_is_held(start: Start) -> None:
    """Where our code failed, as `rejoinder skip` takes it."""
    server = await start()
    task = Task(3, ["email.events"])
    task.phase, task.held_at = Phase.HELD, HeldAt("email.events", 3, 17)
    session: Any = SimpleNamespace(tasks={3: task})
    server.app.session = session
    found = (await server.get("/status")).json
    assert ({"3": "held"}, [{"topic": "email.events", "partition": 3, "offset": 17}]) == (
        found["partitions"],
        found["held"],
    )


async def test_waiting_is_for_those_who_may_see_orders(start: Start) -> None:
    """As one order is; its parameters are checked."""
    assert 403 == (await (await start()).get("/waiting/0")).status
    server = await start(web_orders=Switch.ON, web_token=TOKEN)
    assert 401 == (await server.get("/waiting/0")).status
    allowed = {"Authorization": f"Bearer {TOKEN}"}
    assert 503 == (await server.get("/waiting/0", **allowed)).status
    for wrong in ("/waiting/x", "/waiting/0?step=sent", "/waiting/0?older_than_ms=-1", "/waiting/0?older_than_ms=1e9"):
        answer = await server.get(wrong, **allowed)
        assert 400 == answer.status
        _check_harmless(answer)
    # Nothing of what was asked for comes back: who sees the answer in a browser may not be who wrote the link.
    assert "script" not in str((await server.get("/waiting/%3Cscript%3E", **allowed)).json)


async def test_failures_are_for_those_who_may_see_orders(start: Start) -> None:
    """They name orders."""
    assert 403 == (await (await start()).get("/failures")).status
    server = await start(web_orders=Switch.ON, web_token=TOKEN)
    assert 401 == (await server.get("/failures")).status
    answer = await server.get("/failures", Authorization=f"Bearer {TOKEN}")
    assert (200, 0, []) == (answer.status, answer.json["count"], answer.json["last"])


async def test_status_tells_of_no_order(start: Start) -> None:
    """Numbers and names of this process, so it needs no token."""
    answer = await (await start(web_orders=Switch.ON, web_token=TOKEN)).get("/status")
    assert 200 == answer.status
    assert ("worker", {}, [], []) == tuple(answer.json[name] for name in ("role", "partitions", "held", "waiting"))


async def test_orders_are_not_served_unless_somebody_says_so(start: Start) -> None:
    """Status 403, what would change it, and nothing of the order; the worker isn't even asked."""
    server = await start()
    answer = await server.get("/orders/order-7", Authorization=f"Bearer {TOKEN}")
    assert 403 == answer.status
    assert "REJOINDER_WEB_ORDERS=on" in answer.json["error"]
    assert b"order-7" not in answer.raw


@pytest.mark.parametrize(
    "given", [None, "", "Bearer", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}", TOKEN, "Bearer ä"]
)
async def test_wrong_token_gets_no_order(given: str | None, start: Start) -> None:
    """Status 401, and how to ask."""
    server = await start(web_orders=Switch.ON, web_token=TOKEN)
    answer = await server.get("/orders/order-7", **({} if given is None else {"Authorization": given}))
    assert (401, "Bearer") == (answer.status, answer.headers["Www-Authenticate"])
    assert TOKEN.encode() not in answer.raw


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
async def test_right_token_gets_the_order(scheme: str, start: Start) -> None:
    """The answer of the worker that holds it."""
    server = await start(web_orders=Switch.ON, web_token=TOKEN)
    _hold(server)
    answer = await server.get("/orders/order-7", Authorization=f"{scheme} {TOKEN}")
    assert (404, "order-7", False) == (answer.status, answer.json["order_id"], answer.json["known"])


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:6066", 404), ("localhost", 404), ("[::1]:6066", 404), ("10.1.2.3", 404), ("worker-1:6066", 404),
        ("evil.example", 403), ("localhost.evil.example:80", 403), ("", 403), ("127.0.0.1.evil.example", 403),
    ],
)  # fmt: skip
async def test_without_a_token_foreign_names_get_no_order(host: str, status: int, start: Start) -> None:
    """A web page can let a name of its own point to this machine, and have the browser ask."""
    server = await start(web_orders=Switch.ON, web_host="worker-1")
    _hold(server)
    assert status == (await server.get("/orders/order-7", Host=host)).status


def _hold(server: Server) -> None:
    """Let the server's worker hold all partitions, with nothing in them."""

    class Nothing:
        def get_many(self, keys: list[bytes]) -> list[None]:
            return [None] * len(keys)

    (table,) = server.app.tables.values()
    cast("Any", table).data.partitions = {number: Nothing() for number in range(PARTITIONS)}


# Whom it asks.


class Peer(NamedTuple):
    """Another server, and the headers of what it was asked."""

    url: str
    asked: list[dict[str, str]]


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    """Return a server that keeps what it is asked, and sends everybody elsewhere."""
    asked: list[dict[str, str]] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        lines = head.splitlines()[1:-1]
        asked.append({name.title(): value for name, _, value in (line.partition(": ") for line in lines)})
        writer.write(b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield Peer(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked)


def _owned_by(server: Server, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server.app.assignor, "owners", lambda: dict.fromkeys(range(PARTITIONS), url))


async def test_question_that_is_passed_on_carries_the_token(
    start: Start, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the owner, and not to where that one would send it."""
    server = await start(web_orders=Switch.ON, web_token=TOKEN)
    _owned_by(server, peer.url, monkeypatch)
    answer = await server.get("/orders/order-7", Authorization=f"Bearer {TOKEN}")
    assert 503 == answer.status
    assert [f"Bearer {TOKEN}"] == [headers.get("Authorization") for headers in peer.asked]
    await server.app.http_client.close()


@pytest.mark.parametrize(
    "url",
    [
        "http://worker.evil.example:80", "http://10.1.2.3:80", "http://169.254.169.254", "file:///etc/passwd",
        "http://127.0.0.1:1/admin?", "http://user@127.0.0.1:1", "http://127.0.0.1:1#", "rdkafka", "http://[::1", "",
        "http://0.0.0.0:1", "http://127.0.0.1:99999", "https://127.0.0.1:1", "gopher://127.0.0.1:1",
    ],
)  # fmt: skip
async def test_no_question_goes_where_no_worker_is(url: str, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever may join the group can call himself anything: he gets no token, and sends us nowhere."""
    server = await start(web_orders=Switch.ON, web_token=TOKEN)
    _owned_by(server, url, monkeypatch)
    answer = await server.get("/orders/order-7", Authorization=f"Bearer {TOKEN}")
    assert 503 == answer.status
    assert re.search("isn't sent to|calls itself", answer.json["error"])


# What nobody can do.


@pytest.mark.parametrize("order_id", HOSTILE)
async def test_hostile_order_id_is_answered_as_data(order_id: str, start: Start) -> None:
    """JSON that no browser takes for a page, with no header of the asker's, or no answer at all."""
    server = await start(web_orders=Switch.ON)
    _hold(server)
    answer = await server.get(f"/orders/{quote(order_id, safe='').replace('.', '%2E')}")
    assert answer.status in {400, 404}
    _check_harmless(answer)
    if answer.status == 404 and "order_id" in answer.json:
        assert order_id == answer.json["order_id"]


@pytest.mark.parametrize(
    "path",
    ["/<script>alert(1)</script>", "/orders/../../etc/passwd", "//evil.example/x", "/%2e%2e/%2e%2e/etc/passwd",
     "/orders/%FF%FE", "/orders/a?b=<script>", "/orders/", "http://evil.example/orders/x", "*", "/orders/%"],
)  # fmt: skip
@pytest.mark.parametrize("accept", ["text/html", "*/*"])
async def test_hostile_path_is_answered_without_it(path: str, accept: str, start: Start) -> None:
    """No page, no redirect, nothing of what was asked for."""
    server = await start()
    answer = await server.get(path, Accept=accept)
    assert answer.status in {400, 403, 404}
    _check_harmless(answer)
    assert b"script" not in answer.raw
    assert b"evil" not in answer.raw


@pytest.mark.parametrize(
    "request_",
    [b"GET\r\n\r\n", b"<script>\r\n\r\n", b"\0\xff\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n",
     b"GET /<b> HTTP/1.1\r\n<b>\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
     b"\x16\x03\x01\x02\x00\x01\x00" * 20 + b"\r\n\r\n",
     b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc"],
)  # fmt: skip
async def test_what_is_no_request_is_refused_without_repeating_it(request_: bytes, start: Start) -> None:
    """Status 400, as JSON, and the connection ends."""
    server = await start()
    answer = parse(await server.send(request_))
    assert 400 == answer.status
    _check_harmless(answer)
    assert {"error": "Bad Request"} == answer.json


def _check_harmless(answer: Answer) -> None:
    assert "application/json; charset=utf-8" == answer.headers["Content-Type"]
    for name, value in HEADERS.items():
        assert value == answer.headers[name.title()]
    assert not {"Set-Cookie", "Location", "Access-Control-Allow-Origin"} & set(answer.headers)
    json.loads(answer.body)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "BREW"])
@pytest.mark.parametrize("path", ["/metrics", "/orders/order-7", "/nowhere"])
async def test_other_methods_are_refused(method: str, path: str, start: Start) -> None:
    """Status 405 for whatever page, there or not."""
    server = await start(web_orders=Switch.ON)
    answer = await server.get(path, method, Origin="http://evil.example")
    # What isn't HTTP's is no request.
    assert answer.status in ({400, 405} if method in {"CONNECT", "BREW"} else {405})
    _check_harmless(answer)


async def test_head_has_no_body(start: Start) -> None:
    """What a GET would say, without it."""
    answer = await (await start()).get("/metrics", "HEAD")
    assert (200, b"") == (answer.status, answer.body)


async def test_body_is_refused_unread(start: Start) -> None:
    """However long it says that it is."""
    server = await start()
    for head in (b"Content-Length: 1000000000", b"Transfer-Encoding: chunked"):
        answer = parse(await server.send(b"GET /metrics HTTP/1.1\r\nHost: a\r\n" + head + b"\r\n\r\n"))
        assert 413 == answer.status


@pytest.mark.parametrize(
    "parts",
    [
        [b"GET /" + b"a" * LINE_BYTES_MAX + b" HTTP/1.1\r\n\r\n"],
        [b"GET /metrics HTTP/1.1\r\nX: " + b"a" * LINE_BYTES_MAX + b"\r\n\r\n"],
        [b"GET /metrics HTTP/1.1\r\n" + b"X: a\r\n" * 1_000 + b"\r\n"],
        [b"GET /metrics HTTP/1.1\r\n", *[b"X: " + b"a" * 8_000 + b"\r\n"] * 9, b"\r\n"],
        [b"a" * (REQUEST_BYTES_MAX + 1)],
        [b"GET /metrics HTTP/1.1\r\nContent-Length: 99999\r\n\r\n", b"a" * 99_999],
    ],
)
async def test_large_request_is_refused(parts: list[bytes], start: Start) -> None:
    """Line, header, number of headers, all together, and a body that is sent without waiting."""
    raw = await (await start()).send(*parts)
    assert not raw or parse(raw).status in {400, 413}


async def test_connection_is_one_request(start: Start) -> None:
    """So its time is bounded; a second one that was sent along isn't answered."""
    server = await start()
    request = b"GET /health/live HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n"
    raw = await server.send(request * 3)
    assert 1 == raw.count(b"HTTP/1.1 ")
    assert "close" == parse(raw).headers["Connection"]


@pytest.mark.parametrize("sent", [b"", b"GET /metr", b"GET /metrics HTTP/1.1\r\nX: "])
async def test_slow_client_is_cut_off(sent: bytes, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that says nothing, stops in the middle, or sends a byte now and then."""
    monkeypatch.setattr(web_server, "LIFE_S", 0.5)
    server = await start()
    reader, writer = await server.connect()
    writer.write(sent)

    async def drip() -> None:
        while True:
            writer.write(b"a")
            await writer.drain()
            await asyncio.sleep(0.05)

    dripping = asyncio.create_task(drip() if sent else asyncio.sleep(0))
    assert b"" == await read(reader)
    dripping.cancel()
    await asyncio.gather(dripping, return_exceptions=True)
    assert 200 == (await server.get("/metrics")).status


async def test_client_that_does_not_read_is_cut_off(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its place is free again."""
    monkeypatch.setattr(web_server, "LIFE_S", 0.5)
    monkeypatch.setattr("streams.exposition.Exposition.text", lambda _: b"a" * 64_000_000)
    server = await start()
    reader, writer = await server.connect()
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
    await writer.drain()
    web = cast("Web", server.app.web)
    async with asyncio.timeout(20):
        while not web.connections:  # noqa: ASYNC110 - the server knows of no waiter.
            await asyncio.sleep(0.01)
        while web.connections:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert len(await read(reader)) < 64_000_000


async def test_page_that_hangs_is_answered_in_time(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Status 503, try again."""
    monkeypatch.setattr(web_server, "ANSWER_S", 0.1)
    server = await start(web_orders=Switch.ON)

    def owners() -> dict[int, str]:
        time.sleep(0.5)
        return {}

    monkeypatch.setattr(server.app.assignor, "owners", owners)
    assert 503 == (await server.get("/orders/order-7")).status


async def test_page_that_fails_tells_nothing(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log has the reason, without the path that was asked for."""

    def fail(_: Exposition) -> bytes:
        raise RuntimeError("inner secret")

    monkeypatch.setattr("streams.exposition.Exposition.text", fail)
    server = await start()
    with capture_logs() as lines:
        answer = await server.get("/metrics?canary", Accept="text/html")
    assert 500 == answer.status
    _check_harmless(answer)
    assert b"secret" not in answer.raw
    (line,) = lines
    assert ("a page failed", True) == (line["event"], line["exc_info"])
    assert "canary" not in str(line)


async def test_one_client_cannot_take_all_places(start: Start) -> None:
    """What is beyond its own is closed at once; when it lets go, it is answered again."""
    server = await start()
    held = [await server.connect() for _ in range(CONNECTIONS_OF_ONE_MAX)]
    web = cast("Web", server.app.web)
    async with asyncio.timeout(10):
        while web.connections.total() < CONNECTIONS_OF_ONE_MAX:  # noqa: ASYNC110 - the server knows of no waiter.
            await asyncio.sleep(0.01)
    assert b"" == await server.send(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
    for _, writer in held:
        writer.close()
    async with asyncio.timeout(10):
        while web.connections:  # noqa: ASYNC110 - see above.
            await asyncio.sleep(0.01)
    assert 200 == (await server.get("/metrics")).status


async def test_places_are_bounded_in_all(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the addresses are."""
    monkeypatch.setattr(web_server, "CONNECTIONS_MAX", 2)
    server = await start()
    cast("Web", server.app.web).connections.update({"10.0.0.1": 1, "10.0.0.2": 1})
    assert b"" == await server.send(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")


def test_partition_of_the_order_is_among_those_held() -> None:
    """Else the tests above would ask another worker."""
    assert partition_of(b"order-7", PARTITIONS) < PARTITIONS


def test_server_listens_on_loopback_unless_told_otherwise() -> None:
    """Nobody else reaches the pages of a worker that was just started."""
    assert "127.0.0.1" == Settings.model_fields["web_bind"].default
    assert Switch.OFF is Settings.model_fields["web_orders"].default


async def test_aiohttp_s_own_client_is_answered(start: Start) -> None:
    """Time and again, as a scraper asks."""
    server = await start()
    async with aiohttp.ClientSession() as client:
        for _ in range(3):
            async with client.get(f"http://127.0.0.1:{server.port}/metrics") as answer:
                assert 200 == answer.status
