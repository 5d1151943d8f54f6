"""Poison of every kind, among good records: all of it in the dead letters, whole and in order, and nothing held up."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import uuid
from collections import Counter
from pathlib import Path
from typing import Any, Final

from confluent_kafka import Producer

from streams.local.kafka import LocalKafka
from streams.transport import config
from streams.transport.partitioner import partition_of
from tests.broker.harness import PARTITIONS, committed, ends, keys, produce, read_all, sent, settings_for, wait_for
from tests.broker.poison import KINDS, LARGE
from tests.broker.test_dead_letters import CODEC, command, details, worker_of
from tests.streams.manager import COMMAND, command_fields
from topology.topics import COMMANDS, DEAD_LETTERS, DETAILS

GOOD: Final = 2_000
EACH: Final = 4


def test_every_poison_record_is_a_dead_letter_and_every_good_one_is_handled(
    kafka: LocalKafka, unique: str, tmp_path: Path
) -> None:
    """In both topics and all partitions: raw bytes, coordinates, reason, in the order of their offsets; none else."""
    settings = settings_for(kafka.bootstrap_servers, unique)
    orders = keys(GOOD)
    producer = Producer(config.plain_producer(settings) | {"linger.ms": 50})
    expected: list[tuple[Any, ...]] = []

    def put(topic: str, partition: int, key: bytes | None, value: bytes | None, reason: str = "") -> None:
        headers: Any = [("number", b"%d" % len(expected)), ("raw", b"\xff\x00"), ("nothing", None)]

        def delivered(error: Any, message: Any) -> None:
            assert error is None, error
            if reason:
                at = (settings.topic(topic), partition, message.offset())
                expected.append((*at, reason, key, value, headers))

        producer.produce(settings.topic(topic), value, key, partition, on_delivery=delivered, headers=headers)
        producer.poll(0)

    makers = itertools.cycle([*KINDS.values(), LARGE])
    poison = len(KINDS) + 1
    for number, order_id in enumerate(orders):
        key = order_id.encode()
        number_of = partition_of(key, PARTITIONS)
        put(DETAILS.name, number_of, key, details(order_id))
        put(COMMANDS.name, number_of, key, command(order_id))
        if number % (GOOD // (EACH * poison)) == 0 and len(expected) < EACH * poison:
            victim = f"victim-{number}"
            value = CODEC.encode_record(COMMAND, command_fields(victim, str(uuid.uuid4())))
            made = next(makers)(victim.encode(), value, number)
            right = number_of if made.key is None else partition_of(made.key, PARTITIONS)
            # A null key goes anywhere, and so does one that is refused before its partition is looked at.
            put(COMMANDS.name, (right + made.elsewhere) % PARTITIONS, made.key, made.value, made.reason)
            producer.flush(20)
    assert 0 == producer.flush(30)
    reasons = Counter(reason for _, _, _, reason, *_ in expected)
    with worker_of(settings, tmp_path / "state"):
        wait_for(lambda: len(sent(settings)) == GOOD, "all good orders' e-mails")
        wait_for(lambda: committed(settings) == ends(settings), "all is read")
    assert dict.fromkeys(orders, 1) == sent(settings)
    letters = sorted(read_all(settings, DEAD_LETTERS.name), key=lambda m: (m.partition(), m.offset()))
    found = [_told(letter) for letter in letters]
    # One topic's records of one partition, in the order of their offsets: as the letters of that partition are.
    assert sorted(expected, key=lambda at: (at[1], at[2])) == found
    assert reasons == Counter(one[3] for one in found)
    assert len(KINDS) - 4 <= len(reasons)


def test_header_name_that_is_no_text_stops_nobody(kafka: LocalKafka, unique: str, tmp_path: Path) -> None:
    """The client fails on it: a good record is handled without its headers, a bad one is a dead letter that says so."""
    settings = settings_for(kafka.bootstrap_servers, unique)
    good, bad = keys(2)
    # Often enough that the interpreter takes its faster paths, which overlook the client's failure.
    env = os.environ | {"AIOKAFKA_NO_EXTENSIONS": "1"}
    for order_id, value in ((good, command(good)), (bad, command(bad)[:-1])):
        where = str(partition_of(order_id.encode(), PARTITIONS))
        arguments = [settings.bootstrap_servers, settings.topic(COMMANDS.name), where, order_id, value.hex(), "30"]
        subprocess.run([sys.executable, "-m", "tests.broker.odd_headers", *arguments], check=True, env=env, timeout=60)
    produce(settings, DETAILS.name, {good: details(good)})
    with worker_of(settings, tmp_path / "state"):
        wait_for(lambda: sent(settings), "the good order's e-mail")
        wait_for(lambda: committed(settings) == ends(settings), "all is read")
    assert {good: 1} == sent(settings)
    letter, *others = read_all(settings, DEAD_LETTERS.name)
    assert 29 == len(others)
    name, where_it_was = letter.headers()[0]
    assert ("rejoinder.unreadable-headers", "truncated") == (name, dict(letter.headers())["rejoinder.reason"].decode())
    assert where_it_was.decode().startswith(settings.topic(COMMANDS.name))


def _told(letter: Any) -> tuple[Any, ...]:
    """Return what *letter* says it was, and its raw parts."""
    said = {name: value.decode() for name, value in letter.headers()[3:]}
    errors = "__streams.errors."
    at = said[f"{errors}topic"], int(said[f"{errors}partition"]), int(said[f"{errors}offset"])
    assert letter.partition() == at[1]
    return (*at, said["rejoinder.reason"], letter.key(), letter.value(), letter.headers()[:3])
