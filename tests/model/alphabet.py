"""The messages of a small world by their names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tests.model import world
from topology.messages import Action, GetOrderDetails, Message, SendEmail
from topology.policy import Policy


def source_says(number: int) -> tuple[str, str]:
    """Return the names of what the command source says of its *number*-th command."""
    return f"command {number}", f"cancel {number}"


def orders_publishes(version: int) -> str:
    """Return the name of the order's details in this version."""
    return f"details, version {version}"


def orders_answers(number: int, attempt: int, versions: Sequence[int]) -> Iterator[str]:
    """Yield the names of the answers to a query."""
    yield f"query {attempt} of command {number}: not found"
    yield from map(orders_publishes, versions)


def mail_answers(number: int) -> tuple[str, str, str]:
    """Return the names of the answers to a SendEmail."""
    return f"mail {number} sent", f"mail {number} refused for now", f"mail {number} refused for ever"


def alphabet(commands: int, versions: Sequence[int], policy: Policy) -> dict[str, Message]:
    """Return every message by its name that *commands* commands and *versions* of the details make possible."""
    # Queries are asked a tick apart, until `give_up_after`.
    attempts = policy.give_up_after_ms + 1
    said: dict[str, Message] = {orders_publishes(version): world.details(version) for version in versions}
    for number, command_id in enumerate(world.COMMAND_IDS[:commands], 1):
        command, cancel = source_says(number)
        sent, for_now, for_ever = mail_answers(number)
        said |= {
            command: world.command(command_id),
            cancel: world.cancel(command_id),
            sent: world.sent(command_id),
            for_now: world.failed(command_id, permanent=False),
            for_ever: world.failed(command_id, permanent=True),
        }
        for attempt in range(1, attempts + 1):
            missing = next(orders_answers(number, attempt, ()))
            said[missing] = world.not_found(command_id, attempt)
    return said


def number_of(command_id: str) -> int:
    """Return the number by which a command goes here."""
    return world.COMMAND_IDS.index(command_id) + 1


def asked(command_id: str, action: Action) -> tuple[int, int] | None:
    """Return what *action* asks of a participant: (command's number, query's attempt), a mail's attempt is 0."""
    match action:
        case GetOrderDetails(attempt=attempt):
            return number_of(command_id), attempt
        case SendEmail():
            return number_of(command_id), 0
    return None
