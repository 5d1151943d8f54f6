"""
The worker's pages: liveness, readiness, metrics, status; and of orders, to those who may (`access`).

Those show one order's timeline, which processes wait, and which failed. One page does something: it skips a record
that a partition is held at.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from http import HTTPStatus
from importlib.metadata import version
from typing import Any, Final
from urllib.parse import quote

import aiohttp
import structlog
from faust.types import TableT
from faust.web import Request, Response, View
from prometheus_client import CONTENT_TYPE_LATEST
from yarl import URL

from streams import metrics
from streams.access import SCHEME, Access, Denied
from streams.errors import ConfigurationError, RejoinderError, Unavailable
from streams.exposition import Exposition
from streams.frame import App, stores_of
from streams.monitor.explain import explain, instant
from streams.monitor.lag_watch import LagWatch
from streams.monitor.stuck import Stuck, Wanted, stuck
from streams.processing.failures import Failures
from streams.processing.task import HeldAt, Phase
from streams.processing.waiting import WAITING, Census
from streams.transport.assignment import PartitionAssignor
from streams.transport.partitioner import partition_of
from streams.web_server import SKIP

log = structlog.get_logger(__name__)

FORWARD_S: Final = 5.0
ANSWER_BYTES_MAX: Final = 16 * 1_048_576
"""Of another worker: a row has a megabyte at most, its JSON is some times as large."""
LOOP_TIMER_S: Final = 0.01
"""A timer that is set at each scrape: how late it comes says how much the event loop is held up."""
NUMBER_CHARS_MAX: Final = 18
FORWARDED: Final = "Rejoinder-Forwarded"
"""Header of a request that another worker passed on: it is never passed on again."""


def add_pages(
    app: App,
    table: TableT[bytes, bytes] | None = None,
    census: Census | None = None,
    watch: LagWatch | None = None,
    failures: Failures | None = None,
) -> None:
    """
    Add the pages that every role has, and those about orders over *table* and of *failures*.

    *census* and *watch* are also scraped.
    """
    exposition = Exposition(app, census, watch)

    @app.page("/health/live", name="live")
    async def live(view: View, request: Request) -> Response:
        """Answer 200 as long as a restart wouldn't help."""
        return view.json({"live": app.driver.alive}, status=200 if app.driver.alive else 503)

    @app.page("/health/ready", name="ready")
    async def ready(view: View, request: Request) -> Response:
        """Answer 200 when every partition that this worker owns is worked on."""
        session = app.session
        tasks = list(session.tasks.values()) if session else []
        is_ready = session is not None and not session.closed and all(task.phase is Phase.RUNNING for task in tasks)
        phases = {str(task.partition): task.phase.value for task in tasks}
        return view.json({"ready": is_ready, "partitions": phases}, status=200 if is_ready else 503)

    @app.page("/metrics", name="metrics")
    async def scraped(view: View, request: Request) -> Response:
        """Answer in Prometheus's text format."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        await asyncio.sleep(LOOP_TIMER_S)
        exposition.loop_lag_s = max(0.0, loop.time() - began_s - LOOP_TIMER_S)
        text = await _in_executor(exposition.text)
        return view.bytes(text, content_type=CONTENT_TYPE_LATEST.split(";")[0])

    @app.page("/status", name="status")
    async def status(view: View, request: Request) -> Response:
        """Answer with what this process is and does, in numbers; of no order."""
        return view.json(_status(app, census))

    _add_skip_page(app)
    if table is not None:
        _add_order_page(app, table)
        _add_waiting_page(app, table)
    if failures is not None:
        _add_failures_page(app, failures)


def _status(app: App, census: Census | None) -> dict[str, Any]:
    """Return the status page; any thread may call it."""
    session = app.session
    tasks = dict(session.tasks) if session is not None else {}
    now_ms = time.time_ns() // 1_000_000
    return {
        "role": app.role,
        "instance": app.settings.instance,
        "version": version("rejoinder"),
        "partitions": {str(number): task.phase.value for number, task in sorted(tasks.items())},
        "held": [task.held_at._asdict() for task in tasks.values() if task.held_at is not None],
        "waiting": [
            {
                "step": one.step.title,
                "partition": one.partition,
                "processes": one.processes,
                "oldest_s": max(0, now_ms - one.oldest_ms) / 1000,
            }
            for one in (census.waiting() if census is not None else ())
        ],
        "markers": metrics.markers(),
        "uncounted": census.uncounted() if census is not None else [],
    }


def _add_skip_page(app: App) -> None:
    access = Access(app.settings)

    @app.page(f"{SKIP}{{topic}}/{{partition}}/{{offset}}", name="skip")
    class Skip(View):
        """Skips the record that a partition is held at."""

        async def get(self, request: Request, **_: str) -> Response:
            """Answer that this is no way to ask for it."""
            return self.json({"error": "POST skips"}, status=HTTPStatus.METHOD_NOT_ALLOWED)

        async def post(self, request: Request, topic: str, partition: str, offset: str) -> Response:
            """Answer 202 if the record will be skipped, 409 if its partition isn't held there."""
            if denied := access.deny_act(request.headers):
                return denial(self, denied)
            declared = topic.removeprefix(app.settings.topic_prefix)
            session = app.session
            if not (partition.isdecimal() and offset.isdecimal() and len(partition + offset) < NUMBER_CHARS_MAX):
                return self.json({"error": "no coordinates"}, status=HTTPStatus.BAD_REQUEST)
            at = HeldAt(declared, int(partition), int(offset))
            if session is None or not session.skip(at):
                error = "no partition is held at this record here; `rejoinder status` shows which are"
                return self.json({"error": error}, status=HTTPStatus.CONFLICT)
            log.warning("a person skips a record", topic=declared, partition=at.partition, offset=at.offset)
            return self.json({"skips": at._asdict()}, status=HTTPStatus.ACCEPTED)


def denial(view: View, denied: Denied) -> Response:
    """Return the answer to a request that was *denied*."""
    headers = {"WWW-Authenticate": SCHEME} if denied.status is HTTPStatus.UNAUTHORIZED else None
    return view.json({"error": denied.error}, status=denied.status, headers=headers)


def _add_failures_page(app: App, failures: Failures) -> None:
    access = Access(app.settings)

    @app.page("/failures", name="failures")
    async def failed(view: View, request: Request) -> Response:
        """Answer with the last processes that failed here, the newest first, and how many did since when."""
        if denied := access.deny(request.headers):
            return denial(view, denied)
        last = [failure._asdict() | {"at": instant(failure.at_ms)} for failure in failures.last()]
        return view.json({"since": instant(failures.since_ms), "count": failures.count, "last": last})


def _add_waiting_page(app: App, table: TableT[bytes, bytes]) -> None:
    access = Access(app.settings)

    @app.page("/waiting/{partition}", name="waiting")
    async def waiting(view: View, request: Request, partition: str) -> Response:
        """Answer with the processes of a partition of ours that wait, `stuck.FOUND_MAX` at a time."""
        if denied := access.deny(request.headers):
            return denial(view, denied)
        if not partition.isdecimal() or len(partition) > NUMBER_CHARS_MAX:
            return view.json({"error": "no partition"}, status=HTTPStatus.BAD_REQUEST)
        number = int(partition)
        try:
            wanted, after = _wanted(request.query)
        except ValueError as exc:
            return view.json({"error": f"{exc}"[:100]}, status=HTTPStatus.BAD_REQUEST)
        store = stores_of(table).get(number)
        if store is None:
            return view.json({"error": f"partition {number} isn't here now; try again"}, status=503)

        def look() -> Stuck:
            with store.rows_after(after) as rows:
                return stuck(rows, wanted)

        try:
            found = await _in_executor(look)
        except RejoinderError as exc:  # Closed a moment ago: the partition moves.
            return view.json({"error": str(exc)}, status=503)
        return view.json({"processes": found.processes, "after": None if found.after is None else found.after.decode()})


def _wanted(query: Mapping[str, str]) -> tuple[Wanted, bytes | None]:
    """
    Return what a request asks for, and after which key.

    Raises:
        ValueError: it can't be understood; says what of it.
    """
    titles = {step.title: step for step in WAITING}
    title = query.get("step")
    if title is not None and title not in titles:
        raise ValueError(f"steps at which processes wait: {', '.join(titles)}")
    older_ms = query.get("older_than_ms", "0")
    if not older_ms.isdecimal() or len(older_ms) > NUMBER_CHARS_MAX:
        raise ValueError("older_than_ms: milliseconds")
    before_ms = time.time_ns() // 1_000_000 - int(older_ms)
    after = query.get("after")
    step = None if title is None else titles[title]
    return Wanted(step, before_ms), None if after is None else after.encode()


def _add_order_page(app: App, table: TableT[bytes, bytes]) -> None:
    access = Access(app.settings)

    @app.page("/orders/{order_id}", name="order")
    async def order(view: View, request: Request, order_id: str) -> Response:
        """Answer with one order, from whichever worker holds it."""
        if denied := access.deny(request.headers):
            return denial(view, denied)
        key = order_id.encode()
        partition = partition_of(key, app.partitions)
        store = stores_of(table).get(partition)
        if store is not None:
            try:
                (row,) = await _in_executor(store.get_many, [key])
            except RejoinderError as exc:  # Closed a moment ago: the partition moves.
                return view.json({"error": str(exc)}, status=503)
            found = explain(order_id, row, partition, app.settings.policy)
            return view.json(found | {"owner": app.settings.advertised_url}, status=200 if row else 404)
        if request.headers.get(FORWARDED):
            return view.json({"error": f"partition {partition} has just moved; try again"}, status=503)
        return await _ask_owner(view, order_id, partition)

    async def _ask_owner(view: View, order_id: str, partition: int) -> Response:
        assignor: Any = app.assignor
        assert isinstance(assignor, PartitionAssignor)
        try:
            owner = (await _in_executor(assignor.owners)).get(partition)
            if owner is None:
                return view.json({"error": f"nobody owns partition {partition} now; try again"}, status=503)
            access.check_peer(owner)
        except (Unavailable, ConfigurationError) as exc:
            return view.json({"error": str(exc)}, status=503)
        # Quoted by hand: an order id may hold slashes, which yarl would take for more of the path.
        url = URL(f"{owner}/orders/{quote(order_id, safe='')}", encoded=True)
        timeout = aiohttp.ClientTimeout(total=FORWARD_S)
        try:
            headers = {FORWARDED: "1"} | access.headers()
            # No redirects: a token goes where it was checked to go.
            async with app.http_client.get(url, headers=headers, timeout=timeout, allow_redirects=False) as answer:
                return view.json(await _json(answer), status=answer.status)
        except (aiohttp.ClientError, TimeoutError, ValueError) as exc:
            return view.json({"error": f"{owner}, which owns partition {partition}: {exc!r}; try again"}, status=503)


async def _json(answer: aiohttp.ClientResponse) -> Any:
    """
    Return what another worker answered.

    Raises:
        ValueError: it's no JSON, or too much.
        aiohttp.ClientError: the connection broke.
    """
    body = bytearray()
    async for some in answer.content.iter_any():
        body += some
        if len(body) > ANSWER_BYTES_MAX:
            raise ValueError("the answer is too large")
    if answer.content_type != "application/json":
        raise ValueError(f"the answer is {answer.content_type}, no JSON")
    return json.loads(body)


async def _in_executor(function: Any, *args: Any) -> Any:
    return await asyncio.get_running_loop().run_in_executor(None, function, *args)
