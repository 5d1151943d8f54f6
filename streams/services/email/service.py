"""
The e-mail service: two transactions, and SMTP between them.

1. `claim`: every mail that has to be sent gets the ledger row `sending`. Committed with the input position unchanged.
2. `deliver`: the mails are sent, outside of any transaction; right before a mail's final dot a note says so.
3. `settle`: the rows say what became of the mails, EmailSent and EmailFailed are produced. Committed with the position.

An abort or a crash at any point brings the same records again, and `ledger.plan` finds out from rows and notes how far
they had come. What is said is always what the row says: settling twice says the same twice.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Mapping, Sequence
from email.headerregistry import Address
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

import structlog

from streams import metrics
from streams.batch import Batch, Headers, Record, Refusal
from streams.errors import Unavailable
from streams.headers import CE_CORRELATION_ID, CE_ID, TRACEPARENT, about, cloud_event_headers, header, original_ms
from streams.services.email import ledger
from streams.services.email.ledger import Answer, Drop, Hold, Row, Send, Status, Verdict
from streams.services.email.notes import Mark, Note, Notes
from streams.services.email.outcome import InDoubt, Outcome, Refused, Sent
from streams.services.email.render import Mail, Unsendable, message_id, render
from streams.services.records import Reader
from streams.settings import InDoubt as InDoubtSetting
from topology.ids import uuid5
from topology.policy import DAY_MS
from topology.topics import EMAIL_EVENTS

SOURCE: Final = "/email"
BEGIN_S_MAX: Final = 120.0
"""How long `deliver` begins mails: with a mail server that hangs, a batch must still come to an end."""

_SEND_EMAIL: Final = "communications.SendEmail"
_SENT: Final = "communications.EmailSent"
_FAILED: Final = "communications.EmailFailed"

log = structlog.get_logger(__name__)


class Sender(Protocol):
    """Sends one mail, see `smtp.SmtpSender`."""

    async def send(self, mail: Mail, note: Callable[[], None], begin_by: float) -> Outcome:
        """Send *mail*, begun by *begin_by* (the loop's time) or not at all; call *note* right before the final dot."""

    def stop(self) -> None:
        """Begin no further mail; any thread may call it."""


class Rules(NamedTuple):
    """What the service is set to; see `settings`."""

    sender: Address
    domain: str
    in_doubt: InDoubtSetting
    ledger_ttl_ms: int
    with_headers: bool = True


class Repeat(NamedTuple):
    """The same mail is asked for earlier in the same batch: what became of that one is said again."""


Found: TypeAlias = Outcome | Hold | Drop | Refusal | Repeat
"""What became of a record."""


class Job(NamedTuple):
    """
    One record of a claimed batch.

    *row* and *body* are None of what isn't a SendEmail; *found* is None of a mail that has to be sent.
    """

    record: Record
    email_id: str
    body: dict[str, Any] | None
    row: Row | None
    found: Found | None


class Done(NamedTuple):
    """A job, and what became of it."""

    job: Job
    found: Found


class EmailService:
    """
    The three steps, for the batches of any number of partitions.

    A batch's delivery ends, or is cancelled and has ended, before its records are claimed again.
    """

    def __init__(self, reader: Reader, smtp: Sender, notes: Notes, rules: Rules, now_ms: Callable[[], int]) -> None:
        self._reader = reader
        self._smtp = smtp
        self._notes = notes
        self._rules = rules
        self._now_ms = now_ms
        # Mails that were settled last, by partition: whether that was committed is seen at the next claim.
        self._settled: dict[int, list[str]] = {}

    def stop(self) -> None:
        """
        Begin no further mail, so that `deliver` ends with those in sending; any thread may call it.

        The others fail for now, and are asked for again. They can't be left as claimed: whoever takes the partition
        over hasn't this machine's notes, so to him all of the batch would be in doubt.
        """
        self._smtp.stop()

    # Step 1.

    def claim(self, batch: Batch) -> list[Job]:
        """
        Put the rows of the mails that have to be sent; ``jobs[i]`` answers ``batch.records[i]``.

        Nothing is refused or produced here: step 3 does, in the transaction that moves the position.
        """
        bodies = [self._read(batch, record) for record in batch]
        settled = self._settled.pop(batch.partition, [])
        email_ids = [body["email_id"] for body in bodies if not isinstance(body, Refusal)]
        batch.load(list(dict.fromkeys(email_id.encode() for email_id in [*email_ids, *settled])))
        self._forget_notes(batch, settled)
        seen: set[str] = set()
        return [self._claim(batch, record, body, seen) for record, body in zip(batch, bodies, strict=True)]

    def _read(self, batch: Batch, record: Record) -> dict[str, Any] | Refusal:
        age_ms = batch.now_ms - original_ms(record)
        if age_ms > self._rules.ledger_ttl_ms:
            return Refusal(record, "expired", f"{age_ms // DAY_MS} days old: its row may have been forgotten already")
        body = self._reader.read(
            record, _SEND_EMAIL, lambda body: (body["command"]["order_id"], body["order"]["order_id"])
        )
        if not isinstance(body, Refusal):
            # A UUID in capitals is the same one: one row, one note, one mail.
            body["email_id"] = body["email_id"].lower()
        return body

    def _forget_notes(self, batch: Batch, email_ids: Sequence[str]) -> None:
        for email_id in email_ids:
            row = _row(batch, email_id)
            if row is None or row.status is not Status.SENDING:
                self._notes.forget(email_id)

    def _claim(self, batch: Batch, record: Record, body: dict[str, Any] | Refusal, seen: set[str]) -> Job:
        if isinstance(body, Refusal):
            return Job(record, "", None, None, body)
        email_id = body["email_id"]
        row = _row(batch, email_id)
        if email_id in seen:
            return Job(record, email_id, body, row, Repeat())
        seen.add(email_id)
        note = self._notes.find(email_id, row.attempts) if row else None
        plan = ledger.plan(row, self._rules.in_doubt, self._notes.store_id, note, _verdict(record))
        match plan:
            case Answer(outcome):
                return Job(record, email_id, body, row, outcome)
            case Hold(reason):
                if row and row.status is Status.SENDING:
                    _report_doubt("hold", email_id, record, reason)
                return Job(record, email_id, body, row, plan)
            case Drop():
                return Job(record, email_id, body, row, plan)
            case Send(_, doubted):
                if doubted:
                    _report_doubt("resend", email_id, record, "sent again under the same Message-ID")
                claimed = ledger.claimed(
                    row,
                    plan,
                    order_id=body["order"]["order_id"],
                    message_id=message_id(email_id, self._rules.domain),
                    offset=record.offset,
                    store_id=self._notes.store_id,
                    now_ms=batch.now_ms,
                    ttl_ms=self._rules.ledger_ttl_ms,
                )
                batch.put(email_id.encode(), ledger.encode(claimed))
                return Job(record, email_id, body, claimed, None)

    # Step 2.

    async def deliver(self, jobs: Mapping[int, Sequence[Job]]) -> dict[int, list[Done]]:
        """
        Send what has to be sent, by partition number; ``done[p][i]`` answers ``jobs[p][i]``.

        Mails of one key go out one after the other, all others at the same time as far as *smtp* lets them.
        """
        begin_by = asyncio.get_running_loop().time() + BEGIN_S_MAX
        by_key: dict[tuple[int, bytes | None], list[tuple[int, Job]]] = {}
        for partition, some in jobs.items():
            for at, job in enumerate(some):
                by_key.setdefault((partition, job.record.key), []).append((at, job))
        found: dict[tuple[int, int], Found] = {}

        async def one_after_the_other(partition: int, chain: Sequence[tuple[int, Job]]) -> None:
            for at, job in chain:
                found[partition, at] = await self._deliver(job, begin_by)

        chains = (one_after_the_other(partition, chain) for (partition, _), chain in by_key.items())
        # All of them end before an error is passed on: a mail that is cut off for another one's sake would be in doubt.
        for ended in await asyncio.gather(*chains, return_exceptions=True):
            if isinstance(ended, BaseException):
                raise ended
        return {
            partition: [Done(job, found[partition, at]) for at, job in enumerate(some)]
            for partition, some in jobs.items()
        }

    async def _deliver(self, job: Job, begin_by: float) -> Found:
        if job.found is not None:
            return job.found
        assert job.row is not None
        mail = self._render(job, job.row)
        if isinstance(mail, Refused):
            return mail
        email_id, attempt = job.email_id, job.row.attempts

        def note() -> None:
            self._notes.write(email_id, attempt, Note(Mark.DOT, self._now_ms()))

        try:
            outcome = await self._smtp.send(mail, note, begin_by)
        except Unavailable as exc:
            # Of the note: what can't be noted isn't sent.
            return Refused(permanent=False, reason=str(exc))
        self._note(job, attempt, outcome)
        return outcome

    def _render(self, job: Job, row: Row) -> Mail | Refused:
        """Return the mail, or why there is none: what one customer typed must not stop everybody's mails."""
        assert job.body is not None
        try:
            return render(job.body, self._rules.sender, row.message_id, row.claimed_ms)
        except Unsendable as exc:
            return Refused(permanent=True, reason=str(exc))
        except Exception as exc:  # noqa: BLE001 - of libraries that read what anybody typed.
            name = type(exc).__name__
            # Only where it was raised: its text may quote a name or an address.
            where = "".join(traceback.format_tb(exc.__traceback__))
            log.error("e-mail can't be rendered", because=name, where=where, **_about(job))
            # No file handles or no memory: that passes.
            permanent = not isinstance(exc, OSError | MemoryError)
            return Refused(permanent, f"the mail can't be rendered: {name}; the e-mail service's log says where")

    def _note(self, job: Job, attempt: int, outcome: Outcome) -> None:
        """Note the mail server's answer: it takes the doubt away should this end before the ledger has it."""
        email_id = job.email_id
        if self._notes.find(email_id, attempt) is None:
            return
        try:
            match outcome:
                case Sent(at_ms):
                    self._notes.write(email_id, attempt, Note(Mark.ACCEPTED, at_ms))
                case Refused():
                    self._notes.write(email_id, attempt, Note(Mark.REFUSED, self._now_ms()))
                case InDoubt():
                    pass
        except Unavailable as exc:
            log.warning("the e-mail's outcome isn't noted", because=str(exc), **_about(job))

    # Step 3.

    def settle(self, batch: Batch, done: Sequence[Done] | None) -> None:
        """
        Put the rows that say what became of *done*, produce what they say, refuse what is no SendEmail.

        ``done[i]`` answers ``batch.records[i]``, and may go on where the batch was cut off at a record that failed.
        None: there are no records. Rows that are due are forgotten.
        """
        done = (done or [])[: len(batch.records)]
        email_ids = list(dict.fromkeys(one.job.email_id for one in done if one.job.email_id))
        batch.load(list(dict.fromkeys([*(email_id.encode() for email_id in email_ids), *batch.due])))
        for _, one in zip(batch, done, strict=True):
            self._settle(batch, one)
        self._settled[batch.partition] = email_ids
        asked = {email_id.encode() for email_id in email_ids}
        for key in batch.due:
            row = batch.get(key)
            if key not in asked and row is not None and ledger.decode(row).due_ms <= batch.due_ms:
                batch.put(key, None)

    def _settle(self, batch: Batch, done: Done) -> None:
        job, found = done
        if isinstance(found, Refusal):
            batch.refuse(*found)
            return
        assert job.body is not None
        if isinstance(found, Repeat):
            row = _row(batch, job.email_id)
        else:
            assert job.row is not None
            rules = self._rules
            row = ledger.settled(job.row, found, rules.in_doubt, batch.now_ms, rules.ledger_ttl_ms)
            batch.put(job.email_id.encode(), ledger.encode(row))
            if isinstance(found, InDoubt):
                _report_doubt(rules.in_doubt.value, job.email_id, job.record, found.reason)
        assert row is not None
        self._say(batch, job, row)

    def _say(self, batch: Batch, job: Job, row: Row) -> None:
        """Produce what *row* says; of a doubtful mail nothing is said."""
        email_id, order_id = job.email_id, row.order_id
        body: dict[str, Any] = {"email_id": email_id, "order_id": order_id}
        match row.status:
            case Status.ACCEPTED:
                name, event_id = _SENT, uuid5(f"{email_id}/sent/{order_id}")
                body |= {"message_id": row.message_id, "sent_at": row.changed_ms}
            case Status.FAILED | Status.FAILED_PERMANENTLY:
                name, event_id = _FAILED, uuid5(f"{email_id}/failed/{row.attempts}/{order_id}")
                permanent = row.status is Status.FAILED_PERMANENTLY
                body |= {"permanent": permanent, "reason": row.reason, "failed_at": row.changed_ms}
            case _:
                return
        headers = self._headers(event_id, name, row.changed_ms, job) if self._rules.with_headers else []
        value = self._reader.codec.encode_record(name, body)
        batch.send(EMAIL_EVENTS.name, order_id.encode(), value, headers)

    @staticmethod
    def _headers(event_id: str, name: str, time_ms: int, job: Job) -> Headers:
        asked, body = job.record.headers, job.body
        assert body is not None
        return cloud_event_headers(
            id=event_id,
            source=SOURCE,
            type=name,
            time_ms=time_ms,
            correlation_id=header(asked, CE_CORRELATION_ID) or body["command"]["command_id"],
            causation_id=header(asked, CE_ID) or job.email_id,
            traceparent=header(asked, TRACEPARENT),
        )


def _row(batch: Batch, email_id: str) -> Row | None:
    data = batch.get(email_id.encode())
    return None if data is None else ledger.decode(data)


def _verdict(record: Record) -> Verdict | None:
    """Return what a person decided; a word that is none decides nothing."""
    word = header(record.headers, ledger.VERDICT)
    return next((verdict for verdict in Verdict if verdict.value == word), None)


def _report_doubt(then: str, email_id: str, record: Record, reason: str) -> None:
    metrics.MAILS_IN_DOUBT.labels(then).inc()
    log.warning("e-mail in doubt", email_id=email_id, then=then, because=reason, **about(record))


def _about(job: Job) -> dict[str, Any]:
    """Return the fields of a log line about *job*, a SendEmail."""
    assert job.body is not None
    return {"command_id": job.body["command"]["command_id"]} | about(job.record) | {"email_id": job.email_id}
