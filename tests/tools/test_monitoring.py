"""Rules, dashboard and runbooks: what is committed is what is declared, and each alert has a page that helps."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from streams.alerts import ALERTS
from streams.metrics import DECLARED
from streams.promql import select
from streams.settings import PREFIX, Settings
from tools import monitoring

PAGES = sorted(monitoring.RUNBOOKS.glob("*.md"))


def test_committed_files_are_what_is_declared() -> None:
    """As `./dev lint` looks."""
    monitoring.main(["--check"])


def test_stale_file_is_noticed_and_written_anew(tmp_path: Path) -> None:
    """With what to run; --check itself writes nothing."""
    with pytest.raises(SystemExit, match=r"run `\./dev monitoring`"):
        monitoring.main(["--check"], tmp_path)
    assert [] == list(tmp_path.iterdir())
    monitoring.main([], tmp_path)
    monitoring.main(["--check"], tmp_path)
    rules = tmp_path / monitoring.RULES
    rules.write_text(rules.read_text().replace("for: 5m", "for: 6m", 1))
    with pytest.raises(SystemExit, match=r"rejoinder\.yml"):
        monitoring.main(["--check"], tmp_path)


def test_place_of_the_runbooks_is_a_site_s_own(tmp_path: Path) -> None:
    """Wherever they are served."""
    monitoring.main(["--runbooks-url", "https://runbooks.example.com/"], tmp_path)
    urls = set(re.findall(r"runbook_url: (\S+)", (tmp_path / monitoring.RULES).read_text()))
    alerts = {alert.name for some in ALERTS.values() for alert in some}
    assert {f"https://runbooks.example.com/{name}.md" for name in alerts} == urls


def test_alert_without_page_and_page_without_alert_are_noticed(tmp_path: Path) -> None:
    """By name."""
    for path in PAGES:
        (tmp_path / path.name).write_text("")
    assert [] == monitoring.runbook_problems(tmp_path)
    (tmp_path / "RejoinderStalled.md").rename(tmp_path / "RejoinderStaled.md")
    assert ["the alert RejoinderStalled has no page", "the page RejoinderStaled.md has no alert"] == (
        monitoring.runbook_problems(tmp_path)
    )


def test_names_that_nobody_exposes_are_refused() -> None:
    """A metric, a part of a histogram, a label."""
    assert 'rejoinder_partitions{job=~"a.*", phase="held"}' == select("rejoinder_partitions", "a.*", phase="held")
    assert 'rejoinder_commit_seconds_sum{job=~"a"}' == select("rejoinder_commit_seconds_sum", "a")
    for name in ("rejoinder_partition", "rejoinder_commit_seconds", "rejoinder_aborts"):
        with pytest.raises(ValueError, match="isn't declared"):
            select(name, "a")
    with pytest.raises(ValueError, match="no label step"):
        select("rejoinder_partitions", "a", step="~.*")


def test_every_metric_is_on_the_dashboard() -> None:
    """Described in its panel by its declaration's sentence."""
    shown = {
        name: panel["description"]
        for panel in monitoring.dashboard()["panels"]
        for target in panel.get("targets", ())
        for name in monitoring.named(target["expr"])
    }
    assert {metric.name for metric in DECLARED} == set(shown)
    helps = {metric.name: metric.help for metric in DECLARED if metric.name != "rejoinder_info"}
    assert [] == [name for name, text in helps.items() if text not in shown[name]]


def test_panels_don_t_overlap() -> None:
    """Grafana would move them."""
    taken = [
        (x, y)
        for panel in monitoring.dashboard()["panels"]
        for place in [panel["gridPos"]]
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(taken)) == len(taken)
    assert max(x for x, _ in taken) < 24


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_page_names_what_is_there(path: Path) -> None:
    """Settings, commands and pages that exist; an alert's page says how bad it is, where to look, and what to do."""
    from streams.cli import _COMMANDS  # noqa: PLC0415 - private.

    page = path.read_text()
    assert set(re.findall(rf"{PREFIX}[A-Z_]+", page)) <= {PREFIX + name.upper() for name in Settings.model_fields}
    assert set(re.findall(r"(?:`|\$ )rejoinder ([a-z-]+)", page)) <= set(_COMMANDS)
    assert [] == [
        link for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page) if not (path.parent / link).resolve().exists()
    ]
    if path.stem != "README":
        assert page.startswith(f"# {path.stem}\n")
        assert [] == [part for part in ("How bad.", "Look.", "Do.", "It ends") if f"**{part}" not in page]


def test_list_of_runbooks_has_every_alert_with_its_severities() -> None:
    """As they are declared."""
    declared: dict[str, set[str]] = {}
    for some in ALERTS.values():
        for alert in some:
            declared.setdefault(alert.name, set()).add(alert.severity)
    rows = re.findall(
        r"^\| \[(\w+)\]\((\w+)\.md\) \| ([\w, ]+) \|", (monitoring.RUNBOOKS / "README.md").read_text(), re.MULTILINE
    )
    assert declared == {name: set(severities.split(", ")) for name, page, severities in rows if name == page}
