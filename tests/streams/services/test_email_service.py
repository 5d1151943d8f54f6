"""The e-mail service as the worker drives it: claim, commit, deliver, settle, commit, and crashes in between."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from streams.batch import Record
from streams.errors import Unavailable
from streams.headers import header
from streams.local.smtp import Misbehaviour, Stage
from streams.services.email import ledger
from streams.services.email import service as service_module
from streams.services.email.ledger import CorruptRow, Status
from streams.services.email.notes import Notes
from streams.services.email.outcome import Sent
from streams.services.email.render import Mail
from streams.services.email.service import Done
from streams.settings import InDoubt
from tests.streams.services.world import FAILED, ID, SENT, TTL_MS, World, clock_ms
from topology.policy import DAY_MS
from topology.topics import EMAIL_EVENTS


async def test_mail_is_sent_and_said_so(world: World, command: Callable[..., Record]) -> None:
    """One mail, one row, one event, under the order's key."""
    async with world.life() as service:
        await world.run(service, command(headers=[("traceparent", b"00-a-b-01"), ("ce_id", b"cause")]))
    row = world.row()
    message_id = f"<{ID}@example.com>"
    body = {"email_id": ID, "order_id": "order-7", "message_id": message_id, "sent_at": row.changed_ms}
    assert [(SENT, body)] == world.said
    assert (Status.ACCEPTED, 1, 0, message_id) == (row.status, row.attempts, row.doubts, row.message_id)
    assert [message_id] == [mail.message_id for mail in world.server.received]
    [output] = world.outputs
    assert (EMAIL_EVENTS.name, b"order-7") == output[:2]
    names = ("ce_type", "ce_source", "ce_correlationid", "ce_causationid", "traceparent")
    expected = [SENT, "/email", "0b5c1f7e-2222-4333-8444-555566667777", "cause", "00-a-b-01"]
    assert expected == [header(output.headers, name) for name in names]


async def test_redelivered_command_sends_nothing_and_says_the_same(
    world: World, command: Callable[..., Record]
) -> None:
    """Value and headers are equal, so that a consumer can tell the duplicate."""
    async with world.life() as service:
        await world.run(service, command())
    async with world.life() as service:
        await world.run(service, command())
    assert 1 == len(world.server.received)
    assert world.outputs[0] == world.outputs[1]


async def test_refusal_for_now_is_said_and_the_next_command_sends(world: World, command: Callable[..., Record]) -> None:
    """The same SendEmail, byte for byte, is the process manager's retry; each failure is an event of its own."""
    world.server.react(Stage.DOT, "451 greylisted", times=2)
    record = command()
    async with world.life() as service:
        for _ in range(3):
            await world.run(service, record)
    reason = f"{world.server.url}: refused: 451 greylisted"
    assert [FAILED, FAILED, SENT] == world.events
    assert [(False, reason)] * 2 == [(body["permanent"], body["reason"]) for _, body in world.said[:2]]
    assert 3 == len({header(output.headers, "ce_id") for output in world.outputs})
    assert (3, 0, 1) == (world.row().attempts, world.row().doubts, len(world.server.received))


async def test_refusal_for_ever_is_said_again_and_not_tried_again(world: World, command: Callable[..., Record]) -> None:
    """A redelivered command doesn't ask the mail server again."""
    world.server.react(Stage.RCPT, "550 no such mailbox")
    async with world.life() as service:
        await world.run(service, command())
        await world.run(service, command())
    assert [FAILED, FAILED] == world.events
    assert world.outputs[0] == world.outputs[1]
    assert (True, []) == (world.said[0][1]["permanent"], world.server.received)


async def test_mail_that_cant_be_rendered_fails_for_ever(world: World, command: Callable[..., Record]) -> None:
    """With the reason, and without asking the mail server."""
    async with world.life() as service:
        await world.run(service, command(email="ann@example.com\r\nBcc: eve@example.net"))
    [(name, body)] = world.said
    assert (FAILED, True) == (name, body["permanent"])
    assert "address can't be used" in body["reason"]
    assert 0 == world.server.connections


async def test_disk_full_at_the_note_fails_for_now(
    world: World, command: Callable[..., Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What can't be noted isn't sent."""

    def write(*_: object) -> None:
        raise Unavailable("disk full")

    async with world.life() as service:
        monkeypatch.setattr(Notes, "write", write)
        await world.run(service, command())
    [(name, body)] = world.said
    assert (FAILED, False, "disk full") == (name, body["permanent"], body["reason"])
    assert [] == world.server.received


async def test_same_mail_twice_in_one_batch_is_sent_once(world: World, command: Callable[..., Record]) -> None:
    """What became of it is said twice."""
    async with world.life() as service:
        await world.run(service, command(offset=1), command(offset=2))
    assert (1, [SENT, SENT]) == (len(world.server.received), world.events)
    assert world.outputs[0].value == world.outputs[1].value


async def test_mails_of_one_order_go_out_in_order(world: World, command: Callable[..., Record]) -> None:
    """One after the other, while those of other orders go at the same time."""
    ids = [f"5f0c7e9e-1111-5222-8333-{number:012}" for number in range(20)]
    records = [command(email_id, f"order-{number % 2}") for number, email_id in enumerate(ids)]
    async with world.life() as service:
        await world.run(service, *records)
    arrived = [mail.message_id[1:37] for mail in world.server.received]
    for parity in (0, 1):
        assert ids[parity::2] == [email_id for email_id in arrived if ids.index(email_id) % 2 == parity]
    assert ids == [body["email_id"] for _, body in world.said]


async def test_what_is_no_command_is_refused_with_the_position(world: World, command: Callable[..., Record]) -> None:
    """In step 3, so that it is refused once; the others go on."""
    old_ms = clock_ms() - TTL_MS - DAY_MS
    async with world.life() as service:
        await world.run(
            service,
            command(key=None),
            command(value=b"rubbish"),
            command(key=b"order-8"),
            command(timestamp_ms=old_ms),
            command(),
        )
    assert ["null", "not-framed", "key-mismatch", "expired"] == [reason for reason, _ in world.refusals]
    assert ([SENT], 1) == (world.events, len(world.rows))


async def test_command_whose_order_is_anothers_is_refused(
    world: World, command: Callable[..., Record], send_email: dict[str, Any]
) -> None:
    """Both halves that were joined are the key's."""
    send_email["order"]["order_id"] = "order-8"
    value = world.codec.encode_record("communications.SendEmail", send_email)
    async with world.life() as service:
        await world.run(service, command(value=value))
    assert ["key-mismatch"] == [reason for reason, _ in world.refusals]


async def test_rows_are_forgotten_when_due_and_not_before(world: World, command: Callable[..., Record]) -> None:
    """Due keys are hints: the row decides."""
    async with world.life() as service:
        await world.run(service, command())
        due_ms = world.row().due_ms
        for now_ms, left in ((due_ms - 1, 1), (due_ms, 0), (due_ms + 1, 0)):
            batch = world.batch([], [ID.encode()], now_ms)
            service.settle(batch, None)
            world.commit(batch)
            assert left == len(world.rows)


async def test_notes_are_forgotten_when_the_ledger_has_the_outcome(
    world: World, command: Callable[..., Record]
) -> None:
    """Seen at the partition's next claim; what wasn't committed stays noted."""
    other = "6f0c7e9e-1111-5222-8333-444455556666"
    async with world.life() as service:
        await world.run(service, command())
        assert 1 == len(service._notes)
        jobs = world.claim(service, command(other, "order-8"))
        assert 0 == len(service._notes)
        service.settle(world.batch([command(other, "order-8")]), await world.deliver(service, jobs))
        world.claim(service, command())
        assert service._notes.find(other, 1) is not None


async def test_delivery_ends_though_the_mail_server_hangs(
    world: World, command: Callable[..., Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mails that weren't begun in time fail for now, and surely weren't sent."""
    monkeypatch.setattr(service_module, "BEGIN_S_MAX", 0.6)
    world.server.react(Stage.MAIL, Misbehaviour.HANG, times=100)
    records = [command(f"5f0c7e9e-1111-5222-8333-{number:012}", f"order-{number}") for number in range(40)]
    began = time.monotonic()
    async with world.life() as service:
        await world.run(service, *records)
    assert time.monotonic() - began < 5
    assert [FAILED] * 40 == world.events
    assert {False} == {body["permanent"] for _, body in world.said}


async def test_stopped_service_begins_no_further_mail(world: World, command: Callable[..., Record]) -> None:
    """Those in sending end, all others fail for now: a batch ends within one mail's time, not within all of theirs."""
    world.server.react(Stage.MAIL, Misbehaviour.HANG, times=100)
    records = [command(f"5f0c7e9e-1111-5222-8333-{number:012}", f"order-{number}") for number in range(40)]
    async with world.life() as service:
        jobs = world.claim(service, *records)
        delivery = asyncio.create_task(world.deliver(service, jobs))
        async with asyncio.timeout(5):
            while world.server.connections < 5:  # noqa: ASYNC110 -- the server is another thread's.
                await asyncio.sleep(0.01)
            await asyncio.to_thread(service.stop)
            done = await delivery
        batch = world.batch(records)
        service.settle(batch, done)
        world.commit(batch)
    assert 5 == world.server.connections
    assert [False] * 40 == [body["permanent"] for _, body in world.said]
    assert 35 == sum(body["reason"].endswith("the e-mail service is stopping") for _, body in world.said)
    assert {Status.FAILED} == {ledger.decode(row).status for row in world.rows.values()}


async def test_mail_on_which_rendering_fails_fails_alone(
    world: World, command: Callable[..., Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    """For ever, if it is the mail's own; the log says which and where, and nothing of what the customer typed."""
    other = "6f0c7e9e-1111-5222-8333-444455556666"
    errors: dict[str, Exception] = {ID: ArithmeticError("eve@example.net"), other: OSError("too many open files")}
    render = service_module.render  # type: ignore[attr-defined] # Where the service looks it up.

    def fail(body: dict[str, Any], *others: Any) -> Mail:
        if body["email_id"] in errors:
            raise errors[body["email_id"]]
        return render(body, *others)

    monkeypatch.setattr(service_module, "render", fail)
    async with world.life() as service:
        third = "7f0c7e9e-1111-5222-8333-444455556666"
        with capture_logs() as lines:
            await world.run(service, command(), command(other, "order-8"), command(third, "order-9"))
    assert [FAILED, FAILED, SENT] == world.events
    assert [True, False] == [body["permanent"] for _, body in world.said[:2]]
    assert "ArithmeticError" in world.said[0][1]["reason"]
    assert "eve@example.net" not in world.said[0][1]["reason"] + str(lines)
    line = next(line for line in lines if line["email_id"] == ID)
    assert ("e-mail can't be rendered", "ArithmeticError") == (line["event"], line["because"])
    assert "in fail" in line["where"]
    assert {"topic", "partition", "offset", "order_id", "command_id"} <= line.keys()


async def test_id_in_capitals_is_the_same_mail(world: World, command: Callable[..., Record]) -> None:
    """Of another producer: in one batch, in the next, and when a killed worker's notes are read back."""
    record = command(ID.upper())
    async with world.life() as service:
        jobs = world.claim(service, record, command())
        await world.deliver(service, jobs)
    async with world.life(InDoubt.HOLD) as service:
        await world.run(service, record, command())
        await world.run(service, record)
    assert (1, [ID.encode()]) == (len(world.server.received), list(world.rows))
    assert [(SENT, ID)] * 3 == [(name, body["email_id"]) for name, body in world.said]


@pytest.mark.parametrize("step", ["claim", "settle"])
async def test_batch_knows_the_record_on_which_a_step_failed(
    world: World, command: Callable[..., Record], step: str
) -> None:
    """So that what came before it is committed, and the partition is held at it."""
    other = "6f0c7e9e-1111-5222-8333-444455556666"
    records = [command(), command(other, "order-8"), command("7f0c7e9e-1111-5222-8333-444455556666", "order-9")]
    async with world.life() as service:
        if step == "claim":
            world.rows[other.encode()] = b"rubbish"
            batch = world.batch(records)
            with pytest.raises(CorruptRow):
                service.claim(batch)
        else:
            done = await world.deliver(service, world.claim(service, *records))
            done[1] = Done(done[1].job._replace(row=None), Sent(1))
            batch = world.batch(records)
            with pytest.raises(AssertionError):
                service.settle(batch, done)
            before = world.batch(records[: batch.at])
            service.settle(before, done)
            world.commit(before)
            assert [(SENT, ID)] == [(name, body["email_id"]) for name, body in world.said]
    assert 1 == batch.at


async def test_headers_can_be_left_out(world: World, command: Callable[..., Record]) -> None:
    """A setting."""
    async with world.life() as service:
        service._rules = service._rules._replace(with_headers=False)
        await world.run(service, command())
    assert [] == world.outputs[0].headers
