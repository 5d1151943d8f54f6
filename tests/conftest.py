"""The slow tiers: their tests run only when they are asked for by name, as in ``-m chaos``."""

from __future__ import annotations

import contextlib
import importlib.util
import re
from collections.abc import Generator
from pathlib import Path
from typing import Final

import pytest

from tools import native

TIERS: Final = frozenset({"system", "chaos", "soak", "deploy", "browser", "slow"})

_BASE: Final = pytest.StashKey[Path]()
_LOG_LINES = 12
_LOG_COLUMNS = 300
_QUIET: Final = re.compile(r'"level": ?"(?:info|debug)"|\b(?:INFO|DEBUG)\b')

collect_ignore: list[str] = []
if not importlib.util.find_spec("playwright"):
    collect_ignore += ["browser"]  # It needs a group of its own: `./dev browser`.
if native.in_use():
    # They plant bugs in the shipped functions, by Python's ways.
    collect_ignore += ["model/test_planted_bugs.py", "model/test_stateful.py"]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tiers that ``-m`` doesn't name; last, when the folders' hooks have marked their tests."""
    expression: str = config.option.markexpr
    named = {tier for tier in TIERS if tier in expression}
    wanted = [
        item for item in items if not (tiers := TIERS & {mark.name for mark in item.iter_markers()}) or tiers & named
    ]
    if len(wanted) < len(items):
        kept = set(wanted)
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = wanted


@pytest.fixture(scope="session", autouse=True)
def _base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> None:
    request.config.stash[_BASE] = tmp_path_factory.getbasetemp()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show with a failure what the processes that ran beside the test complained of: it may not come a second time."""
    report = yield
    base = item.config.stash.get(_BASE, None)
    if report.failed and base is not None:
        # Kafka's and RocksDB's own files have numbers for names.
        for path in sorted(path for path in base.rglob("*.log") if not path.stem.isdigit()):
            with contextlib.suppress(OSError):  # Gone by now.
                if path.stat().st_mtime >= call.start and (loud := _loud(path)):
                    report.sections.append((str(path.relative_to(base)), loud))
    return report


def _loud(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join([line[:_LOG_COLUMNS] for line in lines if not _QUIET.search(line)][-_LOG_LINES:])
