"""
The schemas of the operators' kinds, from what their makers publish.

KEDA's and prometheus-operator's definitions are in their Go modules; Strimzi's are made of its classes in Maven, by its
own generator.
"""

from __future__ import annotations

import copy
import functools
import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Final

import yaml

from streams.local.artifacts import cache_directory
from streams.local.process import java_executable
from tests.deploy.tools import Document

KEDA: Final = "github.com/kedacore/keda/v2@v2.21.0"
PROMETHEUS: Final = "github.com/prometheus-operator/prometheus-operator@v0.85.0"
STRIMZI: Final = "1.2.0"
_CLASSES: Final = ("kafka.Kafka", "nodepool.KafkaNodePool", "topic.KafkaTopic", "user.KafkaUser")


@functools.cache
def module(name: str) -> Path:
    """Return the directory of a Go module, which is downloaded if need be."""
    go = shutil.which("go")
    assert go is not None, "go isn't on PATH: it brings KEDA's and prometheus-operator's definitions; install golang-go"
    with tempfile.TemporaryDirectory() as elsewhere:
        ran = subprocess.run(
            [go, "mod", "download", "-json", name], check=False, capture_output=True, text=True, timeout=300,
            cwd=elsewhere,
        )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return Path(json.loads(ran.stdout)["Dir"])


def _strimzi() -> list[Document]:
    """Return Strimzi's definitions, made by its generator once for each version."""
    import jgo  # noqa: PLC0415 - it takes 0.3 s.

    target = cache_directory() / f"strimzi-{STRIMZI}"
    if not target.exists():
        cache_directory().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache_directory(), prefix=".strimzi-") as scratch:
            wanted = f"io.strimzi:crd-generator:{STRIMZI}+io.strimzi:api:{STRIMZI}"
            environment = jgo.build(wanted, cache_dir=Path(scratch) / "jars")
            made = Path(scratch) / "made"
            made.mkdir()
            command = [
                str(java_executable()), "-cp", ":".join(map(str, environment.all_jars)),
                "io.strimzi.crdgenerator.CrdGenerator",
                "--yaml", "--target-kube", "1.27+", "--crd-api-version", "v1", "--api-versions", "v1",
                "--storage-version", "v1",
                *(f"io.strimzi.api.kafka.model.{name}={made}/{name}.yaml" for name in _CLASSES),
            ]  # fmt: skip
            ran = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
            assert ran.returncode == 0, ran.stdout + ran.stderr
            made.rename(target)
    return [yaml.safe_load(path.read_text()) for path in sorted(target.glob("*.yaml"))]


@functools.cache
def definitions() -> tuple[Document, ...]:
    """Return the operators' CustomResourceDefinitions."""
    keda = module(KEDA) / "config" / "crd" / "bases"
    prometheus = module(PROMETHEUS) / "example" / "prometheus-operator-crd"
    files = [
        *(keda / f"keda.sh_{name}.yaml" for name in ("scaledobjects", "triggerauthentications")),
        *(prometheus / f"monitoring.coreos.com_{name}.yaml" for name in ("servicemonitors", "prometheusrules")),
    ]
    return (*_strimzi(), *(yaml.safe_load(path.read_text()) for path in files))


@functools.cache
def schemas() -> dict[tuple[str, str], Document]:
    """Return a strict JSON schema for each kind of the operators, by apiVersion and kind."""
    found = {}
    for definition in definitions():
        spec = definition["spec"]
        for one in spec["versions"]:
            key = f"{spec['group']}/{one['name']}", spec["names"]["kind"]
            found[key] = strict(one["schema"]["openAPIV3Schema"])
    return found


def strict(schema: Document) -> Document:
    """Return a definition's *schema* as JSON schema that takes nothing that it doesn't name."""
    schema = copy.deepcopy(schema)
    _make_strict(schema)
    # The API server checks these itself.
    schema["properties"]["metadata"] = {"type": "object"}
    return schema


def _make_strict(node: Any) -> None:
    if not isinstance(node, dict):
        return
    if node.get("x-kubernetes-int-or-string"):
        node.pop("type", None)
        node["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    if node.pop("nullable", False) and isinstance(node.get("type"), str):
        node["type"] = [node["type"], "null"]
    if (
        "properties" in node
        and "additionalProperties" not in node
        and not node.get("x-kubernetes-preserve-unknown-fields")
    ):
        node["additionalProperties"] = False
    for child in node.get("properties", {}).values():
        _make_strict(child)
    for key in ("items", "additionalProperties"):
        _make_strict(node.get(key))


def problems(document: Document) -> list[str]:
    """Return what the kind's schema says against *document*."""
    from jsonschema import Draft202012Validator  # noqa: PLC0415 - of the group deploy.

    schema = schemas().get((document["apiVersion"], document["kind"]))
    if schema is None:
        return [f"{document['apiVersion']} {document['kind']} isn't known"]
    return [f"{error.json_path}: {error.message}" for error in Draft202012Validator(schema).iter_errors(document)]
