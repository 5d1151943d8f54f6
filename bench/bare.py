"""
A worker that decides nothing: ``python -m bench.bare``, for `bench.floor`, which says why.

All is the real worker's but for what its batch function does with a record.
"""

from __future__ import annotations

import sys
from typing import Any, Final

from schemas import state_codec
from streams import app as worker_app
from streams.batch import Batch, Record
from streams.cli import main
from streams.headers import cloud_event_headers
from streams.processing.process_manager import SLICE_RECORDS
from topology.topics import COMMANDS, EMAIL_COMMANDS

_VERSION: Final = bytes([state_codec.VERSION])
_DUE_MS: Final = 86_400_000
_ROW_BYTES: Final = {False: 300, True: 650}
"""What a row grows to by an order's details, and by its command."""
_FILLING: Final = bytes(range(256)) * 3


class Bare:
    """In the place of `ProcessManager`."""

    def __init__(self, *_args: Any, **_options: Any) -> None:
        """Need nothing."""

    def __call__(self, batch: Batch) -> None:
        """Read and write a row for each record, and send something for each command."""
        head = _VERSION + (batch.now_ms + _DUE_MS).to_bytes(8, "big")
        # In slices, as the real one: what a slice makes stays in the processor's cache.
        for begin in range(0, len(batch.records), SLICE_RECORDS):
            some = batch.records[begin : begin + SLICE_RECORDS]
            batch.load(list({record.key or b"" for record in some}))
            for record in some:
                self._handle(batch, record, head)

    @staticmethod
    def _handle(batch: Batch, record: Record, head: bytes) -> None:
        key, value = record.key or b"", record.value or b""
        batch.get(key)
        command = record.topic == COMMANDS.name
        # As long as a real row, and as hard to compress as the record.
        batch.put(key, head + (value + _FILLING)[: _ROW_BYTES[command]])
        if command:
            headers = cloud_event_headers(
                id="00000000-0000-5000-8000-000000000000",
                source="/bench",
                type="communications.SendEmail",
                time_ms=batch.now_ms,
                correlation_id="00000000-0000-4000-8000-000000000000",
                causation_id=f"{record.topic}/{record.partition}/{record.offset}",
            )
            batch.send(EMAIL_COMMANDS.name, key, (value + _FILLING)[:350], headers)


if __name__ == "__main__":
    setattr(worker_app, "ProcessManager", Bare)  # noqa: B010 - what it imports is no name of its own.
    sys.argv = ["rejoinder", "worker"]
    main()
