"""
What happens to order *n* of a run, computed from the run's seed and *n* alone.

A million orders are planned without an object for any of them: the driver asks what to send when it comes to an order,
the services ask what to answer, and the checker asks again what must have come of it.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from enum import IntEnum
from hashlib import blake2b
from typing import Final, NamedTuple

from tests.chaos import wire

COMMANDS_MAX: Final = 3


class Details(IntEnum):
    """How the orders service tells of an order."""

    ASKED = 0
    """It answers the query."""
    BEFORE = 1
    """Published unasked before the command; queries are answered too."""
    AFTER = 2
    """Published unasked after the command; no query is answered."""
    TWICE = 3
    """Version 1 before the command, version 2 after it."""
    NOT_FOUND_FIRST = 4
    """Not found once, then answered."""
    NOT_FOUND = 5
    """Never found."""
    NEVER = 6
    """No answer at all."""
    ALONE = 7
    """Published, and no command ever comes."""


class Email(IntEnum):
    """What the e-mail service does with a command's mail."""

    SENT = 0
    FAILS_ONCE = 1
    FAILS_TWICE = 2
    FAILS = 3
    """Each time, never for ever."""
    REJECTED = 4
    SILENT = 5
    """It says nothing: the outcome stays unknown."""
    LATE = 6
    """It says sent when the process has given up waiting."""
    EARLY = 7
    """It says sent before the command was even seen."""


class Cancel(IntEnum):
    """When the first command is cancelled."""

    NONE = 0
    BEFORE = 1
    AT_ONCE = 2
    LATER = 3


class Poison(IntEnum):
    """A record that can't be handled, under the order's key; a dead letter is all that may come of it."""

    NONE = 0
    TRUNCATED = 1
    TRAILING = 2
    UNKNOWN_SCHEMA = 3
    NOT_FRAMED = 4
    KEY_MISMATCH = 5
    NULL = 6


REASONS: Final[Mapping[Poison, str]] = {
    Poison.TRUNCATED: "truncated",
    Poison.TRAILING: "trailing-bytes",
    Poison.UNKNOWN_SCHEMA: "unknown-schema",
    Poison.NOT_FRAMED: "not-framed",
    Poison.KEY_MISMATCH: "key-mismatch",
    Poison.NULL: "null",
}
"""The reason that each poison's dead letter must have."""


def _shares(shares: Mapping[int, int]) -> tuple[int, ...]:
    """Return 256 values, each as often as its share says; the one with the share 0 takes the rest."""
    values = [value for value, share in shares.items() for _ in range(share)]
    (rest,) = (value for value, share in shares.items() if not share)
    return (*values, *[rest] * (256 - len(values)))


# Of 256 orders.
_COMMANDS: Final = _shares({1: 0, 2: 20, 3: 6})
_DETAILS: Final = _shares(
    {
        Details.ASKED: 0, Details.BEFORE: 40, Details.AFTER: 12, Details.TWICE: 24, Details.NOT_FOUND_FIRST: 10,
        Details.NOT_FOUND: 6, Details.NEVER: 4, Details.ALONE: 2,
    }
)  # fmt: skip
_EMAIL: Final = _shares(
    {
        Email.SENT: 0, Email.FAILS_ONCE: 8, Email.FAILS_TWICE: 4, Email.FAILS: 3, Email.REJECTED: 5, Email.SILENT: 2,
        Email.LATE: 2, Email.EARLY: 1,
    }
)  # fmt: skip
_CANCEL: Final = _shares({Cancel.NONE: 0, Cancel.BEFORE: 4, Cancel.AT_ONCE: 5, Cancel.LATER: 6})
_POISON: Final = _shares({Poison.NONE: 0, **dict.fromkeys(REASONS, 1)})
_TWICE: Final = 16
"""Of 256 records of a kind, how many are produced twice."""


class Order(NamedTuple):
    """The plan of one order; *emails* has one for each command, *twice* says which kinds of records are doubled."""

    number: int
    id: str
    commands: int
    details: Details
    emails: tuple[Email, ...]
    cancel: Cancel
    poison: Poison
    command_twice: bool
    details_twice: bool
    email_twice: bool


class Plan:
    """All orders of *seed*."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._prefix = f"s{seed % 10_000:04d}-"
        self._key = b"%d" % seed
        self._emails = tuple(map(Email, _EMAIL))

    def order_id(self, number: int) -> str:
        """Return the id of order *number*."""
        return f"{self._prefix}{number:08d}"

    def number(self, key: bytes) -> int:
        """
        Return the number of the order with this key.

        Raises:
            ValueError: it is none of this plan's.
        """
        if len(key) != len(self._prefix) + 8 or not key.startswith(self._prefix.encode()):
            raise ValueError(f"{key!r} is no order of seed {self.seed}")
        return int(key[len(self._prefix) :])

    def order(self, number: int) -> Order:
        """Return what happens to order *number*."""
        d = blake2b(b"%d" % number, key=self._key, digest_size=12).digest()
        details = Details(_DETAILS[d[0]])
        commands = 0 if details is Details.ALONE else _COMMANDS[d[1]]
        emails = tuple([self._emails[d[2 + i]] for i in range(commands)])
        return Order(
            number,
            self.order_id(number),
            commands,
            details,
            emails,
            Cancel(_CANCEL[d[5]]) if commands else Cancel.NONE,
            Poison(_POISON[d[6]]),
            d[7] < _TWICE,
            d[8] < _TWICE,
            d[9] < _TWICE,
        )

    def command_id(self, number: int, index: int) -> str:
        """Return the id of the *index*-th command (from 0) of order *number*."""
        h = blake2b(b"%d/%d" % (number, index), key=self._key, digest_size=16).hexdigest()
        return f"{h[:8]}-{h[8:12]}-4{h[13:16]}-a{h[17:20]}-{h[20:]}"

    # Records.

    def command(self, number: int, index: int) -> bytes:
        """Return the value of a command."""
        return wire.command(self.order_id(number), self.command_id(number, index), number)

    def cancel(self, number: int) -> bytes:
        """Return the value of the cancel of the first command."""
        return wire.cancel(self.order_id(number), self.command_id(number, 0), number)

    def details(self, number: int, version: int, query_id: str | None = None) -> bytes:
        """Return the value of details, unasked or as the answer to a query."""
        return wire.details(self.order_id(number), number, version, query_id)

    def send_email(self, number: int, index: int, version: int) -> bytes:
        """Return what the SendEmail of a command must be, made of the details of *version*."""
        order_id, command_id = self.order_id(number), self.command_id(number, index)
        return wire.send_email(email_id(order_id, command_id), order_id, command_id, number, version)

    def poison(self, order: Order) -> bytes | None:
        """Return the value of the order's poison, which is in the commands' topic."""
        value = self.command(order.number, 0)
        match order.poison:
            case Poison.TRUNCATED:
                return value[:-1]
            case Poison.TRAILING:
                return value + b"\0"
            case Poison.UNKNOWN_SCHEMA:
                return b"\0\0\0\xff\xff" + value[5:]
            case Poison.NOT_FRAMED:
                return b"{}" + value
            case Poison.KEY_MISMATCH:
                return self.command(order.number + 1, 0)
            case _:
                return None


_NAMESPACE: Final = uuid.uuid5(uuid.NAMESPACE_DNS, "rejoinder")


def email_id(order_id: str, command_id: str) -> str:
    """Return the id that a command's e-mail must have; by the standard library, not by the code under test."""
    return str(uuid.uuid5(_NAMESPACE, f"{command_id}/email/{order_id}"))


def query_id(order_id: str, command_id: str, attempt: int) -> str:
    """Return the id that a command's *attempt*-th query must have."""
    return str(uuid.uuid5(_NAMESPACE, f"{command_id}/query/{attempt}/{order_id}"))
