"""Dead letters as a person sees them: where they were, why they were refused, and which of them are meant."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, Self

from schemas.catalog import UnknownSchema
from schemas.codec import Codec
from schemas.undecodable import Undecodable
from streams.batch import Headers
from streams.durations import parse_duration_ms
from streams.errors import ConfigurationError
from streams.headers import (
    ERRORS,
    LEFT_OUT,
    ORIGINAL_TIMESTAMP,
    REASON,
    REDRIVE_COUNT,
    REDRIVEN_FROM,
    TIMESTAMP,
    number,
)
from streams.transport.messages import UNREADABLE, headers_of
from topology.topics import DEAD_LETTERS

UNKNOWN: Final = "unknown"
"""The reason of a record that nobody of ours put there."""

_OURS: Final = frozenset({REASON, TIMESTAMP, LEFT_OUT, REDRIVEN_FROM, REDRIVE_COUNT, ORIGINAL_TIMESTAMP, UNREADABLE})

_RUN: Final = re.compile(rb"[^\x00-\x20\x7f<>()\[\]\\,;:\"'=]+")
"""What an e-mail address is a part of, if there is one in it."""


class Coordinates(NamedTuple):
    """A record's place; *topic* is the cluster's name."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        """Return them as the command line takes them."""
        return f"{self.topic}/{self.partition}/{self.offset}"

    @classmethod
    def parse(cls, text: str, topic: str) -> Self:
        """
        Return the dead letter's coordinates that *text* is: TOPIC/PARTITION/OFFSET, or PARTITION/OFFSET in *topic*.

        Raises:
            ConfigurationError: it is neither, or names another topic.
        """
        match = re.fullmatch(r"(?:(.+)/)?(\d{1,9})/(\d{1,18})", text, re.ASCII)
        if match is None:
            raise ConfigurationError(f"{text!r} is no dead letter; write it as the list does: {topic}/PARTITION/OFFSET")
        if match[1] not in (None, topic, DEAD_LETTERS.name):
            raise ConfigurationError(f"{text!r}: the dead letters are in {topic}, not in {match[1]}")
        return cls(topic, int(match[2]), int(match[3]))


class Letter(NamedTuple):
    """
    One dead letter. Times are Unix milliseconds.

    Attributes:
        at: Where it is.
        origin: Where the record was that is in it; None if the letter doesn't say.
        reason: Why it was refused, a label.
        detail: The same for a person; may quote the record.
        refused_ms: When it was refused.
        original_ms: When the record first came.
        redrives: How often the record had been put back before it was refused again.
        left_out_bytes: Size of what was too large to be kept; 0 if all of it is there.
        key, value, headers: The record's; the headers with what the letter says about it.
    """

    at: Coordinates
    origin: Coordinates | None
    reason: str
    detail: str
    refused_ms: int
    original_ms: int
    redrives: int
    left_out_bytes: int
    key: bytes | None
    value: bytes | None
    headers: Headers

    @property
    def size(self) -> int:
        """Bytes of the record's value, whether it is here or was left out."""
        return len(self.value or b"") or self.left_out_bytes

    @property
    def own_headers(self) -> Headers:
        """The record's headers as it first came: without what dead letters and redrives have added."""
        return [(name, value) for name, value in self.headers if not name.startswith(ERRORS) and name not in _OURS]


def letter_of(message: Any) -> Letter:
    """Return the letter that the *message* of a consumer is; whoever wrote it, and whatever is in it."""
    headers: Headers = headers_of(message) or []
    # The last of each name: the record's own, which come first, may have the same names.
    said: dict[str, bytes | None] = dict(headers)
    at_ms = message.timestamp()[1]
    original_ms = number(said.get(TIMESTAMP))
    return Letter(
        at=Coordinates(message.topic(), message.partition(), message.offset()),
        origin=origin_of(said),
        reason=_text(said.get(REASON)) or UNKNOWN,
        detail=_text(said.get(f"{ERRORS}message")),
        refused_ms=at_ms,
        original_ms=at_ms if original_ms is None else min(original_ms, at_ms),
        redrives=number(said.get(REDRIVE_COUNT)) or 0,
        left_out_bytes=number(said.get(LEFT_OUT)) or 0,
        key=message.key(),
        value=message.value(),
        headers=headers,
    )


def origin_of(said: Mapping[str, bytes | None]) -> Coordinates | None:
    """Return where the record was that is in a dead letter with these headers; None if they don't say."""
    topic = _text(said.get(f"{ERRORS}topic"))
    partition, offset = number(said.get(f"{ERRORS}partition")), number(said.get(f"{ERRORS}offset"))
    return None if not topic or partition is None or offset is None else Coordinates(topic, partition, offset)


def _text(value: bytes | None) -> str:
    return "" if value is None else value.decode(errors="replace")


class Filters(NamedTuple):
    """
    Which dead letters are meant: those that meet all that is set.

    Attributes:
        reasons: Any of these; none: every reason.
        since_ms: Refused at this Unix millisecond or later.
        topics: Records of any of these topics, by the cluster's names; none: every topic.
    """

    reasons: frozenset[str] = frozenset()
    since_ms: int | None = None
    topics: frozenset[str] = frozenset()

    def match(self, letter: Letter) -> bool:
        """Return whether *letter* is meant."""
        return (
            (not self.reasons or letter.reason in self.reasons)
            and (self.since_ms is None or letter.refused_ms >= self.since_ms)
            and (not self.topics or (letter.origin is not None and letter.origin.topic in self.topics))
        )


def parse_since_ms(text: str, now_ms: int) -> int:
    """
    Return the Unix millisecond that *text* means: so long ago ("90m", "2d"), or when in ISO 8601, in UTC unless said.

    Raises:
        ConfigurationError: it is neither.
    """
    try:
        return now_ms - parse_duration_ms(text)
    except ValueError:
        pass
    try:
        instant = datetime.fromisoformat(text)
        # Not before 1970: brokers take negative times for something else.
        return max(0, int((instant if instant.tzinfo else instant.replace(tzinfo=UTC)).timestamp() * 1_000))
    except (ValueError, OverflowError) as exc:
        raise ConfigurationError(
            f"{text!r} is no time; write how long ago (90m, 24h, 7d) or when (2026-01-31T03:00, in UTC)"
        ) from exc


def mask(data: bytes) -> bytes:
    """Return *data* with each e-mail address but its @ written as asterisks: as long as it was."""

    def masked(run: re.Match[bytes]) -> bytes:
        return re.sub(rb"[^@]", b"*", run[0]) if b"@" in run[0] else run[0]

    return _RUN.sub(masked, data)


def mask_text(text: str) -> str:
    """Return *text* with its e-mail addresses masked, see `mask`."""
    return mask(text.encode(errors="replace")).decode(errors="replace") if "@" in text else text


def decoded(letter: Letter, codec: Codec, resolve: Callable[[int], None]) -> tuple[str, Any] | str:
    """
    Return the full name and the fields of *letter*'s record, or why it can't be decoded.

    *resolve* learns a schema id that *codec* doesn't know.

    Raises:
        RejoinderError: *resolve* gets no answer.
    """
    value = letter.value
    if value is None:
        return "there is no value"
    try:
        try:
            return codec.decode_record(value)
        except UnknownSchema as exc:
            resolve(exc.schema_id)
            return codec.decode_record(value)
    except (UnknownSchema, Undecodable) as exc:
        return str(exc)
