"""
The shipped core, in every state that a small world can bring it into.

Each exploration's extent is written down, so that a world that grew or shrank unseen fails. `./dev model` explores
further; docs/reliability.md says how far it came.
"""

from __future__ import annotations

from random import Random
from typing import Final

import pytest

from tests.model import world
from tests.model.anything import Anything
from tests.model.canonical import canonical, load
from tests.model.explorer import Explored, Space, explore
from tests.model.over_topics import OverTopics
from tests.model.play import Play
from tests.model.rows import Rows
from topology.process import decide
from topology.transitions import TABLE

ASKS: Final = [world.POLICY._replace(ask_after_ms=ask_ms) for ask_ms in world.ASKS.values()]


def test_one_command_in_any_order_at_any_time() -> None:
    """
    All states: one command, two versions, every setting of `ask`, which changes at any time too.

    Nothing bounds losses, repetitions, reorderings, lateness and crashes. Every branch of the table is taken.
    """
    rows = Rows(decide, ASKS)
    explored = explore(Anything(rows, 1, world.VERSIONS))
    assert Explored(states=3_585, transitions=51_510, depth=14, complete=True) == explored
    branches = {branch for cells in TABLE.values() for cell in cells.values() for branch in cell}
    assert set() == branches - rows.taken


@pytest.mark.timeout(600)
def test_two_commands_in_any_order_at_any_time() -> None:
    """All states: two commands, one version; waits as short as they can be."""
    explored = explore(Anything(Rows(decide, [world.SHORT]), 2, world.VERSIONS[:1]))
    assert Explored(states=11_276, transitions=207_480, depth=12, complete=True) == explored


def test_two_commands_where_there_is_room_for_one() -> None:
    """All states: a second command and a second unknown mail are refused, whatever happens to the first."""
    policy = world.SHORT._replace(processes_max=1)
    explored = explore(Anything(Rows(decide, [policy]), 2, world.VERSIONS[:1]))
    assert explored.complete


def test_two_commands_begin_in_every_way() -> None:
    """Two commands, two versions, longer waits, not to the end: `./dev model` does that."""
    explored = explore(Anything(Rows(decide, [world.POLICY]), 2, world.VERSIONS), depth_max=5)
    assert not explored.complete


def test_one_command_over_topics() -> None:
    """The participants' protocol over three topics, with the gate before deadlines, as far as time allows here."""
    rows = Rows(decide, [world.POLICY])
    explored = explore(OverTopics(rows, 1, world.VERSIONS[:1]), depth_max=13)
    assert 33_802 == explored.states


def test_two_commands_over_topics() -> None:
    """Two commands, two versions, each message lost, one repeated, a restart, deadlines a tick late."""
    rows = Rows(decide, [world.POLICY], overdue_ms_max=1)
    explored = explore(OverTopics(rows, 2, world.VERSIONS, duplicates=1, crashes=1, late=1), depth_max=6)
    assert 39_066 == explored.states


@pytest.mark.soak
@pytest.mark.timeout(7_200)
def test_one_command_over_topics_to_the_end() -> None:
    """All states of the protocol of one command: a minute on a quiet machine."""
    explored = explore(OverTopics(Rows(decide, [world.POLICY]), 1, world.VERSIONS[:1]))
    assert Explored(states=968_786, transitions=3_880_277, depth=37, complete=True) == explored


@pytest.mark.soak
@pytest.mark.timeout(7_200)
def test_two_commands_of_two_versions_to_the_end() -> None:
    """All states of two commands of which anything may be said at any time: minutes."""
    explored = explore(Anything(Rows(decide, [world.POLICY]), 2, world.VERSIONS))
    assert explored.complete


@pytest.mark.parametrize("seed", range(60))
def test_state_stands_for_what_really_happened(seed: int) -> None:
    """What is left out of a state makes no difference: long random ways, walked with whole rows and real instants."""
    rows = Rows(decide, ASKS)
    _walk(Anything(rows, 2, world.VERSIONS), rows, 0, Random(seed), 40)
    rows = Rows(decide, [world.POLICY], overdue_ms_max=2)
    _walk(OverTopics(rows, 2, world.VERSIONS, duplicates=3, crashes=1, late=2), rows, 2, Random(seed), 120)


def _walk(space: Space, rows: Rows, overdue_ms_max: int, random: Random, moves: int) -> None:
    state, now_ms = space.start(), 1_764_000_000_000
    play = Play(decide, rows.policies[0])
    for _ in range(moves):
        move, state = random.choice(list(space.successors(state)))
        now_ms += move.ticks
        play.policy = move.policy or play.policy
        if move.message:
            play.say(now_ms - move.ago, move.message)
        shown = canonical(load(play.row), now_ms, play.policy, overdue_ms_max)
        assert rows.rows[space.row_of(state)] == shown
    play.end(now_ms)
