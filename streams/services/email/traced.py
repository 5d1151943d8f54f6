"""
The e-mail service with spans: of the SendEmail, of the mail server's part in it, of the event that says how it went.

Chosen at start, so that the other one has no branch for it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

from streams.batch import Batch
from streams.headers import CE_ID, header
from streams.services.email.outcome import InDoubt, Refused
from streams.services.email.service import Done, EmailService, Found, Job
from streams.services.email.smtp_url import SmtpUrl
from streams.tracing.spans import Tracing, came_with, set_traceparent, trace_id_of

_ERRORS: Final[dict[type, str]] = {Refused: "refused", InDoubt: "in-doubt"}


class TracedEmailService(EmailService):
    """An `EmailService`, whose spans are *tracing*'s; *where*: the mail server."""

    def __init__(self, *arguments: Any, tracing: Tracing, where: SmtpUrl, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._tracing = tracing
        self._server = {"server.address": where.host, "server.port": where.port}
        # Unix nanoseconds: when each partition's batch was claimed, and from when to when each mail was in sending.
        self._claimed_ns: dict[int, int] = {}
        self._sending_ns: dict[tuple[int, int], tuple[int, int]] = {}

    def claim(self, batch: Batch) -> list[Job]:
        """See `EmailService`."""
        self._claimed_ns[batch.partition] = time.time_ns()
        self._sending_ns = {at: ns for at, ns in self._sending_ns.items() if at[0] != batch.partition}
        return super().claim(batch)

    async def _deliver(self, job: Job, begin_by: float) -> Found:
        began_ns = time.time_ns()
        found = await super()._deliver(job, begin_by)
        if job.found is None:
            self._sending_ns[job.record.partition, job.record.offset] = (began_ns, time.time_ns())
        return found

    def settle(self, batch: Batch, done: Sequence[Done] | None) -> None:
        """See `EmailService`."""
        self._tracing.begin(batch)
        super().settle(batch, done)
        self._tracing.refused(batch)

    def _settle(self, batch: Batch, done: Done) -> None:
        before = len(batch.outputs)
        super()._settle(batch, done)
        job, found = done
        if job.body is None:
            return
        record, command_id = job.record, job.body["command"]["command_id"]
        span = self._tracing.processed(
            record,
            came_with(record),
            trace_id=trace_id_of(job.body["order"]["order_id"], command_id),
            correlation_id=command_id,
            start_ns=self._claimed_ns.get(batch.partition),
        )
        if sending_ns := self._sending_ns.pop((record.partition, record.offset), None):
            error = _ERRORS.get(type(found))
            attributes = self._server | {"rejoinder.email_id": job.email_id} | ({"error.type": error} if error else {})
            self._tracing.called("SMTP", span, (record.partition, record.offset), attributes, *sending_ns)
        for output in batch.outputs[before:]:
            event_id = header(output.headers, CE_ID)
            carried = self._tracing.sent(output.topic, output.key, event_id, command_id, span)
            set_traceparent(output.headers, carried)
