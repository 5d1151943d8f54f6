"""Reading the records of a service's input, or saying why one can't be read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from schemas.catalog import UnknownSchema
from schemas.codec import Codec
from schemas.undecodable import Reason, Undecodable
from streams.batch import Record, Refusal


class Reader(NamedTuple):
    """
    Reads whole records; *resolve* learns a schema id that the codec doesn't know: from then on the codec does.

    Raises from all methods:
        Unavailable: *resolve* gets no answer; no record is to blame.
    """

    codec: Codec
    resolve: Callable[[int], None]

    def read(
        self, record: Record, full_name: str, order_ids: Callable[[dict[str, Any]], tuple[str, ...]]
    ) -> dict[str, Any] | Refusal:
        """Return the body of *record*, a *full_name* of which all *order_ids* are the key; or its refusal."""
        if record.key is None or record.value is None:
            null = "key" if record.key is None else "value"
            return Refusal(record, "null", f"the {null} is null; both must be there")
        try:
            name, body = self._decode(record.value)
        except UnknownSchema as exc:
            return Refusal(record, "unknown-schema", str(exc))
        except Undecodable as exc:
            return Refusal(record, exc.reason, exc.detail)
        if name != full_name:
            return Refusal(record, Reason.UNEXPECTED_RECORD, f"{name} doesn't belong here, only {full_name} does")
        for order_id in order_ids(body):
            if order_id.encode() != record.key:
                return Refusal(record, Reason.KEY_MISMATCH, f"the order_id is {order_id!r}, the key {record.key!r}")
        return body

    def _decode(self, value: bytes) -> tuple[str, dict[str, Any]]:
        try:
            return self.codec.decode_record(value)
        except UnknownSchema as exc:
            self.resolve(exc.schema_id)
            return self.codec.decode_record(value)
