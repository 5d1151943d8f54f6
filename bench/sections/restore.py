"""How fast a lost table comes back from its changelog."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from bench.contenders import Contender, Place, delete, forget, meter
from bench.dataset import Templates, order_id, wait_until
from bench.figures import Bar, Figures, rounds
from bench.join import PARTITIONS
from bench.sections.joins import OURS, STREAMS
from bench.stage import Outcome, Stage, compare, say, spread_of
from bench.watching import Running
from schemas import state_codec
from schemas.catalog import Catalog
from schemas.codec import Codec
from streams.transport import config
from streams.transport.partitioner import partition_of
from topology.events import Cause
from topology.policy import Policy
from topology.process import decide
from topology.state import Order
from topology.topics import DETAILS, PROCESSES_CHANGELOG

TRANSACTION_RECORDS: Final = 10_000
CALL_S: Final = 120.0
RATE_MIN: Final = 2_000
"""Records a second; slower is taken for a standstill."""
PER_SECOND: Final = 150_000


class Restored(NamedTuple):
    """When restoring began and ended, Unix seconds, and how many records it took."""

    begin_s: float
    end_s: float
    records: int


def row_parts(templates: Templates, now_ms: int) -> list[bytes]:
    """Return the row of an order whose details wait, as our worker writes it, around its order's id."""
    key, number = order_id(0).encode(), 0
    codec = Codec(Catalog.from_files())
    order, policy = Order(key.decode()), Policy()
    details = codec.decode(DETAILS.records, key, templates.details(number).value)
    decide(order, details, Cause(DETAILS.name, 0), now_ms, policy)
    row = state_codec.encode(order, order.next_due_ms(policy.details_ttl_ms, policy.finished_ttl_ms))
    assert row is not None
    return row.split(key)


def fill(place: Place, topic: str, count: int, parts: list[bytes]) -> None:
    """Write *count* rows to the changelog *topic*, in transactions as a worker does."""
    producer = Producer(
        config.common(place.settings)
        | {
            "transactional.id": f"{place.name}-fill",
            "compression.type": "lz4",
            "linger.ms": 5,
            "queue.buffering.max.messages": 1_000_000,
        }
    )
    producer.init_transactions(CALL_S)
    for begin in range(0, count, TRANSACTION_RECORDS):
        producer.begin_transaction()
        for number in range(begin, min(begin + TRANSACTION_RECORDS, count)):
            key = order_id(number).encode()
            producer.produce(topic, key.join(parts), key, partition_of(key, PARTITIONS))
        producer.poll(0)
        producer.commit_transaction(CALL_S)


def from_our_log(lines: Iterable[Mapping[str, Any]]) -> Restored | None:
    """Return what our worker's log says of a restore of all partitions, None while it isn't over."""
    began: dict[int, float] = {}
    ended: dict[int, tuple[float, int]] = {}
    for line in lines:
        if line.get("event") in {"restoring", "restored"}:
            at_s = datetime.fromisoformat(line["timestamp"]).timestamp()
            if line["event"] == "restoring":
                began.setdefault(line["partition"], at_s)
            else:
                ended[line["partition"]] = at_s, line["rows"]
    return _restored(began, ended)


def from_streams_log(lines: Iterable[Mapping[str, Any]]) -> Restored | None:
    """Return the same of Kafka Streams, as the peer's listener says it."""
    began: dict[int, float] = {}
    ended: dict[int, tuple[float, int]] = {}
    for line in lines:
        if line.get("restore") == "start":
            began.setdefault(line["partition"], line["at_ms"] / 1_000)
        elif line.get("restore") == "end":
            ended[line["partition"]] = line["at_ms"] / 1_000, line["records"]
    return _restored(began, ended)


def _restored(began: Mapping[int, float], ended: Mapping[int, tuple[float, int]]) -> Restored | None:
    if len(ended) < PARTITIONS:
        return None
    records = sum(count for _, count in ended.values())
    return Restored(min(began.values()), max(at_s for at_s, _ in ended.values()), records)


def log_lines(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a log that are JSON objects."""
    found = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("{") and line.endswith("}"):
            try:
                found.append(json.loads(line))
            except ValueError:  # Somebody else's line in braces.
                continue
    return found


def restore(stage: Stage) -> Outcome:
    """Each restores the same rows from a changelog of its own, into an empty directory."""
    count = stage.sizes.restore_rows
    place = stage.fresh("restore")
    changelogs = {
        OURS.name: place.settings.topic(PROCESSES_CHANGELOG.name),
        STREAMS.name: f"{place.name}-orders-changelog",
    }
    admin = AdminClient({"bootstrap.servers": place.bootstrap_servers, "log_level": 0})
    new = NewTopic(changelogs[STREAMS.name], PARTITIONS, 1, config=PROCESSES_CHANGELOG.config)
    admin.create_topics([new])[new.topic].result(CALL_S)
    STREAMS.prepare(place)
    # Seen an hour ago: nothing falls due meanwhile.
    parts = row_parts(stage.templates, _now_ms() - 3_600_000)
    for topic in changelogs.values():
        say(f"writing {count:,} rows to {topic}")
        fill(place, topic, count, parts)
    contenders: dict[str, Contender] = {OURS.name: OURS, STREAMS.name: STREAMS}
    rows: dict[str, list[Figures]] = {name: [] for name in contenders}
    for number, order in enumerate(rounds(list(contenders), stage.sizes.rounds)):
        for name in order:
            directory = place.directory / f"{number}-{len(rows[name])}-{'ours' if name == OURS.name else 'peer'}"
            figures = _trial(contenders[name], place._replace(directory=directory), count, ours=name == OURS.name)
            rows[name].append(figures)
            say(f"{name}: {figures['restored_per_s']:,.0f} records/s, {figures['peak_mib']:.0f} MiB")
    delete(place.bootstrap_servers, lambda topic: topic.startswith(place.prefix))
    forget(place)
    bars = [
        Bar("restored records/s", compare(rows, "restored_per_s", OURS.name, STREAMS.name), 1.0),
        Bar("the same, ours alone", spread_of(rows, "restored_per_s", OURS.name), PER_SECOND, unit="/s"),
    ]
    size = sum(map(len, parts)) + len(order_id(0))
    return Outcome(rows, bars, f"{count:,} rows of {size} bytes in {PARTITIONS} partitions, into an empty directory.")


def _trial(contender: Contender, place: Place, count: int, ours: bool) -> Figures:
    running: Running = contender.start(place)
    try:
        used = meter(running)
        path = place.directory / ("worker-0.log" if ours else "peer.log")
        read = from_our_log if ours else from_streams_log

        def over() -> Restored | None:
            running.check()
            return read(log_lines(path))

        wait_until(over, 60 + count / RATE_MIN, running.tail())
        restored = over()
        cpu_s, peak_mib = used.cpu_s(), max(used.peak_mib())
    finally:
        running.stop()
    assert restored is not None
    # Kafka Streams counts the markers of transactions too.
    assert restored.records >= count, f"{restored.records} of {count} rows restored\n{running.tail()}"
    seconds = max(restored.end_s - restored.begin_s, 1e-3)
    return {
        "restored_per_s": count / seconds,
        "restore_s": seconds,
        "cpu_us_per_record": cpu_s * 1e6 / count,
        "peak_mib": peak_mib,
    }


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
