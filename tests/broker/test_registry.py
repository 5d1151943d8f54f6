"""Schemas on a real Confluent-compatible registry: registered by a deploy step, looked up by workers."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from schemas.catalog import UnknownSchema, current_text
from schemas.codec import frame
from streams import registry
from streams.cli import schemas as cli
from streams.errors import ConfigurationError, Unavailable
from streams.local.apicurio import LocalRegistry
from streams.registry import open_registry, register, subjects
from streams.settings import Settings, load
from topology.topics import COMMANDS

SENT = "communications.EmailSent"
EVENT = {
    "email_id": "84cb5261-7fa3-5e40-bcde-776adb8b06ba",
    "order_id": "order-1",
    "message_id": "<84cb5261@example.com>",
    "sent_at": 1_764_000_000_000,
}


@pytest.fixture(scope="module")
def apicurio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRegistry]:
    """Return a registry that the tests share; each has subjects of its own by its topic prefix."""
    # Lax, as Apicurio comes: what refuses an incompatible schema is what `register` asks of each subject.
    with LocalRegistry(tmp_path_factory.mktemp("registry"), compatibility="NONE") as running:
        yield running


@pytest.fixture
def settings(apicurio: LocalRegistry, unique: str) -> Settings:
    """Return settings that name the registry and subjects that nobody else has."""
    return load(schema_registry_url=apicurio.url, topic_prefix=f"{unique}.")


def altered(record: str, *fields: dict[str, object]) -> str:
    """Return the current schema of *record* with *fields* after its own."""
    schema = json.loads(current_text(record))
    schema["fields"] += fields
    return json.dumps(schema)


def other_version(settings: Settings, record: str, *fields: dict[str, object]) -> int:
    """Register another version of *record*, as another release would; return its id."""
    subject = next(subject.name for subject in subjects(settings) if subject.record == record)
    with registry._Remote(settings) as remote:
        return remote.register(subject, altered(record, *fields))


def test_worker_before_the_deploy_step_is_told_to_run_it(settings: Settings) -> None:
    """A missing schema is a clear refusal that names the subject, and a worker registers nothing."""
    subject = f"{settings.topic_prefix}{COMMANDS.name}-communications.SendOrderConfirmationEmail"
    with pytest.raises(ConfigurationError, match=rf"{re.escape(subject)} .*rejoinder schemas register"):
        open_registry(settings)
    with registry._Remote(settings) as remote:
        assert [] == remote.versions(subject)


def test_registered_twice_is_registered_once(settings: Settings) -> None:
    """The deploy step may be repeated: same subjects, same ids, one version each."""
    first = register(settings)

    assert first == register(settings)
    assert [subject.name for subject in subjects(settings)] == [registered.subject for registered in first]
    with registry._Remote(settings) as remote:
        assert [1] * len(first) == [len(remote.versions(registered.subject)) for registered in first]


def test_records_are_written_with_the_registrys_ids(settings: Settings) -> None:
    """What is encoded carries the registry's id, and any worker of this registry reads it."""
    ids = {registered.subject.rpartition("-")[2]: registered.schema_id for registered in register(settings)}

    value = open_registry(settings).codec.encode_record(SENT, EVENT)

    assert frame(ids[SENT]) == value[:5]
    assert (SENT, EVENT) == open_registry(settings).codec.decode_record(value)


def test_id_of_a_newer_release_is_learned_while_running(settings: Settings) -> None:
    """A version registered after the start is resolved, once it is met, and read as the current one."""
    register(settings)
    opened = open_registry(settings)
    newer = other_version(settings, SENT, {"name": "attempts", "type": "int", "default": 1})
    value = frame(newer) + opened.codec.encode_record(SENT, EVENT)[5:] + b"\x06"
    with pytest.raises(UnknownSchema, match=f"schema id {newer}"):
        opened.codec.decode_record(value)

    with closing(opened):
        opened.resolve(newer)

    assert (SENT, EVENT) == opened.codec.decode_record(value)


def test_versions_before_the_start_are_known_from_the_start(settings: Settings) -> None:
    """An order stored before an upgrade holds an older id, which must not wait for the registry when it is sent."""
    older = other_version(settings, SENT, {"name": "attempts", "type": "int", "default": 1})
    register(settings)
    opened = open_registry(settings)

    value = frame(older) + opened.codec.encode_record(SENT, EVENT)[5:] + b"\x06"

    assert (SENT, EVENT) == opened.codec.decode_record(value)


def test_incompatible_schema_is_refused(settings: Settings) -> None:
    """A registered version that can't be read as the current one: register and check both say so."""
    register(settings)
    with pytest.raises(ConfigurationError, match="incompatible with a registered version"):
        other_version(settings, SENT, {"name": "attempts", "type": "int"})

    other_version(settings, SENT, {"name": "attempts", "type": "int", "default": 1})
    assert [] == registry.check(settings)


def test_check_finds_what_a_lax_registry_let_in(settings: Settings) -> None:
    """Compatibility is judged against every version, whatever the subject demands."""
    subject = next(subject.name for subject in subjects(settings) if subject.record == SENT)
    schema = json.loads(current_text(SENT))
    schema["fields"][3]["type"] = "string"
    with registry._Remote(settings) as remote:
        remote.register(subject, json.dumps(schema))

    (problem, other) = sorted(registry.check(settings))

    assert problem.startswith(f"{SENT} as it is now can't read what {subject} version 1 wrote: reader type: long")
    assert other.startswith(f"{subject} version 1 can't read what {SENT} as it is now wrote: reader type: string")


def test_unknown_id_is_unknown_and_not_asked_for_again_at_once(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A 404 is an answer: the record is at fault. A flood of such records is no flood of questions."""
    register(settings)
    opened = open_registry(settings)
    expected = pytest.raises(UnknownSchema, match=r"schema id 987654: schema registry http.* doesn't know it")
    with closing(opened), expected:
        opened.resolve(987_654)

    with monkeypatch.context() as patched:
        patched.delattr(registry._Remote, "schema")
        with pytest.raises(UnknownSchema, match="schema id 987654: the schema registry doesn't know it"):
            opened.resolve(987_654)


def test_dead_registry_is_unavailable(tmp_path: Path, unique: str) -> None:
    """Nobody answers: that says nothing about any record, at the start and later."""
    with LocalRegistry(tmp_path) as mortal:
        there = load(schema_registry_url=mortal.url, topic_prefix=f"{unique}.")
        register(there)
        opened = open_registry(there)

    with pytest.raises(Unavailable, match="doesn't answer"):
        opened.resolve(987_654)
    with pytest.raises(Unavailable, match="doesn't answer"):
        open_registry(there)


def test_secret_in_the_url_stays_out_of_messages(unique: str) -> None:
    """User and password go to the registry, not into a log."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody.getsockname()[1]}/api"
        settings = load(schema_registry_url=f"http://user:secret@{address}", topic_prefix=unique)
        with pytest.raises(Unavailable, match=f"http://{address} doesn't answer") as refused:
            open_registry(settings)

    assert "secret" not in str(refused.value)


def test_command_line_registers_and_checks(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The deploy step, as an operator runs it."""
    monkeypatch.setenv("REJOINDER_TOPIC_PREFIX", settings.topic_prefix)
    url = ["--url", settings.schema_registry_url.get_secret_value()]

    registered = CliRunner().invoke(cli.app, ["register", *url])
    checked = CliRunner().invoke(cli.app, ["check", *url])

    assert (0, 0) == (registered.exit_code, checked.exit_code)
    lines = registered.output.splitlines()
    assert "all 10 schemas are registered" == lines[-1]
    assert [subject.name for subject in subjects(settings)] == [line.rpartition(": id ")[0] for line in lines[:-1]]
