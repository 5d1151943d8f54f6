"""
The way of a record, compiled by mypyc from the same source: ``./dev native`` builds it in place, ``--off`` removes it.

What is compiled stands in pyproject.toml (tool.hatch.build.targets.wheel.hooks.mypyc), so that a wheel built with
HATCH_BUILD_HOOK_ENABLE_MYPYC=1 has the same. Python takes an extension module before the source beside it; whoever
changes a source file has it compiled anew, or works without: ./dev removes what is older than any source.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from topology import process

ROOT: Final = Path(__file__).parent.parent
MARKER: Final = ROOT / ".rejoinder" / "native"
"""Exists where something was built, and is as old as that."""
_PACKAGES: Final = ("topology", "schemas", "streams")


def in_use() -> bool:
    """Return whether what runs here is compiled."""
    return process.__file__.endswith(".so")


def extensions() -> list[Path]:
    """Return the extension modules that lie beside their sources, and the one that holds their code."""
    return [*ROOT.glob("*__mypyc.*.so"), *(found for name in _PACKAGES for found in (ROOT / name).rglob("*.so"))]


def remove() -> None:
    """Go back to the sources."""
    for extension in extensions():
        extension.unlink()
    MARKER.unlink(missing_ok=True)


def build() -> None:
    """
    Compile, about a minute.

    Raises:
        SystemExit: there is no C compiler, or it fails; the sources are in use.
    """
    remove()
    if not (shutil.which("cc") or shutil.which("gcc")):
        raise SystemExit("there is no C compiler: install one (Debian: apt-get install gcc), or go on without")
    environment = os.environ | {"HATCH_BUILD_HOOK_ENABLE_MYPYC": "1"}
    with tempfile.TemporaryDirectory() as directory:
        command = [os.environ.get("UV", "uv"), "build", "--quiet", "--wheel", "--out-dir", directory, str(ROOT)]
        built = subprocess.run(command, check=False, env=environment, capture_output=True, text=True)
    if built.returncode != 0:
        remove()
        raise SystemExit(f"{built.stdout}{built.stderr}")
    MARKER.parent.mkdir(exist_ok=True)
    MARKER.touch()


def main(arguments: list[str]) -> None:
    """Build or remove."""
    parser = argparse.ArgumentParser(prog="./dev native", description=(__doc__ or "").strip().partition("\n")[0])
    parser.add_argument("--off", action="store_true", help="remove what was built, and go back to the sources")
    if parser.parse_args(arguments).off:
        remove()
    else:
        build()
        print(f"{len(extensions())} extension modules; ./dev native --off removes them")


if __name__ == "__main__":
    main(sys.argv[1:])
