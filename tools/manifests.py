"""
The generated parts of k8s/: `./dev manifests` writes them, `./dev lint` compares them with what is committed.

Topics and rights come from topology/, the version from pyproject.toml, so that neither stands twice. Numbers that are a
deployment's own, such as memory, are in overlays and not here.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from tools.image import version
from topology.acls import Resource, Role, grants
from topology.topics import COMMANDS, PARTITIONS, TOPICS, Topic

K8S: Final = Path(__file__).parents[1] / "k8s"

APPLICATION_ID: Final = "rejoinder"
CLUSTER: Final = "kafka"
"""The cluster's name in Strimzi, and the prefix of what it makes: kafka-kafka-bootstrap, kafka-cluster-ca-cert."""
REPLICAS: Final = 3
MIN_INSYNC_REPLICAS: Final = 2

WORKERS_MIN: Final = 2
"""Deadlines fire while no command comes, so there is always a worker; the second one takes over at once."""
LAG_OF_A_WORKER: Final = 10_000
"""Commands that wait for each worker before another one is started: a full batch, REJOINDER_BATCH_RECORDS."""

_HEADER: Final = "# Generated from topology/ and pyproject.toml by `./dev manifests`; change those.\n"
_RESOURCE_TYPES: Final = {
    Resource.TOPIC: "topic",
    Resource.GROUP: "group",
    Resource.TRANSACTIONAL_ID: "transactionalId",
}


def topics() -> list[dict[str, Any]]:
    """Return a KafkaTopic for each declared topic."""
    return [_topic(topic) for topic in TOPICS]


def _topic(topic: Topic) -> dict[str, Any]:
    return {
        "apiVersion": "kafka.strimzi.io/v1",
        "kind": "KafkaTopic",
        "metadata": {"name": topic.name, "labels": {"strimzi.io/cluster": CLUSTER}},
        "spec": {
            "partitions": PARTITIONS,
            "replicas": REPLICAS,
            "config": topic.config | {"min.insync.replicas": str(MIN_INSYNC_REPLICAS)},
        },
    }


def users() -> list[dict[str, Any]]:
    """Return a KafkaUser for each role, with what the role may do and nothing beyond it."""
    return [_user(role) for role in Role]


def _user(role: Role) -> dict[str, Any]:
    by_resource: dict[tuple[Resource, str, bool], list[str]] = {}
    for grant in grants(role, APPLICATION_ID):
        by_resource.setdefault((grant.resource, grant.name, grant.prefixed), []).append(grant.operation.value)
    return {
        "apiVersion": "kafka.strimzi.io/v1",
        "kind": "KafkaUser",
        "metadata": {"name": f"{APPLICATION_ID}-{role.value}", "labels": {"strimzi.io/cluster": CLUSTER}},
        "spec": {
            "authentication": {"type": "scram-sha-512"},
            "authorization": {
                "type": "simple",
                "acls": [
                    {
                        "resource": {
                            "type": _RESOURCE_TYPES[resource],
                            "name": name,
                            "patternType": "prefix" if prefixed else "literal",
                        },
                        "operations": operations,
                        "host": "*",
                    }
                    for (resource, name, prefixed), operations in by_resource.items()
                ],
            },
        },
    }


def scaled_object() -> list[dict[str, Any]]:
    """Return the ScaledObject of the workers."""
    return [
        {
            "apiVersion": "keda.sh/v1alpha1",
            "kind": "ScaledObject",
            "metadata": {"name": "rejoinder-worker", "labels": {"app.kubernetes.io/component": "worker"}},
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "rejoinder-worker"},
                "pollingInterval": 15,
                "minReplicaCount": WORKERS_MIN,
                # A worker beyond the partitions would own none.
                "maxReplicaCount": PARTITIONS,
                # While Kafka can't be asked, as many as there are: nobody knows better.
                "fallback": {
                    "failureThreshold": 4,
                    "replicas": WORKERS_MIN,
                    "behavior": "currentReplicasIfHigher",
                },
                "advanced": {
                    "horizontalPodAutoscalerConfig": {
                        "behavior": {
                            # Each step moves partitions, whose state is restored: soon up, slowly down.
                            "scaleUp": {
                                "stabilizationWindowSeconds": 30,
                                "policies": [{"type": "Pods", "value": 2, "periodSeconds": 60}],
                            },
                            "scaleDown": {
                                "stabilizationWindowSeconds": 900,
                                "policies": [{"type": "Pods", "value": 1, "periodSeconds": 300}],
                            },
                        }
                    }
                },
                "triggers": [
                    {
                        "type": "kafka",
                        "name": "commands",
                        "metadata": {
                            "bootstrapServers": f"{CLUSTER}-kafka-bootstrap:9093",
                            "consumerGroup": f"{APPLICATION_ID}-worker",
                            "topic": COMMANDS.name,
                            "lagThreshold": str(LAG_OF_A_WORKER),
                            # A producer's transaction ends with a marker in each partition: an offset, no record.
                            "activationLagThreshold": str(PARTITIONS),
                            "offsetResetPolicy": "earliest",
                            "allowIdleConsumers": "false",
                            # Each of the topic's partitions counts, those of a held one too: a person is called for it.
                            "excludePersistentLag": "false",
                            "limitToPartitionsWithLag": "false",
                            # Its right is to see our topics only.
                            "fullMetadata": "false",
                            # Of the protocol that KEDA's client speaks: brokers since 4.0 don't know its default, 1.0.
                            "version": "3.6.0",
                            "sasl": "scram_sha512",
                            "tls": "enable",
                        },
                        "authenticationRef": {"name": "rejoinder-kafka"},
                    }
                ],
            },
        }
    ]


def release() -> list[dict[str, Any]]:
    """Return the component that says which version is deployed."""
    number = version()
    return [
        {
            "apiVersion": "kustomize.config.k8s.io/v1alpha1",
            "kind": "Component",
            "images": [{"name": "rejoinder", "newTag": number}],
            "labels": [
                {
                    "pairs": {"app.kubernetes.io/version": number},
                    # Not in the templates of volumes (includeTemplates): they can't be changed, so no release could be.
                    "fields": [
                        {"kind": kind, "path": "spec/template/metadata/labels", "create": True}
                        for kind in ("StatefulSet", "Deployment", "Job")
                    ],
                }
            ],
            "patches": [
                {
                    # A job can't be changed, so that of another version has another name.
                    "target": {"kind": "Job", "name": "rejoinder-release"},
                    "options": {"allowNameChange": True},
                    "patch": yaml.safe_dump(
                        [
                            {
                                "op": "replace",
                                "path": "/metadata/name",
                                "value": f"rejoinder-release-{number.replace('.', '-').replace('+', '-')}",
                            }
                        ],
                        sort_keys=False,
                    ),
                }
            ],
        }
    ]


FILES: Final[Mapping[str, Callable[[], Iterable[dict[str, Any]]]]] = {
    "components/strimzi/topics.yaml": topics,
    "components/strimzi/users.yaml": users,
    "components/keda/scaled-object.yaml": scaled_object,
    "components/release/kustomization.yaml": release,
}
"""What is generated, below k8s/; alert rules and dashboard are `tools.monitoring`'s."""


def render(make: Callable[[], Iterable[dict[str, Any]]]) -> str:
    """Return what *make* returns as a file of YAML documents."""
    documents = [yaml.dump(one, Dumper=Dumper, sort_keys=False, width=120) for one in make()]
    return _HEADER + "---\n".join(documents)


class Dumper(yaml.SafeDumper):
    """Without anchors: a person reads it."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - what it is called with.
        """Write everything out."""
        return True


def settle(root: Path, files: Mapping[str, str], *, check: bool) -> list[str]:
    """Write *files*, text by path below *root*; with *check*, write nothing and return the paths that differ."""
    stale = []
    for name, text in files.items():
        path = root / name
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        if check:
            stale.append(name)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return stale


def main(arguments: list[str], root: Path = K8S) -> None:
    """
    Write the generated files below *root*, or compare them.

    Raises:
        SystemExit: with ``--check``, some aren't what is declared; tells what to run.
    """
    parser = argparse.ArgumentParser(prog="./dev manifests", description="Generate parts of k8s/.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file is stale")
    check = parser.parse_args(arguments).check
    stale = settle(root, {name: render(make) for name, make in FILES.items()}, check=check)
    if stale:
        raise SystemExit(f"k8s/: {', '.join(stale)}: not what is declared; run `./dev manifests` and commit them")


if __name__ == "__main__":
    main(sys.argv[1:])
