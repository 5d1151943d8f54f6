"""
Watching a trial: how far its output is visible, what its processes use, and at the end every record of it.

While a trial runs, nothing is read from its output: the ends of its partitions, as a committed reader sees them, are
asked for some times a second. What came out is read and checked when it is over.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import psutil
from confluent_kafka import OFFSET_BEGINNING, Consumer, IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from bench.dataset import Check
from bench.figures import Figures, Sample, course
from bench.join import PARTITIONS
from streams.offsets import list_offsets
from streams.settings import Settings
from streams.transport import config

SAMPLE_S: Final = 0.05
CHILDREN_S: Final = 1.0
"""How often new children are looked for, which takes a look at all processes of the machine."""
STALL_S: Final = 180.0
SETTLE_S: Final = 3.0
"""
How long the output's end must stay where it is: longer than anybody waits between two commits, for markers of
transactions take offsets too, and may make up for the last few records, which are still to come.
"""
CALL_S: Final = 30.0
HEADERS: Final = frozenset(
    {"ce_specversion", "ce_source", "ce_type", "ce_time", "ce_id", "ce_correlationid", "ce_causationid"}
)
HEADERS_EVERY: Final = 1_009
"""Of the records, how many are looked at for their headers."""


class Running(Protocol):
    """A contender at work."""

    @property
    def pids(self) -> Sequence[int]:
        """Its processes."""

    def check(self) -> None:
        """Raise if one of its processes has ended."""

    def stop(self) -> None:
        """End it."""

    def tail(self) -> str:
        """Return the end of its log."""


class Meter:
    """What some processes and their children use."""

    def __init__(self, pids: Sequence[int]) -> None:
        self._roots = [psutil.Process(pid) for pid in pids]
        self._all: list[psutil.Process] = []
        self._looked_s = 0.0

    def _processes(self) -> list[psutil.Process]:
        now_s = time.monotonic()
        if not self._all or now_s - self._looked_s > CHILDREN_S:
            self._all, self._looked_s = list(self._roots), now_s
            for root in self._roots:
                with contextlib.suppress(psutil.NoSuchProcess):
                    self._all += root.children(recursive=True)
        return self._all

    def cpu_s(self) -> float:
        """Return the seconds of processor time that all have used; children that have ended count too."""
        used = 0.0
        for process in self._processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                used += sum(process.cpu_times()[:4])
        return used

    def peak_mib(self) -> list[float]:
        """Return the most memory that each root, with its children, has had resident."""
        peaks = []
        for root in self._roots:
            with contextlib.suppress(psutil.NoSuchProcess):
                peaks.append(sum(_peak_bytes(process) for process in [root, *root.children(recursive=True)]) / 2**20)
        return peaks


def _peak_bytes(process: psutil.Process) -> int:
    """Return the process's highest resident size; where the kernel doesn't say it, the present one."""
    status = Path(f"/proc/{process.pid}/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return int(process.memory_info().rss)


class Ends:
    """The ends of an output topic's partitions, for a reader of committed records."""

    def __init__(self, bootstrap_servers: str, topic: str) -> None:
        self._admin = AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 0})
        latest: OffsetSpec = OffsetSpec.latest()
        self._asked = {TopicPartition(topic, number): latest for number in range(PARTITIONS)}
        self._known: dict[int, int] = {}

    def total(self) -> int:
        """Return the sum of the ends; of a partition that doesn't answer at the moment, the end that it had."""
        found = list_offsets(
            self._admin, self._asked, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=CALL_S
        )
        for partition, future in found.items():
            # A busy broker loses and regains its leadership now and then.
            with contextlib.suppress(KafkaException):
                self._known[partition.partition] = int(future.result(CALL_S).offset)
        return sum(self._known.values())


def watch(
    start: Callable[[], Running], brokers: Sequence[int], ends: Ends, joins: int, meter_of: Callable[[Running], Meter]
) -> tuple[Running, Figures]:
    """Start a contender and sample it until all *joins* are visible; return it, still running, and the figures."""
    broker = Meter(brokers)
    samples = [Sample(time.monotonic(), 0, 0.0, broker.cpu_s())]
    running = start()
    try:
        worker = meter_of(running)
        changed_s = time.monotonic()
        while True:
            time.sleep(SAMPLE_S)
            visible = ends.total()
            now_s = time.monotonic()
            if visible != samples[-1].visible:
                changed_s = now_s
            samples.append(Sample(now_s, visible, worker.cpu_s(), broker.cpu_s()))
            if visible >= joins and now_s - changed_s > SETTLE_S:
                break
            assert now_s - changed_s < STALL_S, f"{visible} of {joins} e-mails, and no more came\n{running.tail()}"
            running.check()
        figures = course(samples, joins)
        peaks = worker.peak_mib()
        figures["peak_mib"] = max(peaks)
        figures["peak_all_mib"] = sum(peaks)
    except BaseException:
        running.stop()
        raise
    return running, figures


def read_all(bootstrap_servers: str, topic: str, check: Check, with_headers: bool) -> None:
    """
    Read all committed records of *topic* and show them to *check*.

    Raises:
        AssertionError: an order has no e-mail, several, or another one than it must; or headers are missing.
    """
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": "bench",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "enable.auto.commit": False,
        }
    )
    consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in range(PARTITIONS)])
    ended: set[int | None] = set()
    until_s = time.monotonic() + STALL_S
    try:
        while len(ended) < PARTITIONS:
            messages = consumer.consume(10_000, 1.0)
            for message in messages:
                until_s = time.monotonic() + STALL_S
                error = message.error()
                if error is None:
                    check.see(message.key() or b"", message.value() or b"")
                    if with_headers and not check.seen % HEADERS_EVERY:
                        names = {header[0] for header in message.headers() or ()}
                        assert names == HEADERS, f"headers {sorted(names)} instead of {sorted(HEADERS)}"
                elif error.code() == KafkaError._PARTITION_EOF:
                    ended.add(message.partition())
                else:
                    raise AssertionError(f"reading {topic}: {error}")
            assert time.monotonic() < until_s, f"{topic} wasn't read to its end"
    finally:
        consumer.close()
    faults = {"missing": check.missing, "repeated": check.repeated, "wrong": check.wrong}
    assert not any(faults.values()), f"of {check.seen} e-mails in {topic}: {faults}"


def prompt_reader(settings: Settings) -> dict[str, Any]:
    """Return the configuration of a consumer that returns what is committed as soon as it can be read."""
    return config.common(settings) | {
        "group.id": "bench",
        "isolation.level": "read_committed",
        "enable.auto.commit": False,
        "fetch.wait.max.ms": 20,
        "fetch.queue.backoff.ms": 1,
    }


def consume_error(message: Any) -> None:
    """Raise what a consumer was handed instead of a record."""
    if message.error() is not None:
        raise AssertionError(str(message.error()))
