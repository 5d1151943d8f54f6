"""What a process finds out at each scrape: lag, who waits, restores, stores, threads."""

from __future__ import annotations

import shutil
import time
from collections import defaultdict
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any, Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import REGISTRY, Collector

from streams import metrics
from streams.errors import RejoinderError
from streams.frame import App
from streams.monitor.lag import Status, sum_of
from streams.monitor.lag_watch import LagWatch
from streams.processing.waiting import WAITING, Census

_STATUSES: Final = tuple(status for status in Status if status is not Status.ERR)


class Exposition(Collector):
    """Collects for *app*; any thread may ask. *census* is None where there is no process, *watch* where none looks."""

    def __init__(self, app: App, census: Census | None = None, watch: LagWatch | None = None) -> None:
        self._app = app
        self._census = census
        self._watch = watch
        self._registry = CollectorRegistry()
        self._registry.register(self)
        self.loop_lag_s = 0.0
        """How late the event loop was, see `streams.web`."""

    def text(self) -> bytes:
        """Return all metrics of this process in Prometheus's text format."""
        return generate_latest(REGISTRY) + generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Yield what is found out now."""
        yield from self._process()
        yield from self._restores()
        yield from self._stores()
        if self._census is not None:
            yield from self._waiting(self._census)
        if self._watch is not None:
            yield from self._lag(self._watch)

    def describe(self) -> Iterator[Metric]:
        """Yield nothing: registering must not ask anybody."""
        yield from ()

    def _process(self) -> Iterator[Metric]:
        app = self._app
        session = app.session
        yield metrics.BUILD.of([((version("rejoinder"), app.role, app.settings.instance), 1)])
        yield metrics.LOOP_SECONDS.of([((), self.loop_lag_s)])
        turned = [] if session is None else [((), time.monotonic() - session.turned_s)]
        yield metrics.TURN_AGE.of(turned)
        threads: list[tuple[tuple[object, ...], float]] = [(("session",), app.driver.alive)]
        if self._watch is not None:
            threads.append((("lag",), self._watch.alive))
        if self._census is not None:
            threads.append((("census",), self._census.alive))
        if session is not None and session.restorer is not None:
            threads.append((("restore",), session.restorer.alive))
        yield metrics.THREADS.of(threads)

    def _restores(self) -> Iterator[Metric]:
        session = self._app.session
        restorer = session.restorer if session is not None else None
        progress = restorer.progress() if restorer is not None else []
        failing = restorer.failures() if restorer is not None else {}
        yield metrics.RESTORE_LEFT.of(((p.partition,), p.left) for p in progress if p.left is not None)
        yield metrics.RESTORE_ROWS.of(((p.partition,), p.rows) for p in progress)
        yield metrics.RESTORE_RATE.of(((p.partition,), p.rows_per_second) for p in progress)
        yield metrics.RESTORE_FAILING.of(((p.partition,), p.partition in failing) for p in progress)

    def _stores(self) -> Iterator[Metric]:
        figures = {}
        for number, store in sorted(dict(self._app.stores).items()):
            try:
                figures[number] = store.figures()
            except RejoinderError:  # Closed a moment ago: its partition moves.
                continue
        yield metrics.STORE_ENTRIES.of(((number,), some.entries) for number, some in figures.items())
        yield metrics.STORE_DISK.of(((number,), some.disk_bytes) for number, some in figures.items())
        yield metrics.STORE_BUFFER.of(((number,), some.buffer_bytes) for number, some in figures.items())
        if (options := self._app.store_options) is not None:
            yield metrics.STORE_MEMORY.of([((), options.memory_bytes)])
            yield metrics.STORE_MEMORY_MOST.of([((), self._app.settings.store_memory_mib << 20)])
        try:
            disk = shutil.disk_usage(self._app.settings.state_dir)
        except OSError:  # Gone, or a disk that doesn't answer: the store says so, a scrape must not fail.
            return
        yield metrics.STATE_DISK_FREE.of([((), disk.free)])
        yield metrics.STATE_DISK.of([((), disk.total)])

    @staticmethod
    def _waiting(census: Census) -> Iterator[Metric]:
        now_ms = time.time_ns() // 1_000_000
        found = census.waiting()
        uncounted = census.uncounted()
        # A step that nobody waits at has its 0; a partition that isn't counted has none.
        counts = {(step, number): 0 for number in census.partitions() - set(uncounted) for step in WAITING}
        counts |= {(one.step, one.partition): one.processes for one in found}
        yield metrics.WAITING.of(((step.title, number), count) for (step, number), count in counts.items())
        yield metrics.OLDEST.of(
            ((one.step.title, one.partition), max(0, now_ms - one.oldest_ms) / 1000) for one in found
        )
        yield metrics.UNCOUNTED.of([((), len(uncounted))])

    def _lag(self, watch: LagWatch) -> Iterator[Metric]:
        yield metrics.LAG_LOOK_AGE.of([((), watch.age_s)])
        last = watch.last
        if last is None:
            return
        told = last.told_by(self._app.settings.advertised_url)
        now: dict[Any, Any] = {place: history.last for place, history in told.items()}
        yield metrics.LAG.of((place, look.lag) for place, look in now.items() if look.lag is not None)
        yield metrics.LAG_SECONDS.of((place, look.age_s or 0.0) for place, look in now.items())
        lags: defaultdict[tuple[str, str], list[int | None]] = defaultdict(list)
        for place, look in now.items():
            lags[place.group, place.topic].append(look.lag)
        sums = {labels: sum_of(some) for labels, some in lags.items()}
        yield metrics.LAG_SUM.of((labels, lag) for labels, lag in sums.items() if lag is not None)
        yield metrics.POSITION.of(
            (place, -1 if look.committed is None else look.committed) for place, look in now.items()
        )
        yield metrics.END.of(((place.topic, place.partition), look.end) for place, look in now.items())
        yield metrics.STABLE.of(((place.topic, place.partition), look.stable) for place, look in now.items())
        yield metrics.LAG_RATE.of((place, history.rate) for place, history in told.items() if history.rate is not None)
        yield metrics.LAG_STATUS.of(
            ((*place, status.value), history.status is status)
            for place, history in told.items()
            for status in _STATUSES
        )
        if last.is_first(self._app.settings.advertised_url):
            yield metrics.MEMBERS.of(((group,), len(some)) for group, some in last.found.members.items())
