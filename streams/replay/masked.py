"""Records without personal data that still decode: each text is masked letter by letter, so its shape stays."""

from __future__ import annotations

import re
from typing import Any, Final

from schemas.catalog import UnknownSchema
from schemas.codec import Codec
from schemas.undecodable import Undecodable
from streams.batch import Record
from streams.headers import ERRORS, ORIGINAL_TIMESTAMP, REASON, REDRIVEN_FROM

_PLAIN: Final = frozenset(
    {"order_id", "command_id", "query_id", "email_id", "template", "locale", "currency", "message_id"}
)
"""Fields that are no personal data, or that the rest can't be told by without."""
_HEADERS: Final = frozenset(
    {REASON, REDRIVEN_FROM, ORIGINAL_TIMESTAMP, f"{ERRORS}topic", f"{ERRORS}partition", f"{ERRORS}offset"}
)


def masked(codec: Codec, record: Record) -> Record:
    """Return *record* with masked texts; a value that can't be decoded becomes as many zero bytes, undecodable too."""
    headers = None
    if record.headers is not None:
        headers = [(name, value) for name, value in record.headers if name.startswith("ce_") or name in _HEADERS]
    value = record.value
    if value is not None:
        try:
            name, fields = codec.decode_record(value)
            value = codec.encode_record(name, _masked(fields, name))
        except (UnknownSchema, Undecodable):
            # The frame stays: by it the record is refused for the same reason.
            value = value[:5] + bytes(max(0, len(value) - 5))
    return record._replace(value=value, headers=headers)


def _masked(value: Any, field: str) -> Any:
    match value:
        case dict():
            return {name: _masked(one, name) for name, one in value.items()}
        case list():
            return [_masked(one, field) for one in value]
        case str() if field not in _PLAIN and not (field == "reason" and value.isupper()):
            return re.sub(r"\d", "0", re.sub(r"[^\W\d_]", "x", value))
        case _:
            return value
