"""
Recorded histories: what was said to one order when, and what it then owed and wrote down.

``python -m tests.replay.history FILE…`` plays the inputs of each file and writes what came of them into it. A new
history needs ``story``, ``order_id``, ``policy`` and ``inputs`` only. Do this to an old one only if what it shows is
meant to change for processes that are under way in production.
"""

from __future__ import annotations

import json
import sys
from enum import Enum
from pathlib import Path
from typing import Any, Final, NamedTuple, get_args

from topology.events import DEADLINE, Cause
from topology.messages import Body, Message
from topology.policy import Policy
from topology.process import decide
from topology.state import Order, Process

MESSAGES: Final[dict[str, type[Any]]] = {message.__name__: message for message in get_args(Message)}


def play(history: dict[str, Any]) -> dict[str, Any]:
    """Return *history* with the actions, timelines and steps that its inputs bring about today."""
    order, policy = Order(history["order_id"]), Policy(**history["policy"])
    processes: dict[str, Process] = {}
    inputs = []
    for said in history["inputs"]:
        decision = decide(order, _message(order, said), _cause(said), said["now_ms"], policy)
        processes |= order.processes
        actions = [_written(owed.action) for owed in decision.owed]
        inputs.append({key: said[key] for key in ("now_ms", "record", "message")} | {"actions": actions})
    told = {key: history[key] for key in ("story", "order_id", "policy")}
    timelines = {command_id: [_line(event) for event in process.recorded] for command_id, process in processes.items()}
    steps = {command_id: process.step.title for command_id, process in order.processes.items()}
    return told | {"inputs": inputs, "timelines": timelines, "steps": steps}


def _message(order: Order, said: dict[str, Any]) -> Message:
    ((name, fields),) = said["message"].items()
    if "body" in fields:
        fields = fields | {"body": Body(fields["body"]["schema_id"], fields["body"]["data"].encode())}
    message: Message = MESSAGES[name](order_id=order.order_id, **fields)
    return message


def _cause(said: dict[str, Any]) -> Cause:
    if "DeadlinePassed" in said["message"]:
        return DEADLINE
    topic, _, offset = said["record"].rpartition("/")
    return Cause(topic, int(offset))


def _written(value: Any) -> Any:
    """Return *value* as JSON: a named tuple by its name, but for the order id, which is the history's."""
    match value:
        case Body(schema_id, data):
            return {"schema_id": schema_id, "data": data.decode()}
        case Enum():
            return value.value
        case tuple():
            fields = {name: _written(field) for name, field in value._asdict().items() if name != "order_id"}  # type: ignore[attr-defined]
            return {type(value).__name__: fields}
        case _:
            return value


def _line(event: NamedTuple) -> str:
    """Return *event* as a line of a timeline: when, what, why."""
    fields = event._asdict()
    at_ms, cause = fields.pop("at_ms"), fields.pop("cause")
    why = "deadline" if cause == DEADLINE else f"{cause.topic}/{cause.offset}"
    what = "".join(f" {name}={_written(value)}" for name, value in fields.items())
    return f"{at_ms} {type(event).__name__}{what}, because of {why}"


def main(paths: list[str]) -> None:
    """Rewrite the files at *paths*."""
    for path in map(Path, paths):
        history = play(json.loads(path.read_text(encoding="utf-8")))
        path.write_text(json.dumps(history, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
