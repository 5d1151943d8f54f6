"""``rejoinder lag`` against Apache Kafka's own tool, on the same broker."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from typer.testing import CliRunner, Result

from streams.cli import app as cli
from streams.local.artifacts import cache_directory, fetch, read_pins
from streams.local.kafka import KAFKA_VERSION, LocalKafka, java_command
from streams.monitor.group_offsets import GroupLooker
from streams.monitor.lag import Look, Place
from streams.settings import Settings
from streams.transport import config
from streams.transport.topics import ROLES
from tests.broker.harness import (
    PARTITIONS,
    Worker,
    environment_of,
    keys,
    keys_of_partition,
    produce,
    settings_for,
    wait_for,
)
from topology.topics import COMMANDS, DETAILS, EMAIL_EVENTS

TOOLS: Final = Path(__file__).with_name(f"kafka-tools-{KAFKA_VERSION}.pins")
"""What Kafka's command-line tools need beyond the broker's own jars."""


def _kafka_s_own(settings: Settings, group: str) -> dict[tuple[str, int], tuple[str, str, str]]:
    """Return what ConsumerGroupCommand prints: by topic and partition, current offset, end offset and lag."""
    command = java_command(fetch(read_pins(TOOLS), cache_directory()))
    arguments = ["--bootstrap-server", settings.bootstrap_servers, "--describe", "--group", group]
    done = subprocess.run(
        [*command, "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand", *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    head, *rows = [line.split() for line in done.stdout.splitlines() if line.strip()]
    assert ["GROUP", "TOPIC", "PARTITION", "CURRENT-OFFSET", "LOG-END-OFFSET", "LAG"] == head[:6], done.stdout
    return {(row[1], int(row[2])): (row[3], row[4], row[5]) for row in rows}


@pytest.fixture
def settings(kafka: LocalKafka, unique: str) -> Settings:
    """Return settings with topics of their own."""
    return settings_for(kafka.bootstrap_servers, unique)


@pytest.fixture
def group(settings: Settings) -> str:
    """Return the process manager's group."""
    return f"{settings.application_id}-worker"


Looks = Callable[[], dict[tuple[str, int], Look]]


@pytest.fixture
def look(settings: Settings) -> Iterator[Looks]:
    """Return a function that looks at the process manager's group."""
    looker = GroupLooker(settings, ["worker"])
    yield lambda: {(place.topic, place.partition): look for place, look in looker.look().looks.items()}
    looker.close()


def _lag(settings: Settings, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["lag", *arguments], env=environment_of(settings) | {"COLUMNS": "300"})


def _commit(settings: Settings, group: str, offsets: dict[int, int]) -> None:
    """Commit positions of the commands as a member that has gone again."""
    consumer = Consumer(config.common(settings) | {"group.id": group, "enable.auto.commit": False})
    name = settings.topic(COMMANDS.name)
    consumer.commit(offsets=[TopicPartition(name, *at) for at in offsets.items()], asynchronous=False)
    consumer.close()


def _lag_column(result: Result) -> dict[tuple[str, int], tuple[str, str, str]]:
    table, _, _ = result.stdout.partition("\n\n")
    head, *rows = [line.split() for line in table.splitlines()]
    at = [head.index(name) for name in ("TOPIC", "PARTITION", "CURRENT-OFFSET", "LOG-END-OFFSET", "LAG")]
    found = {}
    for row in rows:
        if len(row) >= len(head) - 1:
            topic, partition, *rest = [row[i] for i in at]
            found[topic, int(partition)] = (rest[0], rest[1], rest[2])
    return found


@pytest.mark.timeout(300)
def test_lag_is_that_of_kafka_s_own_tool(settings: Settings, group: str, look: Looks) -> None:
    """Current offset, end offset and lag of every partition, as both command lines print them; no member is there."""
    produce(settings, COMMANDS.name, dict.fromkeys(keys(40), b"x"))
    produce(settings, DETAILS.name, dict.fromkeys(keys(7), b"x"))
    _commit(settings, group, {0: 1, 1: 3, 2: 0})
    expected = _kafka_s_own(settings, group)
    result = _lag(settings, "--group", "worker", "--looks", "1")
    assert expected == _lag_column(result)
    assert 3 * PARTITIONS == len(expected)
    assert {str(found.lag) for found in look().values()} > {"0"}
    assert "STOP" in result.stdout


@pytest.mark.timeout(300)
def test_idle_transactional_topic_has_no_lag(settings: Settings, group: str, tmp_path: Path, look: Looks) -> None:
    """Markers of transactions take offsets; a worker that has read all has a lag of 0, in both tools."""
    producer = Producer(config.transactional(settings, f"{settings.application_id}-test"))
    producer.init_transactions(30)
    with Worker(settings, tmp_path / "worker") as worker:
        wait_for(lambda: len(worker.running()) == PARTITIONS, "all partitions")
        for aborted in (False, True):
            producer.begin_transaction()
            for number in range(PARTITIONS):
                producer.produce(settings.topic(COMMANDS.name), b"x", b"key", number)
            producer.flush(30)
            (producer.abort_transaction if aborted else producer.commit_transaction)(30)
        wait_for(lambda: all(one.lag == 0 and one.end for one in look().values() if one.end), "no lag")
        looked = look()
        expected = _kafka_s_own(settings, group)
    assert {"0"} == {lag for _, _, lag in expected.values()}
    assert {(0, 0, 0.0)} == {(one.lag, one.unstable, one.age_s) for one in looked.values()}
    assert {name: (str(one.committed), str(one.end), str(one.lag)) for name, one in looked.items()} == expected
    assert all(one.member and one.member.client_id == settings.advertised_url for one in looked.values())


@pytest.mark.timeout(300)
def test_hanging_transaction_stands_beside_the_lag(settings: Settings, group: str, look: Looks) -> None:
    """What lies behind an open transaction can't be read: it is unstable, and with the lag makes Kafka's own lag."""
    name = settings.topic(COMMANDS.name)
    _commit(settings, group, dict.fromkeys(range(PARTITIONS), 0))
    produce(settings, COMMANDS.name, dict.fromkeys(keys(40), b"x"))
    before = look()[name, 0]
    producer = Producer(config.transactional(settings, f"{settings.application_id}-test"))
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(name, b"x", b"key", 0)
    producer.flush(30)
    looked = look()[name, 0]
    assert (before.lag, before.end, 1) == (looked.lag, looked.stable, looked.unstable)
    assert before.lag
    assert str(before.lag + 1) == _kafka_s_own(settings, group)[name, 0][2]
    producer.abort_transaction(30)
    # The aborted record and its marker can be passed now.
    assert (before.lag + 2, 0) == (look()[name, 0].lag, look()[name, 0].unstable)


def test_seconds_are_the_age_of_the_first_record_that_is_not_committed(
    settings: Settings, group: str, look: Looks
) -> None:
    """Not of the last one that is, nor of the newest."""
    name = settings.topic(COMMANDS.name)
    producer = Producer(config.plain_producer(settings))
    _commit(settings, group, dict.fromkeys(range(PARTITIONS), 0))
    written_s = []
    for _ in range(3):
        producer.produce(name, b"x", b"key", 0)
        assert producer.flush(30) == 0
        written_s.append(time.time())
        time.sleep(1.5)
    for committed, at_s in enumerate(written_s):
        _commit(settings, group, {0: committed})
        one = look()[name, 0]
        assert one.age_s == pytest.approx(one.at_ms / 1000 - at_s, rel=0.06, abs=0.3)
    _commit(settings, group, {0: 3})
    assert 0.0 == look()[name, 0].age_s


def test_partition_without_a_position_or_a_record_is_no_time_behind(settings: Settings) -> None:
    """Its lag isn't known, but nothing waits there."""
    produce(settings, COMMANDS.name, dict.fromkeys(keys(40), b"x"))
    looker = GroupLooker(
        settings.model_copy(update={"application_id": f"{settings.application_id}-another"}), ["worker"]
    )
    looks = {(place.topic, place.partition): look for place, look in looker.look().looks.items()}
    looker.close()
    for number in range(PARTITIONS):
        one = looks[settings.topic(COMMANDS.name), number]
        assert (None, True) == (one.lag, one.age_s is not None and one.age_s < 60)
    empty = looks[settings.topic(EMAIL_EVENTS.name), 0]
    assert (None, 0, 0.0) == (empty.lag, empty.end, empty.age_s)


def test_thresholds_are_exit_codes(settings: Settings, group: str) -> None:
    """2 over them, 0 under them; with JSON for programs, which is printed all the same."""
    produce(settings, COMMANDS.name, dict.fromkeys(keys(40), b"x"))
    _commit(settings, group, dict.fromkeys(range(PARTITIONS), 0))
    well = _lag(settings, "--json", "--looks", "2", "--every", "100ms", "--max-lag", "40", "--max-age", "1h")
    assert 0 == well.exit_code, well.output
    picture: dict[str, Any] = json.loads(well.stdout)
    assert {f"{settings.application_id}-{role}" for role in ROLES.values()} == {
        one["group"] for one in picture["groups"]
    }
    (ours,) = [one for one in picture["groups"] if one["group"] == group]
    assert (40, "ERR", []) == (ours["lag"], ours["status"], ours["members"])
    for arguments in (["--max-lag", "3"], ["--max-age", "0s"], ["--fail"]):
        result = _lag(settings, "--json", "--looks", "2", "--every", "100ms", *arguments)
        assert isinstance(result.exception, Exception)
        assert 2 == getattr(result.exception, "exit_code", None), (arguments, result.output)
        assert json.loads(result.stdout)["groups"]


def test_look_survives_a_broker_that_restarts(tmp_path: Path, unique: str) -> None:
    """Its clients are made anew after a failure."""
    with LocalKafka(tmp_path / "kafka") as kafka:
        settings = settings_for(kafka.bootstrap_servers, unique)
        looker = GroupLooker(settings, ["worker"])
        place = Place(f"{unique}-worker", settings.topic(EMAIL_EVENTS.name), 0)
        assert 0 == looker.look().looks[place].end
        produce(settings, EMAIL_EVENTS.name, dict.fromkeys(keys_of_partition(0, 3), b"x"))
        kafka.restart()
        assert 3 == looker.look().looks[place].end
        looker.close()
