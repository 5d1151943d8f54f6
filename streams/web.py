"""The worker's pages: liveness, readiness, metrics, and, to those who may (`access`), one order's timeline."""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

import aiohttp
from faust.types import TableT
from faust.web import Request, Response, View
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from yarl import URL

from streams.access import SCHEME, Access
from streams.errors import ConfigurationError, RejoinderError, Unavailable
from streams.frame import App, stores_of
from streams.monitor.explain import explain
from streams.processing.task import Phase
from streams.transport.assignment import PartitionAssignor
from streams.transport.partitioner import partition_of

FORWARD_S: Final = 5.0
ANSWER_BYTES_MAX: Final = 16 * 1_048_576
"""Of another worker: a row has a megabyte at most, its JSON is some times as large."""
FORWARDED: Final = "Rejoinder-Forwarded"
"""Header of a request that another worker passed on: it is never passed on again."""


def add_pages(app: App, table: TableT[bytes, bytes] | None = None) -> None:
    """Add the pages that every role has, and ``/orders/ORDER_ID`` over *table*."""

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
    async def metrics(view: View, request: Request) -> Response:
        """Answer in Prometheus's text format."""
        return view.bytes(generate_latest(), content_type=CONTENT_TYPE_LATEST.split(";")[0])

    if table is not None:
        _add_order_page(app, table)


def _add_order_page(app: App, table: TableT[bytes, bytes]) -> None:
    access = Access(app.settings)

    @app.page("/orders/{order_id}", name="order")
    async def order(view: View, request: Request, order_id: str) -> Response:
        """Answer with one order, from whichever worker holds it."""
        if denied := access.deny(request.headers):
            headers = {"WWW-Authenticate": SCHEME} if denied.status is HTTPStatus.UNAUTHORIZED else None
            return view.json({"error": denied.error}, status=denied.status, headers=headers)
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
