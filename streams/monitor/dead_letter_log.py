"""The dead letters' topic, and the marks of those that were put back."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from streams.batch import Output
from streams.errors import RejoinderError
from streams.headers import number
from streams.monitor.dead_letters import Coordinates, Filters, Letter, letter_of
from streams.settings import Settings
from streams.transport.reading import Span, TopicReader
from streams.transport.topics import Cluster, missing_topics
from topology.topics import DEAD_LETTERS, REDRIVES

_TOPIC_ID: Final = "topic-id"


class NoSuchLetter(RejoinderError):
    """There is no dead letter at these coordinates."""


class Marks:
    """
    Which dead letters were put back: a bit for each offset that is still there, so that any number fits.

    A mark names the id of the letters' topic: one that was created anew has other letters at the same offsets.
    """

    def __init__(self, spans: Mapping[int, Span]) -> None:
        self._starts = {partition: span.start for partition, span in spans.items()}
        self._bits = {partition: bytearray((span.end - span.start) // 8 + 1) for partition, span in spans.items()}

    def add(self, partition: int, offset: int) -> None:
        """Remember that the letter there was put back; one that isn't there any more is passed over."""
        byte, bit = divmod(offset - self._starts.get(partition, 0), 8)
        bits = self._bits.get(partition, b"")
        if 0 <= byte < len(bits):
            assert isinstance(bits, bytearray)
            bits[byte] |= 1 << bit

    def __contains__(self, at: Coordinates) -> bool:
        """Return whether the letter *at* these coordinates was put back."""
        byte, bit = divmod(at.offset - self._starts.get(at.partition, 0), 8)
        bits = self._bits.get(at.partition, b"")
        return 0 <= byte < len(bits) and bool(bits[byte] >> bit & 1)


class DeadLetterLog:
    """
    Reads both topics as they are when it is opened.

    Raises from all methods:
        ConfigurationError: there is no such topic.
        Unavailable: no broker answers.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.topic = settings.topic(DEAD_LETTERS.name)
        self._partitions = Cluster(settings).partitions([DEAD_LETTERS, REDRIVES])
        if missing := [topic.name for topic in (DEAD_LETTERS, REDRIVES) if topic.name not in self._partitions]:
            raise missing_topics(settings, missing)
        self._letters = TopicReader(settings, self.topic)
        self._topic_id = self._letters.topic_id()

    def marks(self) -> Marks:
        """Return what was put back until now, once all transactions that were under way have ended."""
        marks = Marks(self._letters.spans(self._partitions[DEAD_LETTERS.name], stable=False))
        reader = TopicReader(self._settings, self._settings.topic(REDRIVES.name))
        for message in reader.read(reader.spans(self._partitions[REDRIVES.name], stable=False)):
            if (at := _marked(message, self._topic_id)) is not None:
                marks.add(*at)
        return marks

    def mark_of(self, letter: Letter, to: str, now_ms: int) -> Output:
        """Return the record that says that *letter* was put back, as *to*."""
        said = {_TOPIC_ID: self._topic_id, "letter": str(letter.at), "to": to, "at_ms": now_ms}
        key = f"{letter.at.partition}/{letter.at.offset}".encode()
        return Output(REDRIVES.name, key, json.dumps(said).encode(), [])

    def mark_partition(self, letter: Letter) -> int:
        """Return the partition in which *letter*'s mark belongs."""
        return letter.at.partition % self._partitions[REDRIVES.name]

    def letters(self, filters: Filters) -> Iterator[Letter]:
        """Yield the letters that *filters* mean and that are there now, each partition's in order."""
        count = self._partitions[DEAD_LETTERS.name]
        spans = self._letters.spans(count, since_ms=filters.since_ms, stable=True)
        for message in self._letters.read(spans):
            letter = letter_of(message)
            if filters.match(letter):
                yield letter

    def letter(self, at: Coordinates) -> Letter:
        """
        Return the letter *at* these coordinates.

        Raises:
            NoSuchLetter: there is none, or not any more.
        """
        spans = self._letters.spans(self._partitions[DEAD_LETTERS.name], stable=True)
        span = spans.get(at.partition)
        if span is not None and span.start <= at.offset < span.end:
            for message in self._letters.read({at.partition: Span(at.offset, at.offset + 1)}):
                return letter_of(message)
        if span is None:
            kept = f"the topic has {len(spans)} partitions"
        elif span.start == span.end:
            kept = "the partition is empty"
        else:
            kept = f"offsets {span.start} to {span.end - 1} are kept, of which transaction markers take some"
        raise NoSuchLetter(f"no dead letter at {at}: {kept}")


def _marked(message: Any, topic_id: str) -> tuple[int, int] | None:
    """Return partition and offset of the letter that a mark names; None if it names none of this topic."""
    try:
        said = json.loads(message.value() or b"")
        partition, _, offset = (message.key() or b"").partition(b"/")
    except ValueError:  # Of JSON, and of text that isn't any.
        return None
    where = number(partition), number(offset)
    if where[0] is None or where[1] is None or not isinstance(said, dict) or said.get(_TOPIC_ID) != topic_id:
        return None
    return where[0], where[1]
