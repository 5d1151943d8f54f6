"""The metrics' table of docs/operating.md: ``python -m tools.operating`` writes it, ``--check`` compares it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final

from streams.metrics import DECLARED, Declared

PAGE: Final = Path(__file__).parent.parent / "docs" / "operating.md"
BEGIN: Final = "<!-- metrics: `python -m tools.operating` -->\n"
END: Final = "<!-- end of metrics -->\n"


def table() -> str:
    """Return the table in Markdown, in the order of the declarations."""
    lines = ["| Metric | Type | Unit | Labels | Meaning |", "|-|-|-|-|-|", *map(_row, DECLARED)]
    return "\n".join(lines) + "\n"


def _row(metric: Declared) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    return f"| `{metric.name}` | {metric.type} | {metric.unit} | {labels} | {metric.help} |"


def rendered(page: str) -> str:
    """
    Return *page* with the table as it is to be.

    Raises:
        SystemExit: it has no place for it.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"{PAGE}: the table's place is between {BEGIN.strip()} and {END.strip()}")
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def main(arguments: list[str], page: Path = PAGE) -> None:
    """
    Write the table into *page*, or compare it.

    Raises:
        SystemExit: with ``--check``, *page* isn't what the declarations say; tells what to run.
    """
    parser = argparse.ArgumentParser(prog="python -m tools.operating", description="Generate the table of metrics.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the page is stale")
    text = page.read_text(encoding="utf-8")
    if not parser.parse_args(arguments).check:
        page.write_text(rendered(text), encoding="utf-8")
    elif text != rendered(text):
        raise SystemExit(f"{page} isn't what streams/metrics.py says: run `python -m tools.operating` and commit it")


if __name__ == "__main__":
    main(sys.argv[1:])
