"""What can't be handled goes to the dead letters, whole, in the transaction that passes it; the batch goes on."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

from confluent_kafka import Producer

from schemas.catalog import Catalog
from schemas.codec import Codec
from streams.local.kafka import LocalKafka
from streams.processing.clock import Clock
from streams.processing.process_manager import ProcessManager
from streams.settings import Settings
from streams.transport import config
from streams.transport.partitioner import partition_of
from tests.broker.harness import (
    PARTITIONS,
    Worker,
    committed,
    ends,
    keys_of_partition,
    read_all,
    sent,
    settings_for,
    wait_for,
)
from tests.broker.test_deadlines import Wall
from tests.streams.manager import COMMAND, RETRIEVED, command_fields, order_fields, refuse_to_resolve
from topology.policy import DAY_MS, Policy
from topology.topics import COMMANDS, DEAD_LETTERS, DETAILS

CODEC = Codec(Catalog.from_files())
NUMBER = 1
BEFORE, MISKEYED, NO_VALUE, CROWDED, AFTER = keys_of_partition(NUMBER, 5)
ELSEWHERE = keys_of_partition(NUMBER + 1, 1)[0]
HEADERS: list[tuple[str, str | bytes | None]] = [("ce_id", b"abc"), ("twice", b"1"), ("twice", b"\xff\x00")]
PROCESSES_MAX = 100


def command(key: str, command_id: str | None = None) -> bytes:
    """Return a command's value."""
    return CODEC.encode_record(COMMAND, command_fields(key, command_id or str(uuid.uuid4())))


def details(key: str) -> bytes:
    """Return the value of an order's details."""
    return CODEC.encode_record(RETRIEVED, {"retrieved_at": 1, "order": order_fields(key)})


def worker_of(settings: Settings, directory: Path, clock: Clock | None = None) -> Worker:
    """Return a worker of the process manager."""
    manager = ProcessManager(CODEC, refuse_to_resolve, Policy(), PARTITIONS)
    return Worker(settings, directory, function=manager, clock=clock)


def letters(settings: Settings) -> list[Any]:
    """Return the dead letters in the order of their offsets."""
    return sorted(read_all(settings, DEAD_LETTERS.name), key=lambda message: message.offset())


def test_each_reason_leads_to_a_dead_letter_with_everything_in_it(
    kafka: LocalKafka, unique: str, tmp_path: Path
) -> None:
    """Raw key and value, the original headers, where it was and why; the orders around it have their e-mails."""
    settings = settings_for(kafka.bootstrap_servers, unique)
    good = command(MISKEYED)
    refused: list[tuple[str, bytes | None, bytes | None]] = [
        ("not-framed", b"k", b"\x01 no record"),
        ("unknown-schema", b"k", b"\x00\x00\x0f\xff\xff" + good[5:]),
        ("truncated", MISKEYED.encode(), good[:-1]),
        ("trailing-bytes", MISKEYED.encode(), good + b"\x00"),
        ("unexpected-record", MISKEYED.encode(), details(MISKEYED)),
        ("key-mismatch", BEFORE.encode(), good),
        ("null", None, good),
        ("null", NO_VALUE.encode(), None),
        ("wrong-partition", ELSEWHERE.encode(), command(ELSEWHERE)),
    ]
    crowd = [command(CROWDED) for _ in range(PROCESSES_MAX)]
    one_more = command(CROWDED)
    records = [
        (BEFORE.encode(), command(BEFORE)),
        *((key, value) for _, key, value in refused),
        *((CROWDED.encode(), value) for value in [*crowd, one_more]),
        (AFTER.encode(), command(AFTER)),
    ]
    producer = Producer(config.plain_producer(settings))
    for key, value in records:
        producer.produce(settings.topic(COMMANDS.name), value, key, NUMBER, headers=HEADERS)
    for order_id in (BEFORE, AFTER):
        producer.produce(settings.topic(DETAILS.name), details(order_id), order_id, NUMBER)
    assert 0 == producer.flush(20)
    with worker_of(settings, tmp_path / "state"):
        wait_for(lambda: len(sent(settings)) == 2, "the good orders' e-mails")
        wait_for(lambda: len(letters(settings)) == len(refused) + 1, "the dead letters")
        wait_for(lambda: committed(settings) == ends(settings), "all is read")
    found = letters(settings)
    offsets = [*range(1, len(refused) + 1), len(records) - 2]
    expected = [*refused, ("too-many-processes", CROWDED.encode(), one_more)]
    assert expected == [(_reason(letter), letter.key(), letter.value()) for letter in found]
    assert [HEADERS] * len(found) == [letter.headers()[: len(HEADERS)] for letter in found]
    where = [_about(letter, "topic", "partition", "offset") for letter in found]
    assert [[settings.topic(COMMANDS.name), str(NUMBER), str(offset)] for offset in offsets] == where
    assert {NUMBER} == {letter.partition() for letter in found}
    assert {BEFORE: 1, AFTER: 1} == sent(settings)


def _reason(letter: Any) -> str:
    return str(dict(letter.headers())["rejoinder.reason"].decode())


def _about(letter: Any, *names: str) -> list[str]:
    headers = dict(letter.headers())
    return [headers[f"__streams.errors.{name}"].decode() for name in names]


def test_record_older_than_what_is_remembered_is_a_dead_letter(kafka: LocalKafka, unique: str, tmp_path: Path) -> None:
    """After five weeks of downtime nobody knows any more whether a command was carried out: a person decides."""
    settings = settings_for(kafka.bootstrap_servers, unique)
    producer = Producer(config.plain_producer(settings))
    for topic, value in ((COMMANDS, command(BEFORE)), (DETAILS, details(BEFORE))):
        producer.produce(settings.topic(topic.name), value, BEFORE.encode(), partition_of(BEFORE.encode(), PARTITIONS))
    assert 0 == producer.flush(20)
    with worker_of(settings, tmp_path / "state", Wall(36 * DAY_MS).clock):
        wait_for(lambda: len(letters(settings)) == 2, "two dead letters")
    assert ["expired", "expired"] == [_reason(letter) for letter in letters(settings)]
    assert {} == sent(settings)
