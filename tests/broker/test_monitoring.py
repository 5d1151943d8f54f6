"""A real Prometheus on a real system, with the rules and the dashboard's queries as they are committed."""

from __future__ import annotations

import json
import time
import urllib.parse
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.request import urlopen

import pytest
import yaml

from streams.demo.system import System
from streams.local.kafka import LocalKafka
from streams.local.process import ChildProcess, free_ports
from streams.metrics import DECLARED
from tests.broker.harness import PARTITIONS, produce, wait_for
from tests.broker.test_system import World, running
from tests.deploy.prometheus import executable, filled
from tools import monitoring

pytestmark = pytest.mark.system

_SETTLE_S: Final = 15.0
_OF_TROUBLE: Final = frozenset(
    {
        "rejoinder_dead_letters_total",
        "rejoinder_mails_in_doubt_total",
        "rejoinder_processes_oldest_seconds",
        "rejoinder_restore_left",
        "rejoinder_restore_rows",
        "rejoinder_restore_rows_per_second",
        "rejoinder_restore_failing",
    }
)
"""Metrics without a series while nothing fails, nothing is restored and nobody waits."""


class Prometheus:
    """Prometheus, with our rules, scraping *system* every second."""

    def __init__(self, directory: Path, system: System) -> None:
        (port,) = free_ports(1)
        self._url = f"http://127.0.0.1:{port}"
        targets = [process.url.removeprefix("http://") for process in system.processes]
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(monitoring.ROOT / monitoring.RULES)],
            "scrape_configs": [{"job_name": "rejoinder", "static_configs": [{"targets": targets}]}],
        }
        directory.mkdir()
        (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
        command = [
            executable("prometheus"),
            f"--config.file={directory / 'prometheus.yml'}",
            f"--storage.tsdb.path={directory / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        self._child = ChildProcess("prometheus", command, directory / "prometheus.log")

    def stop(self) -> None:
        """End it."""
        self._child.stop(20)

    def get(self, path: str, **query: str) -> Any:
        """Return what its interface answers."""
        url = f"{self._url}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urlopen(url, timeout=10) as answer:  # noqa: S310 - our own.
            said = json.load(answer)
        assert "success" == said["status"], said
        return said["data"]

    def query(self, expr: str) -> list[Any]:
        """Return the series of *expr* now."""
        return list(self.get("query", query=expr)["result"])

    def rules(self) -> list[dict[str, Any]]:
        """Return the rules, with how their last evaluation went."""
        return [rule for group in self.get("rules")["groups"] for rule in group["rules"]]

    def alerts(self, *states: str) -> set[str]:
        """Return the alerts in any of *states*."""
        return {one["labels"]["alertname"] for one in self.get("alerts")["alerts"] if one["state"] in states}


@pytest.fixture(scope="module")
def world(kafka: LocalKafka, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Return topics, mailbox and orders."""
    world = World(kafka, tmp_path_factory.mktemp("monitoring") / "world", f"rejoinder-{uuid.uuid4().hex[:8]}")
    world.environment["REJOINDER_LAG_INTERVAL"] = "1s"
    world.seed(100)
    return world


@pytest.fixture(scope="module")
def system(world: World) -> Iterator[System]:
    """Return the system, started."""
    executable("prometheus")
    with running(world) as system:
        yield system


@pytest.fixture(scope="module")
def prometheus(world: World, system: System) -> Iterator[Prometheus]:
    """Return a Prometheus that has seen the system answer its commands, and settle."""
    started = Prometheus(world.directory / "prometheus", system)
    try:
        began_s = time.monotonic()
        owed = world.command(world.orders(50))
        wait_for(lambda: len(world.smtp.arrivals) >= len(owed), "the mails", 60)
        # Rates need some samples, and what waits must have been seen to be gone.
        time.sleep(max(0.0, _SETTLE_S - (time.monotonic() - began_s)))
        yield started
    finally:
        started.stop()


def test_every_metric_is_scraped(prometheus: Prometheus) -> None:
    """With series, but for those that tell of trouble only."""
    known = prometheus.get("metadata")
    assert [] == [metric.name for metric in DECLARED if metric.name not in known]
    found = set(prometheus.get("label/__name__/values"))
    silent = {metric.name for metric in DECLARED if not {metric.name, f"{metric.name}_count"} & found}
    assert silent <= _OF_TROUBLE


def test_rules_evaluate_and_a_healthy_system_alerts_nobody(prometheus: Prometheus) -> None:
    """Neither firing nor on its way to it; the recordings have series."""
    assert PARTITIONS == len(prometheus.query('count by (partition) (kafka_consumergroup_lag{topic=~".*commands"})'))
    rules = prometheus.rules()
    assert rules
    assert [] == [(rule["name"], rule["lastError"]) for rule in rules if rule["health"] != "ok"]
    assert set() == prometheus.alerts("pending", "firing")
    recorded = {rule["name"] for rule in rules if rule["type"] == "recording"}
    of_trouble = {name for name in recorded if "oldest" in name}
    assert [] == [name for name in sorted(recorded - of_trouble) if not prometheus.query(name)]


def test_panels_show_something(prometheus: Prometheus) -> None:
    """Every query of the dashboard is answered, with series, but for those that tell of trouble only."""
    panels = [panel for panel in monitoring.dashboard()["panels"] if panel["type"] != "row"]
    for panel in panels:
        for target in panel["targets"]:
            asked = set(monitoring.named(target["expr"]))
            # An increase of what never was: without series as well.
            if asked & _OF_TROUBLE:
                prometheus.query(filled(target["expr"]))
            else:
                assert prometheus.query(filled(target["expr"])), panel["title"]


def test_trouble_alerts(prometheus: Prometheus, world: World, system: System) -> None:
    """A dead letter at once; a process that ends is on its way to its alert."""
    produce(world.settings, "order-confirmation.commands", {"poison": b"\0"})
    wait_for(lambda: {"RejoinderDeadLetters"} == prometheus.alerts("firing"), "the dead letter is told")
    system.email.stop()
    pending = {"RejoinderTargetDown", "RejoinderRoleMissing"}
    wait_for(lambda: pending <= prometheus.alerts("pending"), "the process that is down is noticed")
