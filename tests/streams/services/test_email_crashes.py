"""The e-mail service when it, its transactions or its connections end at any point: which mails may come twice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from prometheus_client import REGISTRY

from streams.batch import Record
from streams.local.smtp import Misbehaviour, Stage
from streams.services.email import ledger
from streams.services.email.ledger import Status
from streams.settings import InDoubt
from tests.streams.services.world import FAILED, SENT, World


def doubts(then: str) -> float:
    """Return how many doubts were counted so far."""
    return REGISTRY.get_sample_value("rejoinder_mails_in_doubt_total", {"then": then}) or 0.0


async def test_row_is_sending_before_smtp_begins(world: World, command: Callable[..., Record]) -> None:
    """It fences: a zombie's claim doesn't commit, so it sends nothing."""
    async with world.life() as service:
        world.claim(service, command(offset=5))
        row = world.row()
        assert (Status.SENDING, 1, 5) == (row.status, row.attempts, row.offset)
        assert [] == world.server.received


async def test_kill_between_claim_and_sending_sends_once_without_doubt(
    world: World, command: Callable[..., Record]
) -> None:
    """No note: it was surely not sent."""
    async with world.life() as service:
        world.claim(service, command())
    async with world.life() as service:
        await world.run(service, command())
    assert (1, [SENT]) == (len(world.server.received), world.events)
    assert (2, 0) == (world.row().attempts, world.row().doubts)


async def test_abort_of_the_claim_leaves_no_trace(world: World, command: Callable[..., Record]) -> None:
    """The records come again to the same process."""
    async with world.life() as service:
        service.claim(world.batch([command()]))
        await world.run(service, command())
    assert (1, 1) == (len(world.server.received), world.row().attempts)


@pytest.mark.parametrize("same_process", [True, False])
async def test_kill_or_abort_between_sending_and_commit_sends_nothing_again(
    world: World, command: Callable[..., Record], same_process: bool
) -> None:
    """The note says that the mail server took the mail: no doubt."""
    async with world.life() as service:
        jobs = world.claim(service, command())
        service.settle(world.batch([command()]), await world.deliver(service, jobs))
        if same_process:
            await world.run(service, command())
    if not same_process:
        async with world.life() as service:
            await world.run(service, command())
    assert (1, [SENT], 0) == (len(world.server.received), world.events, world.row().doubts)


async def test_kill_between_refusal_and_commit_sends_again_without_doubt(
    world: World, command: Callable[..., Record]
) -> None:
    """The note says that the mail server refused it after the dot."""
    world.server.react(Stage.DOT, "451 later")
    async with world.life() as service:
        await world.deliver(service, world.claim(service, command()))
    async with world.life() as service:
        await world.run(service, command())
    assert (1, [SENT], 0) == (len(world.server.received), world.events, world.row().doubts)


async def kill_after_the_dot(world: World, record: Record) -> None:
    """Let a process end after it wrote the dot and before it read the answer."""
    world.server.react(Stage.REPLY, Misbehaviour.HANG)
    async with world.life() as service:
        jobs = world.claim(service, record)
        sending = asyncio.create_task(world.deliver(service, jobs))
        assert await asyncio.to_thread(world.server.wait_for, 1, 10)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending


async def test_kill_between_dot_and_answer_sends_again_under_the_same_message_id(
    world: World, command: Callable[..., Record]
) -> None:
    """The one mail that may come twice; counted in row and metric."""
    before = doubts("resend")
    await kill_after_the_dot(world, command())
    async with world.life() as service:
        await world.run(service, command())
    assert [2] == [len(times) for times in world.server.arrivals.values()]
    assert ([SENT], 1, 1) == (world.events, world.row().doubts, doubts("resend") - before)


async def test_kill_between_dot_and_answer_is_held_if_set_so(world: World, command: Callable[..., Record]) -> None:
    """Nothing is sent, nothing is said; also when it comes again."""
    before = doubts("hold")
    await kill_after_the_dot(world, command(offset=9))
    async with world.life(InDoubt.HOLD) as service:
        await world.run(service, command(offset=9))
        await world.run(service, command(offset=9))
    row = world.row()
    assert (1, []) == (len(world.server.received), world.events)
    assert (Status.DOUBTFUL, 1, 9) == (row.status, row.doubts, row.offset)
    assert 1 == doubts("hold") - before


async def test_takeover_by_another_machine_is_in_doubt(world: World, command: Callable[..., Record]) -> None:
    """Its notes aren't here: even a mail that wasn't sent might have been."""
    async with world.life(directory="here") as service:
        world.claim(service, command())
    async with world.life(directory="there") as service:
        await world.run(service, command())
    assert ([SENT], 1) == (world.events, world.row().doubts)


@pytest.mark.parametrize("word", ["resend", "drop", "perhaps"])
async def test_verdict_about_a_doubtful_mail(world: World, command: Callable[..., Record], word: str) -> None:
    """A person puts the SendEmail back with a header; a word that is none decides nothing."""
    await kill_after_the_dot(world, command())
    async with world.life(InDoubt.HOLD) as service:
        await world.run(service, command())
        await world.run(service, command(headers=[(ledger.VERDICT, word.encode())]))
        await world.run(service, command())
    expected = {
        "resend": (Status.ACCEPTED, 2, [SENT, SENT]),
        "drop": (Status.DROPPED, 1, []),
        "perhaps": (Status.DOUBTFUL, 1, []),
    }
    assert expected[word] == (world.row().status, len(world.server.received), world.events)


async def test_connection_that_breaks_after_the_dot_fails_for_now_and_is_counted(
    world: World, command: Callable[..., Record]
) -> None:
    """The process manager's backoff comes before it is sent again, under the same Message-ID."""
    world.server.react(Stage.REPLY, Misbehaviour.DROP)
    async with world.life() as service:
        await world.run(service, command())
        name, body = world.said[0]
        assert (FAILED, False) == (name, body["permanent"])
        assert body["reason"].startswith("in doubt: ")
        assert (Status.FAILED, 1) == (world.row().status, world.row().doubts)
        await world.run(service, command())
    assert [2] == [len(times) for times in world.server.arrivals.values()]
    assert ([FAILED, SENT], 1) == (world.events, world.row().doubts)


async def test_connection_that_breaks_after_the_dot_is_held_if_set_so(
    world: World, command: Callable[..., Record]
) -> None:
    """It ends as EMAIL_OUTCOME_UNKNOWN."""
    world.server.react(Stage.REPLY, Misbehaviour.DROP)
    async with world.life(InDoubt.HOLD) as service:
        await world.run(service, command())
    assert ([], Status.DOUBTFUL, 1) == (world.events, world.row().status, world.row().doubts)
