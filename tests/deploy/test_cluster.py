"""The manifests on a real API server, with the real scheduler and controllers: admitted, spread out, and drained."""

from __future__ import annotations

import copy
import shutil
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import pytest

from tests.broker.harness import wait_for
from tests.deploy import operators
from tests.deploy.cluster import READY_S, Cluster, RefusedError
from tests.deploy.rules import of_kind
from tests.deploy.tools import K8S, OVERLAYS, Document, rendered

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3_600),
    pytest.mark.skipif(shutil.which("go") is None, reason="needs go 1.26 or newer"),
]

NAMESPACE: Final = "rejoinder"
WORKERS: Final = ("-n", NAMESPACE, "-l", "app.kubernetes.io/component=worker")
ZONES: Final = ("a", "b", "c", "a", "b", "c")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Return a cluster that knows the operators' kinds, without anything of ours."""
    with Cluster(tmp_path_factory.mktemp("cluster")) as running:
        running.apply(operators.definitions())
        running.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        yield running


def _documents(overlay: str) -> tuple[Document, ...]:
    return rendered(K8S / "overlays" / overlay)


def _apply_namespace(cluster: Cluster, documents: tuple[Document, ...]) -> None:
    """Apply it: what is in it can't be rehearsed without."""
    namespaces = of_kind(documents, "Namespace")
    (labels,) = (one["metadata"]["labels"] for one in namespaces)
    # So a pod that isn't restricted is an error, and the template of one a warning.
    assert {"restricted"} == {labels[f"pod-security.kubernetes.io/{mode}"] for mode in ("enforce", "warn")}
    cluster.apply(namespaces)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_overlay_is_admitted_without_a_warning(cluster: Cluster, overlay: str) -> None:
    """All of it: schemas, the operators' rules among them, and what Pod Security says of a restricted namespace."""
    documents = _documents(overlay)
    _apply_namespace(cluster, documents)
    cluster.apply(documents, really=False)


def _unknown_field(template: Any) -> None:
    template["spec"]["terminationGracePeriod"] = 75


def _privileged(template: Any) -> None:
    template["spec"]["containers"][0]["securityContext"]["privileged"] = True


def _root(template: Any) -> None:
    template["spec"]["securityContext"]["runAsNonRoot"] = False


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_unknown_field, "terminationGracePeriod"),
        (_privileged, "privileged"),
        (_root, "runAsNonRoot"),
    ],
)
def test_what_is_wrong_is_refused(cluster: Cluster, change: Any, said: str) -> None:
    """Else the tests here would mean nothing."""
    documents = _documents("prod")
    _apply_namespace(cluster, documents)
    worker = copy.deepcopy(of_kind(documents, "StatefulSet")[0])
    change(worker["spec"]["template"])
    with pytest.raises(RefusedError, match=said):
        cluster.apply([worker], really=False)


def _evict(cluster: Cluster, pod: str) -> None:
    """As `kubectl drain` does."""
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": NAMESPACE}}
    path = f"/api/v1/namespaces/{NAMESPACE}/pods/{pod}/eviction"
    cluster.kubectl("create", "--raw", path, "-f", "-", documents=[eviction])


def test_production_is_spread_out_scaled_and_drained(cluster: Cluster) -> None:
    """As many workers as KEDA may ask for, evenly on nodes; a drain takes one at a time, and it comes back."""
    documents = _documents("prod")
    cluster.add_nodes(ZONES, cpus=4, memory_gib=8)
    cluster.add_volumes([50] * 16)
    _apply_namespace(cluster, documents)
    cluster.apply(documents)
    (scaled,) = of_kind(documents, "ScaledObject")
    most = scaled["spec"]["maxReplicaCount"]
    cluster.kubectl("scale", "statefulset", "rejoinder-worker", "-n", NAMESPACE, f"--replicas={most}")

    def placed(*selected: str) -> dict[str, str]:
        """Return the pods' nodes, nothing while one has none."""
        found = {one["metadata"]["name"]: one["spec"].get("nodeName") for one in cluster.get("pods", *selected)}
        return {} if None in found.values() else found

    wait_for(lambda: len(placed(*WORKERS)) == most, f"{most} workers have nodes", READY_S)
    of_nodes = Counter(placed(*WORKERS).values())
    assert len(ZONES) == len(of_nodes)
    assert max(of_nodes.values()) - min(of_nodes.values()) <= 1

    everything = wait_for(lambda: placed("-n", NAMESPACE), "all pods have nodes", READY_S)
    wanted = {
        one["metadata"]["name"]
        for kind in ("StatefulSet", "Deployment", "Job")
        for one in of_kind(documents, kind)
    }  # fmt: skip
    assert wanted == {name for name in wanted if any(pod.startswith(f"{name}-") for pod in everything)}
    services = [node for pod, node in everything.items() if pod.startswith("rejoinder-orders-")]
    assert len(services) == len(set(services)), "of orders, two are on one node"

    cluster.say_ready(cluster.get("pods", *WORKERS))

    def allowed() -> int:
        (budget,) = cluster.get("poddisruptionbudget", "rejoinder-worker", "-n", NAMESPACE)
        return int(budget.get("status", {}).get("disruptionsAllowed", 0))

    wait_for(lambda: allowed() == 1, "one worker may go", READY_S)
    _evict(cluster, "rejoinder-worker-0")
    with pytest.raises(RefusedError, match="disruption budget"):
        _evict(cluster, "rejoinder-worker-1")
    old = {one["metadata"]["uid"] for one in cluster.get("pods", *WORKERS)}
    cluster.kubectl("delete", "pod", "rejoinder-worker-0", "-n", NAMESPACE, "--grace-period=0", "--force=true")

    def is_back() -> list[Any]:
        return [
            one
            for one in cluster.get("pods", *WORKERS)
            if one["metadata"]["uid"] not in old and one["spec"].get("nodeName")
        ]

    (back,) = wait_for(is_back, "another one has a node", READY_S)
    (claim,) = (volume for volume in back["spec"]["volumes"] if volume["name"] == "state")
    assert {"claimName": "state-rejoinder-worker-0"} == claim["persistentVolumeClaim"], "another's state"
    assert allowed() == 0, "it isn't ready yet"
    cluster.say_ready([back])
    wait_for(lambda: allowed() == 1, "the next one may go", READY_S)
