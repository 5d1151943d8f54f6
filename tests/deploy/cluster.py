"""
A Kubernetes without a kubelet: API server, scheduler and controllers, built of their makers' sources.

What is applied is admitted, defaulted, scheduled and controlled as in any cluster; only that no node ever runs a
container. So nodes and volumes are objects that a test makes up, and a test says of a pod that it is ready.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.error import URLError
from urllib.request import urlopen

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from streams.local.artifacts import cache_directory
from streams.local.process import ChildProcess, free_ports
from tests.broker.harness import wait_for
from tests.deploy.operators import module
from tests.deploy.tools import Document, tool

KUBERNETES: Final = "1.37.2"
ETCD: Final = "3.7.3"
READY_S: Final = 90.0
_BUILD_S: Final = 3_000
_PROGRAMS: Final = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
_TOKEN: Final = "a-token-of-this-test"  # noqa: S105 - of a server that lives as long as the test.
_CONTROLLERS: Final = (
    "deployment-controller", "replicaset-controller", "statefulset-controller", "job-controller",
    "disruption-controller", "namespace-controller", "serviceaccount-controller", "persistentvolume-binder-controller",
)  # fmt: skip
"""Without the one that looks after nodes, which would miss their heartbeats."""


@functools.cache
def binaries() -> Path:
    """Return the directory of the programs, which are built once for each version: some minutes of two cores."""
    target = cache_directory() / f"kubernetes-{KUBERNETES}-etcd-{ETCD}"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".kubernetes-") as scratch:
            made = Path(scratch) / "made"
            made.mkdir()
            _build_kubernetes(Path(scratch) / "kubernetes", made)
            _build_etcd(Path(scratch) / "etcd", made)
            made.rename(target)
    return target


def _build_kubernetes(sources: Path, made: Path) -> None:
    """Build by a module of our own: the one of Kubernetes takes its parts from directories that it doesn't publish."""
    published = (module(f"k8s.io/kubernetes@v{KUBERNETES}") / "go.mod").read_text()
    parts = sorted(set(re.findall(r"^\t(k8s\.io/\S+) => \./staging/", published, re.MULTILINE)))
    assert parts, "the parts of Kubernetes have another place by now"
    go = re.findall(r"^go \S+$", published, re.MULTILINE)[0]
    _, minor, patch = KUBERNETES.split(".")
    replaced = [f"replace {part} => {part} v0.{minor}.{patch}" for part in parts]
    lines = ["module cluster", go, f"require k8s.io/kubernetes v{KUBERNETES}", *replaced]
    sources.mkdir()
    (sources / "go.mod").write_text("\n".join(lines) + "\n")
    version = "k8s.io/component-base/version"
    flags = f"-s -w -X {version}.gitVersion=v{KUBERNETES} -X {version}.gitMajor=1 -X {version}.gitMinor={minor}"
    _go(sources, "build", "-ldflags", flags, "-o", f"{made}/", *(f"k8s.io/kubernetes/cmd/{name}" for name in _PROGRAMS))


def _build_etcd(sources: Path, made: Path) -> None:
    sources.mkdir()
    (sources / "go.mod").write_text("module cluster\ngo 1.26.0\n")
    _go(sources, "get", f"go.etcd.io/etcd/server/v3@v{ETCD}")
    _go(sources, "build", "-ldflags", "-s -w", "-o", str(made / "etcd"), "go.etcd.io/etcd/server/v3")


def _go(where: Path, *arguments: str) -> None:
    go = shutil.which("go")
    assert go is not None, "go isn't on PATH"
    # -mod=mod: the sums of what is needed are written down as it is fetched.
    environment = os.environ | {"GOFLAGS": "-mod=mod -trimpath"}
    ran = subprocess.run(
        [go, *arguments], check=False, capture_output=True, text=True, timeout=_BUILD_S, cwd=where, env=environment
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr[-4_000:]


class RefusedError(Exception):
    """What kubectl says when the API server doesn't take something, or warns."""


class Cluster:
    """One that runs while the context is entered; everything of it is in *directory*."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._children: list[ChildProcess] = []
        self._kubeconfig = directory / "kubeconfig"

    def __enter__(self) -> Self:
        programs, directory = binaries(), self._directory
        client, peer, secure, *others = free_ports(5)
        url = f"http://127.0.0.1:{client}"
        try:
            self._start(
                programs / "etcd", "--data-dir", directory / "etcd", "--listen-client-urls", url,
                "--advertise-client-urls", url, "--listen-peer-urls", f"http://127.0.0.1:{peer}",
                "--unsafe-no-fsync",
            )  # fmt: skip
            wait_for(lambda: _answers(f"{url}/health"), "etcd", READY_S)
            key = directory / "service-accounts.key"
            key.write_bytes(_new_key())
            (directory / "tokens.csv").write_text(f'{_TOKEN},test,test,"system:masters"\n')
            self._start(
                programs / "kube-apiserver", f"--etcd-servers={url}", f"--secure-port={secure}",
                "--bind-address=127.0.0.1", f"--cert-dir={directory / 'certificates'}",
                "--service-cluster-ip-range=10.0.0.0/24", "--service-account-issuer=https://cluster.invalid",
                f"--service-account-key-file={key}", f"--service-account-signing-key-file={key}",
                f"--token-auth-file={directory / 'tokens.csv'}", "--authorization-mode=RBAC",
            )  # fmt: skip
            self._kubeconfig.write_text(json.dumps(_kubeconfig(f"https://127.0.0.1:{secure}")))
            wait_for(self._ready, "the API server", READY_S)
            common = f"--kubeconfig={self._kubeconfig}", "--leader-elect=false", "--bind-address=127.0.0.1"
            self._start(
                programs / "kube-controller-manager", *common, f"--secure-port={others[0]}",
                f"--service-account-private-key-file={key}", f"--controllers={','.join(_CONTROLLERS)}",
            )  # fmt: skip
            self._start(programs / "kube-scheduler", *common, f"--secure-port={others[1]}")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for child in reversed(self._children):
            child.stop(20)

    def _start(self, program: Path, *arguments: str | Path) -> None:
        log = self._directory / f"{program.name}.log"
        self._children.append(ChildProcess(program.name, [program, *arguments], log, {"HOME": str(self._directory)}))

    def _ready(self) -> bool:
        try:
            return self.kubectl("get", "--raw", "/readyz") == "ok"
        except RefusedError:
            for child in self._children:
                assert child.exit_status is None, child.log_tail()
            return False

    def kubectl(self, *arguments: str, documents: Sequence[Document] = ()) -> str:
        """
        Return what kubectl prints, which gets *documents* on standard input.

        Raises:
            RefusedError: it fails, or the API server warns.
        """
        ran = subprocess.run(
            [tool("kubectl"), "--kubeconfig", str(self._kubeconfig), "--warnings-as-errors", *arguments],
            check=False, capture_output=True, text=True, timeout=100,
            input="\n---\n".join(map(json.dumps, documents)),
        )  # fmt: skip
        if ran.returncode:
            raise RefusedError(ran.stderr)
        return ran.stdout

    def apply(self, documents: Sequence[Document], *, really: bool = True) -> None:
        """
        Apply, on the server's side; unless *really*, as a rehearsal that changes nothing.

        Raises:
            RefusedError: by schema, admission or a warning.
        """
        dry = () if really else ("--dry-run=server",)
        self.kubectl("apply", "--server-side", *dry, "-f", "-", documents=documents)

    def get(self, kind: str, *arguments: str) -> list[Any]:
        """Return the objects of a *kind*; *arguments* are kubectl's."""
        found = json.loads(self.kubectl("get", kind, *arguments, "-o", "json"))
        return list(found["items"]) if "items" in found else [found]

    def add_nodes(self, zones: Sequence[str], cpus: int, memory_gib: int) -> None:
        """Add a node in each of *zones*, which may repeat, with these resources, and ready."""
        for number, zone in enumerate(zones):
            resources = {"cpu": str(cpus), "memory": f"{memory_gib}Gi", "pods": "110"}
            name = f"node-{number}"
            labels = {"kubernetes.io/hostname": name, "topology.kubernetes.io/zone": zone}
            node = {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": name, "labels": labels},
                "status": {
                    "capacity": resources,
                    "allocatable": resources,
                    "conditions": [{"type": "Ready", "status": "True"}],
                },
            }
            self.kubectl("create", "-f", "-", documents=[node])
            # Nobody will tell the API server that it is ready.
            self.kubectl("taint", "node", name, "node.kubernetes.io/not-ready:NoSchedule-")

    def add_volumes(self, sizes_gib: Sequence[int]) -> None:
        """Add a volume of each of these sizes, for claims that name no class."""
        volumes = [
            {
                "apiVersion": "v1",
                "kind": "PersistentVolume",
                "metadata": {"name": f"volume-{number}"},
                "spec": {
                    "capacity": {"storage": f"{size}Gi"},
                    "accessModes": ["ReadWriteOnce"],
                    "csi": {"driver": "nobody.invalid", "volumeHandle": str(number)},
                },
            }
            for number, size in enumerate(sizes_gib)
        ]
        self.apply(volumes)

    def say_ready(self, pods: Sequence[Document]) -> None:
        """Say what a kubelet would once the containers run and their probes succeed."""
        status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
        for pod in pods:
            where = pod["metadata"]
            patch = json.dumps({"status": status})
            self.kubectl(
                "patch", "pod", where["name"], "-n", where["namespace"], "--subresource=status", "--type=merge",
                "-p", patch,
            )  # fmt: skip


def _new_key() -> bytes:
    """Return a new key, which signs the tokens of service accounts."""
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=5) as answer:  # noqa: S310 - our own.
            return bool(answer.status == 200)
    except URLError:
        return False


def _kubeconfig(server: str) -> Document:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": {"server": server, "insecure-skip-tls-verify": True}}],
        "users": [{"name": "test", "user": {"token": _TOKEN}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "current-context": "test",
    }
