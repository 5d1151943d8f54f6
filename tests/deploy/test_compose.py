"""docker-compose.yml as the real Compose reads it, in both its sizes; `test_compose_system` starts what is in it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from streams import settings as settings_module
from streams.local.apicurio import REGISTRY_VERSION
from streams.local.kafka import KAFKA_VERSION
from streams.settings import KAFKA_PREFIX, PREFIX, Settings
from streams.transport.driver import Consumer
from tests.deploy.tools import ROOT, composed, image_environment, image_user

pytestmark = pytest.mark.deploy

FULL: Final = "monitoring/full.env"
SIZES: Final = ("", FULL)
SMALL_SET: Final = {"kafka-1", "topics", "examples", "worker-1", "orders", "email", "mailpit"}
FULL_SET: Final = SMALL_SET | {
    "kafka-2", "kafka-3", "schemas", "worker-2", "postgres", "registry", "prometheus", "grafana", "kafka-ui",
}  # fmt: skip
ROLES: Final = ("worker", "orders", "email")


def _ours(env_file: str) -> dict[str, Any]:
    return {name: one for name, one in composed(env_file)["services"].items() if "build" in one}


def _roles(env_file: str) -> dict[str, Any]:
    return {name: one for name, one in _ours(env_file).items() if one["command"][0] in ROLES}


def _brokers(env_file: str) -> dict[str, Any]:
    return {name: one for name, one in composed(env_file)["services"].items() if "/kafka:" in one["image"]}


@pytest.mark.parametrize(("env_file", "expected"), [("", SMALL_SET), (FULL, FULL_SET)])
def test_set_is_the_one_that_was_asked_for(env_file: str, expected: set[str]) -> None:
    """Small without anything, full by the environment file."""
    assert expected == composed(env_file)["services"].keys()


@pytest.mark.parametrize("env_file", SIZES)
def test_every_variable_is_a_setting_that_is_accepted(env_file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By our own reader of settings, with the image's."""
    assert _ours(env_file)
    for service in _ours(env_file).values():
        with monkeypatch.context() as patch:
            for name in [name for name in os.environ if name.startswith(PREFIX)]:
                patch.delenv(name)
            environment = image_environment() | service["environment"]
            assert all(name.startswith(PREFIX) and not name.startswith(KAFKA_PREFIX) for name in environment)
            for name, value in environment.items():
                patch.setenv(name, value)
            settings_module.load()


def test_variables_of_the_full_set_are_used() -> None:
    """A typing error there would be the small set's value."""
    names = set(re.findall(r"^(\w+)=", (ROOT / FULL).read_text(), re.MULTILINE))
    used = set(re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text()))
    # Compose's own.
    assert names - used <= {"COMPOSE_PROFILES"}
    assert {"KAFKA_REPLICAS", "KAFKA_VOTERS", "REJOINDER_BOOTSTRAP_SERVERS"} <= names


@pytest.mark.parametrize("env_file", SIZES)
def test_it_comes_up_in_order(env_file: str) -> None:
    """Steps after what they need is healthy, processes after the steps; nothing waits for what can't be waited for."""
    services = composed(env_file)["services"]
    for name, service in services.items():
        for needed, how in service.get("depends_on", {}).items():
            if needed not in services:
                assert not how["required"], f"{name} needs {needed}, which isn't there"
            elif how["condition"] == "service_healthy":
                assert "test" in services[needed]["healthcheck"], needed
            else:
                assert how["condition"] == "service_completed_successfully"
                assert services[needed]["restart"].startswith("on-failure"), f"{needed} never ends"
    for service in _roles(env_file).values():
        assert "topics" in service["depends_on"]
        assert (env_file == FULL) == ("schemas" in service["depends_on"].keys() & services.keys())
    assert {"examples"} <= services["orders"]["depends_on"].keys()
    assert {"mailpit"} <= services["email"]["depends_on"].keys()
    assert _brokers(env_file).keys() <= services["topics"]["depends_on"].keys()


@pytest.mark.parametrize("env_file", SIZES)
def test_every_server_has_a_health_check(env_file: str) -> None:
    """Steps have none: they end."""
    for name, service in composed(env_file)["services"].items():
        if service["restart"] == "unless-stopped":
            assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL"), name
        else:
            assert service["healthcheck"] == {"disable": True}, name
    for service in _roles(env_file).values():
        assert ["CMD", "rejoinder", "health", "--ready"] == service["healthcheck"]["test"]


@pytest.mark.parametrize("env_file", SIZES)
def test_processes_are_confined(env_file: str) -> None:
    """As in production: the image's user, a root file system that is read only, no capabilities."""
    for name, service in _ours(env_file).items():
        assert f"{image_user()}:{image_user()}" == service["user"], name
        assert service["read_only"], name
        assert ["ALL"] == service["cap_drop"], name
        assert ["no-new-privileges:true"] == service["security_opt"], name
    for service in _roles(env_file).values():
        minutes, seconds = re.fullmatch(r"(?:(\d+)m)?(\d+)s", service["stop_grace_period"]).groups("0")  # type: ignore[union-attr]
        assert int(minutes) * 60 + int(seconds) > Consumer.STOP_S


@pytest.mark.parametrize("env_file", SIZES)
def test_each_process_has_a_state_and_a_name_of_its_own(env_file: str) -> None:
    """The same after a restart, and where the image keeps it."""
    roles = _roles(env_file)
    states = {}
    for name, service in roles.items():
        (volume,) = service["volumes"]
        assert image_environment()["REJOINDER_STATE_DIR"] == volume["target"]
        states[name] = volume["source"]
        environment = service["environment"]
        assert name == service["hostname"] == environment["REJOINDER_INSTANCE_ID"] == environment["REJOINDER_WEB_HOST"]
    assert len(roles) == len(set(states.values()))
    assert set(states.values()) <= composed(env_file)["volumes"].keys()
    # SQLite's file, where that is what they use.
    (volume,) = _ours(env_file)["examples"]["volumes"]
    assert states["orders"] == volume["source"]


@pytest.mark.parametrize("env_file", SIZES)
def test_workers_may_ask_each_other(env_file: str) -> None:
    """The token goes to all of them, and to nobody else."""
    workers = {name for name in _roles(FULL) if name.startswith("worker")}
    for service in _roles(env_file).values():
        assert workers == set(service["environment"]["REJOINDER_WEB_PEERS"].split(","))


@pytest.mark.parametrize("env_file", SIZES)
def test_addresses_are_listeners(env_file: str) -> None:
    """Brokers and voters are those that are there, with as many replicas as they can keep."""
    brokers = _brokers(env_file)
    listeners, voters, seen = set(), set(), set()
    for name, service in brokers.items():
        environment = service["environment"]
        assert name == service["hostname"]
        addresses = dict(re.findall(r"(\w+)://([^,]+)", environment["KAFKA_ADVERTISED_LISTENERS"]))
        inside = dict(re.findall(r"(\w+)://:(\d+)", environment["KAFKA_LISTENERS"]))
        assert f"{name}:{inside['CLIENT']}" == addresses["CLIENT"]
        (port,) = service["ports"]
        assert f"127.0.0.1:{port['published']}" == addresses["HOST"]
        assert str(port["target"]) == inside["HOST"]
        listeners.add(addresses["CLIENT"])
        voters.add(f"{environment['KAFKA_NODE_ID']}@{name}:{inside['CONTROLLER']}")
        seen.add((environment["KAFKA_CONTROLLER_QUORUM_VOTERS"], environment["CLUSTER_ID"]))
        assert len(brokers) == int(environment["KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR"])
        assert int(environment["KAFKA_MIN_INSYNC_REPLICAS"]) == (2 if len(brokers) == 3 else 1)
    ((quorum, _),) = seen
    assert voters == set(quorum.split(","))
    for name, service in _ours(env_file).items():
        if name != "examples":
            assert listeners == set(service["environment"]["REJOINDER_BOOTSTRAP_SERVERS"].split(",")), name
            assert str(len(brokers)) == service["environment"]["REJOINDER_REPLICATION_FACTOR"], name


def test_servers_that_are_named_are_there() -> None:
    """Every host in the full set's URLs is a service, or this machine."""
    services = composed(FULL)["services"]
    for name, service in services.items():
        for variable, value in (service.get("environment") or {}).items():
            for host in re.findall(r"://(?:[^@/,]*@)?([a-z][\w-]*)", str(value)):
                assert host in services, f"{name}: {variable}={value}"


@pytest.mark.parametrize("env_file", SIZES)
def test_ports_are_this_machines_alone(env_file: str) -> None:
    """No two the same, and none for the neighbours: nothing here asks who is there."""
    published = [port for one in composed(env_file)["services"].values() for port in one.get("ports", [])]
    assert ["127.0.0.1"] * len(published) == [port["host_ip"] for port in published]
    assert len(published) == len({port["published"] for port in published})


def test_images_are_pinned_and_are_what_is_tested() -> None:
    """Kafka and registry as the tests start them, all by version."""
    images = {name: one["image"] for name, one in composed(FULL)["services"].items()}
    assert f"apache/kafka:{KAFKA_VERSION}" == images["kafka-1"] == images["kafka-2"] == images["kafka-3"]
    assert f"apicurio/apicurio-registry:{REGISTRY_VERSION}" == images["registry"]
    tags = {name: image.rpartition(":")[2] for name, image in images.items()}
    assert [] == [name for name, tag in tags.items() if tag != "local" and not re.match(r"v?\d+", tag)]


def test_mounted_files_are_there() -> None:
    """A folder that isn't would be made, as root, in the checkout."""
    binds = [
        Path(volume["source"])
        for one in composed(FULL)["services"].values()
        for volume in one.get("volumes", [])
        if volume["type"] == "bind"
    ]
    assert binds
    assert [] == [path for path in binds if not (ROOT / path).is_dir()]


def test_prometheus_scrapes_every_process() -> None:
    """By the service's name, on the port that it listens on."""
    config = yaml.safe_load((ROOT / "monitoring" / "prometheus" / "prometheus.yml").read_text())
    (job,) = config["scrape_configs"]
    (found,) = job["dns_sd_configs"]
    assert set(_roles(FULL)) == set(found["names"])
    assert Settings.model_fields["web_port"].default == found["port"]
    assert "metrics_path" not in job, "/metrics is what is served"


def test_grafana_asks_the_prometheus_that_is_there() -> None:
    """By its service's name; dashboards lie where it looks for them."""
    provisioning = ROOT / "monitoring" / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"]
    assert "http://prometheus:9090" == source["url"]
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "files.yml").read_text())["providers"]
    (mount,) = (one for one in composed(FULL)["services"]["grafana"]["volumes"] if one["type"] == "bind")
    assert f"{mount['target']}/dashboards" == provider["options"]["path"]
