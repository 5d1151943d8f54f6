"""
Calls that may never come back.

librdkafka 2.16's ``send_offsets_to_transaction`` doesn't always keep to its time-out: when the group's coordinator
moves in the middle of it, it can wait for ever (seen for minutes, with a broker that was stopped and came back). Nobody
can take a thread out of such a call; so it is made in a thread that can be left behind.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue


class Caller:
    """Makes one call at a time, in a thread of its own."""

    def __init__(self) -> None:
        self._asked: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._answered: SimpleQueue[Exception | None] = SimpleQueue()
        # Its own, and not an executor's: the interpreter waits for those before it ends.
        threading.Thread(target=self._run, name="rejoinder-producer", daemon=True).start()

    def call(self, function: Callable[[], object], timeout_s: float) -> bool:
        """Call *function* and return True; False if it doesn't come back in time: this caller is then of no use."""
        self._asked.put(function)
        try:
            error = self._answered.get(timeout=timeout_s)
        except Empty:
            return False
        if error is not None:
            raise error
        return True

    def end(self) -> None:
        """Let the thread end, as soon as it comes back."""
        self._asked.put(None)

    def _run(self) -> None:
        while (function := self._asked.get()) is not None:
            try:
                function()
            except Exception as exc:  # noqa: BLE001 -- raised where it was called.
                self._answered.put(exc)
            else:
                self._answered.put(None)
