"""Secrets: given in the environment or in files, and shown nowhere."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import pytest

from streams import settings as module
from streams.errors import ConfigurationError
from streams.secrets import is_secret_property, without_login
from streams.settings import KAFKA_PREFIX, PREFIX, Settings, as_environment, load, secrets

TOKEN: Final = "0123456789abcdef"  # noqa: S105 - nobody's.


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.upper().startswith(PREFIX):
            monkeypatch.delenv(name)


def test_what_is_called_a_secret_is_one() -> None:
    """A new setting whose name says so must have the type that hides it."""
    named = {name for name in Settings.model_fields if any(word in name for word in ("password", "token", "secret"))}
    assert {"schema_registry_url", "smtp_url", "database_url"} | named == set(secrets())


@pytest.mark.parametrize("name", secrets())
@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_secret_is_read_from_a_file(name: str, end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its last line end, which editors add; what else is blank belongs to it."""
    text = TOKEN if name == "web_token" else " s3cret \n"
    (tmp_path / "secret").write_bytes((text + end).encode())
    monkeypatch.setenv(f"{PREFIX}{name.upper()}_FILE", str(tmp_path / "secret"))
    expected = text if end or not text.endswith("\n") else text[:-1]
    assert expected == getattr(load(), name).get_secret_value()


def test_librdkafka_s_property_is_read_from_a_file_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a new session logs in with a password that was changed meanwhile."""
    secret = tmp_path / "secret"
    secret.write_text("old\n")
    for name, value in {"SECURITY_PROTOCOL": "SASL_PLAINTEXT", "SASL_MECHANISM": "PLAIN", "SASL_USERNAME": "u"}.items():
        monkeypatch.setenv(KAFKA_PREFIX + name, value)
    monkeypatch.setenv(f"{KAFKA_PREFIX}SASL_PASSWORD_FILE", str(secret))
    settings = load()
    assert "old" == settings.kafka["sasl.password"]
    secret.write_text("new")
    assert "new" == settings.kafka["sasl.password"]
    assert "sasl.password.file" not in settings.kafka


@pytest.mark.parametrize("variable", ["REJOINDER_WEB_TOKEN", "REJOINDER_KAFKA_SASL_PASSWORD"])
@pytest.mark.parametrize(
    ("content", "says"), [(None, "No such file"), (b"\xff", "not UTF-8"), (b"x" * 65_537, "more than 65536 bytes")]
)
def test_file_that_holds_no_secret_is_refused(
    variable: str, content: bytes | None, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the variable's name and the path, and none of the content."""
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setenv(f"{variable}_FILE", str(path))
    with pytest.raises(ConfigurationError, match=says) as caught:
        load()
    assert str(caught.value).startswith(f"{variable}_FILE={str(path)!r}: ")


@pytest.mark.parametrize("variable", ["REJOINDER_WEB_TOKEN", "REJOINDER_KAFKA_SASL_PASSWORD"])
def test_secret_given_twice_is_refused(variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody could say which one counts."""
    (tmp_path / "secret").write_text(TOKEN)
    monkeypatch.setenv(variable, TOKEN)
    monkeypatch.setenv(f"{variable}_FILE", str(tmp_path / "secret"))
    with pytest.raises(ConfigurationError, match=f"{variable} and {variable}_FILE are both set"):
        load()


def test_file_of_what_is_no_secret_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A typing error must not become a default."""
    monkeypatch.setenv("REJOINDER_PARTITIONS_FILE", "/x")
    with pytest.raises(ConfigurationError, match="REJOINDER_PARTITIONS_FILE is no setting"):
        load()


@pytest.mark.parametrize("token", ["short", "0123456789 abcdef", "0123456789äbcdef", "x" * 1_025])
def test_weak_token_is_refused_and_not_told(token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is wrong with it is said without it."""
    monkeypatch.setenv("REJOINDER_WEB_TOKEN", token)
    with pytest.raises(ConfigurationError, match=r"^REJOINDER_WEB_TOKEN: must be 16 to 1024") as caught:
        load()
    assert token not in str(caught.value)


@pytest.mark.parametrize("served", ["ORDERS", "PAGE"])
@pytest.mark.parametrize("bind", ["0.0.0.0", "::", "10.1.2.3", "worker-1", ""])  # noqa: S104 - what is refused.
def test_nothing_is_served_to_a_network_without_a_token(
    bind: str, served: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one they are, and on loopback they may be without."""
    monkeypatch.setenv(f"REJOINDER_WEB_{served}", "on")
    for loopback in ("127.0.0.1", "127.1.2.3", "::1", "localhost"):
        load(web_bind=loopback)
    load(web_bind=bind, web_token=TOKEN)
    with pytest.raises(ConfigurationError, match="set REJOINDER_WEB_TOKEN"):
        load(web_bind=bind)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("smtp://mail:25?starttls=off", "smtp://mail:25?starttls=off"),
        ("smtps://shop:s3cr@t@mail", "smtps://***@mail"),
        ("postgresql://shop@db/orders", "postgresql://***@db/orders"),
        ("postgresql:///orders?host=db&password=s3cret", "postgresql:///orders?***"),
        ("sqlite:////srv/a@b/orders.sqlite", "sqlite://***@b/orders.sqlite"),
        ("s3cret@host", "***@host"),
    ],
)
def test_url_is_shown_without_its_login(url: str, shown: str) -> None:
    """Rather too little than too much."""
    assert shown == without_login(url)


def test_settings_hide_their_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """In repr, in text and in pydantic's errors, but not from `as_environment`, which hands them to a child."""
    given = {name: f"smtp://u:canary-{name}@h" if name.endswith("url") else f"canary-{name}-0123" for name in secrets()}
    for name, value in given.items():
        monkeypatch.setenv(PREFIX + name.upper(), value)
    settings = load()
    assert "canary" not in f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"
    assert given == {name: as_environment(name, getattr(settings, name)) for name in secrets()}
    monkeypatch.setenv("REJOINDER_PARTITIONS", "x")
    with pytest.raises(ConfigurationError) as caught:
        load()
    assert "canary" not in f"{caught.value} {caught.value.__cause__}"


SECRET_PROPERTIES: Final = (
    "sasl.password", "ssl.key.password", "ssl.key.pem", "ssl.keystore.password", "ssl.certificate.pem", "ssl.ca.pem",
    "sasl.oauthbearer.client.secret", "sasl.oauthbearer.config", "sasl.oauthbearer.assertion.private.key.passphrase",
    "sasl.oauthbearer.assertion.private.key.pem", "sasl.jaas.config",
)  # fmt: skip


def test_secret_properties_are_known() -> None:
    """Passwords, keys, tokens; and no others, which a person must see to find an error."""
    assert [] == [name for name in SECRET_PROPERTIES if not is_secret_property(name)]
    shown = ("sasl.username", "sasl.mechanism", "ssl.ca.location", "security.protocol", "sasl.oauthbearer.method")
    assert [] == [name for name in shown if is_secret_property(name)]


@pytest.mark.parametrize("name", ["ssl.key.pem", "ssl.ca.pem", "ssl.certificate.pem", "sasl.oauthbearer.config"])
def test_librdkafka_s_refusal_tells_no_secret(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may quote what it can't read."""
    properties = {"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN", "sasl.password": "canary", name: "canary"}
    for each, value in properties.items():
        monkeypatch.setenv(KAFKA_PREFIX + each.upper().replace(".", "_"), value)
    with pytest.raises(ConfigurationError) as caught:
        load()
    assert caught.value.__cause__ is None
    assert "canary" not in str(caught.value)


def test_value_that_librdkafka_quotes_is_masked() -> None:
    """Whatever it says today, tomorrow's release may say more."""
    with pytest.raises(ConfigurationError) as caught:
        module._check_kafka({"sasl.password": "canary", "security.protocol": "canary"})
    assert "canary" not in str(caught.value)
    assert 'Invalid value "***"' in str(caught.value)
