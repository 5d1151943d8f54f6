"""
Every topic, declared once; admin, workers, diagrams and tests read this page.

All are keyed by order_id (UTF-8), partitioned by murmur2 and have the same number of partitions, so that partition p
of every topic holds the same orders.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple

from topology.policy import DAY_MS

PARTITIONS: Final = 12
"""Partitions of every topic unless set otherwise; the most workers that can share the work."""

RECORD_BYTES_MAX: Final = 1_048_576
"""The largest record of an input topic, the broker's own default."""

KEY_BYTES_MAX: Final = 32_768
"""The longest order id: it is written several times into what we produce."""

_MARGIN_BYTES: Final = 65_536


class Cleanup(Enum):
    """What the broker does with old records."""

    DELETE = "delete"
    COMPACT = "compact"


class Participant(Enum):
    """Who produces to and consumes from topics."""

    COMMAND_SOURCE = "command source"
    PROCESS_MANAGER = "process manager"
    ORDERS = "orders service"
    EMAIL = "e-mail service"
    ANYONE = "anyone"
    PERSON = "a person"


class Topic(NamedTuple):
    """One topic: *records* are the full names of the Avro records it holds, none for topics that are our own."""

    name: str
    records: tuple[str, ...]
    producers: tuple[Participant, ...]
    consumer: Participant
    cleanup: Cleanup
    retention_ms: int
    """For a compacted topic: how long tombstones are kept, and how long a replaced value may stay."""
    record_bytes_max: int = RECORD_BYTES_MAX

    @property
    def is_input(self) -> bool:
        """Whether somebody decides on its records, so that the broker's clock should stamp them."""
        return bool(self.records) and self.consumer is not Participant.ANYONE

    @property
    def config(self) -> dict[str, str]:
        """The topic's configuration, as Kafka names it."""
        config = {"cleanup.policy": self.cleanup.value, "max.message.bytes": str(self.record_bytes_max)}
        if self.cleanup is Cleanup.COMPACT:
            config |= {
                "delete.retention.ms": str(self.retention_ms),
                # Personal data goes: a replaced row is compacted away within this, however quiet the topic.
                "max.compaction.lag.ms": str(self.retention_ms),
            }
        else:
            # A segment lives as long as its newest record: a day's segments make retention mean what it says.
            config |= {"retention.ms": str(self.retention_ms), "segment.ms": str(DAY_MS)}
        if self.is_input:
            config["message.timestamp.type"] = "LogAppendTime"
        return config


COMMANDS: Final = Topic(
    "order-confirmation.commands",
    ("communications.SendOrderConfirmationEmail", "communications.CancelOrderConfirmation"),
    (Participant.COMMAND_SOURCE,),
    Participant.PROCESS_MANAGER,
    Cleanup.DELETE,
    7 * DAY_MS,
)
QUERIES: Final = Topic(
    "order-details.queries",
    ("orders.GetOrderDetails",),
    (Participant.PROCESS_MANAGER,),
    Participant.ORDERS,
    Cleanup.DELETE,
    DAY_MS,
)
DETAILS: Final = Topic(
    "order-details.events",
    ("orders.OrderDetailsRetrieved", "orders.OrderDetailsNotFound"),
    (Participant.ORDERS,),
    Participant.PROCESS_MANAGER,
    Cleanup.DELETE,
    7 * DAY_MS,
)
EMAIL_COMMANDS: Final = Topic(
    "email.commands",
    ("communications.SendEmail",),
    (Participant.PROCESS_MANAGER,),
    Participant.EMAIL,
    Cleanup.DELETE,
    7 * DAY_MS,
    2 * RECORD_BYTES_MAX + _MARGIN_BYTES,  # It holds two records, whole.
)
EMAIL_EVENTS: Final = Topic(
    "email.events",
    ("communications.EmailSent", "communications.EmailFailed"),
    (Participant.EMAIL,),
    Participant.PROCESS_MANAGER,
    Cleanup.DELETE,
    7 * DAY_MS,
)
OUTCOMES: Final = Topic(
    "order-confirmation.events",
    ("communications.OrderConfirmationSent", "communications.OrderConfirmationFailed"),
    (Participant.PROCESS_MANAGER,),
    Participant.ANYONE,
    Cleanup.DELETE,
    7 * DAY_MS,
)
PROCESSES_CHANGELOG: Final = Topic(
    "order-confirmation.processes-changelog",
    (),
    (Participant.PROCESS_MANAGER,),
    Participant.PROCESS_MANAGER,
    Cleanup.COMPACT,
    7 * DAY_MS,
    4 * RECORD_BYTES_MAX + _MARGIN_BYTES,
)
LEDGER_CHANGELOG: Final = Topic(
    "email.ledger-changelog",
    (),
    (Participant.EMAIL,),
    Participant.EMAIL,
    Cleanup.COMPACT,
    7 * DAY_MS,
)
DEAD_LETTERS: Final = Topic(
    "order-confirmation.dead-letters",
    (),
    (Participant.PROCESS_MANAGER, Participant.ORDERS, Participant.EMAIL),
    Participant.PERSON,
    Cleanup.DELETE,
    30 * DAY_MS,
    EMAIL_COMMANDS.record_bytes_max + _MARGIN_BYTES,
)
REDRIVES: Final = Topic(
    "order-confirmation.redrives",
    (),
    (Participant.PERSON,),
    Participant.PERSON,
    Cleanup.DELETE,
    # Longer than the dead letters of which it says that they were put back: theirs may go a segment's day later.
    DEAD_LETTERS.retention_ms + 2 * DAY_MS,
)

TOPICS: Final = (
    COMMANDS,
    QUERIES,
    DETAILS,
    EMAIL_COMMANDS,
    EMAIL_EVENTS,
    OUTCOMES,
    PROCESSES_CHANGELOG,
    LEDGER_CHANGELOG,
    DEAD_LETTERS,
    REDRIVES,
)
