"""
The process manager with spans: chosen at start, so that the other one has no branch for it.

A command is one trace: its source's, if the command carries a traceparent, else one of its own, whose id is derived.
What follows from a record of the same trace is a child of that record's span. What follows from a record of another
trace, such as details that were published unasked, or of none, such as a deadline, is a child of the command's span,
with a link to the record's. Nothing more than the command's traceparent is remembered for that: all else is derived.
"""

from __future__ import annotations

from collections.abc import Callable

from opentelemetry.trace import SpanContext

from schemas.codec import Codec
from streams.batch import Batch, Record
from streams.headers import CE_ID, header
from streams.processing.process_manager import ProcessManager
from streams.tracing.spans import Tracing, came_with, parse, set_traceparent, trace_id_of
from topology.messages import Message, SendOrderConfirmationEmail
from topology.policy import Policy
from topology.process import Owed
from topology.state import Order, Process, Step


class TracedProcessManager(ProcessManager):
    """A `ProcessManager`, whose spans are *tracing*'s."""

    def __init__(
        self,
        codec: Codec,
        resolve: Callable[[int], None],
        policy: Policy,
        partitions: int,
        with_headers: bool = True,
        resolve_stored: Callable[[int], None] | None = None,
        *,
        tracing: Tracing,
    ) -> None:
        # Spelled out: where this is compiled, a base's arguments can't be passed on as they came.
        # Not straight: spans are of processes.
        super().__init__(codec, resolve, policy, partitions, with_headers, resolve_stored, straightly=False)
        self._tracing = tracing
        # The record in hand while nothing has followed from it; its span's context, if it is a new process's command.
        self._quiet: Record | None = None
        self._commanded: SpanContext | None = None

    def __call__(self, batch: Batch) -> None:
        """See `ProcessManager`."""
        self._tracing.begin(batch)
        self._quiet = None
        super().__call__(batch)
        self._tell_quiet()
        self._tracing.refused(batch)

    def _tell_quiet(self) -> None:
        """Tell of the record before, if nothing followed from it and it belongs to a trace."""
        quiet, self._quiet, self._commanded = self._quiet, None, None
        if quiet is not None and (parent := came_with(quiet)) is not None:
            self._tracing.processed(quiet, parent)

    def _read(self, batch: Batch, record: Record) -> Message:
        self._tell_quiet()
        return super()._read(batch, record)

    def _open(
        self,
        batch: Batch,
        record: Record,
        message: Message,
        row: bytes | None,
        orders: dict[bytes, Order],
        sizes: dict[bytes, int],
    ) -> Order:
        order = super()._open(batch, record, message, row, orders, sizes)
        self._quiet = record
        if isinstance(message, SendOrderConfirmationEmail):
            known = order.processes.get(message.command_id)
            if known is None or known.step is Step.CANCELLED_EARLY:
                trace_id, parent = _trace_of(order.order_id, message.command_id, message.traceparent)
                self._quiet = None
                self._commanded = self._tracing.processed(
                    record,
                    parent,
                    *_command(message.command_id),
                    trace_id=trace_id,
                    correlation_id=message.command_id,
                )
        return order

    def _send(self, batch: Batch, key: bytes, owed: list[Owed], record: Record | None) -> None:
        before = len(batch.outputs)
        super()._send(batch, key, owed, record)
        self._quiet = None
        for (process, _), output in zip(owed, batch.outputs[before:], strict=True):
            # The same mail is asked for again by the next attempt: another span.
            attempt = (process.query_attempt, process.email_attempt)
            parent = self._parent(process, record)
            event_id = header(output.headers, CE_ID)
            traceparent = self._tracing.sent(output.topic, key, event_id, process.command_id, parent, *attempt)
            set_traceparent(output.headers, traceparent)

    def _parent(self, process: Process, record: Record | None) -> SpanContext:
        """Return the context of the span that *process*'s action follows from."""
        if record is not None and self._commanded is not None:
            return self._commanded
        trace_id, source = _trace_of(process.order_id, process.command_id, process.traceparent)
        command = self._tracing.context_of(trace_id, source, *_command(process.command_id))
        if record is None:
            return command
        came = came_with(record)
        same = came is not None and came.trace_id == trace_id
        return self._tracing.processed(
            record,
            came if same else command,
            # One record may bring several processes on, each in its trace.
            *(record.topic, record.partition, record.offset, process.command_id),
            because=None if same else came,
            correlation_id=process.command_id,
        )


def _trace_of(order_id: str, command_id: str, traceparent: str | None) -> tuple[int, SpanContext | None]:
    """Return the trace of a command, and its parent there."""
    source = parse(traceparent)
    return (source.trace_id, source) if source is not None else (trace_id_of(order_id, command_id), None)


def _command(command_id: str) -> tuple[str, str]:
    """Return what the span of a process's command is derived from."""
    return "command", command_id
