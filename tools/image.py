"""
Build the container image, labelled with version and revision: `./dev image`.

The version is the package's (pyproject.toml), the revision git's. Whichever of docker, podman and buildah is there
builds it; the Dockerfile is the same.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
ENGINES: Final = ("docker", "podman", "buildah")


def version() -> str:
    """Return the package's version, from the one place where it stands."""
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"])


def revision() -> str:
    """Return the commit that is checked out, marked if files differ from it; "unknown" outside of git."""
    described = subprocess.run(
        ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"],
        cwd=ROOT, check=False, capture_output=True, text=True,
    )  # fmt: skip
    return described.stdout.strip() or "unknown"


def command(engine: str, tag: str, more: Sequence[str] = ()) -> list[str]:
    """Return the command by which *engine* builds the image and calls it *tag*; *more* are options of its own."""
    return [
        engine, "build", "--build-arg", f"VERSION={version()}", "--build-arg", f"REVISION={revision()}",
        # Docker's format, because the other one has no health check.
        *(["--format", "docker"] if engine != "docker" else []),
        "--tag", tag, *more, str(ROOT),
    ]  # fmt: skip


def main(arguments: list[str]) -> int:
    """Build; return the engine's exit code, or 2 if there is none."""
    parser = argparse.ArgumentParser(prog="./dev image", description="Build the container image.")
    parser.add_argument("--engine", choices=ENGINES, help="default: the first of these that is there")
    parser.add_argument("--tag", help="default: rejoinder:VERSION")
    parser.add_argument("more", nargs="*", metavar="-- OPTION", help="options of the engine's own, such as --pull")
    options = parser.parse_args(arguments)
    engine = options.engine or next(filter(shutil.which, ENGINES), None)
    if engine is None:
        print(f"image: none of {', '.join(ENGINES)} is on PATH; install one", file=sys.stderr)
        return 2
    return subprocess.run(
        command(engine, options.tag or f"rejoinder:{version()}", options.more), check=False
    ).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
