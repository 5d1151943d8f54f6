"""
Breadth first through all states of a space: a counterexample is a shortest one.

A state is a number, made of the numbers of its parts (a row, what was told, the channels): two states are one only if
their parts are equal, byte for byte; nothing hangs on a hash.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple, Protocol

from tests.model.invariants import Violation
from topology.messages import Message
from topology.policy import Policy


class Move(NamedTuple):
    """What happens between two states: something is decided, or only time passes, or a participant does its part."""

    says: str
    message: Message | None = None
    ticks: int = 0
    policy: Policy | None = None
    """The policy from now on, if it changes."""
    ago: int = 0
    """As of how many ticks ago it is decided."""


class Broken(Exception):
    """*move* broke a promise."""

    def __init__(self, move: Move, violation: Violation) -> None:
        super().__init__(move, violation)
        self.move, self.violation = move, violation


class Space(Protocol):
    """States as numbers, and what leads from one to others."""

    def start(self) -> int:
        """Return the first state."""

    def successors(self, state: int) -> Iterator[tuple[Move, int]]:
        """
        Yield every move that is possible in *state*, and the state that it leads to.

        Raises:
            Broken: a move breaks a promise.
        """

    def row_of(self, state: int) -> int:
        """Return the number of the row in *state*."""

    def check(self, state: int) -> None:
        """
        Check a new state by itself.

        Raises:
            Violation: it breaks a promise.
        """


class Found(Exception):
    """A counterexample: the shortest way to a broken promise."""

    def __init__(self, path: list[Move], violation: Violation) -> None:
        super().__init__(str(violation), [move.says for move in path])
        self.path, self.violation = path, violation


class Explored(NamedTuple):
    """How far an exploration came; *complete*: there is no state beyond."""

    states: int
    transitions: int
    depth: int
    complete: bool


Progress = Callable[[Explored], None]

STATES_MAX: Final = 50_000_000


def explore(
    space: Space, depth_max: int | None = None, states_max: int = STATES_MAX, progress: Progress | None = None
) -> Explored:
    """
    Visit every state of *space* that *depth_max* moves lead to (None: all of them), *states_max* at most.

    *progress* is told after every level.

    Raises:
        Found: a promise is broken.
    """
    start = space.start()
    came_from: dict[int, int] = {start: start}
    level = [start]
    depth = transitions = 0
    while level and (depth_max is None or depth < depth_max):
        following: list[int] = []
        for state in level:
            try:
                for move, reached in space.successors(state):  # noqa: B007 - `move` is told if the state is wrong.
                    transitions += 1
                    if reached not in came_from:
                        came_from[reached] = state
                        following.append(reached)
                        space.check(reached)
            except Broken as exc:
                raise Found([*_path(space, came_from, state), exc.move], exc.violation) from exc
            except Violation as exc:
                raise Found([*_path(space, came_from, state), move], exc) from exc
            if len(came_from) > states_max:
                return Explored(len(came_from), transitions, depth, complete=False)
        level = following
        if level:
            depth += 1
        if progress is not None:
            progress(Explored(len(came_from), transitions, depth, complete=not level))
    return Explored(len(came_from), transitions, depth, complete=not level)


def _path(space: Space, came_from: dict[int, int], state: int) -> list[Move]:
    """Return the moves of the shortest way from the start to *state*."""
    moves: list[Move] = []
    while (before := came_from[state]) != state:
        moves.append(next(move for move, reached in space.successors(before) if reached == state))
        state = before
    return moves[::-1]
