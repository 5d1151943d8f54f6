"""Settings: what is wrong is refused at start, by name and with what is allowed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import pytest

from streams import settings as module
from streams.durations import format_duration, parse_ask_ms, parse_duration_ms
from streams.errors import ConfigurationError
from streams.settings import (
    PREFIX,
    GroupProtocol,
    InDoubt,
    LogFormat,
    Settings,
    Switch,
    as_environment,
    load,
)
from topology.policy import NEVER_ASK, Policy

WRONG: Final = {
    "BOOTSTRAP_SERVERS": ("localhost", "host:port"),
    "APPLICATION_ID": ("two words", "[a-zA-Z0-9._-]"),
    "INSTANCE_ID": ("a/b", "[a-zA-Z0-9._-]"),
    "GROUP_PROTOCOL": ("kip848", "'consumer' or 'classic'"),
    "STATIC_MEMBERSHIP": ("true", "'on' or 'off'"),
    "PARTITIONS": ("0", "greater than or equal to 1"),
    "REPLICATION_FACTOR": ("many", "valid integer"),
    "TOPIC_PREFIX": ("prod:", "[a-zA-Z0-9._-]"),
    "TRANSACTION_TIMEOUT": ("20m", "less than or equal to 15m"),
    "BATCH_RECORDS": ("0", "greater than or equal to 1"),
    "LINGER": ("20s", "less than or equal to 10s"),
    "HEADERS": ("yes", "'on' or 'off'"),
    "STORE_MEMORY_MIB": ("1", "greater than or equal to 16"),
    "WEB_PORT": ("65536", "less than or equal to 65535"),
    "WEB_ORDERS": ("yes", "'on' or 'off'"),
    "WEB_PAGE": ("true", "'on' or 'off'"),
    "WEB_PEERS": ("a b", "pattern"),
    "SCHEMA_REGISTRY_CA": ("/no/such/file", "no file that can be read"),
    "SCHEMA_REGISTRY_CERTIFICATE": ("/", "no file that can be read"),
    "SCHEMA_REGISTRY_KEY": ("/no/such/file", "no file that can be read"),
    "SMTP_CA": ("/no/such/file", "no file that can be read"),
    "LAG_INTERVAL": ("1ms", "greater than or equal to 1s"),
    "LOG_FORMAT": ("xml", "'console' or 'json'"),
    "LOG_LEVEL": ("loud", "DEBUG|INFO|WARNING|ERROR"),
    "ASK": ("later", '"at once", "never", or "after"'),
    "DETAILS_MAX_AGE": ("60", "such as 500ms, 30s, 5m, 24h, 7d"),
    "DETAILS_TTL": ("-1d", "such as 500ms, 30s, 5m, 24h, 7d"),
    "RETRY_FIRST": ("0s", "greater than or equal to 1ms"),
    "RETRY_MOST": ("1.5h", "such as 500ms, 30s, 5m, 24h, 7d"),
    "NOT_FOUND_ATTEMPTS": ("0", "greater than or equal to 1"),
    "GIVE_UP_AFTER": ("soon", "such as 500ms, 30s, 5m, 24h, 7d"),
    "EMAIL_ATTEMPTS": ("0", "greater than or equal to 1"),
    "EMAIL_OUTCOME_WAIT": ("1y", "such as 500ms, 30s, 5m, 24h, 7d"),
    "FINISHED_TTL": ("30d", "longer than any record is kept (30d)"),
    "PUBLISH_CHANGES": ("1", "'on' or 'off'"),
    "EMAIL_CONCURRENCY": ("1001", "less than or equal to 1000"),
    "EMAIL_BATCH": ("0", "greater than or equal to 1"),
    "SMTP_TIMEOUT": ("999ms", "greater than or equal to 1s"),
    "IN_DOUBT": ("drop", "'resend' or 'hold'"),
}
# Read where they are used, by parsers that refuse them there.
PARSED_ELSEWHERE: Final = {
    "SCHEMA_REGISTRY_URL", "STATE_DIR", "WEB_BIND", "WEB_HOST", "DATABASE_URL", "SMTP_URL", "EMAIL_FROM",
    "EMAIL_DOMAIN",
}  # fmt: skip
# Any text will do, or what is wrong with it is said without it.
TEXTS: Final = {
    "SCHEMA_REGISTRY_USERNAME", "SCHEMA_REGISTRY_PASSWORD", "SCHEMA_REGISTRY_KEY_PASSWORD", "WEB_TOKEN",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.upper().startswith(PREFIX):
            monkeypatch.delenv(name)


def test_every_setting_is_known_here() -> None:
    """A new setting needs a wrong value below, or a parser elsewhere."""
    assert {name.upper() for name in Settings.model_fields} == set(WRONG) | PARSED_ELSEWHERE | TEXTS


@pytest.mark.parametrize("name", WRONG)
def test_wrong_value_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message has the variable's name, the value as it was given, and what is allowed."""
    value, allowed = WRONG[name]
    monkeypatch.setenv(PREFIX + name, value)
    with pytest.raises(ConfigurationError) as caught:
        load()
    assert str(caught.value).startswith(f"{PREFIX}{name}={value!r}: ")
    assert allowed in str(caught.value)


def test_all_wrong_values_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody likes to be refused twice."""
    monkeypatch.setenv("REJOINDER_PARTITIONS", "x")
    monkeypatch.setenv("REJOINDER_IN_DOUBT", "y")
    with pytest.raises(ConfigurationError, match=r"REJOINDER_PARTITIONS='x'.*; REJOINDER_IN_DOUBT='y'"):
        load()


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("REJOINDER_PARTITION", "did you mean REJOINDER_PARTITIONS?"),
        ("REJOINDER_SMPT_URL", "did you mean REJOINDER_SMTP_URL?"),
        ("REJOINDER_XYZZY", "`rejoinder settings` lists what there is"),
        ("rejoinder_partitions", "did you mean REJOINDER_PARTITIONS?"),
    ],
)
def test_unknown_name_is_refused_with_a_hint(name: str, hint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A typing error must not become a default."""
    monkeypatch.setenv(name, "4")
    with pytest.raises(ConfigurationError) as caught:
        load()
    assert f"{name} is no setting; {hint}" in str(caught.value)


def test_values_come_from_the_environment_and_overrides_win(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of its own type."""
    environment = {
        "PARTITIONS": "4", "RETRY_FIRST": "500ms", "ASK": "after 2s", "IN_DOUBT": "hold", "GROUP_PROTOCOL": "classic",
        "STATE_DIR": "/x", "WEB_PORT": "1234", "HEADERS": "off", "LOG_FORMAT": "json",
    }  # fmt: skip
    for name, value in environment.items():
        monkeypatch.setenv(PREFIX + name, value)
    settings = load(web_port=4321)
    expected = (4, 500, 2_000, InDoubt.HOLD, GroupProtocol.CLASSIC, Path("/x"), 4321, Switch.OFF, LogFormat.JSON)
    actual = (
        settings.partitions, settings.retry_first, settings.ask, settings.in_doubt, settings.group_protocol,
        settings.state_dir, settings.web_port, settings.headers, settings.log_format,
    )  # fmt: skip
    assert expected == actual


def test_defaults_of_the_policy_are_the_core_s() -> None:
    """They are said once."""
    assert Policy() == load().policy


def test_policy_is_what_is_set() -> None:
    """Every field of the policy but the bound on processes has its setting."""
    values = {
        "ask": 1, "details_max_age": 2, "details_ttl": 3, "retry_first": 4, "retry_most": 5, "not_found_attempts": 6,
        "give_up_after": 7, "email_attempts": 8, "email_outcome_wait": 9, "finished_ttl": Policy().finished_ttl_ms + 10,
    }  # fmt: skip
    assert tuple(values.values()) == load(**values).policy[: len(values)]


def test_derived_values_follow_their_settings() -> None:
    """Instance, URL, database and topic names."""
    settings = load(web_bind="0.0.0.0", web_host="host-1", web_port=1, topic_prefix="p.", state_dir="/s")  # noqa: S104
    assert "http://host-1:1" == settings.advertised_url
    assert settings.instance.endswith("-1")
    assert "me" == load(instance_id="me").instance
    assert "http://127.0.0.1:6066" == load().advertised_url
    assert "sqlite:////s/orders.sqlite" == settings.orders_url
    assert "p.email.commands" == settings.topic("email.commands")


# Durations.


@pytest.mark.parametrize(
    ("text", "expected"),
    [("500ms", 500), ("30s", 30_000), (" 5 m ", 300_000), ("24h", 86_400_000), ("7d", 604_800_000), ("0s", 0), (7, 7)],
)
def test_duration_is_read(text: object, expected: int) -> None:
    """A whole number and a unit; from code, milliseconds."""
    assert expected == parse_duration_ms(text)


@pytest.mark.parametrize("text", ["", "s", "30", "1.5s", "-1s", "30 sec", "1h30m", "٣s5"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    """A number without a unit above all."""
    with pytest.raises(ValueError, match="is no duration; allowed: "):
        parse_duration_ms(text)


@pytest.mark.parametrize("duration_ms", [0, 1, 999, 1_000, 90_000, 3_600_000, 86_400_000, 36 * 3_600_000, 604_800_000])
def test_duration_is_written_as_it_is_read(duration_ms: int) -> None:
    """In the largest unit that is exact."""
    assert duration_ms == parse_duration_ms(format_duration(duration_ms))


def test_duration_is_written_in_its_largest_unit() -> None:
    """Not as 604800000ms."""
    assert ["7d", "36h", "90s", "1500ms", "0ms"] == [
        format_duration(value) for value in (604_800_000, 129_600_000, 90_000, 1_500, 0)
    ]


@pytest.mark.parametrize(
    ("text", "expected"), [("at once", 0), ("never", NEVER_ASK), ("after 500ms", 500), (" after 1m", 60_000), (9, 9)]
)
def test_ask_is_read(text: object, expected: int) -> None:
    """When order details are asked for."""
    assert expected == parse_ask_ms(text)


@pytest.mark.parametrize("ask", [0, NEVER_ASK, 1, 90_000])
def test_every_setting_survives_the_way_through_an_environment(ask: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one process gives another by `as_environment` is what it has itself."""
    settings = load(ask=ask, in_doubt="hold", state_dir="/s", instance_id="i", database_url="sqlite:///x")
    for name in Settings.model_fields:
        monkeypatch.setenv(PREFIX + name.upper(), as_environment(name, getattr(settings, name)))
    assert settings == load()


# librdkafka's properties.


def test_kafka_properties_pass_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest of the name, in lower case with dots; also those of consumers."""
    expected = {
        "security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN", "sasl.username": "u", "sasl.password": "p",
        "fetch.wait.max.ms": "50",
    }  # fmt: skip
    for name in ("SECURITY_PROTOCOL", "SASL_MECHANISM", "SASL_USERNAME", "SASL_PASSWORD", "FETCH_WAIT_MAX_MS"):
        monkeypatch.setenv(f"REJOINDER_KAFKA_{name}", expected[name.lower().replace("_", ".")])
    assert expected == load().kafka


def test_incomplete_login_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """What belongs together is checked together."""
    monkeypatch.setenv("REJOINDER_KAFKA_SECURITY_PROTOCOL", "SASL_SSL")
    monkeypatch.setenv("REJOINDER_KAFKA_SASL_MECHANISM", "PLAIN")
    with pytest.raises(ConfigurationError, match=r"sasl\.username and sasl\.password must be set"):
        load()


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("SECURITY_PROTOCOOL", "ssl", 'No such configuration property: "security.protocool"'),
        ("SECURITY_PROTOCOL", "tls", 'Invalid value "tls"'),
        ("ISOLATION_LEVEL", "read_uncommitted", "exactly-once rests on it"),
        ("BOOTSTRAP_SERVERS", "a:1", "a setting of its own"),
    ],
)
def test_wrong_kafka_property_is_refused(name: str, value: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By librdkafka itself, or by us where it would cost exactly-once; before anything starts."""
    monkeypatch.setenv("REJOINDER_KAFKA_LINGER_MS", "7")
    monkeypatch.setenv(f"REJOINDER_KAFKA_{name}", value)
    with pytest.raises(ConfigurationError) as caught:
        load()
    assert str(caught.value).startswith(f"REJOINDER_KAFKA_{name}: ")
    assert says in str(caught.value)


def test_properties_that_are_ours_are_librdkafka_s() -> None:
    """A property that doesn't exist would be a typing error here."""
    from confluent_kafka import Consumer  # noqa: PLC0415 - only here.

    values = {
        "enable.auto.commit": "false", "enable.auto.offset.store": "false", "enable.idempotence": "true",
        "enable.partition.eof": "true", "isolation.level": "read_committed", "auto.offset.reset": "error",
        "group.protocol": "classic", "partition.assignment.strategy": "range", "transaction.timeout.ms": "10000",
        "partitioner": "murmur2",
    }  # fmt: skip
    for name in module._OURS:
        config = {"group.id": "g", "log_level": 0} | {name: values.get(name, "x")}
        if name == "group.remote.assignor":
            config |= {"group.protocol": "consumer"}
        Consumer(config).close()
