"""`rejoinder health` against a server of the test's own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from typer.testing import CliRunner

from streams.cli import app
from streams.cli.health import _reachable
from streams.errors import Unavailable
from streams.local.process import free_ports


class Server:
    """Answers what *statuses* says of a path; 404 to any other."""

    def __init__(self) -> None:
        self.statuses: dict[str, int] = {}

        class Handler(BaseHTTPRequestHandler):
            def do_GET(handler) -> None:  # noqa: N805 - the library's name; self is the server.
                handler.send_response(self.statuses.get(handler.path, 404))
                handler.end_headers()
                handler.wfile.write(handler.path.encode())

            def log_message(handler, *_: Any) -> None:  # noqa: N805 - see above.
                """Say nothing."""

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """End."""
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    """Return a running server."""
    found = Server()
    yield found
    found.close()


@pytest.mark.parametrize(("options", "path"), [((), "/health/live"), (("--ready",), "/health/ready")])
@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_exit_code_is_what_the_page_says(
    server: Server, options: tuple[str, ...], path: str, status: int, code: int
) -> None:
    """And the answer is shown, which says which partitions aren't worked on."""
    server.statuses[path] = status
    # A container is often told of a proxy; the process is on this machine.
    environment = {"REJOINDER_WEB_PORT": str(server.port), "REJOINDER_WEB_BIND": "0.0.0.0", "http_proxy": "http://x:1"}  # noqa: S104
    result = CliRunner().invoke(app, ["health", *options], env=environment)
    assert (code, f"{path}\n") == (result.exit_code, result.stdout)


def test_nobody_who_answers_is_75() -> None:
    """With where nobody answers."""
    (port,) = free_ports(1)
    result = CliRunner().invoke(app, ["health", "--web-port", str(port)])
    assert isinstance(result.exception, Unavailable)
    assert 75 == result.exception.exit_code
    assert f"nobody answers at http://127.0.0.1:{port}/health/live" in str(result.exception)


@pytest.mark.parametrize(
    ("bind", "asked"),
    [
        ("0.0.0.0", "127.0.0.1"),  # noqa: S104 - that it isn't asked there.
        ("::", "[::1]"),
        ("[::]", "[::1]"),
        ("10.1.2.3", "10.1.2.3"),
        ("fd00::7", "[fd00::7]"),
        ("localhost", "localhost"),
    ],
)
def test_any_address_stands_for_loopback(bind: str, asked: str) -> None:
    """Nobody is reached at 0.0.0.0, on some systems."""
    assert asked == _reachable(bind)
