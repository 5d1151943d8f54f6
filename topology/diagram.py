"""
The table and the topics as a page: ``python -m topology.diagram`` writes docs/process.md, ``--check`` compares it.

The one module of the core that touches a file, and only when it is run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from topology.messages import Message
from topology.policy import DAY_MS
from topology.state import Step
from topology.topics import TOPICS, Cleanup, Participant, Topic
from topology.transitions import TABLE, Branch, Cell, Then

PAGE: Final = Path(__file__).parent.parent / "docs" / "process.md"

_PAGE: Final = """\
# The process

Generated from `topology/transitions.py` and `topology/topics.py` by `python -m topology.diagram`: change those, then
run it.

One process is the life of one command to confirm one order by e-mail: a (order_id, command_id). It starts when its
command arrives, or a cancel that overtook it; it waits for the order's details, then for the e-mail's outcome; it ends
sent or failed, and is forgotten later. The words are explained in the [glossary](glossary.md).

## Steps

Who moves a process, and where to. A deadline is the passing of a recorded instant.

{steps}

## What every message does in every step

An arrow names the step that a process moves to; without one it stays. Of several cases the first that applies is
taken. The column *absent* says what happens to a message that meets no process. Names in small letters with
underscores are settings.

{table}

## Who talks to whom

Every topic is keyed by order_id, and all have the same number of partitions, so that partition p of each holds the same
orders.

{participants}

## Topics

{topics}
"""


def render() -> str:
    """Return the page."""
    return _PAGE.format(steps=steps(), table=table(), participants=participants(), topics=topics())


def steps() -> str:
    """Return the moves between steps as a Mermaid state diagram."""
    moves: dict[tuple[Step, Step], list[str]] = {}
    for message, cells in TABLE.items():
        for step, cell in cells.items():
            for branch in cell:
                names = moves.setdefault((step, branch.to), [])
                # A branch that only counts is no arrow, and a cell with two ways to the same step is one.
                if branch.then is not Then.COUNT and _name(message) not in names:
                    names.append(_name(message))
    named = [f'    state "{step.title}" as {step.name.lower()}' for step in Step if step is not Step.ABSENT]
    arrows = [f"    {_node(a)} --> {_node(b)} : {', '.join(names)}" for (a, b), names in moves.items() if names]
    return _mermaid("stateDiagram-v2", [*named, *arrows])


def table() -> str:
    """Return the state × message table in Markdown."""
    rows = [[_name(message), *(_cell(step, cells[step]) for step in Step)] for message, cells in TABLE.items()]
    return _markdown(["message ↓ step →", *(step.title for step in Step)], rows)


def participants() -> str:
    """Return topics and participants as a Mermaid flowchart."""
    people = [f'    {who.name.lower()}(["{who.value}"])' for who in Participant]
    lines = [f'    {_id(topic)}[["{topic.name}"]]' for topic in TOPICS]
    for topic in TOPICS:
        lines += [f"    {who.name.lower()} --> {_id(topic)}" for who in topic.producers]
        lines.append(f"    {_id(topic)} --> {topic.consumer.name.lower()}")
    return _mermaid("flowchart LR", [*people, *lines])


def topics() -> str:
    """Return the topics and their settings in Markdown."""
    header = ["topic", "records", "from → to", "cleanup", "kept", "largest record"]
    return _markdown(header, [_topic(topic) for topic in TOPICS])


def _topic(topic: Topic) -> list[str]:
    days = f"{topic.retention_ms // DAY_MS} d"
    return [
        topic.name,
        ", ".join(record.rpartition(".")[2] for record in topic.records) or "our own",
        f"{', '.join(who.value for who in topic.producers)} → {topic.consumer.value}",
        topic.cleanup.value,
        f"newest of each key; tombstones {days}" if topic.cleanup is Cleanup.COMPACT else days,
        f"{topic.record_bytes_max // 1024:,} KiB",
    ]


def _cell(step: Step, cell: Cell) -> str:
    return "<br>".join(_says(step, branch) for branch in cell)


def _says(step: Step, branch: Branch) -> str:
    return branch.says if branch.to is step else f"{branch.says} → **{branch.to.title}**"


def _name(message: type[Message]) -> str:
    return message.__name__


def _node(step: Step) -> str:
    return "[*]" if step is Step.ABSENT else step.name.lower()


def _id(topic: Topic) -> str:
    return topic.name.replace(".", "_").replace("-", "_")


def _mermaid(kind: str, lines: Iterable[str]) -> str:
    return "\n".join(["```mermaid", kind, *lines, "```"])


def _markdown(header: list[str], rows: Iterable[list[str]]) -> str:
    lines = [header, ["-"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(arguments: list[str], page: Path = PAGE) -> None:
    """
    Write *page*, or compare it.

    Raises:
        SystemExit: with ``--check``, *page* isn't what the table says; tells what to run.
    """
    parser = argparse.ArgumentParser(prog="python -m topology.diagram", description="Generate docs/process.md.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the page is stale")
    if not parser.parse_args(arguments).check:
        page.write_text(render(), encoding="utf-8")
    elif not page.exists() or page.read_text(encoding="utf-8") != render():
        raise SystemExit(f"{page} isn't what the table says: run `python -m topology.diagram` and commit the page")


if __name__ == "__main__":
    main(sys.argv[1:])
