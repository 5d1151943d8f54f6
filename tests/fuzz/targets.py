"""
What is fuzzed: functions of bytes that may refuse them in their own way and no other, and what must hold if they don't.

The same functions serve Hypothesis (test_bytes.py) and the coverage-guided fuzzer (``./dev fuzz``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Final

from schemas import state_codec, timeline_codec
from schemas.catalog import Catalog, UnknownSchema
from schemas.codec import Codec
from schemas.undecodable import Undecodable
from streams.batch import Headers, Record, Refusal
from streams.errors import ConfigurationError
from streams.headers import COPIED_CHARS_MAX, cloud_event_headers, header, original_ms
from streams.monitor.dead_letter_log import Marks
from streams.monitor.dead_letters import letter_of, mask
from streams.monitor.explain import explain
from streams.monitor.redrive import Back, Rules, plan
from streams.processing.dead_letters import dead_letter
from streams.services.email import ledger
from streams.settings import InDoubt
from streams.transport.reading import Span
from tests.fuzz import seeds
from topology.messages import OrderDetailsRetrieved, SendEmail, SendOrderConfirmationEmail
from topology.policy import DAY_MS, Policy
from topology.topics import COMMANDS, DETAILS, EMAIL_EVENTS

CODEC: Final = Codec(Catalog.from_files())
INPUTS: Final = (COMMANDS, DETAILS, EMAIL_EVENTS)
NOW_MS: Final = 1_770_000_000_000
RULES: Final = Rules({COMMANDS.name: 4}, 35 * DAY_MS, NOW_MS)

_OTHER_HALF: Final = {
    SendOrderConfirmationEmail: CODEC.decode(DETAILS.records, seeds.KEY, seeds.details()),
    OrderDetailsRetrieved: CODEC.decode(COMMANDS.records, seeds.KEY, seeds.command()),
}


def codec(value: bytes) -> None:
    """Any topic's record: a message that is what the whole record says, and can be sent on; or a refusal."""
    try:
        name, fields = CODEC.decode_record(value)
    except (Undecodable, UnknownSchema):
        name, fields = "", {}
    order_id = fields.get("order_id") or fields.get("order", {}).get("order_id", "")
    for topic in INPUTS:
        try:
            message = CODEC.decode(topic.records, order_id.encode(), value, None)
        except UnknownSchema:
            continue
        except Undecodable:
            assert name not in topic.records, "the whole record is read, the message isn't"
            continue
        assert name in topic.records
        assert order_id == message.order_id
        _splice(message, fields)


def _splice(message: Any, fields: dict[str, Any]) -> None:
    """What is accepted is spliced into a SendEmail that is read as the same."""
    other: Any = _OTHER_HALF.get(type(message))
    if other is None:
        return
    is_command = isinstance(message, SendOrderConfirmationEmail)
    halves = (message.body, other.body) if is_command else (other.body, message.body)
    _, sent = CODEC.decode_record(CODEC.encode(SendEmail(message.order_id, seeds.EMAIL_ID, *halves)))
    found, expected = (sent["command"], fields) if is_command else (sent["order"], fields["order"])
    assert repr(expected) == repr(found)


def state(row: bytes) -> None:
    """A row of the table: read, written, read again it is the same order; what it says can be shown."""
    try:
        order = state_codec.decode("order-ä", row)
    except (state_codec.CorruptRow, state_codec.RowTooNew):
        return
    due_ms = state_codec.due_of(row)
    again = state_codec.encode(order, due_ms)
    if again is None:
        assert order.empty
        return
    second = state_codec.decode("order-ä", again)
    assert again == state_codec.encode(second, due_ms)
    assert (order.details, order.remembered) == (second.details, second.remembered)
    assert list(order.processes) == list(second.processes)
    # A timeline isn't looked at on the way of a record, so it may be corrupt yet.
    with contextlib.suppress(state_codec.CorruptRow):
        explain("order-ä", row, 0, Policy())


def timeline(stored: bytes) -> None:
    """A process's past: read and written it is the same bytes, unless a boolean or a known topic was written oddly."""
    try:
        events = timeline_codec.decode(stored)
    except state_codec.CorruptRow:
        return
    written = timeline_codec.encode(events)
    assert events == timeline_codec.decode(written)
    assert len(written) <= len(stored)


def ledger_row(row: bytes) -> None:
    """A row of the e-mail service's ledger: read and written it is the same bytes."""
    try:
        found = ledger.decode(row)
    except (ledger.CorruptRow, ConfigurationError):
        return
    assert row == ledger.encode(found)
    for store_id in (found.store_id, b"other"):
        for setting in InDoubt:
            ledger.plan(found, setting, store_id, None)


def headers(data: bytes) -> None:
    """Any headers: read for tracing, age and redrive, kept in a dead letter, and got back whole."""
    record = Record(COMMANDS.name, 2, 9, NOW_MS, *_record_of(data))
    found = record.headers or []
    cause = header(found, "ce_id")
    made = cloud_event_headers(
        id="i", source="/s", type="t", time_ms=NOW_MS, causation_id=cause, traceparent=header(found, "traceparent")
    )
    assert all(value is None or len(value) <= 4 * COPIED_CHARS_MAX for _, value in made)
    assert 0 <= original_ms(record) <= NOW_MS
    letter = dead_letter(Refusal(record, "bad-text", cause or ""), str)
    assert (record.key, record.value, found) == (letter.key, letter.value, letter.headers[: len(found)])
    read = letter_of(_message(letter.key, letter.value, letter.headers))
    assert (COMMANDS.name, 2, 9) == read.origin
    assert ("bad-text", original_ms(record)) == (read.reason, read.original_ms)
    assert len(mask(data)) == len(data)
    back = plan(read, Marks({0: Span(0, 9)}), RULES)
    if isinstance(back, Back):
        again = record._replace(headers=back.headers)
        assert original_ms(record) == original_ms(again)
        assert len(back.headers) <= len(found) + 3
        twice = plan(letter_of(_message(*dead_letter(Refusal(again, "null", ""), str)[1:])), Marks({}), RULES)
        assert not isinstance(twice, Back) or len(twice.headers) == len(back.headers)


def _record_of(data: bytes) -> tuple[bytes | None, bytes | None, Headers]:
    """Return key, value and headers that *data* stands for: parts between 0xFE, of which an empty one is null."""
    key, value, *parts = [part or None for part in [*data.split(b"\xfe"), b"", b""]]
    texts = [(part or b"").decode(errors="replace") for part in parts[::2]]
    values: list[Any] = parts[1::2]
    return key, value, list(zip(texts, values, strict=False))


def _message(key: bytes | None, value: bytes | None, found: Headers) -> Any:
    return SimpleNamespace(
        topic=lambda: "dead", partition=lambda: 0, offset=lambda: 1, timestamp=lambda: (1, NOW_MS), key=lambda: key,
        value=lambda: value, headers=lambda: found,
    )  # fmt: skip


TARGETS: Final[dict[str, tuple[Callable[[bytes], None], Callable[[], list[bytes]]]]] = {
    "codec": (codec, seeds.values),
    "state": (state, seeds.rows),
    "timeline": (timeline, seeds.timelines),
    "ledger": (ledger_row, seeds.ledger_rows),
    "headers": (headers, seeds.headers),
}
"""Each target, and where its golden bytes are."""
