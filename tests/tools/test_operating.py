"""docs/operating.md: its table is what is declared, and what is declared is what is exposed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client import Counter, Gauge, Histogram

from streams import metrics
from streams.settings import PREFIX, Settings
from tools import operating

PAGE = operating.PAGE.read_text()
UNITS = {"_seconds": "seconds", "_bytes": "bytes", "_per_second": "per second"}


def test_committed_page_is_what_is_declared() -> None:
    """Who changes a metric runs ``python -m tools.operating``."""
    operating.main(["--check"])


def test_stale_page_is_refused_and_made_anew(tmp_path: Path) -> None:
    """What is around the table stays."""
    page = tmp_path / "operating.md"
    page.write_text(f"before\n{operating.BEGIN}old\n{operating.END}after\n")
    with pytest.raises(SystemExit, match=r"python -m tools\.operating"):
        operating.main(["--check"], page)
    operating.main([], page)
    operating.main(["--check"], page)
    assert page.read_text() == f"before\n{operating.BEGIN}\n{operating.table()}\n{operating.END}after\n"


def test_page_without_the_table_s_place_is_refused(tmp_path: Path) -> None:
    """Rather than written without it."""
    page = tmp_path / "operating.md"
    page.write_text("nothing\n")
    with pytest.raises(SystemExit, match="place"):
        operating.main([], page)


def test_every_metric_of_ours_is_declared_once() -> None:
    """Whatever is exposed by name stands in the table."""
    names = [metric.name for metric in metrics.DECLARED]
    assert len(names) == len(set(names))
    made = {value.name for value in vars(metrics).values() if isinstance(value, metrics.Scraped)}
    for value in vars(metrics).values():
        if isinstance(value, Counter | Gauge | Histogram):
            (family, *_) = value.describe()
            made.add(family.name + ("_total" if family.type == "counter" else ""))
    assert set(names) == made


def test_names_end_in_their_units() -> None:
    """As Prometheus wants it; and each has a sentence."""
    for metric in metrics.DECLARED:
        for suffix, unit in UNITS.items():
            if metric.name.endswith(suffix):
                assert unit in metric.unit, metric.name
        assert (metric.type == "counter") == metric.name.endswith("_total")
        assert metric.help.endswith(".")
        assert metric.unit


def test_settings_and_commands_on_the_page_are_there() -> None:
    """Each name is a setting's, each command one of ours."""
    from streams.cli import _COMMANDS  # noqa: PLC0415 - private.

    known = {PREFIX + name.upper() for name in Settings.model_fields}
    assert set(re.findall(rf"{PREFIX}[A-Z_]+", PAGE)) <= known
    commands = set(re.findall(r"\brejoinder ([a-z-]+)", PAGE))
    assert commands
    assert commands <= set(_COMMANDS)
