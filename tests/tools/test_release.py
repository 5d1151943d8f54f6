"""The version: in one place, with a place in the changelog."""

from __future__ import annotations

import re
from importlib.metadata import version as installed_version
from pathlib import Path

from tools.image import version

ROOT = Path(__file__).parents[2]


def test_version_that_is_installed_is_pyprojects() -> None:
    """Nothing else says one: it is read from the package's metadata."""
    assert version() == installed_version("rejoinder")
    sources = [path for name in ("topology", "schemas", "streams") for path in (ROOT / name).rglob("*.py")]
    assert [] == [path for path in sources if "__version__ =" in path.read_text(encoding="utf-8")]


def test_changelog_has_a_place_for_this_version() -> None:
    """Keep a Changelog: what is unreleased first, then versions, the newest of them not beyond ours."""
    text = (ROOT / "CHANGELOG.md").read_text()
    versions = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - \d{4}-\d\d-\d\d$", text, re.MULTILINE)
    assert [] == [one for one in versions if tuple(map(int, one.split("."))) > tuple(map(int, version().split(".")))]
    assert re.search(r"^## \[Unreleased\]$", text, re.MULTILINE)
