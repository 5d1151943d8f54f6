"""Log lines about a record: what they are found by, whatever writes them, as JSON and on a terminal."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Final

import pytest
import structlog

from streams import logs
from streams import settings as settings_module
from streams.batch import Record
from streams.headers import about

pytestmark = pytest.mark.usefixtures("restored_logging")

RECORD: Final = Record(
    "email.commands",
    2,
    17,
    0,
    b"order-7",
    b"",
    [
        ("ce_id", b"the-event"),
        ("ce_correlationid", b"the-command"),
        ("traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    ],
)
FOUND_BY: Final = {
    "topic": "email.commands",
    "partition": 2,
    "offset": 17,
    "order_id": "order-7",
    "event_id": "the-event",
    "command_id": "the-command",
    "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
}


def test_record_is_found_by_all_that_it_says() -> None:
    """And a field that it doesn't say isn't there, nor is a key that is null."""
    assert FOUND_BY == about(RECORD)
    assert {"topic", "partition", "offset"} == about(RECORD._replace(key=None, headers=None)).keys()
    odd = about(RECORD._replace(key=b"\xff", headers=[("traceparent", b"nonsense"), ("ce_id", b"x" * 10_000)]))
    assert 256 == len(odd["event_id"])
    assert "trace_id" not in odd


@pytest.mark.parametrize("form", ["json", "console"])
def test_line_has_them_in_both_forms(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    """JSON for machines; for people the same, readable, without colours where there is no terminal."""
    logs.configure(settings_module.load(log_format=form))
    structlog.get_logger("ours").warning("e-mail in doubt", because="jo@example.com", **about(RECORD))
    line = capsys.readouterr().err
    assert "jo@" not in line
    if form == "json":
        assert {**FOUND_BY, "event": "e-mail in doubt", "level": "warning"}.items() <= json.loads(line).items()
    else:
        assert "\x1b" not in line
        assert all(f"{name}=" in line and str(value) in line for name, value in FOUND_BY.items())


def test_every_line_of_ours_is_structured() -> None:
    """Only structlog, so that no value is buried in a sentence, and a constant event, so that lines can be counted."""
    wrong = [
        f"{path.name}:{call.lineno}"
        for path in Path(logs.__file__).parent.rglob("*.py")
        if "local" not in path.parts  # The broker and mail server of demo and tests.
        for call in _logging(path)
        if len(call.args) != 1 or not isinstance(call.args[0], ast.Constant)
    ]
    assert [] == wrong


def _logging(path: Path) -> list[ast.Call]:
    return [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call) and _is_logging(node)]


def _is_logging(node: ast.Call) -> bool:
    levels = {"debug", "info", "warning", "error", "exception", "critical"}
    name = node.func
    return (
        isinstance(name, ast.Attribute)
        and name.attr in levels
        and isinstance(name.value, ast.Name)
        and name.value.id in {"log", "_log"}
    )
