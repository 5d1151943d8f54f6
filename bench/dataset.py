"""
The input of the comparison: both halves of many orders, and the bytes of the e-mail that each must become.

Records differ in the order's and the command's id only, so that a value is a template with the ids put in: a million
pairs are made faster than any contender joins them. The details of an order come first; its command ``apart`` records
later. Both topics are loaded once, every contender reads the same.
"""

from __future__ import annotations

import time
import uuid
import zlib
from array import array
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from confluent_kafka import Producer

from bench.join import COMMAND, ORDER, RETRIEVED, command_fields, details_fields
from schemas.catalog import Catalog
from schemas.codec import Codec
from streams.settings import Settings
from streams.transport import config
from topology.ids import email_id
from topology.topics import COMMANDS, DETAILS

SEND_EMAIL: Final = "communications.SendEmail"
EMAIL_SENT: Final = "communications.EmailSent"
FLUSH_S: Final = 120.0

_ORDER: Final = "order-#########"
_COMMAND: Final = "fedcba98-0000-4000-8000-fedcba987654"
_EMAIL: Final = "fedcba98-0000-5000-8000-fedcba987654"


class Half(NamedTuple):
    """A record to be produced; *topic* as declared."""

    topic: str
    key: bytes
    value: bytes


def order_id(number: int) -> str:
    """Return the id of an order; all are of one length, for their length is in the templates."""
    return f"order-{number:09}"


def number_of(key: bytes) -> int:
    """Return which order a key is."""
    return int(key[6:])


def command_id(number: int) -> str:
    """Return the id of an order's only command: a UUID in its canonical form, the same in every run."""
    return f"{number:08x}-0000-4000-8000-{number:012x}"


class Templates:
    """Values of records by their order's number."""

    def __init__(self) -> None:
        codec = Codec(Catalog.from_files())
        command = command_fields(_ORDER) | {"command_id": _COMMAND}
        order = ORDER | {"order_id": _ORDER}
        email = {"email_id": _EMAIL, "template": "order-confirmation", "command": command, "order": order}
        self._details = _parts(codec.encode_record(RETRIEVED, details_fields(_ORDER)), _ORDER)
        self._command = _parts(codec.encode_record(COMMAND, command), _COMMAND, _ORDER)
        answer = details_fields(_ORDER) | {"query_id": _EMAIL}
        self._answer = _parts(codec.encode_record(RETRIEVED, answer), _EMAIL, _ORDER)
        sent = {"email_id": _EMAIL, "order_id": _ORDER, "message_id": f"<{_EMAIL}@example.com>", "sent_at": 0}
        self._sent = _parts(codec.encode_record(EMAIL_SENT, sent), _EMAIL, _ORDER, _EMAIL)
        self._email = _parts(codec.encode_record(SEND_EMAIL, email), _EMAIL, _COMMAND, _ORDER, _ORDER)

    def details(self, number: int) -> Half:
        """Return the details of an order."""
        key = order_id(number).encode()
        before, after = self._details
        return Half(DETAILS.name, key, before + key + after)

    def command(self, number: int) -> Half:
        """Return the command for an order."""
        key = order_id(number).encode()
        before, between, after = self._command
        return Half(COMMANDS.name, key, b"".join((before, command_id(number).encode(), between, key, after)))

    def answer(self, key: bytes, query_id: bytes) -> bytes:
        """Return an order's details as the answer to a query."""
        before, between, after = self._answer
        return b"".join((before, query_id, between, key, after))

    def email_sent(self, key: bytes, email: bytes) -> bytes:
        """Return that an e-mail was sent."""
        before, between, later, after = self._sent
        return b"".join((before, email, between, key, later, email, after))

    def email(self, number: int) -> bytes:
        """Return the SendEmail that the two must become."""
        order, command = order_id(number), command_id(number)
        ids = (email_id(order, command), command, order, order)
        made = [self._email[0]]
        for some, after in zip(ids, self._email[1:], strict=True):
            made += some.encode(), after
        return b"".join(made)


def _parts(value: bytes, *placeholders: str) -> list[bytes]:
    """Return what stands before, between and after *placeholders*, which follow each other in *value*."""
    parts = []
    for placeholder in placeholders:
        before, found, value = value.partition(placeholder.encode())
        assert found, f"{placeholder} isn't in what is left of the value"
        parts.append(before)
    return [*parts, value]


def pairs(templates: Templates, count: int, apart: int, first: int = 0) -> Iterator[Half]:
    """Yield both halves of *count* orders, an order's command *apart* records after its details."""
    for number in range(count + apart):
        if number < count:
            yield templates.details(first + number)
        if number >= apart:
            yield templates.command(first + number - apart)


def load(settings: Settings, halves: Iterable[Half]) -> int:
    """Produce *halves*; return how many they were."""
    producer = Producer(config.plain_producer(settings) | {"queue.buffering.max.messages": 1_000_000, "linger.ms": 50})
    topics: dict[str, str] = {}
    count = 0
    for count, (topic, key, value) in enumerate(halves, start=1):
        name = topics.get(topic) or topics.setdefault(topic, settings.topic(topic))
        while True:
            try:
                producer.produce(name, value, key)
            except BufferError:
                producer.poll(0.1)
            else:
                break
        if not count % 1_000:
            producer.poll(0)
    left = producer.flush(FLUSH_S)
    assert not left, f"{left} records weren't taken within {FLUSH_S:.0f} s"
    return count


class Expected:
    """What the e-mails of orders 0 to *count* must be; compares by checksum and length, and counts."""

    def __init__(self, templates: Templates, count: int) -> None:
        self.count = count
        self._sums = array("Q", (_checksum(templates.email(number)) for number in range(count)))

    def new_check(self) -> Check:
        """Return a check of one trial's e-mails, that has seen none yet."""
        return Check(self.count, self._sums)


class Check:
    """
    Sees records one by one; knows afterwards which orders had none, several, or other bytes than they must.

    Without *sums* the bytes aren't looked at.
    """

    def __init__(self, count: int, sums: array[int] | None = None) -> None:
        self._sums = sums
        self._times = bytearray(count)
        self.seen = 0
        self.wrong = 0

    def see(self, key: bytes, value: bytes) -> None:
        """Count one e-mail."""
        self.seen += 1
        number = number_of(key)
        if number >= len(self._times) or (self._sums is not None and self._sums[number] != _checksum(value)):
            self.wrong += 1
        else:
            self._times[number] = min(self._times[number] + 1, 255)

    @property
    def missing(self) -> int:
        """How many orders have no e-mail."""
        return self._times.count(0)

    @property
    def repeated(self) -> int:
        """How many orders have more than one."""
        return len(self._times) - self._times.count(0) - self._times.count(1)


def _checksum(value: bytes) -> int:
    return zlib.crc32(value) << 32 | len(value)


def unique(name: str) -> str:
    """Return *name* with something that no other run has."""
    return f"{name}-{uuid.uuid4().hex[:6]}"


def wait_until(done: Any, timeout_s: float, what: str, pause_s: float = 0.05) -> None:
    """Wait until *done* returns something true; fail after *timeout_s*, saying *what* didn't come."""
    until_s = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < until_s, f"{what}: not within {timeout_s:.0f} s"
        time.sleep(pause_s)
