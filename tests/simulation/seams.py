"""
Where the worker meets the world: clients, clocks, threads, disks and logs are replaced there while a simulation runs.

Modules are patched by name: a module that began to use another client or clock would show up as a call outside of
any world, or as two runs of one seed that differ.
"""

from __future__ import annotations

import traceback
import uuid
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from queue import Empty
from types import SimpleNamespace
from typing import Any, Final
from unittest.mock import patch

from streams import metrics
from tests.simulation.admin import AdminClient
from tests.simulation.consumer import Consumer
from tests.simulation.disk import Database, Shutil
from tests.simulation.kernel import EPOCH_MS, NEVER_S, Fiber, the_world
from tests.simulation.producer import Producer


class Time:
    """`time`, of the running process."""

    @staticmethod
    def monotonic() -> float:
        """Return seconds."""
        return 1_000.0 + the_world().now_s

    @staticmethod
    def monotonic_ns() -> int:
        """Return nanoseconds."""
        return int((1_000.0 + the_world().now_s) * 1e9)

    @staticmethod
    def time_ns() -> int:
        """Return the wall clock of the running process's machine, which may be wrong."""
        world = the_world()
        wall_ms = EPOCH_MS + world.wall_shift_ms + world.me().life.wall_offset_ms
        return wall_ms * 1_000_000 + int(world.now_s * 1e9)


class Condition:
    """`threading.Condition`: one fiber runs at a time, and only sleeps in `wait`, so it needs no lock."""

    def __init__(self) -> None:
        self._waiting: list[Fiber] = []

    def __enter__(self) -> None:
        """Lock."""
        the_world().me()

    def __exit__(self, *_: object) -> None:
        """Unlock."""

    def wait(self, timeout_s: float) -> bool:
        """Sleep until told, or longer than *timeout_s*: a thread may be slow."""
        return self._sleep(timeout_s * (1.0 + 4.0 * the_world().random.random()))

    def _sleep(self, wait_s: float) -> bool:
        world = the_world()
        fiber = world.me()
        self._waiting.append(fiber)
        woken = world.sleep(wait_s)
        if fiber in self._waiting:
            self._waiting.remove(fiber)
        return woken

    def wait_for(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Sleep until *condition*."""
        world = the_world()
        until_s = world.now_s + timeout_s
        while not condition():
            if world.now_s >= until_s:
                return False
            self._sleep(until_s - world.now_s)
        return True

    def notify_all(self) -> None:
        """Wake all."""
        waiting, self._waiting = self._waiting, []
        for fiber in waiting:
            fiber.notify()


class Event:
    """`threading.Event`."""

    def __init__(self) -> None:
        self._set = False
        self._changed = Condition()

    def is_set(self) -> bool:
        """Whether it is set."""
        return self._set

    def set(self) -> None:
        """Set it; may be called from outside of any process."""
        self._set = True
        self._changed.notify_all()

    def wait(self, timeout_s: float) -> bool:
        """Sleep until it is set."""
        return self._changed.wait_for(self.is_set, timeout_s)


class SimpleQueue:
    """`queue.SimpleQueue`."""

    def __class_getitem__(cls, _item: object) -> type[SimpleQueue]:
        """Take the type of what is in it."""
        return cls

    def __init__(self) -> None:
        self._items: deque[Any] = deque()
        self._changed = Condition()

    def put(self, item: Any) -> None:
        """Append *item*; wakes whoever waits for one."""
        self._items.append(item)
        self._changed.notify_all()

    def get(self, timeout: float = NEVER_S) -> Any:
        """Sleep until there is an item, and take it; `queue.Empty` after *timeout* seconds."""
        if not self._changed.wait_for(lambda: bool(self._items), timeout):
            raise Empty
        return self._items.popleft()


class Thread:
    """`threading.Thread`, as a fiber of the process that starts it."""

    def __init__(self, target: Callable[[], None], name: str, daemon: bool) -> None:
        assert daemon
        self._target = target
        self._name = name
        self._fiber: Fiber | None = None
        self._ended = Event()

    def start(self) -> None:
        """Begin."""
        self._fiber = the_world().me().life.start(self._target, self._name)
        self._fiber.ended.append(self._ended.set)

    def join(self, timeout_s: float) -> None:
        """Sleep until it has ended."""
        self._ended.wait(timeout_s)

    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._fiber is not None and not self._fiber.done


class Log:
    """What the worker logs, into the trace; some lines must never come."""

    _NEVER: Final = frozenset({"restore failed", "the session's thread failed"})
    _HELD: Final = "partition held"

    def warning(self, event: str, *args: Any, **fields: Any) -> None:
        """See `structlog`, and `logging`."""
        world = the_world()
        life = world.me().life
        if world.tracing:
            words = " ".join(f"{name}={value!r}" for name, value in fields.items() if name != "exc_info")
            world.note(f"{life.name}: log: {event % args if args else event} {words}")

    info = warning

    def error(self, event: str, *args: Any, **fields: Any) -> None:
        """See `structlog`."""
        self.warning(event, *args, **fields)
        if event.startswith(self._HELD):
            the_world().violation(f"{event}: {fields}")

    def exception(self, event: str, **fields: Any) -> None:
        """See `structlog`: our own code failed."""
        self.warning(event, **fields)
        the_world().violation(f"{event}: {fields}\n{traceback.format_exc()}")


class Silent:
    """A client's own log."""

    def log(self, *_: object) -> None:
        """Keep it to itself."""


class Meter:
    """A metric that nobody reads."""

    def __call__(self, *_: Any, **__: Any) -> Meter:
        """Take anything."""
        return self

    inc = set = observe = labels = time = __call__

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(self, *_: object) -> None:
        """Do nothing."""


class Doubts:
    """The metric of mails in doubt, counted with the faults."""

    @staticmethod
    def labels(then: str) -> Meter:
        """Count one; what is done with it is *then*."""
        the_world().happens(f"mail in doubt, {then}")
        return Meter()


class Uuid:
    """`uuid`, whose random ones are the seed's."""

    UUID = uuid.UUID

    @staticmethod
    def uuid4() -> uuid.UUID:
        """Return one."""
        return uuid.UUID(int=the_world().random.getrandbits(128), version=4)


class Asyncio:
    """`asyncio`, as far as mails are delivered with it: one after the other, in a fiber."""

    @staticmethod
    def get_running_loop() -> SimpleNamespace:
        """Return what knows the time."""
        return SimpleNamespace(time=Time.monotonic)

    @staticmethod
    async def gather(*coroutines: Coroutine[Any, Any, Any], return_exceptions: bool) -> list[Any]:
        """Run all; an error of one stands for its result."""
        assert return_exceptions
        results: list[Any] = []
        try:
            for coroutine in coroutines:
                try:
                    results.append(await coroutine)
                except Exception as exc:  # noqa: BLE001 - as gather does.
                    results.append(exc)
        finally:
            for coroutine in coroutines:
                coroutine.close()
        return results


_THREADING: Final = SimpleNamespace(Condition=Condition, Event=Event, Thread=Thread)
_PATCHES: Final[dict[str, dict[str, Any]]] = {
    "streams.transport.member": {"Consumer": Consumer, "time": Time, "log": Log()},
    "streams.transport.heartbeats": {"time": Time, "log": Log(), "_librdkafka": Silent()},
    "streams.transport.transaction": {"Producer": Producer, "time": Time},
    "streams.transport.caller": {"threading": _THREADING, "SimpleQueue": SimpleQueue},
    "streams.processing.places": {"time": Time, "log": Log()},
    "streams.transport.driver": {"threading": _THREADING, "time": Time, "log": Log()},
    "streams.store.changelog": {"Consumer": Consumer, "AdminClient": AdminClient, "time": Time, "log": Log()},
    "streams.store.restore": {"threading": _THREADING, "time": Time, "log": Log()},
    "streams.store.partition": {"Rdict": Database, "shutil": Shutil, "log": Log()},
    "streams.processing.end_offsets": {"AdminClient": AdminClient, "time": Time, "log": Log()},
    "streams.processing.dead_letters": {"time": Time, "log": Log()},
    "streams.processing.session": {"time": Time, "log": Log()},
    "streams.processing.clock": {"log": Log()},
    "streams.services.email.service": {"asyncio": Asyncio, "log": Log()},
    "streams.services.email.notes": {"uuid": Uuid},
}
_METRICS: Final = ("COMMIT_SECONDS", "BATCH_RECORDS", "ABORTS", "SESSIONS", "DEAD_LETTERS", "DECISIONS", "PARTITIONS")


@contextmanager
def simulated() -> Iterator[None]:
    """Run the worker's code on simulated clients, clocks, threads and disks."""
    with ExitStack() as stack:
        for module, names in _PATCHES.items():
            stack.enter_context(patch.multiple(module, **names))
        meters: dict[str, Any] = dict.fromkeys(_METRICS, Meter())
        stack.enter_context(patch.multiple(metrics, **meters, MAILS_IN_DOUBT=Doubts))
        yield
