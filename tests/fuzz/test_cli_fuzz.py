"""Order ids on the command line: any text is an id or refused in a line, and does nothing to the terminal."""

from __future__ import annotations

import io
import re
from typing import Final
from unittest.mock import patch
from urllib.parse import quote, unquote

import typer
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner

from streams.cli import app
from streams.cli.arguments import check_order_id
from streams.cli.explain import _show
from streams.errors import RejoinderError
from streams.monitor.explain import explain as explained
from streams.transport.partitioner import partition_of
from tests.streams.manager import Manager
from topology.policy import Policy
from topology.topics import KEY_BYTES_MAX

EXAMPLES: Final = 100

# What a shell can give: any text without a zero byte, and bytes that aren't UTF-8 as lone surrogates.
ids = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"])
    | st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF),
    max_size=40,
)
COMMAND_ID: Final = "84cb5261-7fa3-5e40-bcde-776adb8b06ba"


@settings(max_examples=EXAMPLES, deadline=None)
@given(ids)
@example("")
@example("\udcff")
@example("é" * KEY_BYTES_MAX)
@example("--help")
def test_any_text_is_an_order_id_or_refused(text: str) -> None:
    """Before anything is asked or produced."""
    try:
        order_id = check_order_id(text)
    except typer.BadParameter:
        assert not text or len(text) > KEY_BYTES_MAX // 4 or any("\udc80" <= c <= "\udcff" for c in text)
        return
    assert 0 <= partition_of(order_id.encode(), 12) < 12
    assert order_id == unquote(quote(order_id, safe=""))


@settings(max_examples=EXAMPLES, deadline=None)
@given(ids)
@example("\udcff")
@example("\x1b[2J")
@example("[bold]x[/]")
@example("-1")
def test_every_command_ends_in_a_sentence(text: str) -> None:
    """There is no broker: one of our own errors, or the command line's refusal; never a traceback."""
    for arguments in (["send", "--", text], ["cancel", "--", text, COMMAND_ID], ["explain", "--", text],
                      ["dead-letters", "show", "--", text]):  # fmt: skip
        # No setting is right, so that nobody is waited for: what comes before it is what is tested.
        result = CliRunner().invoke(app, arguments, env={"REJOINDER_PARTITIONS": "none"})
        assert result.exit_code
        assert isinstance(result.exception, SystemExit | RejoinderError), (arguments, result.exception)


@settings(max_examples=EXAMPLES, deadline=None)
@given(ids.filter(lambda text: text.isprintable() or "\udc80" > max(text, default="")), st.text(max_size=20))
@example("\x1b[2J[bold]", "\x1b]0;title\x07")
def test_explained_order_does_nothing_to_the_terminal(order_id: str, reason: str) -> None:
    """Its id is somebody's text, and so is what a mail server answers."""
    try:
        check_order_id(order_id)
        reason.encode()
    except (typer.BadParameter, UnicodeEncodeError):
        return
    manager = Manager()
    manager.run(manager.details(order_id), manager.command(order_id))
    found = explained(order_id, manager.rows[order_id.encode()], 0, Policy()) | {"owner": "http://here"}
    said = {"at": "now", "event": "EmailFailed", "reason": reason, "cause": {"deadline": True}}
    found["processes"][0]["timeline"].append(said)
    out = io.StringIO()
    shown = Console(file=out, highlight=False, soft_wrap=True, width=200)
    with patch("streams.cli.explain.Console", lambda **_: shown):
        _show(found)
    assert all(c.isprintable() or c == "\n" for c in out.getvalue())
    assert re.match(r"order ", out.getvalue())
