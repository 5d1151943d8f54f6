"""The worker's pages: what they answer when all is well, and when an order is elsewhere."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any, Final

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from streams.errors import Corrupt, Unavailable
from streams.processing.task import Phase, Task
from streams.settings import Switch, load
from streams.transport.assignment import PartitionAssignor
from streams.transport.partitioner import partition_of
from streams.web import ANSWER_BYTES_MAX, FORWARDED, add_pages
from tests.streams.manager import COMMAND_ID, ORDER_ID, Manager

PARTITIONS: Final = 4
PARTITION: Final = partition_of(ORDER_ID.encode(), PARTITIONS)
URL: Final = "http://here:1"


class Rows:
    """One partition's store."""

    def __init__(self, rows: dict[bytes, bytes], error: Exception | None = None) -> None:
        self._rows = rows
        self._error = error

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        """Return the rows, or fail as the test says."""
        if self._error is not None:
            raise self._error
        return [self._rows.get(key) for key in keys]


class Assignor(PartitionAssignor):
    """Who owns what, as the test says."""

    def __init__(self) -> None:
        self.known: dict[int, str] | Exception = {}

    def owners(self) -> dict[int, str]:
        """Return the owners, or fail."""
        if isinstance(self.known, Exception):
            raise self.known
        return self.known


class Worker:
    """What the pages see of their worker, and Faust's view of a request."""

    def __init__(self, client: aiohttp.ClientSession) -> None:
        self.pages: dict[str, Callable[..., Any]] = {}
        self.partitions = PARTITIONS
        self.settings = load(web_orders=Switch.ON, web_host="here", web_port=1)
        self.role = "worker"
        self.store_options = None
        self.driver = SimpleNamespace(alive=True)
        self.session: Any = None
        self.assignor = Assignor()
        self.http_client = client
        self.stores: dict[int, Rows] = {}
        table: Any = SimpleNamespace(data=SimpleNamespace(partitions=self.stores))
        app: Any = self
        add_pages(app, table)

    def page(self, path: str, **_: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Register a page."""

        def register(function: Callable[..., Any]) -> Callable[..., Any]:
            self.pages[path] = function
            return function

        return register

    @staticmethod
    def json(value: Any, status: int = 200, headers: Any = None) -> tuple[int, Any]:
        """Answer in JSON."""
        assert headers is None
        return status, json.loads(json.dumps(value))

    @staticmethod
    def bytes(value: Any, content_type: str) -> tuple[str, Any]:
        """Answer with bytes."""
        return content_type, value

    async def get(self, path: str, *, forwarded: bool = False, query: Any = None, **fields: str) -> tuple[Any, Any]:
        """Ask for a page."""
        headers = {"Host": "here"} | ({FORWARDED: "1"} if forwarded else {})
        request = SimpleNamespace(headers=headers, query=query or {})
        answer: tuple[Any, Any] = await self.pages[path](self, request, **fields)
        return answer

    async def order(self, *, forwarded: bool = False) -> tuple[int, Any]:
        """Ask for the order."""
        return await self.get("/orders/{order_id}", forwarded=forwarded, order_id=ORDER_ID)


@pytest.fixture
async def worker() -> AsyncIterator[Worker]:
    """Return a worker that owns nothing."""
    async with aiohttp.ClientSession() as client:
        yield Worker(client)


@pytest.mark.parametrize(("alive", "status"), [(True, 200), (False, 503)])
async def test_worker_lives_as_long_as_its_thread(worker: Worker, alive: bool, status: int) -> None:
    """A supervisor restarts it otherwise."""
    worker.driver.alive = alive
    assert (status, {"live": alive}) == await worker.get("/health/live")


async def test_worker_is_ready_when_all_its_partitions_are_worked_on(worker: Worker) -> None:
    """Not before its session has begun, and not while one of them waits."""
    assert (503, {"ready": False, "partitions": {}}) == await worker.get("/health/ready")
    tasks = {number: Task(number, ["commands"]) for number in (0, 2)}
    worker.session = SimpleNamespace(tasks=tasks, closed=False)
    tasks[0].phase = Phase.RUNNING
    status, answer = await worker.get("/health/ready")
    assert (503, {"0": "running", "2": "waiting"}) == (status, answer["partitions"])
    tasks[2].phase = Phase.RUNNING
    status, answer = await worker.get("/health/ready")
    assert (200, True) == (status, answer["ready"])


async def test_metrics_are_prometheus_s(worker: Worker) -> None:
    """All of ours are there, and the content type has no parameters, which Faust adds."""
    content_type, text = await worker.get("/metrics")
    assert "text/plain" == content_type
    for name in ("rejoinder_decisions_total", "rejoinder_commit_seconds", "rejoinder_dead_letters_total"):
        assert f"# TYPE {name}".removesuffix("_total").encode() in text


async def test_own_order_is_answered(worker: Worker) -> None:
    """With this worker as its owner; 404 when nothing is remembered of it."""
    manager = Manager()
    manager.run(manager.command())
    worker.stores[PARTITION] = Rows(manager.rows)
    status, answer = await worker.order()
    assert (200, URL, COMMAND_ID) == (status, answer["owner"], answer["processes"][0]["command_id"])
    worker.stores[PARTITION] = Rows({})
    status, answer = await worker.order()
    assert (404, False) == (status, answer["known"])


async def test_order_of_a_store_that_closes_is_to_be_asked_again(worker: Worker) -> None:
    """The partition moves just now."""
    worker.stores[PARTITION] = Rows({}, Corrupt("closed"))
    assert (503, {"error": "closed"}) == await worker.order()


@pytest.mark.parametrize(
    ("owners", "says"),
    [
        ({}, f"nobody owns partition {PARTITION} now; try again"),
        (Unavailable("the coordinator is away"), "the coordinator is away"),
        ({PARTITION: "http://127.0.0.1:1"}, "http://127.0.0.1:1, which owns"),
    ],
)
async def test_order_whose_owner_cannot_be_asked_is_to_be_asked_again(
    worker: Worker, owners: dict[int, str] | Exception, says: str
) -> None:
    """Status 503 in each case, and why."""
    worker.assignor.known = owners
    status, answer = await worker.order()
    assert 503 == status
    assert says in answer["error"]


async def test_question_that_was_passed_on_is_not_passed_on_again(worker: Worker) -> None:
    """Two workers that each think the other has it don't ask each other for ever."""
    worker.assignor.known = {PARTITION: "http://127.0.0.1:1"}
    status, answer = await worker.order(forwarded=True)
    assert (503, f"partition {PARTITION} has just moved; try again") == (status, answer["error"])


@pytest.mark.parametrize("order_id", ["order-7", "a/b", "100%", "%2F", "ä b?c=d&e#f", "../up"])
async def test_order_of_another_worker_is_asked_there(worker: Worker, order_id: str) -> None:
    """Whatever characters its id has; status and answer are passed on as they are."""
    asked = []

    async def answer(request: web.Request) -> web.Response:
        asked.append((request.match_info["order_id"], request.headers.get(FORWARDED)))
        return web.json_response({"known": False}, status=404)

    other = web.Application()
    other.router.add_get("/orders/{order_id}", answer)
    async with TestServer(other) as server:
        worker.assignor.known = dict.fromkeys(range(PARTITIONS), str(server.make_url("")).rstrip("/"))
        got = await worker.get("/orders/{order_id}", order_id=order_id)
    assert (404, {"known": False}) == got
    assert [(order_id, "1")] == asked


async def test_answer_of_another_worker_that_is_no_json_is_no_answer(worker: Worker) -> None:
    """Nor is one that is too large, or that sends us elsewhere."""

    async def answer(request: web.Request) -> web.Response:
        kind = request.match_info["order_id"]
        if kind == "large":
            return web.Response(body=b"[" + b"1," * (ANSWER_BYTES_MAX // 2) + b"1]", content_type="application/json")
        if kind == "elsewhere":
            raise web.HTTPFound("/orders/json")
        return web.Response(text="<html>", content_type="text/html")

    other = web.Application()
    other.router.add_get("/orders/{order_id}", answer)
    async with TestServer(other) as server:
        worker.assignor.known = dict.fromkeys(range(PARTITIONS), str(server.make_url("")).rstrip("/"))
        for kind in ("large", "elsewhere", "page"):
            status, said = await worker.get("/orders/{order_id}", order_id=kind)
            assert 503 == status
            assert "try again" in said["error"]
