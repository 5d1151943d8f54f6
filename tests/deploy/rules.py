"""
What no schema sees in Kubernetes manifests: whether their parts fit each other, our code, and the cluster's policies.

Each rule takes all documents of an overlay and yields what is wrong, in words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import Any, Final

from streams.settings import KAFKA_PREFIX, PREFIX, Settings, secrets
from streams.transport.driver import Consumer
from tests.deploy.tools import Document, image_environment, image_user
from tools.image import version
from topology.acls import Role
from topology.topics import COMMANDS, PARTITIONS, TOPICS

WORKLOADS: Final = ("StatefulSet", "Deployment", "Job")
ROLES: Final = ("worker", "orders", "email")
_UNITS: Final[dict[str, Decimal | int]] = {
    "": 1,
    "m": Decimal("0.001"),
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
}
_OUTSIDE_SECRETS: Final = {"rejoinder-smtp", "rejoinder-orders-database"}
"""What an operator makes by hand, as docs/deploying.md says."""

Rule = Callable[[Sequence[Document]], Iterator[str]]
RULES: dict[str, Rule] = {}


def rule(function: Rule) -> Rule:
    """Register a rule under its name."""
    RULES[function.__name__] = function
    return function


def broken(documents: Sequence[Document]) -> list[str]:
    """Return what the rules say of *documents*."""
    return [f"{name}: {problem}" for name, check in RULES.items() for problem in check(documents)]


def of_kind(documents: Sequence[Document], *kinds: str) -> list[Document]:
    """Return the documents of these kinds."""
    return [one for one in documents if one["kind"] in kinds]


def name_of(document: Document) -> str:
    """Return kind and name."""
    return f"{document['kind']}/{document['metadata']['name']}"


def _pod(workload: Document) -> Any:
    return workload["spec"]["template"]["spec"]


def _labels(workload: Document) -> dict[str, str]:
    found: dict[str, str] = workload["spec"]["template"]["metadata"]["labels"]
    return found


def _containers(workload: Document) -> list[Any]:
    pod = _pod(workload)
    return [*pod.get("initContainers", []), *pod["containers"]]


def _ours(documents: Sequence[Document]) -> list[Document]:
    """Return the workloads that run our image."""
    return [
        one
        for one in of_kind(documents, *WORKLOADS)
        if any("rejoinder" in container["image"].rpartition("/")[2] for container in _containers(one))
    ]


def _matches(selector: dict[str, str], labels: dict[str, str]) -> bool:
    return selector.items() <= labels.items()


def quantity(text: str | float) -> Decimal:
    """Return a Kubernetes quantity as a number."""
    found = re.fullmatch(r"([\d.]+)(m|[KMGT]i|)", str(text))
    assert found is not None, f"{text}: no quantity that is used here"
    return Decimal(found[1]) * _UNITS[found[2]]


@rule
def selectors(documents: Sequence[Document]) -> Iterator[str]:
    """Whatever selects pods selects some, and workloads their own alone."""
    workloads = of_kind(documents, *WORKLOADS)
    for one in of_kind(documents, "StatefulSet", "Deployment"):
        selected = [other for other in workloads if _matches(one["spec"]["selector"]["matchLabels"], _labels(other))]
        if selected != [one]:
            yield f"{name_of(one)} selects the pods of {[name_of(other) for other in selected]}"
        for constraint in _pod(one).get("topologySpreadConstraints", []):
            if not _matches(constraint["labelSelector"]["matchLabels"], _labels(one)):
                yield f"{name_of(one)} spreads other pods than its own"
    for one in of_kind(documents, "Service", "PodDisruptionBudget"):
        wanted = one["spec"]["selector"].get("matchLabels", one["spec"]["selector"])
        if sum(_matches(wanted, _labels(other)) for other in workloads) != 1:
            yield f"{name_of(one)} selects the pods of none or of several"


@rule
def monitored(documents: Sequence[Document]) -> Iterator[str]:
    """Prometheus finds every role's service, and the port on it."""
    for one in of_kind(documents, "ServiceMonitor"):
        wanted = one["spec"]["selector"]["matchLabels"]
        found = [other for other in of_kind(documents, "Service") if _matches(wanted, other["metadata"]["labels"])]
        components = {other["metadata"]["labels"].get("app.kubernetes.io/component") for other in found}
        if set(ROLES) != components:
            yield f"{name_of(one)} finds {components}"
        for endpoint in one["spec"]["endpoints"]:
            if any(endpoint["port"] not in [port["name"] for port in other["spec"]["ports"]] for other in found):
                yield f"{name_of(one)}: a service has no port {endpoint['port']}"


@rule
def ports(documents: Sequence[Document]) -> Iterator[str]:
    """Ports that are named exist, and our web server listens there."""
    workloads = of_kind(documents, *WORKLOADS)
    for one in of_kind(documents, "Service"):
        for other in workloads:
            if _matches(one["spec"]["selector"], _labels(other)):
                there = {port["name"] for container in _containers(other) for port in container.get("ports", [])}
                for port in one["spec"]["ports"]:
                    if port["targetPort"] not in there:
                        yield f"{name_of(one)}: {name_of(other)} has no port {port['targetPort']}"
    for one in _ours(documents):
        for container in _containers(one):
            for port in container.get("ports", []):
                if port["containerPort"] != Settings.model_fields["web_port"].default:
                    yield f"{name_of(one)}: nothing listens on {port['containerPort']}"


@rule
def services_of_stateful_sets(documents: Sequence[Document]) -> Iterator[str]:
    """Each has its headless service, which names pods that aren't ready too; web hosts are such names."""
    services = {one["metadata"]["name"]: one["spec"] for one in of_kind(documents, "Service")}
    for one in of_kind(documents, "StatefulSet"):
        name = one["spec"]["serviceName"]
        spec = services.get(name, {})
        if spec.get("clusterIP") != "None" or not spec.get("publishNotReadyAddresses"):
            yield f"{name_of(one)}: {name} is no headless service of all pods"
        if not _matches(spec.get("selector", {"": ""}), _labels(one)):
            yield f"{name_of(one)}: {name} is another's service"
        for container in _containers(one):
            host = {env["name"]: env.get("value") for env in container["env"]}.get("REJOINDER_WEB_HOST")
            if host != f"$(POD_NAME).{name}.$(POD_NAMESPACE).svc":
                yield f"{name_of(one)}: REJOINDER_WEB_HOST={host} isn't the pod's name in {name}"


@rule
def volumes(documents: Sequence[Document]) -> Iterator[str]:
    """Every mounted volume exists, every volume is mounted, and the state has one."""
    state = image_environment()["REJOINDER_STATE_DIR"]
    for one in of_kind(documents, *WORKLOADS):
        there = {volume["name"] for volume in _pod(one).get("volumes", [])}
        there |= {claim["metadata"]["name"] for claim in one["spec"].get("volumeClaimTemplates", [])}
        mounted = {mount["name"] for container in _containers(one) for mount in container.get("volumeMounts", [])}
        if there != mounted:
            yield f"{name_of(one)} has {sorted(there)}, mounts {sorted(mounted)}"
        for container in _containers(one):
            paths = {mount["mountPath"] for mount in container.get("volumeMounts", [])}
            if container["name"] in ROLES and state not in paths:
                yield f"{name_of(one)}: nothing is mounted at {state}"
    for one in of_kind(documents, "StatefulSet"):
        for claim in one["spec"].get("volumeClaimTemplates", []):
            if "app.kubernetes.io/version" in claim["metadata"].get("labels", {}):
                yield f"{name_of(one)}: the claim's template changes with every release, and can't be changed"


@rule
def files(documents: Sequence[Document]) -> Iterator[str]:
    """A setting that names a file names one that is mounted."""
    maps = {one["metadata"]["name"]: one.get("data", {}) for one in of_kind(documents, "ConfigMap")}
    for one in _ours(documents):
        sources = {volume["name"]: volume for volume in _pod(one).get("volumes", [])}
        for container in _containers(one):
            there = {
                f"{mount['mountPath']}/{item['path']}"
                for mount in container.get("volumeMounts", [])
                for item in sources.get(mount["name"], {}).get("secret", {}).get("items", [])
            }
            for name, value in _environment(container, maps).items():
                if name.endswith(("_FILE", "_LOCATION")) and value not in there:
                    yield f"{name_of(one)}: {name}={value}, but there are {sorted(there)}"


@rule
def settings(documents: Sequence[Document]) -> Iterator[str]:
    """Every variable that begins as ours is a setting; service links, which would begin so as well, are off."""
    maps = {one["metadata"]["name"]: one.get("data", {}) for one in of_kind(documents, "ConfigMap")}
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    known |= {f"{PREFIX}{name.upper()}_FILE" for name in secrets()}
    for one in _ours(documents):
        if _pod(one).get("enableServiceLinks") is not False:
            yield f"{name_of(one)}: service links make variables that are no settings"
        for container in _containers(one):
            for reference in container.get("envFrom", []):
                if reference["configMapRef"]["name"] not in maps:
                    yield f"{name_of(one)}: there is no ConfigMap {reference['configMapRef']['name']}"
            for name in _environment(container, maps):
                if name.startswith(PREFIX) and not name.startswith(KAFKA_PREFIX) and name not in known:
                    yield f"{name_of(one)}: {name} is no setting"


def _environment(container: Any, maps: dict[str, dict[str, str]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for reference in container.get("envFrom", []):
        found |= maps.get(reference["configMapRef"]["name"], {})
    return found | {env["name"]: env.get("value") for env in container.get("env", [])}


@rule
def references_between_variables(documents: Sequence[Document]) -> Iterator[str]:
    """$(NAME) is replaced only by what stands before it."""
    for one in of_kind(documents, *WORKLOADS):
        for container in _containers(one):
            before: set[str] = set()
            for env in container.get("env", []):
                if missing := set(re.findall(r"\$\((\w+)\)", str(env.get("value")))) - before:
                    yield f"{name_of(one)}: {env['name']} refers to {missing}"
                before.add(env["name"])


@rule
def stable_identity(documents: Sequence[Document]) -> Iterator[str]:
    """The instance is the pod's name; static membership only where its overlay turns it on."""
    for one in of_kind(documents, "StatefulSet", "Deployment"):
        for container in _containers(one):
            if container["name"] in ROLES:
                value = {env["name"]: env.get("value") for env in container["env"]}.get("REJOINDER_INSTANCE_ID")
                if value != "$(POD_NAME)":
                    yield f"{name_of(one)}: REJOINDER_INSTANCE_ID={value}"


@rule
def logins(documents: Sequence[Document]) -> Iterator[str]:
    """Every process logs in as its own role, with that user's password; secrets are made by somebody."""
    users = {one["metadata"]["name"] for one in of_kind(documents, "KafkaUser")}
    clusters = {one["metadata"]["name"] for one in of_kind(documents, "Kafka")}
    made = users | {f"{cluster}-cluster-ca-cert" for cluster in clusters} | _OUTSIDE_SECRETS
    roles = {"release": Role.DEPLOYER} | {name: Role(name) for name in ROLES}
    for one in _ours(documents):
        user = f"rejoinder-{roles[_labels(one)['app.kubernetes.io/component']].value}"
        for container in _containers(one):
            env = {env["name"]: env.get("value") for env in container.get("env", [])}
            if env.get("REJOINDER_KAFKA_SASL_USERNAME", user) != user:
                yield f"{name_of(one)} logs in as {env['REJOINDER_KAFKA_SASL_USERNAME']}"
        for volume in _pod(one).get("volumes", []):
            secret = volume.get("secret", {}).get("secretName")
            if secret is not None and secret not in made:
                yield f"{name_of(one)}: nobody makes the secret {secret}"
            if volume["name"] == "kafka" and secret != user:
                yield f"{name_of(one)}: the password is of {secret}"
    for one in of_kind(documents, "TriggerAuthentication"):
        for target in one["spec"]["secretTargetRef"]:
            if target["name"] not in made:
                yield f"{name_of(one)}: nobody makes the secret {target['name']}"


@rule
def resources(documents: Sequence[Document]) -> Iterator[str]:
    """Every container asks for CPU and memory and is limited in memory; requests are within limits."""
    for one in of_kind(documents, *WORKLOADS):
        for container in _containers(one):
            requests = container.get("resources", {}).get("requests", {})
            limits = container.get("resources", {}).get("limits", {})
            if not {"cpu", "memory"} <= requests.keys() or "memory" not in limits:
                yield f"{name_of(one)}: {container['name']} has requests {requests}, limits {limits}"
            for what in requests.keys() & limits.keys():
                if quantity(requests[what]) > quantity(limits[what]):
                    yield f"{name_of(one)}: {container['name']} requests more {what} than its limit"


@rule
def restricted(documents: Sequence[Document]) -> Iterator[str]:
    """Pod Security Standards, "restricted", and beyond it: read-only root, no token, the image's own user."""
    for one in of_kind(documents, *WORKLOADS):
        pod = _pod(one)
        context = pod.get("securityContext", {})
        if not context.get("runAsNonRoot") or context.get("seccompProfile") != {"type": "RuntimeDefault"}:
            yield f"{name_of(one)}: the pod's security context is {context}"
        if pod.get("automountServiceAccountToken") is not False:
            yield f"{name_of(one)}: it gets a token that it needs for nothing"
        if one in _ours(documents) and {context.get(key) for key in ("runAsUser", "runAsGroup", "fsGroup")} != {
            image_user()
        }:
            yield f"{name_of(one)}: it runs as another user than the image's"
        if {"hostNetwork", "hostPID", "hostIPC"} & pod.keys() or any("hostPath" in v for v in pod.get("volumes", [])):
            yield f"{name_of(one)}: it uses the host"
        for container in _containers(one):
            own = container.get("securityContext", {})
            if (
                own.get("allowPrivilegeEscalation") is not False
                or own.get("readOnlyRootFilesystem") is not True
                or own.get("capabilities") != {"drop": ["ALL"]}
            ):
                yield f"{name_of(one)}: {container['name']}'s security context is {own}"
    for one in of_kind(documents, "Namespace"):
        if one["metadata"]["labels"].get("pod-security.kubernetes.io/enforce") != "restricted":
            yield f"{name_of(one)} doesn't enforce what is kept to"


@rule
def probes(documents: Sequence[Document]) -> Iterator[str]:
    """Life is asked for life's sake, readiness for readiness'; the grace period is longer than the stop."""
    paths = {"startupProbe": "/health/live", "livenessProbe": "/health/live", "readinessProbe": "/health/ready"}
    for one in _ours(documents):
        if one["kind"] == "Job":
            continue
        if _pod(one)["terminationGracePeriodSeconds"] < Consumer.STOP_S + 10:
            yield f"{name_of(one)}: it is killed before a turn must have ended ({Consumer.STOP_S:.0f} s)"
        (container,) = _pod(one)["containers"]
        for probe, path in paths.items():
            asked = container.get(probe, {}).get("httpGet", {})
            if asked != {"path": path, "port": "web"}:
                yield f"{name_of(one)}: {probe} asks {asked}"


@rule
def replicas(documents: Sequence[Document]) -> Iterator[str]:
    """Budgets let somebody go, orders on SQLite have one reader, and KEDA alone counts what KEDA scales."""
    scaled = {one["spec"]["scaleTargetRef"]["name"]: one["spec"] for one in of_kind(documents, "ScaledObject")}
    counts = {}
    for one in of_kind(documents, "StatefulSet", "Deployment"):
        name = one["metadata"]["name"]
        if name in scaled and "replicas" in one["spec"]:
            yield f"{name_of(one)}: every apply would set the replicas that KEDA has chosen"
        counts[name] = scaled[name]["minReplicaCount"] if name in scaled else one["spec"]["replicas"]
        if one in _ours(documents) and counts[name] > PARTITIONS:
            yield f"{name_of(one)}: more than the {PARTITIONS} partitions"
        database = any(
            env["name"].startswith("REJOINDER_DATABASE_URL")
            for container in _containers(one)
            for env in container.get("env", [])
        )
        if name == "rejoinder-orders" and not database and counts[name] != 1:
            yield f"{name_of(one)}: {counts[name]} pods, each with a SQLite of its own"
    for one in of_kind(documents, "PodDisruptionBudget"):
        count = counts[one["metadata"]["name"]]
        allowed = one["spec"].get("maxUnavailable", count - one["spec"].get("minAvailable", 0))
        if not 1 <= allowed <= count:
            yield f"{name_of(one)}: {allowed} of {count} may go"
    if set(ROLES) != {
        one["metadata"]["name"].removeprefix("rejoinder-") for one in of_kind(documents, "PodDisruptionBudget")
    }:
        yield "not each role has its budget"


@rule
def network(documents: Sequence[Document]) -> Iterator[str]:
    """Nothing by default, both ways; and each of our pods may reach names and brokers, the services their servers."""
    policies = of_kind(documents, "NetworkPolicy")
    if not any(one["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]} for one in policies):
        yield "nothing denies by default"
    for one in _ours(documents):
        reached = {
            port["port"]
            for policy in policies
            if _matches(policy["spec"]["podSelector"].get("matchLabels", {}), _labels(one))
            for egress in policy["spec"].get("egress", [])
            for port in egress.get("ports", [])
        }
        needed = {53, 9093} | {"orders": {5432}, "email": {587}, "worker": {6066}}.get(
            _labels(one)["app.kubernetes.io/component"], set()
        )
        if missing := needed - reached:
            yield f"{name_of(one)} doesn't reach {missing}"
    for one in policies:
        selected = one["spec"]["podSelector"].get("matchLabels", {})
        if not any(_matches(selected, _labels(other)) for other in of_kind(documents, *WORKLOADS)) and not any(
            key.startswith("strimzi.io/") for key in selected
        ):
            yield f"{name_of(one)} selects nobody"


@rule
def release(documents: Sequence[Document]) -> Iterator[str]:
    """Every image of ours is of this version, and nothing is of none."""
    for one in of_kind(documents, *WORKLOADS):
        for container in _containers(one):
            name, _, tag = container["image"].rpartition("/")[2].partition(":")
            if tag in ("", "latest") or (name == "rejoinder" and tag != version()):
                yield f"{name_of(one)}: {container['name']} runs {container['image']}"
    jobs = [one["metadata"]["name"] for one in of_kind(documents, "Job")]
    if jobs != [f"rejoinder-release-{version().replace('.', '-')}"]:
        yield f"the jobs are {jobs}"


@rule
def strimzi(documents: Sequence[Document]) -> Iterator[str]:
    """The cluster's own topics and ours fit its brokers, and nobody makes others."""
    clusters = of_kind(documents, "Kafka")
    for one in clusters:
        name = one["metadata"]["name"]
        nodes = sum(
            pool["spec"]["replicas"]
            for pool in of_kind(documents, "KafkaNodePool")
            if pool["metadata"]["labels"]["strimzi.io/cluster"] == name
        )
        config = one["spec"]["kafka"]["config"]
        for key in ("default.replication.factor", "offsets.topic.replication.factor"):
            if config[key] > nodes:
                yield f"{name_of(one)}: {key} is {config[key]}, with {nodes} brokers"
        if config["auto.create.topics.enable"] is not False:
            yield f"{name_of(one)} makes topics that nobody declared"
        for topic in of_kind(documents, "KafkaTopic"):
            minimum = int(topic["spec"]["config"]["min.insync.replicas"])
            if not minimum <= topic["spec"]["replicas"] <= nodes or (nodes > 1 and minimum >= nodes):
                yield f"{name_of(topic)}: {topic['spec']['replicas']} replicas, {minimum} in sync, {nodes} brokers"


@rule
def cluster(documents: Sequence[Document]) -> Iterator[str]:
    """Topics and users are all there, and of the cluster that our processes are told of."""
    clusters = of_kind(documents, "Kafka")
    names = {one["metadata"]["name"] for one in clusters}
    for one in of_kind(documents, "KafkaTopic", "KafkaUser", "KafkaNodePool"):
        if one["metadata"]["labels"]["strimzi.io/cluster"] not in names:
            yield f"{name_of(one)} is of another cluster"
    if clusters and {topic.name for topic in TOPICS} != {
        one["metadata"]["name"] for one in of_kind(documents, "KafkaTopic")
    }:
        yield "the topics aren't those that are declared"
    maps = [one["data"] for one in of_kind(documents, "ConfigMap") if "REJOINDER_BOOTSTRAP_SERVERS" in one["data"]]
    for one in maps:
        if clusters and one["REJOINDER_BOOTSTRAP_SERVERS"] not in {f"{name}-kafka-bootstrap:9093" for name in names}:
            yield f"{one['REJOINDER_BOOTSTRAP_SERVERS']} is no listener of {names}"


@rule
def keda(documents: Sequence[Document]) -> Iterator[str]:
    """The scaled object scales what is there, by lag that is there, to the partitions and not beyond."""
    logins_there = {one["metadata"]["name"] for one in of_kind(documents, "TriggerAuthentication")}
    for one in of_kind(documents, "ScaledObject"):
        spec = one["spec"]
        target = spec["scaleTargetRef"]
        if f"{target['kind']}/{target['name']}" not in map(name_of, documents):
            yield f"{name_of(one)}: there is no {target}"
        if spec["maxReplicaCount"] != PARTITIONS or not 1 <= spec["minReplicaCount"] <= PARTITIONS:
            yield f"{name_of(one)}: {spec['minReplicaCount']} to {spec['maxReplicaCount']} workers"
        for trigger in spec["triggers"]:
            metadata = trigger["metadata"]
            if metadata["topic"] != COMMANDS.name or metadata["consumerGroup"] != "rejoinder-worker":
                yield f"{name_of(one)}: {metadata['consumerGroup']} on {metadata['topic']}"
            if int(metadata["activationLagThreshold"]) < PARTITIONS:
                yield f"{name_of(one)}: a transaction's markers alone wake a worker"
            if any(not isinstance(value, str) for value in metadata.values()):
                yield f"{name_of(one)}: metadata are text"
            if trigger["authenticationRef"]["name"] not in logins_there:
                yield f"{name_of(one)}: there is no {trigger['authenticationRef']}"
