"""Recorded histories run against today's code: what it decides for processes under way may not change unseen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest

from tests.replay.history import main, play
from topology.messages import Message

HISTORIES = sorted((Path(__file__).parent / "histories").glob("*.json"))


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)
def test_history_repeats_itself(path: Path) -> None:
    """Every action, every event and every step is the recorded one."""
    expected = json.loads(path.read_text(encoding="utf-8"))

    assert expected == play(expected)


def test_histories_say_every_message() -> None:
    """No message of the table is without a recorded use."""
    said = {
        name
        for path in HISTORIES
        for said in json.loads(path.read_text(encoding="utf-8"))["inputs"]
        for name in said["message"]
    }

    assert {message.__name__ for message in get_args(Message)} == said


def test_new_history_is_written_from_its_inputs(tmp_path: Path) -> None:
    """The four keys that a person writes are enough; what is written then repeats itself."""
    recorded = json.loads(HISTORIES[0].read_text(encoding="utf-8"))
    told = {key: recorded[key] for key in ("story", "order_id", "policy")}
    told["inputs"] = [{key: said[key] for key in ("now_ms", "record", "message")} for said in recorded["inputs"]]
    path = tmp_path / "new.json"
    path.write_text(json.dumps(told), encoding="utf-8")

    main([str(path)])

    assert HISTORIES[0].read_text(encoding="utf-8") == path.read_text(encoding="utf-8")
