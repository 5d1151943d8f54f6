"""docs/process.md: what it shows is the table, and it is never stale."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from topology import diagram
from topology.state import Step
from topology.topics import TOPICS
from topology.transitions import TABLE, Then


def mermaid(text: str) -> list[str]:
    """Return the lines within the one Mermaid block that *text* is."""
    opening, *lines, closing = text.splitlines()
    assert ("```mermaid", "```") == (opening, closing)
    return lines


def rows(text: str) -> list[list[str]]:
    """Return the cells of a Markdown table."""
    return [line.removeprefix("| ").removesuffix(" |").split(" | ") for line in text.splitlines()]


def test_committed_page_is_what_the_table_says() -> None:
    """Who changes the table runs ``python -m topology.diagram``."""
    diagram.main(["--check"])


def test_steps_are_a_well_formed_state_diagram() -> None:
    """Every line declares a step or is an arrow between declared ones, with a label that Mermaid can read."""
    kind, *lines = mermaid(diagram.steps())
    declared = {match[1] for line in lines if (match := re.fullmatch(r'    state "[\w -]+" as (\w+)', line))}
    arrows = [match for line in lines if (match := re.fullmatch(r"    (\S+) --> (\S+) : \w+(?:, \w+)*", line))]

    assert "stateDiagram-v2" == kind
    assert len(lines) == len(declared) + len(arrows)
    assert {end for arrow in arrows for end in arrow.groups()} == declared | {"[*]"}


def test_every_move_of_the_table_is_an_arrow() -> None:
    """No branch that moves a process is left out of the drawing."""
    names = {Step.ABSENT: "[*]"} | {step: step.name.lower() for step in Step if step is not Step.ABSENT}
    drawn = {tuple(line.split(" : ")[0].split()[::2]) for line in mermaid(diagram.steps()) if "-->" in line}

    assert drawn == {
        (names[step], names[branch.to])
        for cells in TABLE.values()
        for step, cell in cells.items()
        for branch in cell
        if branch.then is not Then.COUNT
    }


def test_table_has_a_row_a_message_and_a_column_a_step() -> None:
    """All cells are there, and each says something."""
    header, _, *body = rows(diagram.table())

    assert [step.title for step in Step] == header[1:]
    assert [message.__name__ for message in TABLE] == [row[0] for row in body]
    assert all(len(row) == len(header) and all(row) for row in body)


def test_participants_are_a_well_formed_flowchart() -> None:
    """Every arrow joins two declared nodes, and every node has an arrow."""
    kind, *lines = mermaid(diagram.participants())
    nodes = {match[1] for line in lines if (match := re.fullmatch(r'    (\w+)(?:\(\[".+"\]\)|\[\[".+"\]\])', line))}
    arrows = [match for line in lines if (match := re.fullmatch(r"    (\w+) --> (\w+)", line))]

    assert "flowchart LR" == kind
    assert len(lines) == len(nodes) + len(arrows)
    assert nodes == {end for arrow in arrows for end in arrow.groups()}


def test_topics_are_all_shown() -> None:
    """A row a topic, in order."""
    header, _, *body = rows(diagram.topics())

    assert [topic.name for topic in TOPICS] == [row[0] for row in body]
    assert all(len(row) == len(header) and all(row) for row in body)


def test_written_page_passes_the_check_until_it_is_changed(tmp_path: Path) -> None:
    """The message of a failed check says which file and what to run."""
    page = tmp_path / "process.md"
    stale = r"process\.md isn't what the table says: run `python -m topology\.diagram`"
    with pytest.raises(SystemExit, match=stale):
        diagram.main(["--check"], page)

    diagram.main([], page)
    diagram.main(["--check"], page)

    page.write_text("another page", encoding="utf-8")
    with pytest.raises(SystemExit, match=stale):
        diagram.main(["--check"], page)
