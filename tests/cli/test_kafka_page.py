"""docs/kafka-elsewhere.md: its examples are settings of ours, and librdkafka takes them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient

from streams import settings as settings_module
from streams.settings import PREFIX
from streams.transport import config
from tests.broker.certificates import Authority

PAGE: Final = (Path(__file__).parents[2] / "docs" / "kafka-elsewhere.md").read_text()
EXAMPLES: Final = {
    title: dict(line.split("=", 1) for line in block.strip().splitlines())
    for title, block in re.findall(r"^## ([^\n]+)\n(?:(?!^## ).)*?^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
}
SILENT: Final = {"log_level": 0, "error_cb": lambda _: None}


def test_there_is_one_for_each_provider() -> None:
    """Those that are promised."""
    providers = ["Confluent Cloud", "Amazon MSK", "Redpanda", "Strimzi"]
    assert [*providers, "Tokens of an identity provider"] == list(EXAMPLES)
    for provider in providers:
        section = PAGE.partition(f"\n## {provider}\n")[2].partition("\n## ")[0]
        assert "Not run here" in section


@pytest.mark.parametrize("title", EXAMPLES)
def test_settings_and_clients_accept_it(title: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every name and value: an admin client, a member of the group and a transactional producer can be made."""
    for name, value in EXAMPLES[title].items():
        assert name.startswith(PREFIX)
        # The one file that is named.
        given = value.replace("/etc/rejoinder/ca.crt", str(Authority(tmp_path).ca))
        monkeypatch.setenv(name, given)
    settings = settings_module.load()
    assert EXAMPLES[title]["REJOINDER_BOOTSTRAP_SERVERS"] == settings.bootstrap_servers
    quiet = {"bootstrap.servers": "127.0.0.1:1", **SILENT}
    AdminClient(config.common(settings) | quiet)
    Consumer(config.member(settings, "group") | quiet).close()
    Producer(config.transactional(settings, "group") | quiet)


def test_unknown_property_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the test above would pass whatever the page says."""
    monkeypatch.setenv(f"{PREFIX}KAFKA_SASL_MECANISM", "PLAIN")
    with pytest.raises(Exception, match=r"sasl\.mecanism"):
        AdminClient(config.common(settings_module.load()) | SILENT)
