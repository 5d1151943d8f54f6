"""
What the peers need to run: Kafka Streams compiled from source, and an environment of their own for the Python ones.

Nothing of it is a part of Rejoinder's installation. Jars are pinned by SHA-256 and cached as the broker's are; wheels
are pinned by hashes. The compiler is Eclipse's, one jar, because the Java runtime at hand has none.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from streams.local.artifacts import cache_directory, fetch, read_pins
from streams.local.process import java_executable

JAVA_VERSION: Final = "25"
COMPILE_S: Final = 300.0
INSTALL_S: Final = 900.0

_HERE: Final = Path(__file__).parent
_SOURCES: Final = _HERE / "kafka_streams"
_REQUIREMENTS: Final = _HERE / "requirements.txt"
_ROOT: Final = _HERE.parent.parent


def kafka_streams_classpath() -> str:
    """Return the class path of the peer in Java; downloads and compiles what isn't there."""
    jars = fetch(read_pins(_SOURCES / "peer.pins"), cache_directory())
    sources = sorted(_SOURCES.glob("*.java"))
    known = hashlib.sha256(JAVA_VERSION.encode())
    for path in (_SOURCES / "peer.pins", _SOURCES / "compiler.pins", *sources):
        known.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    classes = cache_directory() / "bench-classes" / known.hexdigest()
    if not classes.exists():
        (compiler,) = fetch(read_pins(_SOURCES / "compiler.pins"), cache_directory())
        classes.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".compile-", dir=classes.parent) as scratch:
            made = Path(scratch) / "classes"
            levels = ["-source", JAVA_VERSION, "-target", JAVA_VERSION, "-nowarn", "-proc:none"]
            names = [str(path) for path in sources]
            command = [str(java_executable()), "-jar", str(compiler), *levels]
            command += ["-cp", ":".join(map(str, jars)), "-d", str(made), *names]
            done = subprocess.run(command, capture_output=True, text=True, timeout=COMPILE_S, check=False)  # noqa: S603
            assert done.returncode == 0, f"the peer doesn't compile\n{done.stdout}{done.stderr}"
            if not classes.exists():
                made.rename(classes)
    return ":".join(map(str, [classes, *jars]))


def peers_python() -> Path:
    """Return the interpreter of the Python peers' environment; makes it if it isn't there or isn't as pinned."""
    home = _ROOT / ".rejoinder" / "peers"
    wanted = hashlib.sha256(_REQUIREMENTS.read_bytes()).hexdigest()
    note, python = home / "requirements.sha256", home / "bin" / "python"
    if note.exists() and note.read_text(encoding="utf-8") == wanted:
        return python
    # ./dev runs everything by uv, which says where it is.
    uv = os.environ.get("UV", "uv")
    for command in (
        [uv, "venv", "--quiet", "--clear", str(home)],
        [
            *(uv, "pip", "install", "--quiet", "--require-hashes", "--compile-bytecode"),
            *("--python", str(python), "-r", str(_REQUIREMENTS)),
        ],
    ):
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S, check=False)  # noqa: S603
        assert done.returncode == 0, f"the peers' environment can't be made\n{done.stdout}{done.stderr}"
    note.write_text(wanted, encoding="utf-8")
    return python


def versions() -> dict[str, str]:
    """Return the versions of the peers, as pinned."""
    found = {pin.name: pin.version for pin in read_pins(_SOURCES / "peer.pins")}
    wheels = dict(
        line.split(" ")[0].split("==")
        for line in _REQUIREMENTS.read_text(encoding="utf-8").splitlines()
        if "==" in line
    )
    return {
        "Kafka Streams": found["kafka-streams"],
        "its RocksDB": found["rocksdbjni"],
        "Quix Streams": wheels["quixstreams"],
        "faust-streaming": wheels["faust-streaming"],
    }
