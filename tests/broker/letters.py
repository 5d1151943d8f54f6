"""Dead letters put straight onto their topic, and the command line that deals with them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from confluent_kafka import Producer
from typer.testing import CliRunner, Result

from streams.batch import Headers, Record, Refusal
from streams.cli import app
from streams.processing.dead_letters import dead_letter
from streams.settings import PREFIX, Settings
from streams.transport import config
from tests.broker.harness import PARTITIONS, read_all
from topology.topics import COMMANDS, DEAD_LETTERS, REDRIVES

ROOT = Path(__file__).parents[2]


def environment(settings: Settings) -> dict[str, str]:
    """Return what makes another process's settings these."""
    return {
        f"{PREFIX}BOOTSTRAP_SERVERS": settings.bootstrap_servers,
        f"{PREFIX}TOPIC_PREFIX": settings.topic_prefix,
        f"{PREFIX}APPLICATION_ID": settings.application_id,
        f"{PREFIX}PARTITIONS": str(PARTITIONS),
        f"{PREFIX}TRANSACTION_TIMEOUT": "10s",
    }


def rejoinder(settings: Settings, *arguments: str) -> Result:
    """Run ``rejoinder dead-letters`` with *arguments*."""
    return CliRunner().invoke(app, ["dead-letters", *arguments], env=environment(settings))


def said(settings: Settings, *arguments: str) -> str:
    """Return what ``rejoinder dead-letters`` says; it must not fail."""
    result = rejoinder(settings, *arguments)
    assert 0 == result.exit_code, (result.output, result.exception)
    return str(result.output)


def start(settings: Settings, *arguments: str) -> subprocess.Popen[str]:
    """Start ``rejoinder dead-letters`` as a process of its own."""
    command = [sys.executable, "-m", "streams", "dead-letters", *arguments]
    env = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)} | environment(settings)
    return subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def refusal(
    key: bytes | None,
    value: bytes | None,
    offset: int,
    *,
    topic: str = COMMANDS.name,
    headers: Headers | None = None,
    timestamp_ms: int = 0,
    reason: str = "unknown-schema",
    partition: int = 0,
) -> Refusal:
    """Return a refused record."""
    return Refusal(Record(topic, partition, offset, timestamp_ms, key, value, headers), reason, f"schema of {key!r}")


def put_letters(settings: Settings, refusals: Iterable[Refusal]) -> None:
    """Put the dead letters of *refusals*, each into its record's partition, in one transaction, as workers do."""
    producer = Producer(config.plain_producer(settings))
    for one in refusals:
        _, key, value, headers = dead_letter(one, settings.topic)
        more: Any = headers
        producer.produce(settings.topic(DEAD_LETTERS.name), value, key, one.record.partition, headers=more)
        producer.poll(0)
    assert 0 == producer.flush(30)


def came(settings: Settings, topic: str = COMMANDS.name) -> list[tuple[bytes | None, bytes | None]]:
    """Return key and value of what is on *topic*, committed, in the order of keys."""
    return sorted((m.key(), m.value()) for m in read_all(settings, topic))


def marks(settings: Settings) -> list[bytes]:
    """Return which letters are marked as put back, in order."""
    return sorted(message.key() for message in read_all(settings, REDRIVES.name))
