"""The e-mail service as the worker drives it: claim, commit, deliver, settle, commit, and crashes in between."""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from schemas.codec import Codec
from streams.batch import Batch, Output, Record
from streams.errors import Unavailable
from streams.headers import header
from streams.local.smtp import LocalSmtp, Misbehaviour, Stage
from streams.services.email import ledger
from streams.services.email import service as service_module
from streams.services.email.ledger import Row, Status
from streams.services.email.notes import Notes
from streams.services.email.render import sender_of
from streams.services.email.service import Done, EmailService, Job, Rules
from streams.services.email.smtp import SmtpSender
from streams.services.records import Reader
from streams.settings import InDoubt
from topology.policy import DAY_MS
from topology.topics import EMAIL_COMMANDS, EMAIL_EVENTS

SENT, FAILED = "communications.EmailSent", "communications.EmailFailed"
ID = "5f0c7e9e-1111-5222-8333-444455556666"
TTL_MS = 35 * DAY_MS
PARTITION = 3


def clock_ms() -> int:
    """Return the wall clock."""
    return time.time_ns() // 1_000_000


class World:
    """The worker and the topics, as far as the service sees them: a table, the outputs, and a life that may end."""

    def __init__(self, codec: Codec, server: LocalSmtp, directory: Path) -> None:
        self.codec = codec
        self.server = server
        self.directory = directory
        self.rows: dict[bytes, bytes] = {}
        self.outputs: list[Output] = []
        self.refusals: list[tuple[str, str]] = []

    @asynccontextmanager
    async def life(self, in_doubt: InDoubt = InDoubt.RESEND, directory: str = "notes") -> AsyncIterator[EmailService]:
        """Run a service until it ends, which it may at any point: nothing is tidied up that a crash wouldn't."""
        rules = Rules(sender_of("Shop <orders@example.com>"), "example.com", in_doubt, TTL_MS)
        smtp = SmtpSender(self.server.url, timeout_s=0.5, connections=5, now_ms=clock_ms)
        with Notes(self.directory / directory) as notes:
            async with smtp:
                yield EmailService(Reader(self.codec, lambda _: None), smtp, notes, rules, clock_ms)

    def batch(self, records: Sequence[Record], due: Sequence[bytes] = (), now_ms: int | None = None) -> Batch:
        """Return a batch over the table."""
        return Batch(PARTITION, records, now_ms or clock_ms(), lambda keys: [self.rows.get(key) for key in keys], due)

    def commit(self, batch: Batch) -> None:
        """Let a transaction come true."""
        for change in batch.changes:
            if change.new is None:
                del self.rows[change.key]
            else:
                self.rows[change.key] = change.new
        self.outputs += batch.outputs
        self.refusals += [(str(refusal.reason), refusal.detail) for refusal in batch.refusals]

    def claim(self, service: EmailService, *records: Record) -> list[Job]:
        """Step 1 and its commit."""
        batch = self.batch(records)
        jobs = service.claim(batch)
        assert ([], []) == (batch.outputs, batch.refusals)
        self.commit(batch)
        return jobs

    async def deliver(self, service: EmailService, jobs: Sequence[Job]) -> list[Done]:
        """Step 2."""
        return (await service.deliver({PARTITION: jobs}))[PARTITION]

    async def run(self, service: EmailService, *records: Record) -> None:
        """All steps."""
        jobs = self.claim(service, *records)
        batch = self.batch(records)
        service.settle(batch, await self.deliver(service, jobs))
        self.commit(batch)

    def row(self, email_id: str = ID) -> Row:
        """Return a mail's row."""
        return ledger.decode(self.rows[email_id.encode()])

    @property
    def said(self) -> list[tuple[str, dict[str, Any]]]:
        """What was produced, decoded."""
        return [self.codec.decode_record(output.value or b"") for output in self.outputs]

    @property
    def events(self) -> list[str]:
        """What was produced, by name."""
        return [name for name, _ in self.said]


@pytest.fixture
def server() -> Iterator[LocalSmtp]:
    """Return a mail server."""
    with LocalSmtp(None) as running:
        yield running


@pytest.fixture
def world(codec: Codec, server: LocalSmtp, tmp_path: Path) -> World:
    """Return a world in which nothing has happened yet."""
    return World(codec, server, tmp_path)


@pytest.fixture
def command(codec: Codec, send_email: dict[str, Any]) -> Callable[..., Record]:
    """Return a maker of SendEmail records."""

    def make(email_id: str = ID, order_id: str = "order-7", email: str | None = None, **others: Any) -> Record:
        body = copy.deepcopy(send_email) | {"email_id": email_id}
        body["command"]["order_id"] = body["order"]["order_id"] = order_id
        body["order"]["customer"]["email"] = email or body["order"]["customer"]["email"]
        value = codec.encode_record("communications.SendEmail", body)
        known = (EMAIL_COMMANDS.name, PARTITION, 0, clock_ms(), order_id.encode(), value, None)
        return Record(*known)._replace(**others)

    return make


def doubts(then: str) -> float:
    """Return how many doubts were counted so far."""
    return REGISTRY.get_sample_value("rejoinder_mails_in_doubt_total", {"then": then}) or 0.0


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


async def test_headers_can_be_left_out(world: World, command: Callable[..., Record]) -> None:
    """A setting."""
    async with world.life() as service:
        service._rules = service._rules._replace(with_headers=False)
        await world.run(service, command())
    assert [] == world.outputs[0].headers
