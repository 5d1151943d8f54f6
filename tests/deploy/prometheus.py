"""Prometheus's own tools, from PATH: no package index has them, Debian's package prometheus does."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


def executable(name: str) -> str:
    """Return the path of ``promtool`` or ``prometheus``; without it, what it would check is skipped."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} isn't on PATH; Debian: apt-get install prometheus")
    return path


def promtool(*arguments: str, at: Path) -> str:
    """Return what promtool says in the directory *at*; fails with it if it finds something wrong."""
    ran = subprocess.run(
        [executable("promtool"), *arguments], check=False, capture_output=True, text=True, timeout=100, cwd=at
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout + ran.stderr


def filled(expr: str) -> str:
    """Return a panel's query with values for the dashboard's variables."""
    for variable, value in (
        ("$__rate_interval", "1m"), ("$application", ".+"), ("$partition", ".*"), ("$job", "rejoinder.*"),
    ):  # fmt: skip
        expr = expr.replace(variable, value)
    assert "$" not in expr, expr
    return expr
