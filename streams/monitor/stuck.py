"""Which processes wait too long: found by going through a partition's rows."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Final, NamedTuple

from schemas import state_codec
from schemas.corrupt_row import CorruptRow, RowTooNew
from streams.monitor.explain import instant, waits_for
from topology.state import NEVER_MS, Step

FOUND_MAX: Final = 500
"""Processes in one answer; a row more, with a hundred commands, may come on top."""
LOOK_S: Final = 5.0
"""The longest that one answer looks for."""

_REST_ROWS: Final = 500
_REST_S: Final = 0.001


class Wanted(NamedTuple):
    """Processes at *step* (None: at any at which one waits) whose command came before *before_ms*."""

    step: Step | None
    before_ms: int


class Stuck(NamedTuple):
    """What was found, JSON-ready, and the last key that was looked at; None if there are no more rows."""

    processes: list[dict[str, Any]]
    after: bytes | None


def stuck(rows: Iterable[tuple[bytes, bytes]], wanted: Wanted, look_s: float = LOOK_S) -> Stuck:
    """Return the processes of *rows* (keys and rows in key order) that are *wanted*, as far as it gets."""
    found: list[dict[str, Any]] = []
    until_s = time.monotonic() + look_s
    for at, (key, row) in enumerate(rows, 1):
        if state_codec.may_wait(row):
            with suppress(CorruptRow, RowTooNew, UnicodeDecodeError):
                found += _of_row(key.decode(), row, wanted)
        if at % _REST_ROWS == 0:
            # The records' thread goes first.
            time.sleep(_REST_S)
        if len(found) >= FOUND_MAX or time.monotonic() > until_s:
            return Stuck(found, key)
    return Stuck(found, None)


def _of_row(order_id: str, row: bytes, wanted: Wanted) -> list[dict[str, Any]]:
    return [
        {
            "order_id": order_id,
            "command_id": process.command_id,
            "state": process.step.title,
            "waits_for": waits_for(process.step),
            "received_at": instant(process.received_ms),
            "received_ms": process.received_ms,
            "query_attempt": process.query_attempt,
            "email_attempt": process.email_attempt,
            "next_deadline_at": None if process.due_ms == NEVER_MS else instant(process.due_ms),
        }
        for process in state_codec.decode(order_id, row).processes.values()
        if not process.finished and process.received_ms <= wanted.before_ms and wanted.step in (None, process.step)
    ]
