"""The judge: reads every topic once from its beginning, a partition number at a time, in processes of its own."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from schemas import state_codec
from streams.errors import Corrupt
from streams.settings import Settings
from streams.transport import config
from tests.chaos import stores
from tests.chaos.checks import Tally, Violation, judge
from tests.chaos.history import Historian, History, read
from tests.chaos.model import Step
from tests.chaos.plan import Plan
from topology.policy import Policy
from topology.topics import (
    COMMANDS,
    DEAD_LETTERS,
    DETAILS,
    EMAIL_COMMANDS,
    EMAIL_EVENTS,
    OUTCOMES,
    PROCESSES_CHANGELOG,
    QUERIES,
)

TOPICS_READ: Final = (COMMANDS, DETAILS, EMAIL_EVENTS, QUERIES, EMAIL_COMMANDS, OUTCOMES, DEAD_LETTERS)
VIOLATIONS_MAX: Final = 100
"""Kept of each partition; all are counted."""
PROCESSES: Final = 2


class Job(NamedTuple):
    """One partition number to judge."""

    client: Mapping[str, Any]
    topics: Mapping[str, str]
    """The cluster's names of declared topics."""
    seed: int
    partition: int
    policy: Policy
    directory: Path
    application_id: str


@dataclass(slots=True)
class Verdict:
    """What was found; *violations* are the first of them, *wrong* counts all by check."""

    tally: Tally = field(default_factory=Tally)
    violations: list[Violation] = field(default_factory=list)
    wrong: dict[str, int] = field(default_factory=dict)

    def take(self, violation: Violation) -> None:
        """Count *violation*, and keep it while there is room."""
        self.wrong[violation.check] = self.wrong.get(violation.check, 0) + 1
        if len(self.violations) < VIOLATIONS_MAX:
            self.violations.append(violation)

    def add(self, other: Verdict) -> None:
        """Add *other*."""
        self.tally.add(other.tally)
        self.violations += other.violations
        for check, times in other.wrong.items():
            self.wrong[check] = self.wrong.get(check, 0) + times


def judge_all(settings: Settings, seed: int, directory: Path, show: Callable[[int], None]) -> Verdict:
    """Judge every partition; *show* is told how many are done. Workers must have stopped."""
    names = {topic.name: settings.topic(topic.name) for topic in (*TOPICS_READ, PROCESSES_CHANGELOG)}
    client = config.common(settings)
    verdict = Verdict()
    with ProcessPoolExecutor(PROCESSES, multiprocessing.get_context("spawn")) as pool:
        jobs = [
            pool.submit(
                judge_partition,
                Job(client, names, seed, number, settings.policy, directory, settings.application_id),
            )
            for number in range(settings.partitions)
        ]
        for done, job in enumerate(as_completed(jobs), start=1):
            verdict.add(job.result())
            show(done)
    return verdict


def judge_partition(job: Job) -> Verdict:
    """Judge one partition number: C1 to C5."""
    plan = Plan(job.seed)
    verdict = Verdict()
    historian = Historian(plan, job.partition)
    for topic in TOPICS_READ:
        for message in read(job.client, job.topics[topic.name], job.partition):
            historian.take(topic.name, message)
    table = _check_stores(job, verdict)
    for number in sorted(historian.orders):
        history = historian.orders[number]
        for violation in judge(history, steps_of(history, table), job.policy, verdict.tally):
            verdict.take(violation)
    return verdict


def steps_of(history: History, table: Mapping[bytes, bytes]) -> dict[int, Step]:
    """Return where the table says that each command of an order stands, by the command's index."""
    order = history.order
    row = table.get(order.id.encode())
    if row is None:
        return {}
    processes = state_codec.decode(order.id, row).processes
    ids = {id_: index for index, id_ in enumerate(history.command_ids)}
    return {ids[id_]: Step(int(process.step)) for id_, process in processes.items() if id_ in ids}


def _check_stores(job: Job, verdict: Verdict) -> dict[bytes, bytes]:
    """Do C5; return the table as the changelog has it."""
    paths = stores.find(job.directory, job.application_id, job.partition)
    opened = []
    try:
        opened = stores.open_all(paths, job.partition)
    except Corrupt as exc:
        verdict.take(Violation("C5", "", str(exc)))
    tally = verdict.tally
    try:
        replayed = stores.check(_rows(job, tally), [found for found, _ in opened], job.partition)
    finally:
        for _, store in opened:
            store.close()
    for violation in replayed.violations:
        verdict.take(violation)
    newest = max((found.store.position for found, _ in opened), default=0)
    tally.stores += len(opened)
    tally.stale_stores += sum(found.store.position < newest for found, _ in opened)
    tally.checked["C5"] += replayed.compared
    return replayed.table


def _rows(job: Job, tally: Tally) -> Iterator[stores.Row]:
    for message in read(job.client, job.topics[PROCESSES_CHANGELOG.name], job.partition):
        tally.rows += 1
        yield stores.Row(message.offset, message.key, message.value)
