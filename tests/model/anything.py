"""
A world in which everybody may say anything at any time: no message is lost, doubled, late or early beyond this.

Each move says one message of the alphabet, or lets a tick pass, or lets the order's deadline pass when it is due or at
any time later, or crashes the worker with another `ask`. It is what any participants on any topics with any
interleaving, any losses and any repetitions can bring about, and more. One thing only is left out: when everything
about a command has been forgotten, neither it nor its cancel is said again, which is what `finished_ttl` is for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from tests.model import world
from tests.model.alphabet import alphabet
from tests.model.explorer import Broken, Move
from tests.model.histories import Histories
from tests.model.invariants import Violation
from tests.model.rows import Rows
from topology.messages import Message

_BITS: Final = 28
_MASK: Final = (1 << _BITS) - 1


class Anything:
    """The space (`explorer.Space`) of *commands* commands; see `alphabet` for the others."""

    def __init__(self, rows: Rows, commands: int, versions: Sequence[int]) -> None:
        self.rows = rows
        self.histories = Histories(rows, world.COMMAND_IDS[:commands])
        self._moves = [
            (Move(name, said), said) for name, said in alphabet(commands, versions, rows.policies[0]).items()
        ]
        self._sayable: dict[int, list[tuple[Move, Message]]] = {}
        self._deadline = Move("the deadline passes", world.DEADLINE_PASSED)
        self._tick = Move("a tick passes", ticks=1)
        self._asks = [Move(f"restarted, ask after {policy.ask_after_ms}", policy=policy) for policy in rows.policies]

    def start(self) -> int:
        """Return the state in which nothing has been said, under the first policy."""
        return self.histories.first << _BITS

    def successors(self, state: int) -> Iterator[tuple[Move, int]]:
        """Yield every move and the state that it leads to."""
        row, history, policy = state & _MASK, state >> _BITS & _MASK, state >> 2 * _BITS
        decide, after, above = self.rows.decide, self.histories.after, policy << 2 * _BITS
        move = self._tick
        try:
            for move, message in self._sayable_after(history):
                reached, kind = decide(row, message, policy)
                yield move, above | after(history, kind) << _BITS | reached
            move = self._deadline
            if self.rows.due_in_ms(row) <= 0:
                reached, kind = decide(row, world.DEADLINE_PASSED, policy)
                yield move, above | after(history, kind) << _BITS | reached
        except Violation as exc:
            raise Broken(move, exc) from exc
        yield self._tick, above | history << _BITS | self.rows.later(row)
        for other, move in enumerate(self._asks):
            if other != policy:
                yield move, other << 2 * _BITS | history << _BITS | row

    def row_of(self, state: int) -> int:
        """Return the number of the row in *state*."""
        return state & _MASK

    def check(self, state: int) -> None:
        """Check that with time alone everything ends."""
        self.rows.require_end(state & _MASK, state >> 2 * _BITS)

    def _sayable_after(self, history: int) -> list[tuple[Move, Message]]:
        sayable = self._sayable.get(history)
        if sayable is None:
            may_be_said = self.histories.may_be_said
            sayable = self._sayable[history] = [move for move in self._moves if may_be_said(history, move[1])]
        return sayable
