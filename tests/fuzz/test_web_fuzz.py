"""The running web server under any bytes: an answer below 500 or none, small, and the next request is answered."""

from __future__ import annotations

import asyncio
import json
import logging
import select
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import quote, quote_from_bytes

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from streams import settings as settings_module
from streams.app import create_app
from streams.frame import stores_of
from streams.local.process import free_ports
from streams.settings import Switch
from streams.store.options import StoreOptions
from streams.store.partition import Partition
from streams.transport.partitioner import partition_of
from tests.streams.manager import Manager

EXAMPLES: Final = 100
EXAMPLES_SOAK: Final = 10_000
PARTITIONS: Final = 4
ANSWER_BYTES_MAX: Final = 65_536
"""Of all answers but the metrics: nothing that was asked for is repeated at length."""
METRICS_BYTES_MAX: Final = 1_048_576
READ_S: Final = 20.0
PATIENCE_S: Final = 0.3
"""In which a whole request is answered, mostly; what isn't one would wait until the server hangs up."""


class Running:
    """A worker's web server in a thread of its own, over stores that are there and empty."""

    def __init__(self, directory: Path) -> None:
        self.port = free_ports(1)[0]
        self.app = create_app(
            settings_module.load(
                state_dir=directory, web_port=self.port, web_orders=Switch.ON, web_page=Switch.ON, log_level="ERROR"
            )
        )
        self.app.partitions = PARTITIONS
        table = next(iter(self.app.tables.values()))
        self.stores = {n: Partition.open(directory / str(n), StoreOptions(16)) for n in range(PARTITIONS)}
        stores_of(table).update(self.stores)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def start(self) -> None:
        """Listen."""
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self.app.web.start(), self._loop).result(20)

    def stop(self) -> None:
        """Let go of everything."""
        asyncio.run_coroutine_threadsafe(self.app.web.stop(), self._loop).result(20)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        for store in self.stores.values():
            store.close()

    def ask(self, data: bytes, patience_s: float = READ_S) -> bytes:
        """Send *data*; return all that comes. After *patience_s* without an answer, say that no more will be sent."""
        found = bytearray()
        with socket.create_connection(("127.0.0.1", self.port), READ_S) as connection:
            try:
                connection.sendall(data)
                # Not at once: aiohttp takes the end of what is sent for a client that is gone.
                if not select.select([connection], [], [], patience_s)[0]:
                    connection.shutdown(socket.SHUT_WR)
                while some := connection.recv(65_536):
                    found += some
            except ConnectionError:
                pass  # It may hang up on what is no request.
        return bytes(found)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Return the server."""
    running = Running(tmp_path_factory.mktemp("web"))
    running.start()
    yield running
    running.stop()


def request(method: bytes, target: bytes, headers: list[tuple[bytes, bytes]], body: bytes, version: bytes) -> bytes:
    """Return a request, however wrong."""
    lines = [b" ".join((method, target, version)), *(name + b": " + value for name, value in headers)]
    return b"\r\n".join([*lines, b"", body])


_line = st.binary(max_size=40)
_targets = st.one_of(
    st.text(max_size=40).map(lambda text: b"/orders/" + quote(text, safe="").encode()),
    st.binary(max_size=40).map(lambda data: b"/orders/" + quote_from_bytes(data, safe="").encode()),
    st.binary(max_size=40).map(lambda data: b"/waiting/1?after=" + quote_from_bytes(data, safe="").encode()),
    st.tuples(_line, _line).map(lambda two: b"/waiting/0?" + two[0] + b"=" + two[1]),
    st.tuples(st.text(max_size=20), st.text(max_size=20), st.text(max_size=20)).map(
        lambda three: b"/skip/" + "/".join(quote(text, safe="") for text in three).encode()
    ),
    st.sampled_from([b"/health/live", b"/health/ready", b"/metrics", b"/", b"*", b"//", b"/orders/", b"http://x/orders/1",
                     b"/status", b"/waiting/0?step=awaiting%20details", b"/waiting/0?older_than_ms=%d9%a3",
                     b"/waiting/%c2%b2", b"/waiting/" + b"9" * 30, b"/skip/order-confirmation.commands/0/0", b"/skip/",
                     b"/skip/order-confirmation.commands/0/-1", b"/skip/a/%d9%a3/%d9%a3", b"/skip/a/1/%00",
                     b"/orders/%", b"/orders/%zz", b"/orders/%00", b"/orders/..%2f..", b"/orders/a?b=%ff", b"/table/",
                     b"/page/main.js", b"/page/", b"/page/..%2f..", b"/page/%00", b"/page/a?b=%ff", b"/failures"]),
    _line.map(lambda data: b"/" + data),
    st.integers(0, 40_000).map(lambda count: b"/orders/" + b"a" * count),
)  # fmt: skip
_methods = (
    st.sampled_from([b"GET", b"HEAD", b"POST", b"OPTIONS", b"PUT", b"TRACE", b"CONNECT", b"get", b"", b"PRI"]) | _line
)
_headers = st.lists(
    st.one_of(
        st.sampled_from([
            (b"Host", b"127.0.0.1"), (b"Host", b"["), (b"Host", b"[::1"), (b"Host", b"\xff"), (b"Content-Length", b"5"),
            (b"Content-Length", b"-1"), (b"Content-Length", b"9" * 30), (b"Transfer-Encoding", b"chunked"),
            (b"Expect", b"100-continue"), (b"Upgrade", b"websocket"), (b"Connection", b"upgrade"),
            (b"Authorization", b"Bearer \xff"), (b"Origin", b"http://evil"), (b"Range", b"bytes=0-"),
            (b"Cookie", b'=;;="'), (b"Accept-Encoding", b"gzip"), (b"Rejoinder-Forwarded", b"1"),
            (b"Content-Encoding", b"gzip"), (b"Access-Control-Request-Method", b"GET"),
        ]),
        st.tuples(_line, _line),
        st.integers(0, 20_000).map(lambda count: (b"X", b"x" * count)),
    ),
    max_size=6,
)  # fmt: skip
_requests = st.builds(
    request, _methods, _targets, _headers, _line, st.sampled_from([b"HTTP/1.1"] * 4 + [b"HTTP/1.0", b"HTTP/9.9", b""])
)


def assert_harmless(running: Running, data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """Assert that *data* leads to nothing worse than a refusal."""
    caplog.clear()
    answer = running.ask(data, PATIENCE_S)
    assert [] == [record.message for record in caplog.records if record.exc_info or record.levelno >= logging.ERROR]
    assert b"Traceback" not in answer
    assert len(answer) < (METRICS_BYTES_MAX if b"rejoinder_" in answer else ANSWER_BYTES_MAX)
    if answer:
        status = int(answer.split(b" ", 2)[1])
        # Not ready, and not the owner's fault: 503 is said by pages that are well.
        assert status in (200, 503) or 400 <= status < 500, answer[:500]
    live = running.ask(request(b"GET", b"/health/live", [(b"Host", b"127.0.0.1")], b"", b"HTTP/1.1"))
    assert live.startswith(b"HTTP/1.1 "), "it doesn't answer any more"
    assert "live" in json.loads(live.partition(b"\r\n\r\n")[2])


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_requests | st.binary(max_size=200))
@example(request(b"GET", b"/orders/x", [(b"Host", b"[")], b"", b"HTTP/1.1"))
@example(request(b"GET", b"/orders/%ff", [(b"Host", b"127.0.0.1")], b"", b"HTTP/1.1"))
@example(request(b"GET", b"/orders/%ed%b3%bf", [(b"Host", b"127.0.0.1")], b"", b"HTTP/1.1"))
@example(request(b"GET", b"/waiting/0?after=%ff", [(b"Host", b"127.0.0.1")], b"", b"HTTP/1.1"))
@example(request(b"POST", b"/skip/%ff/0/0", [(b"Host", b"127.0.0.1")], b"", b"HTTP/1.1"))
@example(request(b"GET", b"/metrics?name[]=%ff", [(b"Host", b"127.0.0.1")], b"", b"HTTP/1.1"))
def test_any_request_is_answered_below_500(running: Running, caplog: pytest.LogCaptureFixture, data: bytes) -> None:
    """Or not at all, and nothing is logged as a failure."""
    assert_harmless(running, data, caplog)


@pytest.mark.soak
@pytest.mark.timeout(0)
@settings(max_examples=EXAMPLES_SOAK, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_requests | st.binary(max_size=2_000))
def test_any_request_for_long(running: Running, caplog: pytest.LogCaptureFixture, data: bytes) -> None:
    """The same, for longer."""
    assert_harmless(running, data, caplog)


def test_known_order_is_found_by_whatever_its_id_is(running: Running) -> None:
    """The answers above aren't all refusals: these ids are asked for, and found."""
    manager = Manager()
    for order_id in ("order-7", "a/b", "../x", "%2F", "é😀", "[bold]", "\x00\r\n"):
        manager.run(manager.command(order_id))
    assert 7 == len(manager.rows)
    for number, store in running.stores.items():
        mine = [(key, row) for key, row in manager.rows.items() if partition_of(key, PARTITIONS) == number]
        store.load(mine, 1, "topic", 0)
    for key in manager.rows:
        target = b"/orders/" + quote_from_bytes(key, safe="").encode()
        answer = running.ask(request(b"GET", target, [(b"Host", b"127.0.0.1")], b"", b"HTTP/1.1"))
        assert answer.startswith(b"HTTP/1.1 200 "), answer[:300]
        assert key.decode() == json.loads(answer.partition(b"\r\n\r\n")[2])["order_id"]
