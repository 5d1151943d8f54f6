"""What the tests of the process manager's core share: one order, its messages, and a world that says them."""

from __future__ import annotations

from typing import Any, Final

from topology.events import DEADLINE, Cause
from topology.messages import (
    Action,
    Body,
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
from topology.process import Decision, decide
from topology.state import Order, Process
from topology.topics import COMMANDS, DETAILS, EMAIL_EVENTS

ORDER: Final = "order-1"
COMMAND: Final = "0b5e7a4c-9a55-4f0e-8d0a-3c1f6d2b9e01"
OTHER_COMMAND: Final = "0b5e7a4c-9a55-4f0e-8d0a-3c1f6d2b9e02"
TRACEPARENT: Final = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

# Golden: that they never change is what makes a repeated product the same product.
EMAIL_ID: Final = "84cb5261-7fa3-5e40-bcde-776adb8b06ba"
OTHER_EMAIL_ID: Final = "79586e8c-7b77-53fe-ac7c-a9535ec8abaa"
QUERY_IDS: Final = (
    "8fdfd854-c805-5c5f-ac1e-70b901ae72df",
    "80c37ac9-702b-549f-be1c-80f881bddca1",
    "049c1c09-4565-5729-b5d7-eb262746aba8",
)

COMMAND_BODY: Final = Body(1, b"the command")
ORDER_BODY: Final = Body(2, b"the order")

TOPIC_OF: Final[dict[type[Message], str]] = {
    SendOrderConfirmationEmail: COMMANDS.name,
    CancelOrderConfirmation: COMMANDS.name,
    OrderDetailsRetrieved: DETAILS.name,
    OrderDetailsNotFound: DETAILS.name,
    EmailSent: EMAIL_EVENTS.name,
    EmailFailed: EMAIL_EVENTS.name,
}


def command(command_id: str = COMMAND, body: Body = COMMAND_BODY) -> SendOrderConfirmationEmail:
    """Return the command to send *command_id*'s e-mail."""
    return SendOrderConfirmationEmail(ORDER, command_id, body, TRACEPARENT)


def cancel(command_id: str = COMMAND) -> CancelOrderConfirmation:
    """Return the cancel of *command_id*."""
    return CancelOrderConfirmation(ORDER, command_id)


def details(version: int = 1, body: Body = ORDER_BODY) -> OrderDetailsRetrieved:
    """Return the order's details."""
    return OrderDetailsRetrieved(ORDER, version, body)


def not_found(attempt: int = 1) -> OrderDetailsNotFound:
    """Return the answer to `COMMAND`'s *attempt*-th query that there is no such order."""
    return OrderDetailsNotFound(ORDER, QUERY_IDS[attempt - 1])


def sent(email_id: str = EMAIL_ID) -> EmailSent:
    """Return the report that the mail server took the mail."""
    return EmailSent(ORDER, email_id)


def refused(reason: str = "mailbox full", *, permanent: bool = False) -> EmailFailed:
    """Return the report that the mail wasn't taken."""
    return EmailFailed(ORDER, EMAIL_ID, permanent, reason)


DEADLINE_PASSED: Final = DeadlinePassed(ORDER)


class World:
    """One order under one policy; message *n* said to it is the record at offset *n* of its topic."""

    def __init__(self, policy: Policy | None = None) -> None:
        self.policy = policy or Policy()
        self.order = Order(ORDER)
        self.said = 0

    def say(self, now_ms: int, *messages: Message) -> list[Action]:
        """Decide *messages*, all at *now_ms*; return what became due."""
        return [owed.action for message in messages for owed in self.decide(now_ms, message).owed]

    def decide(self, now_ms: int, message: Message) -> Decision:
        """Decide one message."""
        topic = TOPIC_OF.get(type(message))
        cause = Cause(topic, self.said) if topic else DEADLINE
        self.said += 1
        return decide(self.order, message, cause, now_ms, self.policy)

    def let_pass(self) -> tuple[int, list[Action]]:
        """Let the next deadline pass; return when that is and what became due."""
        due_ms = self.next_due_ms
        return due_ms, self.say(due_ms, DEADLINE_PASSED)

    @property
    def next_due_ms(self) -> int:
        """When something of the order is due next."""
        return self.order.next_due_ms(self.policy.details_ttl_ms, self.policy.finished_ttl_ms)

    @property
    def process(self) -> Process:
        """`COMMAND`'s process."""
        return self.order.processes[COMMAND]


def attributes(class_: Any) -> tuple[str, ...]:
    """Return the names of the attributes of *class_*: its slots, of which mypyc makes another list."""
    names: tuple[str, ...] = getattr(class_, "__mypyc_attrs__", None) or class_.__slots__
    return names


def snapshot(process: Process) -> dict[str, object]:
    """Return all attributes of *process*, to be compared."""
    state = {name: getattr(process, name) for name in attributes(Process)}
    return state | {"recorded": list(process.recorded)}
