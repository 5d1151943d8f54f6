"""
Spans of records and of what follows from them, by OpenTelemetry.

Their ids are derived, as all ids are: a batch that is aborted and decided again, here or by whoever takes the partition
over, makes the same spans and the same headers. They begin when a batch is decided and are exported once it is
committed: what was aborted has no trace.

Source: OpenTelemetry's semantic conventions for messaging systems and for Kafka; W3C Trace Context.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import re
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, Protocol

from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from streams.batch import Batch, Headers, Record
from streams.errors import ConfigurationError
from streams.headers import CE_CORRELATION_ID, CE_ID, TRACEPARENT, header
from streams.settings import Settings

_TRACEPARENT: Final = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
_EXPORTERS: Final = {
    "http/protobuf": "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "grpc": "opentelemetry.exporter.otlp.proto.grpc.trace_exporter",
}


def parse(traceparent: str | None) -> SpanContext | None:
    """Return whom *traceparent* names, None if it is none."""
    if traceparent is None or not (found := _TRACEPARENT.fullmatch(traceparent)):
        return None
    trace_id, span_id, flags = (int(part, 16) for part in found.groups())
    context = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags & TraceFlags.SAMPLED))
    return context if context.is_valid else None


def format_traceparent(context: SpanContext) -> str:
    """Return *context* as the header's value."""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def came_with(record: Record) -> SpanContext | None:
    """Return the context that *record* carries."""
    return parse(header(record.headers, TRACEPARENT))


def set_traceparent(headers: Headers, traceparent: str) -> None:
    """Let *headers* carry *traceparent*, and no other."""
    headers[:] = [one for one in headers if one[0] != TRACEPARENT]
    headers.append((TRACEPARENT, traceparent.encode()))


def derived(size: int, *parts: object) -> int:
    """Return an id of *size* bytes, not 0, the same for the same *parts*."""
    text = "\0".join(map(str, parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=size).digest()) or 1


def trace_id_of(order_id: str, command_id: str) -> int:
    """Return the trace of a command that came with none."""
    return derived(16, order_id, command_id)


class _Ids(IdGenerator):
    """The ids of the span that is begun next: they are set just before."""

    trace_id = span_id = 0

    def generate_trace_id(self) -> int:
        return self.trace_id

    def generate_span_id(self) -> int:
        return self.span_id

    def is_trace_id_random(self) -> bool:
        # A digest is as good for sampling.
        return True


class Committed(Protocol):
    """What was committed of one batch, see `streams.processing.commit.Work`."""

    @property
    def batch(self) -> Batch:
        """The batch."""


class _Begun(NamedTuple):
    """A span that ends with its batch's commit, unless it ended at *end_ns*, Unix nanoseconds."""

    span: Span
    end_ns: int | None


class Tracing:
    """
    Makes the spans of one process; its methods are the session's thread's alone.

    Raises:
        ConfigurationError: OTEL_EXPORTER_OTLP_PROTOCOL is none that is installed.
    """

    def __init__(self, settings: Settings, group: str, version: str, exporter: SpanExporter | None = None) -> None:
        self._group = group
        self._instance = settings.instance
        self._cluster_name = settings.topic
        own = {"service.name": group, "service.instance.id": settings.instance, "service.version": version}
        # What the environment says wins: OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES.
        resource = Resource.create(own).merge(OTELResourceDetector().detect())
        self._ids = _Ids()
        self._provider = TracerProvider(resource=resource, id_generator=self._ids)
        # A thread of its own exports; its queue is bounded, and what doesn't fit is dropped: nobody waits for it.
        self._provider.add_span_processor(BatchSpanProcessor(exporter or _exporter()))
        self._tracer = self._provider.get_tracer("rejoinder", version)
        # By partition: the batch in hand, and what ends with it.
        self._begun: dict[int, tuple[Batch, list[_Begun]]] = {}
        self._spans: list[_Begun] = []

    # Batches.

    def begin(self, batch: Batch) -> None:
        """From here on, spans are *batch*'s; an earlier one of its partition has none."""
        self._spans = []
        self._begun[batch.partition] = (batch, self._spans)

    def committed(self, works: Sequence[Committed]) -> None:
        """Export the spans of batches that are committed."""
        for work in works:
            batch, spans = self._begun.get(work.batch.partition, (None, []))
            if batch is work.batch:
                del self._begun[work.batch.partition]
                for span, end_ns in spans:
                    span.end(end_ns)

    def around(self, function: Callable[[Batch], object]) -> Callable[[Batch], object]:
        """Return *function* of a batch, whose spans are that batch's."""

        def traced(batch: Batch) -> None:
            self.begin(batch)
            function(batch)
            self.refused(batch)

        return traced

    # Spans.

    def processed(
        self,
        record: Record,
        parent: SpanContext | None,
        *identity: object,
        trace_id: int = 0,
        because: SpanContext | None = None,
        correlation_id: str | None = None,
        start_ns: int | None = None,
        error: str | None = None,
    ) -> SpanContext:
        """
        Begin the span of *record* being processed; return its context.

        Args:
            record: The record.
            parent: The span's parent; None: it is the root of *trace_id*.
            identity: What its id is derived from, beside the trace's; the record's coordinates if nothing is given.
            trace_id: Of a root.
            because: A cause in another trace: a link.
            correlation_id: The command id, if the record doesn't say.
            start_ns: When it began, Unix nanoseconds; None: now.
            error: Why it went to the dead letters; None: it didn't.
        """
        attributes: dict[str, Any] = {
            "messaging.consumer.group.name": self._group,
            "messaging.destination.partition.id": str(record.partition),
            "messaging.kafka.offset": record.offset,
        }
        if event_id := header(record.headers, CE_ID):
            attributes["messaging.message.id"] = event_id
        if error is not None:
            attributes["error.type"] = error
        return self._begin(
            ("process", record.topic),
            SpanKind.CONSUMER,
            parent,
            identity or (record.topic, record.partition, record.offset),
            attributes | self._about(record.key, correlation_id or header(record.headers, CE_CORRELATION_ID)),
            trace_id=trace_id,
            links=[because] if because is not None else [],
            start_ns=start_ns,
            error=error,
        )

    def sent(
        self,
        topic: str,
        key: bytes | None,
        event_id: str | None,
        correlation_id: str | None,
        parent: SpanContext,
        *identity: object,
    ) -> str:
        """Begin the span of a record that is produced by the batch; return the traceparent that it carries."""
        attributes = self._about(key, correlation_id)
        if event_id:
            attributes["messaging.message.id"] = event_id
        where = (topic, event_id, *identity)
        context = self._begin(("send", topic), SpanKind.PRODUCER, parent, where, attributes)
        return format_traceparent(context)

    def called(
        self, name: str, parent: SpanContext, identity: object, attributes: dict[str, Any], start_ns: int, end_ns: int
    ) -> None:
        """Tell of a call to somebody else's server, from *start_ns* to *end_ns*, Unix nanoseconds."""
        self._span(
            name,
            SpanKind.CLIENT,
            parent,
            (identity,),
            attributes,
            start_ns=start_ns,
            end_ns=end_ns,
            error=attributes.get("error.type"),
        )

    def refused(self, batch: Batch) -> None:
        """Begin the spans of *batch*'s records that go to the dead letters."""
        for refusal in batch.refusals:
            record = refusal.record
            trace_id = derived(16, record.topic, record.partition, record.offset)
            where = (record.topic, record.partition, record.offset, "refused")
            self.processed(record, came_with(record), *where, trace_id=trace_id, error=refusal.reason)

    def answered(self, topic: str, record: Record, event_id: str) -> str:
        """Begin the spans of *record* and of its one answer in *topic*; return what the answer carries."""
        correlation_id = header(record.headers, CE_CORRELATION_ID)
        trace_id = derived(16, record.topic, record.partition, record.offset)
        parent = self.processed(record, came_with(record), trace_id=trace_id)
        return self.sent(topic, record.key, event_id, correlation_id, parent)

    def context_of(self, trace_id: int, parent: SpanContext | None, *identity: object) -> SpanContext:
        """Return the context of the span that was begun, here or elsewhere, with that parent and *identity*."""
        context = set_span_in_context(NonRecordingSpan(parent)) if parent is not None else None
        sampled = (
            self._provider.sampler.should_sample(context, trace_id, "process").decision is Decision.RECORD_AND_SAMPLE
        )
        flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
        return SpanContext(trace_id, self._span_id(trace_id, identity), is_remote=True, trace_flags=flags)

    def _span_id(self, trace_id: int, identity: Sequence[object]) -> int:
        return derived(8, trace_id, self._group, *identity)

    def _about(self, key: bytes | None, correlation_id: str | None) -> dict[str, Any]:
        found = {"messaging.system": "kafka", "messaging.client.id": self._instance}
        if key is not None:
            found["messaging.kafka.message.key"] = key.decode(errors="replace")
        if correlation_id:
            found["messaging.message.conversation_id"] = correlation_id
        return found

    def _begin(
        self,
        what: tuple[str, str],
        kind: SpanKind,
        parent: SpanContext | None,
        identity: Sequence[object],
        attributes: dict[str, Any],
        **options: Any,
    ) -> SpanContext:
        operation, topic = what
        name = self._cluster_name(topic)
        attributes |= {
            "messaging.operation.name": operation,
            "messaging.operation.type": operation,
            "messaging.destination.name": name,
        }
        return self._span(f"{operation} {name}", kind, parent, identity, attributes, **options)

    def _span(
        self,
        name: str,
        kind: SpanKind,
        parent: SpanContext | None,
        identity: Sequence[object],
        attributes: dict[str, Any],
        *,
        trace_id: int = 0,
        links: Sequence[SpanContext] = (),
        start_ns: int | None = None,
        end_ns: int | None = None,
        error: str | None = None,
    ) -> SpanContext:
        if parent is not None:
            trace_id = parent.trace_id
            identity = (parent.span_id, *identity) if kind is not SpanKind.CONSUMER else identity
        self._ids.trace_id, self._ids.span_id = trace_id, self._span_id(trace_id, identity)
        span = self._tracer.start_span(
            name,
            context=set_span_in_context(NonRecordingSpan(parent)) if parent is not None else None,
            kind=kind,
            attributes=attributes,
            links=[Link(context) for context in links],
            start_time=start_ns,
        )
        if error is not None:
            span.set_status(Status(StatusCode.ERROR))
        self._spans.append(_Begun(span, end_ns))
        return span.get_span_context()


def _exporter() -> SpanExporter:
    """Return the exporter of the protocol that is asked for; it reads the rest of the environment itself."""
    names = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
    name, protocol = next(((n, os.environ[n]) for n in names if os.environ.get(n)), (names[1], "http/protobuf"))
    module = _EXPORTERS.get(protocol)
    if module is None:
        raise ConfigurationError(f"{name}={protocol!r}: {' or '.join(_EXPORTERS)}")
    try:
        made: SpanExporter = importlib.import_module(module).OTLPSpanExporter()
    except ModuleNotFoundError as exc:
        raise ConfigurationError(
            f"{name}={protocol!r}: install opentelemetry-exporter-otlp-proto-{protocol.partition('/')[0]}"
        ) from exc
    return made
