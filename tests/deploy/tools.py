"""The tools of the group `deploy`, and what they make of our files."""

from __future__ import annotations

import functools
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).parents[2]
K8S: Final = ROOT / "k8s"
OVERLAYS: Final = tuple(sorted(path.parent.name for path in K8S.glob("overlays/*/kustomization.yaml")))
COMPONENTS: Final = tuple(sorted(path.parent.name for path in K8S.glob("components/*/kustomization.yaml")))

Document = dict[str, Any]


def tool(name: str) -> str:
    """Return the path of a tool of the group; fails if it isn't there, because then nothing would be checked."""
    path = Path(sys.executable).parent / name
    assert path.exists(), f"{path} isn't there; these tests run by `./dev deploy`"
    return str(path)


def run(*command: str, **options: Any) -> str:
    """Return what a command prints; fails with what it says on standard error."""
    ran = subprocess.run(command, check=False, capture_output=True, text=True, timeout=100, cwd=ROOT, **options)
    assert ran.returncode == 0, f"{' '.join(command)}: {ran.stdout}{ran.stderr}"
    return str(ran.stdout)


@functools.cache
def rendered(directory: Path) -> tuple[Document, ...]:
    """Return what Kustomize makes of *directory*."""
    return tuple(yaml.safe_load_all(run(tool("kubectl"), "kustomize", str(directory))))


@functools.cache
def composed(env_file: str = "") -> Document:
    """Return what Compose makes of docker-compose.yml, with the variables of *env_file* and no others."""
    options = ["--env-file", env_file] if env_file else []
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/nowhere"}
    found: Document = json.loads(
        run(tool("docker-compose"), *options, "config", "--format", "json", "--no-path-resolution", env=environment)
    )
    return found


def image_environment() -> dict[str, str]:
    """Return the settings that the Dockerfile's last stage makes."""
    last = (ROOT / "Dockerfile").read_text().rpartition("\nFROM ")[2]
    return dict(re.findall(r"^(?:ENV|   ) ?(REJOINDER_\w+)=(\S+)", last, re.MULTILINE))


def image_user() -> int:
    """Return the number of the image's user."""
    found = re.search(r"^USER (\d+):\1$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])
