"""
The image, really built: by Debian's buildah, over a base that mmdebstrap makes of Debian's packages.

No Docker engine is needed, and no registry of images: the base has Python where the Dockerfile's own base has it too,
on PATH. Root is needed, for chroot and mounts.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from streams import settings as settings_module
from streams.local.artifacts import cache_directory
from streams.local.kafka import LocalKafka
from streams.local.process import ChildProcess, free_ports
from streams.transport.topics import Cluster
from tests.deploy.tools import ROOT, image_environment, image_user
from tools import image

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1_800),
    pytest.mark.skipif(
        os.geteuid() != 0 or not all(map(shutil.which, ("buildah", "mmdebstrap", "unshare"))),
        reason="needs root, and buildah and mmdebstrap: apt-get install buildah mmdebstrap",
    ),
]

TAG: Final = "rejoinder:test"
READY_S: Final = 180.0
_OPTIONS: Final = ("--isolation", "chroot", "--pull-never")
_SUITE: Final = "trixie"
_BASE_AGE_S_MAX: Final = 7 * 86_400
_COMPILERS: Final = ("cc", "gcc", "g++", "c++", "clang", "ld", "make", "rustc", "cargo", "go")
# This machine's own way to the package index, if it has one; into the base, and so not into what is judged.
_OF_THIS_MACHINE: Final = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pip.conf")


def _run(*command: str | Path) -> str:
    ran = subprocess.run([*map(str, command)], check=False, capture_output=True, text=True, timeout=1_500)
    assert ran.returncode == 0, f"{command}: {ran.stdout[-4_000:]}{ran.stderr[-4_000:]}"
    return ran.stdout.strip()


def _base() -> Path:
    """Return Debian with Python as an archive, a week old at most."""
    path = cache_directory() / f"debian-{_SUITE}-python-headers.tar"
    if not path.exists() or time.time() - path.stat().st_mtime > _BASE_AGE_S_MAX:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".new.tar")
        # Python's headers are a part of the Dockerfile's own base too.
        packages = "python3,python3-venv,libpython3-dev,ca-certificates"
        _run("mmdebstrap", "--variant=minbase", f"--include={packages}", _SUITE, unfinished)
        unfinished.replace(path)
    return path


class Built:
    """The built image, and a container of it."""

    def __init__(self, directory: Path) -> None:
        self._buildah = ["buildah", "--root", str(directory / "root"), "--runroot", str(directory / "run")]
        (base,) = re.findall(r"^ARG BASE=(\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
        container = self("from", "scratch")
        self("add", "--quiet", container, _base(), "/")
        for path in filter(os.path.exists, _OF_THIS_MACHINE):
            self("copy", "--quiet", container, path, path)
        self("config", "--env", f"SSL_CERT_FILE={_OF_THIS_MACHINE[0]}", container)
        self("commit", "--quiet", container, base)
        self("rm", container)
        _, *arguments = image.command("buildah", TAG, [*_OPTIONS, "--layers"])
        self(*arguments)
        self.config: dict[str, Any] = json.loads(self("inspect", "--type", "image", TAG))["Docker"]["config"]
        self.root = Path(self("mount", self("from", "--pull-never", TAG)))

    def __call__(self, *arguments: str | Path) -> str:
        """Run buildah."""
        return _run(*self._buildah, *arguments)

    def close(self) -> None:
        """Remove containers and images."""
        self("umount", "--all")
        self("rm", "--all")
        self("rmi", "--all", "--force")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    """Return the image."""
    found = Built(tmp_path_factory.mktemp("image"))
    yield found
    found.close()


def _confined(built: Built, directory: Path, environment: dict[str, str], *command: str) -> list[str]:
    """Return *command* in the image: as its user, on a root file system that is read only, with a state directory."""
    root, state = directory / "root", directory / "state"
    for path in (root, state):
        path.mkdir(exist_ok=True)
    os.chown(state, image_user(), image_user())
    volume = image_environment()["REJOINDER_STATE_DIR"]
    steps = [
        f"mount --bind {built.root} {root}",
        f"mount -o remount,bind,ro {root}",
        f"mount --bind {state} {root}{volume}",
        f"mount --bind /proc {root}/proc",
    ]
    variables = dict(one.split("=", 1) for one in built.config["Env"]) | environment
    start = ["exec", "chroot", f"--userspec={image_user()}:{image_user()}", str(root), "/usr/bin/env", "-i"]
    words = [*start, *(f"'{name}={value}'" for name, value in variables.items()), *command]
    return ["unshare", "--mount", "sh", "-ec", "\n".join([*steps, " ".join(words)])]


def test_configuration_is_what_the_dockerfile_says(built: Built) -> None:
    """User, health check, volume, port, labels."""
    config = built.config
    assert f"{image_user()}:{image_user()}" == config["User"]
    assert ["CMD", "rejoinder", "health"] == config["Healthcheck"]["Test"]
    assert [image_environment()["REJOINDER_STATE_DIR"]] == list(config["Volumes"])
    assert ["6066/tcp"] == list(config["ExposedPorts"])
    labels = config["Labels"]
    assert image.version() == labels["org.opencontainers.image.version"]
    assert image.revision() == labels["org.opencontainers.image.revision"]


def test_image_of_another_version_is_not_built(built: Built) -> None:
    """Its label would lie."""
    with pytest.raises(AssertionError, match="exit status 1"):
        built("build", *_OPTIONS, "--layers", "--build-arg", "VERSION=9.9.9", ROOT)


def test_nothing_of_the_build_is_left(built: Built) -> None:
    """No compiler, no uv, no sources."""
    there = {path.name for name in ("bin", "sbin", "usr/bin", "usr/sbin", "usr/local/bin", "opt/rejoinder/bin")
             for path in (built.root / name).glob("*")}  # fmt: skip
    assert "rejoinder" in there
    assert set() == there & {*_COMPILERS, "uv"}
    assert [] == [name for name in ("opt/uv", "src") if (built.root / name).exists()]


def test_way_of_a_record_is_compiled(built: Built) -> None:
    """By the compiler of the stage before, for the image's own Python."""
    assert list((built.root / "opt/rejoinder/lib").glob("python3*/site-packages/*__mypyc.*.so"))


def test_bill_of_materials_is_what_is_installed(built: Built) -> None:
    """Each package with its version; the project itself is what the bill is of."""
    bill = json.loads((built.root / "opt/rejoinder/share/rejoinder.cdx.json").read_text())
    listed = {one["name"]: one["version"] for one in bill["components"]}
    assert ("rejoinder", image.version()) == (
        bill["metadata"]["component"]["name"],
        bill["metadata"]["component"]["version"],
    )
    (packages,) = (built.root / "opt/rejoinder/lib").glob("python3*/site-packages")
    installed = dict(path.name.removesuffix(".dist-info").split("-") for path in packages.glob("*.dist-info"))
    installed = {name.lower().replace("_", "-"): version for name, version in installed.items()}
    assert image.version() == installed.pop("rejoinder")
    assert len(installed) > 40
    assert {} == {name: version for name, version in installed.items() if listed.get(name) != version}


def test_it_runs_confined(built: Built, tmp_path: Path) -> None:
    """Commands, and a worker on a real broker until its own health check says that it is ready."""
    (port,) = free_ports(1)
    with LocalKafka(tmp_path / "kafka") as kafka:
        settings = settings_module.load(bootstrap_servers=kafka.bootstrap_servers, partitions=4, replication_factor=1)
        Cluster(settings).apply()
        environment = {
            "REJOINDER_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
            "REJOINDER_PARTITIONS": str(settings.partitions),
            "REJOINDER_WEB_BIND": "127.0.0.1",
            "REJOINDER_WEB_PORT": str(port),
        }
        # Else what is said below is said of nothing.
        touch = subprocess.run(
            _confined(built, tmp_path, {}, "touch", "/opt/x"), check=False, capture_output=True, text=True
        )
        assert "Read-only file system" in touch.stderr
        assert image.version() == _run(*_confined(built, tmp_path, {}, "rejoinder", "--version"))
        assert "order-000007" in _run(*_confined(built, tmp_path, {}, "rejoinder", "examples", "--orders", "7"))
        command = _confined(built, tmp_path, environment, "rejoinder", "worker")
        worker = ChildProcess("worker", command, tmp_path / "worker.log")
        try:
            deadline_s = time.monotonic() + READY_S
            health = _confined(built, tmp_path, environment, "rejoinder", "health", "--ready")
            while (asked := subprocess.run(health, check=False, capture_output=True, text=True)).returncode:
                assert worker.exit_status is None, worker.log_tail()
                assert time.monotonic() < deadline_s, f"{asked}\n{worker.log_tail()}"
            assert {"0": "running", "1": "running", "2": "running", "3": "running"} == json.loads(asked.stdout)[
                "partitions"
            ]
            assert image_user() == Path(f"/proc/{worker.pid}").stat().st_uid
        finally:
            assert worker.stop(75), "it didn't stop within its grace period"
        assert worker.exit_status == 0
