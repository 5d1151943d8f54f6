"""Unknown schema ids by the thousand: the registry is asked seldom, and what is known is read all the same."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from schemas.catalog import Catalog, UnknownSchema, current_text
from streams import registry as module
from streams.registry import ID_MAX, QUESTIONS_MAX, QUESTIONS_PER_S, UNKNOWN_S, Registry
from streams.settings import load

SENT = "communications.EmailSent"
KNOWN = 7_000


class Server(ThreadingHTTPServer):
    """A registry that knows one id, and remembers what it was asked; *status* is its answer for others."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[int] = []
        self.status = 404

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    """One connection to `Server`."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # Head and body in one packet.
    server: Server

    def do_GET(self) -> None:
        """Answer for one id."""
        schema_id = int(self.path.partition("?")[0].rpartition("/")[2])
        self.server.asked.append(schema_id)
        known = schema_id == KNOWN
        found = {"schema": current_text(SENT)} if known else {"error_code": 40403, "message": "no such schema"}
        body = json.dumps(found).encode()
        self.send_response(200 if known else self.server.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Clock:
    """What the registry takes for time."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def monotonic(self) -> float:
        """Return seconds."""
        return self.now_s


@pytest.fixture
def server() -> Iterator[Server]:
    """Return a registry's server."""
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return the time, which stands still."""
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def registry(server: Server, clock: Clock) -> Iterator[Registry]:
    """Return the registry as workers use it, with time standing still."""
    assert clock
    registry = Registry(Catalog.from_files(), load(schema_registry_url=server.url))
    yield registry
    if registry._remote is not None:
        registry._remote.close()


def refused(registry: Registry, schema_id: int) -> str:
    """Return why *schema_id* isn't known."""
    with pytest.raises(UnknownSchema) as unknown:
        registry.resolve(schema_id)
    return unknown.value.detail


def test_unknown_id_is_asked_for_once_and_again_when_its_time_has_passed(
    server: Server, registry: Registry, clock: Clock
) -> None:
    """A thousand records of one unknown id are one question; the schema registered meanwhile is found soon."""
    for _ in range(1_000):
        refused(registry, 1)
    assert [1] == server.asked
    clock.now_s += UNKNOWN_S
    refused(registry, 1)
    assert [1, 1] == server.asked


def test_flood_of_different_ids_is_a_trickle_of_questions(
    server: Server, registry: Registry, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random bytes where the id should be: each id is another one, and the memory of them stays small."""
    monkeypatch.setattr(module, "UNKNOWN_MAX", 60)
    details = [refused(registry, 100_000 + number) for number in range(3_000)]
    assert QUESTIONS_MAX == len(server.asked)
    assert {"not asked for: a flood of unknown ids; put it back when that is over"} == set(details[QUESTIONS_MAX:])
    clock.now_s += 10
    for number in range(1_000):
        refused(registry, 200_000 + number)
    assert QUESTIONS_MAX + 10 * QUESTIONS_PER_S == len(server.asked)
    assert 60 == len(registry._unknown_until_s)


def test_id_in_a_row_of_ours_is_asked_for_in_a_flood_too(server: Server, registry: Registry) -> None:
    """A half that another worker stored: its e-mail doesn't wait for the flood's end."""
    for number in range(QUESTIONS_MAX + 1):
        refused(registry, 100_000 + number)
    registry.resolve_stored(KNOWN)
    assert KNOWN == server.asked[-1]


def test_known_ids_cost_no_questions_of_the_flood_s(server: Server, registry: Registry) -> None:
    """What is found counts for nothing: a release with many new schemas isn't a flood."""
    registry.resolve(KNOWN)
    for number in range(QUESTIONS_MAX):
        assert "doesn't know it" in refused(registry, 100_000 + number)
    assert QUESTIONS_MAX + 1 == len(server.asked)


@pytest.mark.parametrize("schema_id", [ID_MAX + 1, (1 << 32) - 1])
def test_id_that_no_registry_can_have_is_never_asked_for(server: Server, registry: Registry, schema_id: int) -> None:
    """Some registries answer such a question as if we were at fault, which would hold the partition."""
    assert "larger than a schema registry's ids can be" in refused(registry, schema_id)
    assert [] == server.asked


@pytest.mark.parametrize("status", [400, 404, 422])
def test_registry_that_dislikes_an_id_doesn_t_know_it(server: Server, registry: Registry, status: int) -> None:
    """Registries differ in how they say so; none of these may hold a partition."""
    server.status = status
    assert "doesn't know it" in refused(registry, 5)
