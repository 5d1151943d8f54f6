"""A counterexample as a pytest function, ready to be kept."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from tests.model.described import email_id, query_id
from tests.model.explorer import Found, Move
from tests.model.invariants import Violation
from tests.model.play import Play
from tests.model.trial import Decide
from tests.model.world import COMMAND_IDS
from topology.messages import (
    CancelOrderConfirmation,
    DeadlinePassed,
    EmailFailed,
    EmailSent,
    Message,
    OrderDetailsNotFound,
    OrderDetailsRetrieved,
    SendOrderConfirmationEmail,
)
from topology.policy import Policy

_WIDTH: Final = 110
_ATTEMPTS_MAX: Final = 1_000

_HEAD: Final = '''\
"""Found by the model checker."""

from __future__ import annotations

from tests.model import world
from tests.model.play import Play
from topology.policy import Policy
from topology.process import decide


'''


class Step(NamedTuple):
    """What a test says: a message at an instant, or another policy; *why* is the move's name."""

    why: str
    now_ms: int
    message: Message | None
    policy: Policy | None


def steps(path: list[Move]) -> list[Step]:
    """Return what is said on the way of *path*, which begins at instant 0."""
    now_ms, found = 0, []
    for move in path:
        now_ms += move.ticks
        if move.message or move.policy:
            found.append(Step(move.says, now_ms - move.ago, move.message, move.policy))
    return found


def replay(decide: Decide, policy: Policy, path: list[Move]) -> Violation | None:
    """Walk *path* without the explorer, and on with time alone; return the promise that breaks."""
    play, now_ms = Play(decide, policy), 0
    try:
        for _, now_ms, message, other in steps(path):
            play.policy = other or play.policy
            if message:
                play.say(now_ms, message)
        play.end(now_ms)
    except Violation as exc:
        return exc
    return None


def as_pytest(found: Found, policy: Policy) -> str:
    """Return a module with one test, which fails where *found* was found and whose end is that promise's breach."""
    promise = str(found.violation).partition(": ")[0]
    name = re.sub(r"\W+", "_", promise.lower()).strip("_")
    lines = [
        f"def test_{name}() -> None:",
        f'    """{promise[:1].upper()}{promise[1:]}. Found in {len(found.path)} moves."""',
        f"    policy = {_policy(policy)}",
        "    play = Play(decide, policy)",
    ]
    now_ms = 0
    for why, now_ms, message, other in steps(found.path):
        if other:
            lines.append(f"    play.policy = {_policy(other)}")
        if message:
            lines.append(f"    play.say({now_ms}, {source(message)})  # {why}.")
    lines.append(f"    play.end({now_ms})")
    return _HEAD + "\n".join(lines) + "\n"


def _policy(policy: Policy) -> str:
    """Return *policy* as Python, without what is production's default."""
    default = Policy()._asdict()
    fields = [f"{name}={value}" for name, value in policy._asdict().items() if value != default[name]]
    line = f"Policy({', '.join(fields)})"
    if len(line) <= _WIDTH:
        return line
    return "Policy(\n" + "".join(f"        {field},\n" for field in fields) + "    )"


def source(message: Message) -> str:
    """Return *message* of the small world as Python."""
    if isinstance(message, DeadlinePassed):
        return "world.DEADLINE_PASSED"
    match message:
        case SendOrderConfirmationEmail(command_id=command_id):
            return f"world.command({_id(command_id)})"
        case CancelOrderConfirmation(command_id=command_id):
            return f"world.cancel({_id(command_id)})"
        case OrderDetailsRetrieved(version=version):
            return f"world.details({version})"
        case OrderDetailsNotFound(query_id=id_):
            asked = ((one, attempt) for attempt in range(1, _ATTEMPTS_MAX) for one in COMMAND_IDS)
            command_id, attempt = next(found for found in asked if query_id(*found) == id_)
            return f"world.not_found({_id(command_id)}, {attempt})"
        case EmailSent(email_id=id_) | EmailFailed(email_id=id_):
            command_id = _id(next(one for one in COMMAND_IDS if email_id(one) == id_))
            how = ("sent", "") if isinstance(message, EmailSent) else ("failed", f", permanent={message.permanent}")
            return f"world.{how[0]}({command_id}{how[1]})"


def _id(command_id: str) -> str:
    return f"world.COMMAND_IDS[{COMMAND_IDS.index(command_id)}]"
