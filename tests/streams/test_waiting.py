"""Counts of what waits: as a look at every row says it, whenever they were begun."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas import state_codec
from streams.batch import Batch
from streams.errors import Unavailable
from streams.monitor.explain import instant
from streams.monitor.stuck import Wanted, stuck
from streams.processing.commit import Work
from streams.processing.waiting import BUCKET_MS, WAITING, Census
from streams.store.partition import Partition
from tests.streams.manager import NOW_MS, ORDER_ID, Manager
from tests.streams.store.test_partition import restored
from topology.policy import DAY_MS, Policy
from topology.state import Order, Step

OTHER_COMMAND: Final = "1b5c1f7e-2222-4333-8444-555566667777"


class World:
    """A process manager over a real store, its commits, and their census."""

    def __init__(self, store: Partition) -> None:
        self.stores = {0: store}
        self.census = Census(self.stores)
        self.manager = Manager(Policy(not_found_attempts=2))
        self._positions = count(1)

    def run(self, *records: Any, due: Sequence[bytes] = (), now_ms: int = NOW_MS) -> Batch:
        """Decide and commit a batch, as the session does it."""
        batch = self.manager.run(*records, due=due, now_ms=now_ms)
        self.stores[0].write(batch.changes, next(self._positions), now_ms)
        self.census.committed([Work(batch, {}, self.stores[0])])
        return batch

    def expected(self) -> dict[Step, tuple[int, int]]:
        """Return what all rows say: by step how many, and when the oldest's command came."""
        counts: Counter[Step] = Counter()
        oldest: dict[Step, int] = {}
        for row in self.manager.rows.values():
            for process in state_codec.decode("", row).processes.values():
                if not process.finished:
                    counts[process.step] += 1
                    at_ms = process.received_ms // BUCKET_MS * BUCKET_MS
                    oldest[process.step] = min(oldest.get(process.step, at_ms), at_ms)
        return {step: (counts[step], oldest[step]) for step in counts}

    def found(self) -> dict[Step, tuple[int, int]]:
        """Return what the census says."""
        return {one.step: (one.processes, one.oldest_ms) for one in self.census.waiting()}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Partition]:
    """Return a restored, empty store."""
    partition = restored(tmp_path / "0")
    yield partition
    partition.close()


@pytest.fixture
def world(store: Partition) -> World:
    """Return a world of its own."""
    return World(store)


def test_processes_are_counted_at_each_step(world: World) -> None:
    """From the command to the sent mail: one waits, then none; what never was counted isn't said."""
    assert ([], [0]) == (world.census.waiting(), world.census.uncounted())
    world.census.count_opened()
    assert ({}, []) == (world.found(), world.census.uncounted())
    moves: list[tuple[Callable[[], Any], Step]] = [
        (world.manager.command, Step.AWAITING_DETAILS),
        (world.manager.details, Step.AWAITING_EMAIL),
        (lambda: world.manager.failed(permanent=False), Step.RETRYING_EMAIL),
    ]
    for record, step in moves:
        world.run(record())
        assert {step: (1, NOW_MS)} == world.found()
    world.run(world.manager.sent())
    assert {} == world.found()


def test_every_waiting_step_may_wait() -> None:
    """The rows that are passed over without a look are of nobody who waits."""
    manager = Manager()
    records: list[Callable[[], Any]] = [manager.command, manager.details, lambda: manager.failed(permanent=False)]
    for record in records:
        manager.run(record())
        assert manager.process().step in WAITING
        assert state_codec.may_wait(manager.rows[ORDER_ID.encode()])
    assert {Step.AWAITING_DETAILS, Step.AWAITING_EMAIL, Step.RETRYING_EMAIL} == set(WAITING)
    manager.run(manager.sent())
    manager.run(due=[ORDER_ID.encode()], now_ms=NOW_MS + 8 * DAY_MS)
    assert not manager.order().details
    assert not state_codec.may_wait(manager.rows[ORDER_ID.encode()])
    assert not state_codec.may_wait(state_codec.encode(_early(), 1) or b"")


def _early() -> Order:
    manager = Manager()
    manager.run(manager.cancel())
    return manager.order()


def test_commits_during_the_count_are_counted_once(world: World) -> None:
    """Those before its view are in it, those after it are added: told apart by the changelog position."""
    for number in range(3):
        world.run(world.manager.command(f"before-{number}"))
    census = world.census
    looked, go_on = threading.Event(), threading.Event()
    store = world.stores[0]
    snapshot = store.snapshot

    def slow() -> Any:
        looked.set()
        assert go_on.wait(10)
        return snapshot()

    store.snapshot = slow  # type: ignore[method-assign]
    counting = threading.Thread(target=census.count_opened)
    counting.start()
    assert looked.wait(10)
    # Registered, and no view taken yet.
    world.run(world.manager.command("between"))
    assert [0] == census.uncounted()
    go_on.set()
    counting.join()
    world.run(world.manager.command("after"))
    assert {Step.AWAITING_DETAILS: (5, NOW_MS)} == world.found() == world.expected()


def test_refused_and_aborted_records_move_nothing(world: World) -> None:
    """A batch that is decided and never committed, and a record that goes to the dead letters."""
    world.census.count_opened()
    world.run(world.manager.command())
    world.manager.decide(world.manager.details())
    world.run(world.manager.record("email.events", ORDER_ID.encode(), b"no avro"))
    assert {Step.AWAITING_DETAILS: (1, NOW_MS)} == world.found()


def test_partition_that_moves_is_forgotten_and_counted_anew(world: World, tmp_path: Path) -> None:
    """What another store's batches moved isn't added to it."""
    world.census.count_opened()
    world.run(world.manager.command())
    old = world.stores.pop(0)
    assert ([], []) == (world.census.waiting(), world.census.uncounted())
    other = restored(tmp_path / "1")
    world.stores[0] = other
    assert ([], [0]) == (world.census.waiting(), world.census.uncounted())
    world.census.committed([Work(world.manager.decide(world.manager.command("late")), {}, old)])
    world.census.count_opened()
    assert ({}, []) == (world.found(), world.census.uncounted())
    other.close()


def test_store_that_is_closed_is_no_trouble(world: World) -> None:
    """It is tried again later; nothing is said of it."""
    world.stores[0].close()
    world.census.count_opened()
    assert ([], [0]) == (world.census.waiting(), world.census.uncounted())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["command", "other", "cancel", "details", "missing", "sent", "failed", "refused", "due"]),
            st.integers(0, 3),
            st.integers(0, 90_000),
        ),
        max_size=25,
    ),
    at=st.integers(0, 25),
)
def test_counts_are_those_of_all_rows(tmp_path_factory: pytest.TempPathFactory, steps: list[Any], at: int) -> None:
    """Whatever comes, in whatever batches, and whenever the count is begun."""
    store = restored(tmp_path_factory.mktemp("store") / "0")
    world = World(store)
    manager, now_ms = world.manager, NOW_MS
    for number, (what, order, passed_ms) in enumerate(steps):
        now_ms += passed_ms
        order_id = f"order-{6 + order}"
        if number == at:
            world.census.count_opened()
        make: dict[str, Any] = {
            "command": lambda o=order_id: manager.command(o),
            "other": lambda o=order_id: manager.command(o, OTHER_COMMAND),
            "cancel": lambda o=order_id: manager.cancel(o),
            "details": lambda o=order_id: manager.details(o),
            "missing": lambda: manager.not_found(1),
            "sent": manager.sent,
            "failed": lambda: manager.failed(permanent=False),
            "refused": lambda: manager.failed(permanent=True),
        }
        if what == "due":
            world.run(
                due=[key for key in manager.rows if state_codec.due_of(manager.rows[key]) <= now_ms], now_ms=now_ms
            )
        else:
            world.run(make[what](), make[what](), now_ms=now_ms)
    world.census.count_opened()
    assert world.expected() == world.found()
    store.close()


# The rows of one instant, in another thread.


def test_closing_ends_whoever_reads(store: Partition) -> None:
    """A cursor would keep the files locked: nobody could open the partition again in this process."""
    manager = Manager()
    store.write(manager.run(*(manager.command(f"order-{n}") for n in range(100))).changes, 1, NOW_MS)
    reading, ended = threading.Event(), []

    def read() -> None:
        try:
            with store.snapshot() as (_, rows):
                for _ in rows:
                    reading.set()
                    time.sleep(0.01)
        except Unavailable as exc:
            ended.append(exc)

    closing = threading.Thread(target=store.close)
    reader = threading.Thread(target=read)
    reader.start()
    assert reading.wait(10)
    closing.start()
    closing.join(10)
    reader.join(10)
    assert 1 == len(ended)
    restored(store.path).close()


def test_snapshot_is_of_one_instant_with_its_position(store: Partition) -> None:
    """What is written after it isn't in it."""
    manager = Manager()
    store.write(manager.run(manager.command("order-1")).changes, 7, NOW_MS)
    with store.snapshot() as (position, rows):
        store.write(manager.run(manager.command("order-2")).changes, 8, NOW_MS)
        assert (7, [b"order-1"]) == (position, [key for key, _ in rows])
    with store.rows_after(None) as rows:
        assert [b"order-1", b"order-2"] == [key for key, _ in rows]
    with store.rows_after(b"order-1") as rows:
        assert [b"order-2"] == [key for key, _ in rows]


def test_readers_don_t_wait_for_each_other(store: Partition) -> None:
    """A question about who waits is answered while a large partition is counted."""
    manager = Manager()
    store.write(manager.run(manager.command("order-1"), manager.command("order-2")).changes, 1, NOW_MS)
    with store.snapshot() as (_, some), store.rows_after(None) as others:
        assert b"order-1" == next(some)[0]
        assert [b"order-1", b"order-2"] == [key for key, _ in others]
        assert b"order-2" == next(some)[0]


# Which of them are stuck.


def test_stuck_are_those_of_the_step_that_wait_for_long(store: Partition) -> None:
    """By step and age; finished ones never."""
    world = World(store)
    manager = world.manager
    world.run(manager.command("old"), manager.command("sending"), now_ms=NOW_MS - DAY_MS)
    world.run(manager.details("sending"), manager.command("young"), manager.cancel("never"))

    def found(step: Step | None, before_ms: int) -> list[tuple[str, str]]:
        with store.rows_after(None) as rows:
            some = stuck(rows, Wanted(step, before_ms))
        assert some.after is None
        return [(one["order_id"], one["state"]) for one in some.processes]

    assert [("old", "awaiting details"), ("sending", "awaiting e-mail"), ("young", "awaiting details")] == found(
        None, NOW_MS
    )
    assert [("old", "awaiting details"), ("sending", "awaiting e-mail")] == found(None, NOW_MS - 1)
    assert [("old", "awaiting details")] == found(Step.AWAITING_DETAILS, NOW_MS - 1)
    assert [] == found(Step.RETRYING_EMAIL, NOW_MS)
    with store.rows_after(None) as rows:
        (first, *_) = stuck(rows, Wanted(None, NOW_MS)).processes
    assert (instant(NOW_MS - DAY_MS), "order details") == (first["received_at"], first["waits_for"])


def test_stuck_goes_on_where_it_stopped(store: Partition) -> None:
    """Out of time after each row: the next question begins behind it."""
    world = World(store)
    world.run(*(world.manager.command(f"order-{n}") for n in range(3)))
    found, after = [], None
    for _ in range(4):
        with store.rows_after(after) as rows:
            some = stuck(rows, Wanted(None, NOW_MS), look_s=-1)
        found += [one["order_id"] for one in some.processes]
        after = some.after
    assert (["order-0", "order-1", "order-2"], None) == (found, after)
