"""
The orders service's application: ``faust -A streams.orders worker``, or ``rejoinder orders``.
"""

from __future__ import annotations

import asyncio
import functools
import time
from typing import Final

import structlog
from confluent_kafka import KafkaException

from streams import settings as settings_module
from streams.batch import Batch
from streams.errors import Unavailable
from streams.frame import App, watch_lag
from streams.registry import open_registry
from streams.services.orders.answer import answer, pass_on
from streams.services.orders.database import Database
from streams.services.orders.publish import publications
from streams.services.records import Reader
from streams.settings import Settings, Switch
from streams.tracing import open_tracing
from streams.web import add_pages
from topology.topics import DETAILS, QUERIES

log = structlog.get_logger(__name__)

PUBLISH_S: Final = 1.0
"""How often changed orders are looked for."""
PUBLISH_MAX: Final = 1_000


def create_app(settings: Settings) -> App:
    """Return the orders service, ready to start."""
    app = App(settings, "orders")
    registry = open_registry(settings)
    database = Database(settings.orders_url, publish_changes=settings.publish_changes is Switch.ON)
    reader = Reader(registry.codec, registry.resolve)
    with_headers = settings.headers is Switch.ON
    # Once, when the database first answers: a failure isn't cached.
    prepare = functools.cache(database.create_schema)

    tracing = open_tracing(settings, app.group)
    carried = pass_on if tracing is None else functools.partial(tracing.answered, DETAILS.name)

    def answer_queries(batch: Batch) -> None:
        """Look all orders of the batch up at once, and answer each query."""
        prepare()
        answer(batch, database, reader, with_headers=with_headers, carried=carried)

    if tracing is None:
        app.transaction(app.declared(QUERIES))(answer_queries)
    else:
        app.transaction(app.declared(QUERIES), committed=tracing.committed)(tracing.around(answer_queries))

    if settings.publish_changes is Switch.ON:
        details = app.declared(DETAILS)

        async def publish_once() -> None:
            loop = asyncio.get_running_loop()
            now_ms = time.time_ns() // 1_000_000
            found = await loop.run_in_executor(
                None, lambda: publications(database, registry.codec, PUBLISH_MAX, now_ms, with_headers=with_headers)
            )
            sent = [
                await details.send(key=output.key, value=output.value, headers=output.headers)
                for output in found.outputs
            ]
            for delivery in sent:
                await delivery
            if found.outbox_ids:
                await loop.run_in_executor(None, database.mark_published, found.outbox_ids)

        @app.timer(PUBLISH_S)  # type: ignore[untyped-decorator]  # Faust says only that it returns a callable.
        async def publish_changes() -> None:
            """Publish the details of orders that changed, unasked; at least once, versions make it harmless."""
            try:
                await publish_once()
            except (Unavailable, KafkaException) as exc:
                # The outbox keeps what wasn't published; the next tick tries again.
                log.warning("changes not published yet", because=str(exc))

    add_pages(app, watch=watch_lag(app))
    return app


def __getattr__(name: str) -> App:
    """Make ``app`` when it is first asked for: importing this module reads no settings."""
    if name != "app":
        raise AttributeError(name)
    app = globals()["app"] = create_app(settings_module.load())
    return app
