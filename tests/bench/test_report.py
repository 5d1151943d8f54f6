"""The comparison's report and plot, and what is read from logs."""

import xml.etree.ElementTree as ET
from typing import Any

import pytest

from bench import report
from bench.compare import SECTIONS, merged, parse, sizes_of
from bench.figures import Bar, spread
from bench.sections.restore import from_our_log, from_streams_log
from bench.stage import QUICK, Outcome, Sizes

TRIAL = {"running_joins_per_s": 1000.0, "whole_joins_per_cpu_s": 2000.0, "peak_mib": 300.0}


def results() -> dict[str, Any]:
    """Return the results of a run of one section."""
    outcome = Outcome(
        {"Rejoinder, 1 worker": [TRIAL, TRIAL | {"running_joins_per_s": 1200.0}], "Kafka & Streams": [TRIAL]},
        [
            Bar("joins/s", spread([1.5, 1.25, 1.75]), 1.2),
            Bar("memory", spread([700.0]), 600.0, at_most=True, unit=" MiB"),
        ],
        "Some pairs.",
    )
    machine = {"processor": "P", "cores": "2", "memory": "8 GiB", "system": "Linux 6", "load before": "0.1"}
    sections = [report.as_json("joins", outcome)]
    return {"date": "2026-01-02", "machine": machine, "versions": {"Kafka": "4"}, "sections": sections}


def test_the_report_says_what_was_measured_and_what_was_reached() -> None:
    """The report says what was measured and what was reached."""
    text = report.markdown(results())
    assert "2026-01-02, P, 2 cores, 8 GiB, Linux 6; load average before the start: 0.1." in text
    assert "| joins/s | 1.50 × | 1.25 × – 1.75 × | ≥ 1.20 × | reached |" in text
    assert "| memory | 700 MiB | 700 MiB – 700 MiB | ≤ 600 MiB | **not reached** |" in text
    assert "| Rejoinder, 1 worker | 1,100 (1,000 – 1,200) | – |" in text


def test_bars_survive_json() -> None:
    """Bars survive json."""
    (section,) = results()["sections"]
    assert report.bars_of(section)[0] == Bar("joins/s", spread([1.5, 1.25, 1.75]), 1.2)


def test_only_what_is_between_the_marks_is_written_anew() -> None:
    """Only what is between the marks is written anew."""
    page = f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n"
    once = report.written_into(page, "new")
    assert once == f"before\n{report.BEGIN}\n\nnew\n{report.END}\nafter\n"
    assert report.written_into(once, "new") == once
    with pytest.raises(AssertionError, match="begin"):
        report.written_into("nothing", "new")


def test_the_plot_is_well_formed_and_stays_within_its_width() -> None:
    """The plot is well formed and stays within its width."""
    root = ET.fromstring(report.svg(results()))  # noqa: S314 - our own.
    names = [element.text for element in root.iter() if element.text and "Streams" in element.text]
    assert names == ["Kafka & Streams"] * 3
    for element in root.iter():
        if element.tag.endswith("rect"):
            assert float(element.get("x", 0)) + float(element.get("width", 0)) <= report.WIDTH
    assert "@media (prefers-color-scheme: dark)" in report.svg(results())


def test_every_section_has_a_title_and_columns() -> None:
    """Every section has a title and columns."""
    assert set(SECTIONS) == set(report.TITLES) == set(report.COLUMNS_OF)


def test_options_change_the_sizes() -> None:
    """Options change the sizes."""
    assert sizes_of(parse([])) == Sizes()
    assert sizes_of(parse(["--quick"])) == QUICK
    assert sizes_of(parse(["--rounds", "5", "--pairs", "10"])).far_pairs == 10
    assert parse(["--only", "joins", "restore"]).only == ["joins", "restore"]
    with pytest.raises(SystemExit):
        parse(["--only", "nonsense"])


def test_a_restore_lasts_from_its_first_to_its_last_partition() -> None:
    """A restore lasts from its first to its last partition."""
    ours: list[dict[str, Any]] = [
        {"event": "restoring", "partition": number, "timestamp": f"2026-01-01T00:00:0{number}.000000Z"}
        for number in range(4)
    ]
    over: list[dict[str, Any]] = [
        {"event": "restored", "partition": number, "rows": 10, "timestamp": f"2026-01-01T00:00:0{4 + number}.500000Z"}
        for number in range(4)
    ]
    assert from_our_log([*ours, *over[:3]]) is None
    found = from_our_log([*ours, {"event": "other"}, *over])
    assert found is not None
    assert (found.records, found.end_s - found.begin_s) == (40, 7.5)


def test_kafka_streams_tells_it_in_milliseconds() -> None:
    """Kafka streams tells it in milliseconds."""
    lines: list[dict[str, Any]] = [{"state": "REBALANCING"}]
    for number in range(4):
        lines += [
            {"restore": "start", "partition": number, "records": 12, "at_ms": 1_000 + number},
            {"restore": "end", "partition": number, "records": 10, "at_ms": 3_000 + number},
        ]
    found = from_streams_log(lines)
    assert found is not None
    assert found.records == 40
    assert found.end_s - found.begin_s == pytest.approx(2.003)


def test_runs_are_merged_by_their_sections() -> None:
    """In the comparison's order, a later run's instead of an earlier one's."""
    first, second, third = results(), results(), results()
    second["sections"][0]["name"] = "restore"
    second["date"] = third["date"] = "2026-01-03"
    third["sections"][0]["about"] = "Others."
    run = merged([second, first, third])
    assert ["joins", "restore"] == [section["name"] for section in run["sections"]]
    assert ("2026-01-03", "Others.") == (run["date"], run["sections"][0]["about"])
