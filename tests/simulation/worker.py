"""
The workers, one process a life, on machines that keep a disk, an instance id and a supervisor.

What runs is the real session, transaction, member, committer, restorer and process manager, as `streams.frame` wires
them.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from schemas.catalog import Catalog, UnknownSchema
from schemas.codec import Codec
from streams import settings as settings_module
from streams.batch import Batch, Record
from streams.errors import ConfigurationError, Unavailable
from streams.processing.clock import Clock
from streams.processing.commit import Committer, Work
from streams.processing.end_offsets import EndOffsets
from streams.processing.logic import Transactional
from streams.processing.process_manager import INPUTS, ProcessManager
from streams.processing.session import Due, Logic, Session
from streams.processing.task import Phase, Task
from streams.settings import Settings
from streams.store.options import StoreOptions
from streams.store.partition import Partition
from streams.store.restore import Restorer
from streams.transport import config
from streams.transport.driver import SessionThread
from streams.transport.member import GroupOffsets, Member
from streams.transport.transaction import SessionOver, Transaction
from tests.simulation.disk import small_options
from tests.simulation.kernel import Life, World
from tests.simulation.log import Place
from tests.simulation.seams import Time
from topology.policy import DAY_MS, SECOND_MS, Policy
from topology.topics import PROCESSES_CHANGELOG

if TYPE_CHECKING:
    from tests.simulation.checker import Checker

INPUT_NAMES: Final = tuple(topic.name for topic in INPUTS)
PARTITIONS: Final = 2
POLICY: Final = Policy(
    details_max_age_ms=40 * SECOND_MS,
    details_ttl_ms=5 * DAY_MS,
    retry_first_ms=3 * SECOND_MS,
    retry_most_ms=12 * SECOND_MS,
    give_up_after_ms=100 * SECOND_MS,
    email_attempts=4,
    email_outcome_wait_ms=80 * SECOND_MS,
    finished_ttl_ms=10 * DAY_MS,
)
"""Production's rules with waits that pass within a simulated minute or two."""


@cache
def codec() -> Codec:
    """Return the codec of all worlds."""
    return Codec(Catalog.from_files())


@cache
def options() -> StoreOptions:
    """Return the stores' options of all worlds: one budget of memory for all."""
    return small_options()


@cache
def settings_of(instance: str) -> Settings:
    """Return the settings of one instance."""
    return settings_module.load(
        instance_id=instance, partitions=PARTITIONS, transaction_timeout=10_000, application_id="simulated"
    )


class Configs(NamedTuple):
    """librdkafka's configurations of one instance in one group; the settings read the environment for each."""

    common: dict[str, Any]
    member: dict[str, Any]
    transactional: dict[str, Any]


@cache
def configs_of(instance: str, group: str) -> Configs:
    """Return the configurations, made once."""
    settings = settings_of(instance)
    return Configs(config.common(settings), config.member(settings, group), config.transactional(settings, group))


class WatchedClock(Clock):
    """The clock of one process, and when it was read."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.reads_ms: list[int] = []
        self.reads_s: list[float] = []
        super().__init__(Time.time_ns, Time.monotonic_ns)

    def read(self) -> int:
        """See `Clock`."""
        now_ms = super().read()
        if not self.reads_ms or now_ms > self.reads_ms[-1]:
            self.reads_ms.append(now_ms)
            self.reads_s.append(self._world.now_s)
        return now_ms

    def reached_s(self, instant_ms: int) -> float:
        """Return when it was first read to be *instant_ms* or later."""
        return self.reads_s[bisect.bisect_left(self.reads_ms, instant_ms)]


class WatchedSession(Session):
    """A session that shows which deadlines fire."""

    def __init__(self, *args: Any) -> None:
        self.firing: Due = {}
        super().__init__(*args)

    def decide(
        self, decide: Callable[[Batch], object], records: Mapping[Task, Sequence[Record]], due: Due
    ) -> list[Work]:
        """See `Session`."""
        self.firing = due
        return super().decide(decide, records, due)


class Worker(Life):
    """One process of a worker."""

    group = "simulated-worker"
    inputs: tuple[str, ...] = INPUT_NAMES
    changelog = PROCESSES_CHANGELOG.name

    def __init__(self, world: World, name: str, instance: str, directory: Path, checker: Checker) -> None:
        super().__init__(world, name)
        self.instance = instance
        self.directory = directory
        self.checker = checker
        self.session: WatchedSession | None = None
        self.stores: dict[int, Partition] = {}
        self.decided: list[Any] = []
        self.begun: list[Any] = []
        self.stopped = False
        self._thread: SessionThread | None = None

    @staticmethod
    def damage(directory: Path, world: World) -> None:
        """Damage what else lies in *directory*, between two lives."""

    def main(self) -> None:
        """Be the process."""
        self.clock = WatchedClock(self.world)
        settings = settings_of(self.instance)
        self.configs = configs_of(self.instance, self.group)
        self.end_offsets = EndOffsets(self.configs.common, settings.topic)
        self.logic = self.open_logic()
        self._thread = SessionThread(self._open_session, self._crash)
        if not self.stopped:  # Told to stop before it had begun, it has nothing to do but to end.
            self._thread.run()
        self.world.at(self.world.now_s, self.kill)

    def open_logic(self) -> Logic:
        """Return what it does with batches."""
        manager = ProcessManager(codec(), self.resolve, POLICY, PARTITIONS)

        def advance(batch: Batch) -> None:
            self.checker.deciding(self, batch)
            manager(batch)
            self.checker.decided(self, batch)

        return Transactional(advance, settings_of(self.instance).batch_records)

    def stop(self) -> None:
        """Let it end its turn and leave the group (SIGTERM)."""
        self.stopped = True
        if self._thread is not None:
            self._thread._stopping.set()

    def _crash(self, exc: BaseException) -> None:
        if self.dead:
            return
        self.world.trace(f"{self.name}: ends with {type(exc).__name__}: {exc}")
        self.world.happens(f"process ended by {type(exc).__name__}")
        if not isinstance(exc, (ConfigurationError, SessionOver, Unavailable)):
            self.world.violation(f"{self.name}: {exc!r}")

    def resolve(self, schema_id: int) -> None:
        """Know no further schema, if the registry answers at all."""
        if self.world.plan.registry_away_until_s > self.world.now_s:
            self.world.happens("registry asked in vain")
            raise Unavailable("the registry doesn't answer")
        raise UnknownSchema(schema_id)

    def _open_session(self) -> Session:
        settings = settings_of(self.instance)
        group, changelog = self.group, settings.topic(self.changelog)
        names = {name: settings.topic(name) for name in self.inputs}
        transaction = Transaction(self.configs.transactional)
        self.session = WatchedSession(
            self.inputs,
            self.logic,
            lambda listener: Member(self.configs.member, names, listener, settings.linger / 1000),
            transaction,
            Committer(transaction, settings.topic, changelog),
            lambda stable: Restorer(self.configs.common, changelog, self._open_partition, stable),
            GroupOffsets(self.configs.common, group, names),
            self.end_offsets,
            self.clock,
            self.stores,
        )
        return self.session

    def _open_partition(self, number: int) -> Partition:
        return Partition.open(self.directory / str(number), options())

    @property
    def running(self) -> set[int]:
        """The partition numbers that it works on, and that are its own by what the group says."""
        if self.dead or self.session is None or self.session.closed:
            return set()
        consumer: Any = self.session.member._consumer
        owned = consumer.owned_by_group
        return {
            number
            for number, task in self.session.tasks.items()
            if task.phase is Phase.RUNNING and {Place(*place) for place in task.inputs} <= owned
        }


class Machine:
    """A host with a disk, and a supervisor that starts the worker again."""

    def __init__(self, world: World, number: int, checker: Checker, kind: type[Worker] = Worker) -> None:
        self.world = world
        self._kind = kind
        self.instance = f"w{number}"
        self.directory = world.disk.root / self.instance
        self.wall_offset_ms = 0
        self.worker: Worker | None = None
        self.wanted = True
        self.down_until_s = 0.0
        self._checker = checker
        self._lives = 0

    def start(self) -> None:
        """Start a process unless one runs, isn't wanted, or the machine is down."""
        world = self.world
        if (self.worker is not None and not self.worker.dead) or not self.wanted:
            return
        if world.now_s < self.down_until_s:
            world.at(self.down_until_s, self.start)
            return
        if self._lives and world.plan.on("store damage") and world.random.random() < 0.5 and self.directory.exists():
            if world.random.random() < 0.5:
                world.disk.remember(self.directory)
            elif what := world.disk.damage(self.directory):
                world.trace(f"{self.instance}: {what}")
                world.happens("store damage")
                world.happens(what)
            self._kind.damage(self.directory, world)
        self._lives += 1
        self.worker = self._new(f"{self.instance}.{self._lives}", self.directory)

    def _new(self, name: str, directory: Path) -> Worker:
        directory.mkdir(parents=True, exist_ok=True)
        worker = self._kind(self.world, name, self.instance, directory, self._checker)
        worker.wall_offset_ms = self.wall_offset_ms
        worker.at_death.append(lambda: self._died(worker))
        self._checker.workers.append(worker)
        self.world.trace(f"{name}: starts")
        worker.start(worker.main, "session")
        return worker

    def _died(self, worker: Worker) -> None:
        if worker is self.worker:
            wait_s = self.world.random.choice((0.1, 2.0, 15.0)) if self.world.plan.active else 0.5
            self.world.after(wait_s, self.start)

    def twin(self, for_s: float) -> None:
        """Somebody starts a second process of this instance id on another machine, and ends it after a while."""
        self._lives += 1
        other = self._new(
            f"{self.instance}.{self._lives}-twin", self.directory.with_name(f"{self.instance}-{self._lives}")
        )
        self.world.after(for_s, other.kill)

    def jump(self, by_ms: int) -> None:
        """Set the wall clock."""
        self.wall_offset_ms += by_ms
        if self.worker is not None:
            self.worker.wall_offset_ms = self.wall_offset_ms
