"""
The comparison's results as text, as a part of docs/performance.md, and as a plot.

Results are plain JSON (`as_json`), so that a report can be made again from the file of a run.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from bench.figures import Bar, Figures, Spread, spreads
from bench.stage import Outcome

BEGIN: Final = "<!-- Written by ./dev bench --report: begin -->"
END: Final = "<!-- Written by ./dev bench --report: end -->"

COLUMNS: Final[dict[str, tuple[tuple[str, str, int], ...]]] = {
    "joins": (
        ("joins/s", "running_joins_per_s", 0),
        ("start-up included", "whole_joins_per_s", 0),
        ("joins a CPU-second", "whole_joins_per_cpu_s", 0),
        ("warm half", "warm_joins_per_cpu_s", 0),
        ("peak memory of a process, MiB", "peak_mib", 0),
        ("broker's CPU, µs a join", "broker_cpu_us_per_join", 1),
    ),
    "latency": (
        ("p50, ms", "p50_ms", 1),
        ("p99, ms", "p99_ms", 1),
        ("most, ms", "most_ms", 0),
        ("orders/s", "orders_per_s", 0),
        ("CPU, µs a join", "cpu_us_per_join", 1),
    ),
    "waiting": (
        ("CPU, µs a join", "new_cpu_us_per_join", 1),
        ("of an old order's second half", "old_cpu_us_per_join", 1),
        ("joins/s", "new_joins_per_s", 0),
        ("old orders' joins/s", "old_joins_per_s", 0),
        ("peak memory, MiB", "resident_peak_mib", 0),
        ("filled, records/s", "fill_per_s", 0),
    ),
    "restore": (
        ("records/s", "restored_per_s", 0),
        ("seconds", "restore_s", 2),
        ("CPU of the process, µs a record", "cpu_us_per_record", 1),
        ("peak memory, MiB", "peak_mib", 0),
    ),
}
COLUMNS_OF: Final = {
    "joins": "joins",
    "peers": "joins",
    "latency": "latency",
    "waiting": "waiting",
    "restore": "restore",
    "round-trip": "joins",
    "scaling": "latency",
    "tuning": "joins",
}
TITLES: Final = {
    "joins": "Joins, against Kafka Streams",
    "peers": "Joins, against Python's",
    "latency": "Latency",
    "waiting": "With many orders waiting",
    "restore": "Restore",
    "round-trip": "The whole round trip",
    "scaling": "More workers",
    "tuning": "Kafka Streams, tried otherwise",
}


def as_json(name: str, outcome: Outcome) -> dict[str, Any]:
    """Return an outcome as JSON has it."""
    return {
        "name": name,
        "about": outcome.about,
        "trials": outcome.rows,
        "bars": [
            {
                "title": bar.title,
                "median": bar.value.median,
                "least": bar.value.least,
                "most": bar.value.most,
                "trials": bar.value.trials,
                "limit": bar.limit,
                "at_most": bar.at_most,
                "unit": bar.unit,
                "reached": bar.reached,
            }
            for bar in outcome.bars
        ],
    }


def bars_of(section: Mapping[str, Any]) -> list[Bar]:
    """Return the bars of a section's JSON."""
    return [
        Bar(
            bar["title"],
            Spread(bar["median"], bar["least"], bar["most"], bar["trials"]),
            bar["limit"],
            bar["at_most"],
            bar["unit"],
        )
        for bar in section["bars"]
    ]


def markdown(results: Mapping[str, Any]) -> str:
    """Return the report of a whole run."""
    machine, versions = results["machine"], results["versions"]
    where = ", ".join((machine["processor"], f"{machine['cores']} cores", machine["memory"], machine["system"]))
    lines = [
        f"{results['date']}, {where}; load average before the start: {machine['load before']}.",
        "",
        ", ".join(f"{name} {version}" for name, version in versions.items()) + ".",
        "",
        "| figure | median | least – most | to reach | |",
        "|-|-:|-:|-:|-|",
    ]
    for section in results["sections"]:
        for bar in bars_of(section):
            sign = "≤" if bar.at_most else "≥"
            lines.append(
                f"| {bar.title} | {quantity(bar.value.median, bar.unit)} | {quantity(bar.value.least, bar.unit)} – "
                f"{quantity(bar.value.most, bar.unit)} | {sign} {quantity(bar.limit, bar.unit)} | "
                f"{'reached' if bar.reached else '**not reached**'} |"
            )
    for section in results["sections"]:
        lines += ["", f"### {TITLES[section['name']]}", "", section["about"], *table(section)]
    return "\n".join(lines) + "\n"


def table(section: Mapping[str, Any]) -> list[str]:
    """Return a section's figures, a line a contender: medians, and in brackets the least and the most."""
    columns = COLUMNS[COLUMNS_OF[section["name"]]]
    lines = ["", "| | " + " | ".join(title for title, _, _ in columns) + " |", "|-|" + "-:|" * len(columns)]
    for name, trials in section["trials"].items():
        found = spreads(trials)
        cells = [_cell(found.get(figure), digits) for _, figure, digits in columns]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def _cell(value: Spread | None, digits: int) -> str:
    if value is None:
        return "–"
    return f"{value.median:,.{digits}f} ({value.least:,.{digits}f} – {value.most:,.{digits}f})"


def quantity(value: float, unit: str) -> str:
    """Return *value* with its unit: ratios to two digits, the rest as whole numbers."""
    return f"{value:.2f} ×" if unit == "×" else f"{value:,.0f}{unit}"


def written_into(page: str, report: str) -> str:
    """Return *page* with *report* between the two marks."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    assert begin, f"the page has no {BEGIN}"
    assert end, f"the page has no {END}"
    return f"{before}{BEGIN}\n\n{report}\n{END}{after}"


WIDTH: Final = 760
LABEL_WIDTH: Final = 270
VALUE_WIDTH: Final = 120
BAR_HEIGHT: Final = 18
LINE_HEIGHT: Final = 26
PANEL_GAP: Final = 30
OURS: Final = "Rejoinder"
STYLE: Final = """
    text { font: 13px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #24292f }
    .title { font-weight: 600 }
    .value { font-variant-numeric: tabular-nums }
    .ours { fill: #0969da } .theirs { fill: #8c959f } .range { stroke: #24292f; stroke-width: 1.5 }
    @media (prefers-color-scheme: dark) {
      text { fill: #e6edf3 } .ours { fill: #4493f8 } .theirs { fill: #6e7681 } .range { stroke: #e6edf3 }
    }
"""
PLOTS: Final = (
    ("joins", "running_joins_per_s", "joins a second"),
    ("joins", "whole_joins_per_cpu_s", "joins a CPU-second, start-up included"),
    ("joins", "peak_mib", "peak memory of a process, MiB (less is better)"),
    ("peers", "running_joins_per_s", "joins a second, the halves of a pair near each other"),
)


def svg(results: Mapping[str, Any]) -> str:
    """Return the plot: a panel a figure, a bar a contender, its length the median, with a line from least to most."""
    sections = {section["name"]: section for section in results["sections"]}
    parts: list[str] = []
    top = PANEL_GAP
    for section, figure, title in PLOTS:
        if section in sections:
            drawn, top = _panel(sections[section]["trials"], figure, title, top)
            parts += drawn
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" role="img">',
            "  <title>Rejoinder and its peers</title>",
            f"  <style>{STYLE}  </style>",
            *parts,
            "</svg>",
            "",
        ]
    )


def _panel(trials: Mapping[str, Sequence[Figures]], figure: str, title: str, top: int) -> tuple[list[str], int]:
    """Return a panel's elements and where the next one begins."""
    found = {name: spread for name, some in trials.items() if (spread := spreads(some).get(figure))}
    most = max((spread.most for spread in found.values()), default=0.0) or 1.0
    scale = (WIDTH - LABEL_WIDTH - VALUE_WIDTH) / most
    parts = [f'  <text class="title" x="0" y="{top}">{html.escape(title)}</text>']
    top += 10
    rect = f'height="{BAR_HEIGHT}" rx="2"'
    for name, value in found.items():
        middle, end = top + BAR_HEIGHT // 2, LABEL_WIDTH + value.median * scale
        kind = "ours" if name.startswith(OURS) else "theirs"
        least, greatest = LABEL_WIDTH + value.least * scale, LABEL_WIDTH + value.most * scale
        parts += [
            f'  <text x="{LABEL_WIDTH - 10}" y="{middle + 5}" text-anchor="end">{html.escape(name)}</text>',
            f'  <rect class="{kind}" x="{LABEL_WIDTH}" y="{top}" width="{end - LABEL_WIDTH:.1f}" {rect}/>',
            f'  <line class="range" x1="{least:.1f}" x2="{greatest:.1f}" y1="{middle}" y2="{middle}"/>',
            f'  <text class="value" x="{max(end, greatest) + 8:.1f}" y="{middle + 5}">{value.median:,.0f}</text>',
        ]
        top += LINE_HEIGHT
    return parts, top + PANEL_GAP


def write(results: Mapping[str, Any], docs: Path) -> None:
    """Write the report into docs/performance.md and the plot beside it."""
    page = docs / "performance.md"
    page.write_text(written_into(page.read_text(encoding="utf-8"), markdown(results)), encoding="utf-8")
    (docs / "performance.svg").write_text(svg(results), encoding="utf-8")
