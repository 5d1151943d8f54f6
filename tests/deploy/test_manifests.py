"""Every overlay as Kustomize renders it: by strict schemas, by our own rules, and against our code."""

from __future__ import annotations

import copy
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from streams import settings as settings_module
from streams.settings import PREFIX
from tests.deploy import operators, rules
from tests.deploy.rules import broken, name_of, of_kind
from tests.deploy.tools import COMPONENTS, K8S, OVERLAYS, Document, image_environment, rendered, run, tool
from tools import manifests

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(400)]

PROD: Final = K8S / "overlays" / "prod"
_OPERATORS: Final = ("kafka.strimzi.io", "keda.sh", "monitoring.coreos.com")


def _is_operators(document: Document) -> bool:
    return document["apiVersion"].partition("/")[0] in _OPERATORS


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_core_kinds_are_valid(overlay: str, tmp_path: Path) -> None:
    """By the schemas of the newest Kubernetes, unknown fields refused."""
    core = [one for one in rendered(K8S / "overlays" / overlay) if not _is_operators(one)]
    assert {"StatefulSet", "Deployment", "NetworkPolicy", "PodDisruptionBudget"} <= {one["kind"] for one in core}
    (tmp_path / "core.yaml").write_text(yaml.safe_dump_all(core))
    said = run(tool("kubernetes-validate"), "--strict", "-k", "1.37", str(tmp_path / "core.yaml"), stdin=None)
    assert "WARN" not in said


def test_unknown_field_of_a_core_kind_is_noticed(tmp_path: Path) -> None:
    """Else the test above would mean nothing."""
    (one, *_) = copy.deepcopy(of_kind(rendered(PROD), "StatefulSet"))
    one["spec"]["podManagment"] = "Parallel"
    (tmp_path / "core.yaml").write_text(yaml.safe_dump(one))
    with pytest.raises(AssertionError, match="podManagment"):
        run(tool("kubernetes-validate"), "--strict", "-k", "1.37", str(tmp_path / "core.yaml"))


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_operators_kinds_are_valid(overlay: str) -> None:
    """By the definitions that their makers publish."""
    found = [one for one in rendered(K8S / "overlays" / overlay) if _is_operators(one)]
    assert {"Kafka", "KafkaTopic", "KafkaUser"} <= {one["kind"] for one in found}
    assert {} == {name_of(one): problems for one in found if (problems := operators.problems(one))}


@pytest.mark.parametrize(
    ("kind", "change", "said"),
    [
        ("ScaledObject", lambda spec: spec.update(maxReplicas=12), "maxReplicas"),
        ("KafkaTopic", lambda spec: spec.update(partitions="12"), "'12' is not of type 'integer'"),
        ("KafkaUser", lambda spec: spec["authorization"]["acls"][0].update(operations=["Sing"]), "Sing"),
        ("ServiceMonitor", lambda spec: spec.pop("selector"), "selector"),
    ],
)
def test_wrong_field_of_an_operators_kind_is_noticed(kind: str, change: Callable[[Any], object], said: str) -> None:
    """Unknown, of another type, outside its values, missing."""
    one = copy.deepcopy(of_kind(rendered(PROD), kind)[0])
    change(one["spec"])
    assert said in str(operators.problems(one))


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_parts_fit(overlay: str) -> None:
    """Our rules."""
    assert [] == broken(rendered(K8S / "overlays" / overlay))


def _first(documents: list[Document], kind: str, name: str = "") -> Any:
    return next(one for one in of_kind(documents, kind) if one["metadata"]["name"].endswith(name))["spec"]


def _container(documents: list[Document], kind: str, name: str) -> Any:
    return _first(documents, kind, name)["template"]["spec"]["containers"][0]


def _pod(documents: list[Document], kind: str, name: str) -> Any:
    return _first(documents, kind, name)["template"]["spec"]


def _without(kind: str, name: str) -> Callable[[list[Document]], None]:
    def remove(documents: list[Document]) -> None:
        documents.remove(next(one for one in of_kind(documents, kind) if one["metadata"]["name"] == name))

    return remove


PLANTED: Final[dict[str, tuple[str, Callable[[list[Document]], object]]]] = {
    "service of nobody": (
        "selectors",
        lambda d: _first(d, "Service", "email")["selector"].update({"app.kubernetes.io/component": "mail"}),
    ),
    "two sets of the same pods": (
        "selectors",
        lambda d: _first(d, "StatefulSet", "worker")["selector"]["matchLabels"].pop("app.kubernetes.io/component"),
    ),
    "port that isn't there": ("ports", lambda d: _first(d, "Service", "worker")["ports"][0].update(targetPort="http")),
    "port that nobody listens on": (
        "ports",
        lambda d: _container(d, "StatefulSet", "worker")["ports"][0].update(containerPort=8080),
    ),
    "service that hides pods": (
        "services_of_stateful_sets",
        lambda d: _first(d, "Service", "worker").pop("publishNotReadyAddresses"),
    ),
    "volume that isn't there": ("volumes", lambda d: _pod(d, "StatefulSet", "email")["volumes"].pop()),
    "state on the root": (
        "volumes",
        lambda d: _container(d, "StatefulSet", "worker")["volumeMounts"][0].update(mountPath="/state"),
    ),
    "claim that changes": (
        "volumes",
        lambda d: _first(d, "StatefulSet", "email")["volumeClaimTemplates"][0]["metadata"].update(
            labels={"app.kubernetes.io/version": "1"}
        ),
    ),
    "file that isn't mounted": (
        "files",
        lambda d: _pod(d, "StatefulSet", "worker")["volumes"][0]["secret"]["items"][0].update(path="pass"),
    ),
    "typing error": (
        "settings",
        lambda d: _container(d, "Deployment", "orders")["env"].append({"name": "REJOINDER_PARTITION", "value": "1"}),
    ),
    "service links": ("settings", lambda d: _pod(d, "Deployment", "orders").pop("enableServiceLinks")),
    "variable used before it is there": (
        "references_between_variables",
        lambda d: _container(d, "StatefulSet", "worker")["env"].reverse(),
    ),
    "identity that changes": ("stable_identity", lambda d: _container(d, "StatefulSet", "worker")["env"].pop(2)),
    "another's login": (
        "logins",
        lambda d: _pod(d, "StatefulSet", "email")["volumes"][1]["secret"].update(secretName="rejoinder-worker"),
    ),
    "secret that nobody makes": ("logins", _without("KafkaUser", "rejoinder-email")),
    "requests beyond limits": (
        "resources",
        lambda d: _container(d, "StatefulSet", "worker")["resources"]["requests"].update(memory="2Gi"),
    ),
    "no limit of memory": ("resources", lambda d: _container(d, "StatefulSet", "worker")["resources"].pop("limits")),
    "root that can be written": (
        "restricted",
        lambda d: _container(d, "StatefulSet", "email")["securityContext"].pop("readOnlyRootFilesystem"),
    ),
    "root": ("restricted", lambda d: _pod(d, "StatefulSet", "email")["securityContext"].pop("runAsNonRoot")),
    "life asked for readiness": (
        "probes",
        lambda d: _container(d, "StatefulSet", "worker")["livenessProbe"]["httpGet"].update(path="/health/ready"),
    ),
    "killed in the commit": (
        "probes",
        lambda d: _pod(d, "StatefulSet", "worker").update(terminationGracePeriodSeconds=30),
    ),
    "budget that holds everybody": (
        "replicas",
        lambda d: _first(d, "PodDisruptionBudget", "email").update(maxUnavailable=0),
    ),
    "apply against KEDA": ("replicas", lambda d: _first(d, "StatefulSet", "worker").update(replicas=2)),
    "no default": ("network", _without("NetworkPolicy", "default-deny")),
    "no way to the brokers": ("network", _without("NetworkPolicy", "rejoinder-kafka")),
    "image of another version": (
        "release",
        lambda d: _container(d, "Deployment", "orders").update(image="rejoinder:0.0.9"),
    ),
    "metrics of two roles only": ("monitored", _without("Service", "rejoinder-email")),
    "topic that isn't made": ("cluster", _without("KafkaTopic", "email.events")),
    "more replicas than brokers": ("strimzi", lambda d: _first(d, "KafkaNodePool").update(replicas=2)),
    "workers beyond the partitions": ("keda", lambda d: _first(d, "ScaledObject").update(maxReplicaCount=13)),
    "markers that wake": (
        "keda",
        lambda d: _first(d, "ScaledObject")["triggers"][0]["metadata"].update(activationLagThreshold="0"),
    ),
}


@pytest.mark.parametrize("name", PLANTED)
def test_rules_notice(name: str) -> None:
    """Each a mistake that no schema sees, planted into production's overlay."""
    noticed_by, plant = PLANTED[name]
    documents = copy.deepcopy(list(rendered(PROD)))
    plant(documents)
    assert any(problem.startswith(f"{noticed_by}: ") for problem in broken(documents)), broken(documents)


def test_every_rule_has_noticed_something() -> None:
    """A rule that can't fail says nothing."""
    assert set(rules.RULES) == {noticed_by for noticed_by, _ in PLANTED.values()}


def test_every_component_is_in_an_overlay() -> None:
    """Else it would be checked by nobody."""
    text = "".join(path.read_text() for path in K8S.rglob("kustomization.yaml"))
    assert [] == [name for name in COMPONENTS if f"../../components/{name}" not in text]


def test_triggers_metadata_are_known_to_keda() -> None:
    """By the scaler's own source, which takes no notice of a name that it doesn't know."""
    source = (operators.module(operators.KEDA) / "pkg" / "scalers" / "kafka_scaler.go").read_text()
    known = re.findall(r'keda:"name=(\w+),\s*order=([\w;]+)', source)
    (trigger,) = _first(list(rendered(PROD)), "ScaledObject")["triggers"]
    assert trigger["metadata"].keys() <= {name for name, where in known if "triggerMetadata" in where}
    (login,) = (one["spec"] for one in of_kind(rendered(PROD), "TriggerAuthentication"))
    given = {one["parameter"] for references in login.values() for one in references}
    assert {"username", "password", "ca"} == given
    assert given <= {name for name, where in known if "authParams" in where}


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("role", rules.ROLES)
def test_settings_are_accepted(overlay: str, role: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As the process reads them, with files where they are mounted."""
    documents = rendered(K8S / "overlays" / overlay)
    workload = next(
        one for one in of_kind(documents, "StatefulSet", "Deployment") if one["metadata"]["name"] == f"rejoinder-{role}"
    )
    (container,) = workload["spec"]["template"]["spec"]["containers"]
    maps = {one["metadata"]["name"]: one["data"] for one in of_kind(documents, "ConfigMap")}
    environment = image_environment() | rules._environment(container, maps)
    values = {"POD_NAME": f"rejoinder-{role}-0", "POD_NAMESPACE": "rejoinder", "POD_IP": "10.0.0.7"}
    (tmp_path / "file").write_text(
        "smtps://user:password@mail.example.com" if role == "email" else "postgresql://u@h/d"
    )
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        if not name.startswith(PREFIX):
            continue
        text = re.sub(r"\$\((\w+)\)", lambda found: values[found[1]], value)
        is_file = name.endswith(("_FILE", "_LOCATION"))
        monkeypatch.setenv(name, str(tmp_path / "file") if is_file else text)
    # librdkafka would read it, and there is no certificate here.
    monkeypatch.delenv("REJOINDER_KAFKA_SSL_CA_LOCATION")
    settings = settings_module.load()
    assert f"rejoinder-{role}-0" == settings.instance
    assert "0.0.0.0" == settings.web_bind  # noqa: S104 - that it is, is what is tested.
    assert (overlay == "static-membership") == (settings.static_membership is settings_module.Switch.ON)


def test_store_fits_into_the_workers_memory() -> None:
    """With as much again for librdkafka's queues, a batch and Python itself."""
    for overlay in OVERLAYS:
        documents = list(rendered(K8S / "overlays" / overlay))
        (config,) = (one["data"] for one in of_kind(documents, "ConfigMap") if "REJOINDER_LOG_FORMAT" in one["data"])
        store = int(config.get("REJOINDER_STORE_MEMORY_MIB", settings_module.load().store_memory_mib))
        limit = rules.quantity(_container(documents, "StatefulSet", "worker")["resources"]["limits"]["memory"])
        assert limit >= (store + 384) * 2**20, overlay


def test_generated_files_are_read_back_as_declared() -> None:
    """YAML has its own ideas of on, 1.0 and 0440."""
    for make in manifests.FILES.values():
        declared = list(make())
        assert declared == list(yaml.safe_load_all(manifests.render(make)))
        assert json.loads(json.dumps(declared)) == declared
