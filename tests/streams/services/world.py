"""The worker, Kafka and time, as far as the e-mail service sees them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from schemas.codec import Codec
from streams.batch import Batch, Output, Record
from streams.local.smtp import LocalSmtp
from streams.services.email import ledger
from streams.services.email.ledger import Row
from streams.services.email.notes import Notes
from streams.services.email.render import sender_of
from streams.services.email.service import Done, EmailService, Job, Rules
from streams.services.email.smtp import SmtpSender
from streams.services.records import Reader
from streams.settings import InDoubt
from topology.policy import DAY_MS

ID: Final = "5f0c7e9e-1111-5222-8333-444455556666"
"""The e-mail that most tests are about."""
SENT: Final = "communications.EmailSent"
FAILED: Final = "communications.EmailFailed"
TTL_MS: Final = 35 * DAY_MS
PARTITION: Final = 3


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
