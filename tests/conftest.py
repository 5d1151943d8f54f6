"""The slow tiers: their tests run only when they are asked for by name, as in ``-m chaos``."""

from __future__ import annotations

import importlib.util
from typing import Final

import pytest

from tools import native

TIERS: Final = frozenset({"system", "chaos", "soak", "deploy", "browser", "slow"})

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
