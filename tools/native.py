"""
The way of a record, compiled: ``./dev native`` builds it in place, ``--off`` removes it.

That is two things. mypyc compiles modules from the same source that runs without it (which ones, stands in
pyproject.toml: tool.hatch.build.targets.wheel.hooks.mypyc); Python takes an extension module before the source beside
it. And Cython compiles the kernel, which decides what most records are in C, and stands beside its Python:
`streams/processing/kernel.pyx`, built by hatch_build.py. A wheel built with HATCH_BUILD_HOOKS_ENABLE=1 has both.

Whoever changes a source file has it compiled anew, or works without: ./dev removes what is older than any source.
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
SANITIZERS: Final = "-O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all"
KERNEL_TESTS: Final = (
    "tests/schemas/test_program.py",
    "tests/streams/test_kernel.py",
    "tests/streams/test_straight.py",
)
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
    _build({"HATCH_BUILD_HOOKS_ENABLE": "1"})


def _build(settings: dict[str, str]) -> None:
    remove()
    if not (shutil.which("cc") or shutil.which("gcc")):
        raise SystemExit("there is no C compiler: install one (Debian: apt-get install gcc), or go on without")
    with tempfile.TemporaryDirectory() as directory:
        command = [os.environ.get("UV", "uv"), "build", "--wheel", "--out-dir", directory, str(ROOT)]
        built = subprocess.run(command, check=False, env=os.environ | settings, capture_output=True, text=True)
    if built.returncode != 0:
        remove()
        raise SystemExit(f"{built.stdout}{built.stderr}")
    MARKER.parent.mkdir(exist_ok=True)
    MARKER.touch()


def sanitize() -> None:
    """
    Run the kernel's tests on one that was built to find its own errors, and go back to the sources.

    What reads or writes beside a value, a row or a name, overflows a number or shifts too far, ends the tests.

    Raises:
        SystemExit: it did, a test failed, or the compiler has no such libraries.
    """
    _build({"HATCH_BUILD_HOOK_ENABLE_CUSTOM": "1", "REJOINDER_KERNEL_FLAGS": SANITIZERS})
    try:
        libraries = [
            subprocess.run(
                ["gcc", f"-print-file-name={name}"], check=True, capture_output=True, text=True
            ).stdout.strip()
            for name in ("libasan.so", "libubsan.so")
        ]
        environment = {
            "LD_PRELOAD": " ".join(libraries),
            "PYTHONMALLOC": "malloc",  # Each object in a block of its own, beside which nothing may be read.
            "ASAN_OPTIONS": "detect_leaks=0",  # Python keeps much to its end; a test counts objects instead.
        }
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *KERNEL_TESTS]
        status = subprocess.run(command, check=False, cwd=ROOT, env=os.environ | environment).returncode
    finally:
        remove()
    if status != 0:
        raise SystemExit(status)


def main(arguments: list[str]) -> None:
    """Build or remove."""
    parser = argparse.ArgumentParser(prog="./dev native", description=(__doc__ or "").strip().partition("\n")[0])
    parser.add_argument("--off", action="store_true", help="remove what was built, and go back to the sources")
    parser.add_argument(
        "--sanitize", action="store_true", help="run the kernel's tests under the compiler's sanitizers, then --off"
    )
    options = parser.parse_args(arguments)
    if options.off:
        remove()
    elif options.sanitize:
        sanitize()
    else:
        build()
        print(f"{len(extensions())} extension modules; ./dev native --off removes them")


if __name__ == "__main__":
    main(sys.argv[1:])
