"""Why a record can't be decoded."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """The kinds of undecodable records: labels of dead letters and metrics."""

    NOT_FRAMED = "not-framed"
    """The value doesn't begin with byte 0 and a schema id of 4 bytes: it isn't in Confluent's wire format."""
    UNEXPECTED_RECORD = "unexpected-record"
    """The schema is that of a record which this topic doesn't carry."""
    UNRESOLVABLE = "unresolvable"
    """The writer's schema is known, but its data can't be read as the current schema."""
    KEY_MISMATCH = "key-mismatch"
    """The body's order_id isn't the record's key."""
    TRUNCATED = "truncated"
    """The value ends before its last field, or a length points beyond its end."""
    TRAILING_BYTES = "trailing-bytes"
    """The value goes on after its last field."""
    BAD_NUMBER = "bad-number"
    """A number is out of its type's range, or takes more bytes than it needs; or a length is negative."""
    BAD_TEXT = "bad-text"
    """A string isn't UTF-8."""
    BAD_UUID = "bad-uuid"
    """A string that must be a UUID isn't one in its canonical form of 36 characters."""
    BAD_BOOLEAN = "bad-boolean"
    """A boolean is neither byte 0 nor byte 1."""
    BAD_BRANCH = "bad-branch"
    """A union's or enum's index names none of its branches or symbols."""
    BAD_BLOCK = "bad-block"
    """An array's or map's block isn't as long as it says, or it holds too many items that take no bytes."""
    TOO_DEEP = "too-deep"
    """Records are nested deeper than can be followed."""


class Undecodable(Exception):
    """
    A record that can't be decoded, now or ever: its place is among the dead letters.

    Attributes:
        reason: Which kind.
        detail: Where (field path and byte position in the value) and what, for a person.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        """Return reason and detail."""
        return f"{self.reason}: {self.detail}"
