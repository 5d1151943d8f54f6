"""
A world of participants that follow the protocol, with Kafka's topics between them.

The process manager reads any topic's next record, and decides it; its actions ask the others, who answer, or don't, or
twice. It asks where its topics end once its row is due, and lets the deadline pass when it has read up to there. The
clock goes on by ticks, but no deadline is overdue by more than `late` of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from tests.model import world
from tests.model.alphabet import alphabet, asked, orders_publishes, source_says
from tests.model.channels import INPUTS, Channels, Sides, ask, ask_for_ends, read
from tests.model.explorer import Broken, Move
from tests.model.histories import Histories
from tests.model.invariants import Violation, require
from tests.model.rows import Rows
from topology.messages import Message

_BITS: Final = 28
_MASK: Final = (1 << _BITS) - 1


class OverTopics:
    """
    The space (`explorer.Space`) of one order's protocol.

    Args:
        rows: With the decision on trial; deadlines that are overdue by up to *late* milliseconds must differ there.
        commands: How many there are.
        versions: Of the order's details.
        duplicates: See `channels.Channels`.
        crashes: The same.
        late: By how many ticks a deadline may be overdue.
        as_of_end: Whether a deadline is decided as of the instant at which the ends were asked for, as the worker does
            it, or else as of now.
    """

    def __init__(
        self,
        rows: Rows,
        commands: int,
        versions: Sequence[int],
        *,
        duplicates: int = 0,
        crashes: int = 0,
        late: int = 0,
        as_of_end: bool = True,
    ) -> None:
        self.rows = rows
        self.histories = Histories(rows, world.COMMAND_IDS[:commands])
        self._late, self._as_of_end = late, as_of_end
        self._messages = alphabet(commands, versions, rows.policies[0])
        topics = {name: INPUTS.index(world.TOPIC_OF[type(message)]) for name, message in self._messages.items()}
        self._sides = Sides(topics, versions, late + 1)
        self.channels: list[Channels] = []
        self._number_of: dict[Channels, int] = {}
        self._said: dict[int, list[tuple[Move, int]]] = {}
        self._read: dict[tuple[int, int], tuple[Move, int]] = {}
        self._asking: dict[tuple[int, int], int] = {}
        self._later: dict[int, int] = {}
        self._ended: dict[int, int] = {}
        self._moves: dict[str, Move] = {}
        says = {name for number in range(1, commands + 1) for name in source_says(number)}
        says.update(map(orders_publishes, versions))
        nothing: frozenset[tuple[int, int]] = frozenset()
        unread = ((),) * len(INPUTS)
        first = Channels(unread, frozenset(says), frozenset(), nothing, nothing, duplicates, crashes)
        self._first = self._number(first)
        self._tick = Move("a tick passes", ticks=1)
        self._asks = Move("the worker asks for the topics' ends")

    def start(self) -> int:
        """Return the state in which nothing has been said."""
        return self._first << 2 * _BITS | self.histories.first << _BITS

    def successors(self, state: int) -> Iterator[tuple[Move, int]]:
        """Yield every move and the state that it leads to."""
        row, history, at = state & _MASK, state >> _BITS & _MASK, state >> 2 * _BITS
        below = history << _BITS | row
        for move, reached in self._sides_of(at):
            yield move, reached << 2 * _BITS | below
        yield from self._reads(row, history, at)
        due_in_ms = self.rows.due_in_ms(row)
        if due_in_ms > -self._late:
            yield self._tick, self._later_than(at) << 2 * _BITS | history << _BITS | self.rows.later(row)
        if due_in_ms <= 0:
            ended = self._ends_at(at)
            if ended != at:
                yield self._asks, ended << 2 * _BITS | below
            yield from self._deadline(row, history, at)

    def _reads(self, row: int, history: int, at: int) -> Iterator[tuple[Move, int]]:
        for topic, unread in enumerate(self.channels[at].unread):
            if not unread:
                continue
            move, left = self._read_from(at, topic)
            message = move.message
            assert message is not None
            if not self.histories.may_be_said(history, message):
                # Older than finished_ttl: it goes to the dead letters.
                yield move._replace(says=f"{move.says}: expired", message=None), self._state(row, history, left)
                continue
            yield move, self._decided(move, message, row, history, left, 0)

    def _deadline(self, row: int, history: int, at: int) -> Iterator[tuple[Move, int]]:
        channels = self.channels[at]
        ends = channels.ends
        if ends is None or any(ends.unread) or self.rows.due_in_ms(row) > -ends.age:
            return
        ago = ends.age if self._as_of_end else 0
        move = Move(f"the deadline passes, as of {ago} ticks ago", world.DEADLINE_PASSED, ago=ago)
        oldest = max((age for records in channels.unread for _, age in records), default=-1)
        try:
            require(
                "a deadline passes when all is read that was there when it fell due",
                oldest <= self.rows.overdue_ms(row, ago),
                channels.unread,
            )
        except Violation as exc:
            raise Broken(move, exc) from exc
        yield move, self._decided(move, world.DEADLINE_PASSED, row, history, at, ago)

    def _decided(self, move: Move, message: Message, row: int, history: int, at: int, ago: int) -> int:
        try:
            reached, kind = self.rows.decide(row, message, ago_ms=ago)
            told = self.histories.after(history, kind)
        except Violation as exc:
            raise Broken(move, exc) from exc
        return self._state(reached, told, self._after(at, kind))

    @staticmethod
    def _state(row: int, history: int, at: int) -> int:
        return at << 2 * _BITS | history << _BITS | row

    def row_of(self, state: int) -> int:
        """Return the number of the row in *state*."""
        return state & _MASK

    def check(self, state: int) -> None:
        """Check that with time alone everything ends."""
        self.rows.require_end(state & _MASK)

    # What is worked out once, by the channels' number.

    def _sides_of(self, at: int) -> list[tuple[Move, int]]:
        moves = self._said.get(at)
        if moves is None:
            moves = self._said[at] = [
                (self._move(says), self._number(channels)) for says, channels in self._sides.moves(self.channels[at])
            ]
        return moves

    def _read_from(self, at: int, topic: int) -> tuple[Move, int]:
        done = self._read.get((at, topic))
        if done is None:
            name, channels = read(self.channels[at], topic)
            done = self._read[at, topic] = self._move(f"read: {name}", name), self._number(channels)
        return done

    def _move(self, says: str, read: str | None = None) -> Move:
        """Return one and the same move for the same words: there are millions of places to make it."""
        move = self._moves.get(says)
        if move is None:
            move = self._moves[says] = Move(says, self._messages[read] if read else None)
        return move

    def _after(self, at: int, kind: int) -> int:
        after = self._asking.get((at, kind))
        if after is None:
            found = (asked(command_id, action) for command_id, action in self.rows.kinds[kind].owed)
            channels = ask(self.channels[at], [one for one in found if one])
            after = self._asking[at, kind] = self._number(channels)
        return after

    def _later_than(self, at: int) -> int:
        later = self._later.get(at)
        if later is None:
            later = self._later[at] = self._number(self._sides.later(self.channels[at]))
        return later

    def _ends_at(self, at: int) -> int:
        ended = self._ended.get(at)
        if ended is None:
            ended = self._ended[at] = self._number(ask_for_ends(self.channels[at]))
        return ended

    def _number(self, channels: Channels) -> int:
        number = self._number_of.setdefault(channels, len(self.channels))
        if number == len(self.channels):
            self.channels.append(channels)
        return number
