"""
The process manager's application: ``faust -A streams.app worker``, or ``rejoinder worker``.

Everything is wired here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from streams import settings as settings_module
from streams.batch import Batch
from streams.frame import App, stores_of, watch_lag
from streams.page.routes import add_page
from streams.processing.commit import Work
from streams.processing.failures import Failures
from streams.processing.process_manager import ProcessManager
from streams.processing.waiting import Census
from streams.registry import open_registry
from streams.settings import Settings, Switch
from streams.tracing import open_tracing
from streams.web import add_pages
from topology.topics import COMMANDS, DETAILS, EMAIL_EVENTS, PROCESSES_CHANGELOG


def create_app(settings: Settings) -> App:
    """Return the process manager's worker, ready to start."""
    app = App(settings, "worker")
    registry = open_registry(settings)
    tracing = open_tracing(settings, app.group)
    # Chosen here and not by each record.
    make: Callable[..., ProcessManager] = ProcessManager
    if tracing is not None:
        from streams.processing.traced import TracedProcessManager  # noqa: PLC0415 - of the extra otel.

        make = partial(TracedProcessManager, tracing=tracing)
    manager = make(
        registry.codec,
        registry.resolve,
        settings.policy,
        settings.partitions,
        with_headers=settings.headers is Switch.ON,
        resolve_stored=registry.resolve_stored,
    )
    commands, details, outcomes = app.declared(COMMANDS), app.declared(DETAILS), app.declared(EMAIL_EVENTS)
    processes = app.table_of("processes", PROCESSES_CHANGELOG)
    census = Census(stores_of(processes))
    app.beside(census)

    failures = Failures()

    def committed(works: Sequence[Work]) -> None:
        census.committed(works)
        failures.committed(works)
        if tracing is not None:
            tracing.committed(works)

    @app.transaction(commands, details, outcomes, table=processes, committed=committed)
    def advance(batch: Batch) -> None:
        """Take each record into its order's processes, and send what became due."""
        manager(batch)

    add_pages(app, processes, census, watch_lag(app), failures)
    if settings.web_page is Switch.ON:
        add_page(app)
    return app


def __getattr__(name: str) -> App:
    """Make ``app`` when it is first asked for: importing this module reads no settings."""
    if name != "app":
        raise AttributeError(name)
    app = globals()["app"] = create_app(settings_module.load())
    return app
