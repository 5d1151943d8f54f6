"""Any environment: settings, or one sentence that names a variable of it; never anything else."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from typing import Final

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streams.cli.settings import page
from streams.durations import parse_ask_ms, parse_duration_ms
from streams.errors import ConfigurationError
from streams.services.email.render import sender_of
from streams.services.email.smtp_url import parse_smtp_url
from streams.settings import PREFIX, Settings, as_environment, load

EXAMPLES: Final = 100
EXAMPLES_SOAK: Final = 20_000

FIELDS: Final = sorted(Settings.model_fields)
# What librdkafka's Python client takes for something else than a property, or reads from a disk, above all.
KAFKA: Final = (
    "LINGER_MS", "ACKS", "SECURITY_PROTOCOL", "SSL_CA_LOCATION", "SSL_CA_PEM", "SASL_MECHANISM", "SASL_PASSWORD",
    "GROUP_ID", "LOGGER", "DEFAULT_TOPIC_CONFIG", "STATS_CB", "ON_DELIVERY", "DEBUG", "", "_", "A B", "É",
    "COMPRESSION_CODEC", "STATISTICS_INTERVAL_MS", "OAUTHBEARER_CONFIG", "METADATA_BROKER_LIST",
    "TOPIC_METADATA_REFRESH_SPARSE",
)  # fmt: skip

# An environment's text: no zero byte, and bytes that aren't UTF-8 as lone surrogates.
texts = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"])
    | st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF),
    max_size=30,
)  # fmt: skip
likely = st.sampled_from([
    "on", "off", "1", "0", "-1", "99999999999999999999", "9" * 5_000, "1e9", "30s", "7d", "36500d", "٣s", "at once",
    "after 5m", "after", "localhost:9092", "a:1,b:2", "[::1]:9092", "http://u:p@h:1/x", "http://[", "smtp://h:99999",
    "smtps://u:%ff@h?starttls=off", "smtp://h?starttls=x", "file:", "/", "", " ", "a <b@c>", "a@b", "@",
    "\r\n", "\udcff",
])  # fmt: skip
names = st.one_of(
    st.sampled_from([PREFIX + name.upper() for name in FIELDS]),
    st.sampled_from([f"{PREFIX}{name.upper()}_FILE" for name in FIELDS]),
    st.sampled_from([f"{PREFIX}KAFKA_{name}" for name in KAFKA]),
    st.sampled_from([PREFIX, PREFIX.lower() + "ask", f"{PREFIX}Ask", f"{PREFIX}KAFKA", f"{PREFIX}CACHE_DIR"]),
    texts.filter(lambda name: "=" not in name).map(lambda name: PREFIX + name),
)
environments = st.dictionaries(names, likely | texts, max_size=4)


@pytest.fixture(autouse=True)
def _environment() -> Iterator[None]:
    before = dict(os.environ)
    for name in before:
        if name.upper().startswith(PREFIX):
            del os.environ[name]
    yield
    os.environ.clear()
    os.environ.update(before)


def settings_or_refusal(environment: dict[str, str]) -> None:
    """Load the settings of *environment* and all that is parsed of them later."""
    for name in [name for name in os.environ if name.upper().startswith(PREFIX)]:
        del os.environ[name]
    os.environ.update(environment)
    try:
        found = load()
        parse_smtp_url(found.smtp_url.get_secret_value())
        sender_of(found.email_from)
    except ConfigurationError as exc:
        said = str(exc)
        assert re.search(f"{PREFIX}[A-Z]|is no setting", said), said
        return
    for name in FIELDS:
        assert isinstance(as_environment(name, getattr(found, name)), str)
    assert found.policy.finished_ttl_ms == found.finished_ttl
    assert found.instance
    assert found.advertised_url.startswith("http")
    assert found.topic("x").endswith("x")


@settings(max_examples=EXAMPLES, deadline=None)
@given(environments)
@example({f"{PREFIX}KAFKA_DEFAULT_TOPIC_CONFIG": "x"})
@example({f"{PREFIX}KAFKA_LOGGER": "x"})
@example({f"{PREFIX}KAFKA_CLIENT_RACK": "\udcff"})
@example({f"{PREFIX}KAFKA_\udcff": "x"})
@example({f"{PREFIX}SMTP_URL": "smtp://\udcff"})
@example({f"{PREFIX}EMAIL_FROM": "\udcff <a@b.c>"})
@example({f"{PREFIX}WEB_BIND": "\udcff"})
@example({f"{PREFIX}STATE_DIR": "\udcff"})
@example({f"{PREFIX}\udcff": ""})
def test_any_environment_is_settings_or_a_sentence(environment: dict[str, str]) -> None:
    """That names what is wrong."""
    settings_or_refusal(environment)


@pytest.mark.soak
@pytest.mark.timeout(0)
@settings(max_examples=EXAMPLES_SOAK, deadline=None)
@given(environments)
def test_any_environment_for_long(environment: dict[str, str]) -> None:
    """The same, for longer."""
    settings_or_refusal(environment)


@settings(max_examples=EXAMPLES, deadline=None)
@given(likely | texts)
def test_any_text_is_a_duration_or_a_value_error(text: str) -> None:
    """Of the parsers alone, which the command line has too."""
    for parse in (parse_duration_ms, parse_ask_ms):
        with contextlib.suppress(ValueError):
            assert parse(text) >= -1


def test_page_of_settings_can_always_be_made() -> None:
    """From the declarations, whatever the environment."""
    os.environ[f"{PREFIX}PARTITIONS"] = "none"
    assert "REJOINDER_PARTITIONS" in page()
