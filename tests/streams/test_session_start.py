"""A session that can't begin leaves nothing behind."""

from __future__ import annotations

from typing import Any

import pytest

from streams.processing.clock import Clock
from streams.processing.session import Session
from streams.transport.transaction import SessionOver


class Closable:
    """A client that is refused at `init`, and remembers whether it was closed."""

    def __init__(self) -> None:
        self.closed = False

    def init(self) -> None:
        """Be refused."""
        raise SessionOver("no coordinator")

    def close(self) -> None:
        """Close."""
        self.closed = True


def test_clients_of_a_session_that_does_not_begin_are_closed() -> None:
    """Its caller has no session to close; each further try would leave a producer and its threads behind."""
    transaction: Any = Closable()
    group_offsets: Any = Closable()
    unused: Any = None
    with pytest.raises(SessionOver):
        Session(["t"], unused, unused, transaction, unused, None, group_offsets, unused, Clock(), {})
    assert (True, True) == (transaction.closed, group_offsets.closed)
