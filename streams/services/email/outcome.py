"""What may become of trying to send one mail."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias


class Sent(NamedTuple):
    """The mail server took the mail, at *at_ms* (Unix milliseconds)."""

    at_ms: int


class Refused(NamedTuple):
    """The mail surely wasn't taken; ``permanent``: and never will be."""

    permanent: bool
    reason: str


class InDoubt(NamedTuple):
    """The mail server had the whole mail, but its answer isn't known."""

    reason: str


Outcome: TypeAlias = Sent | Refused | InDoubt
