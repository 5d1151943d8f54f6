"""Spans of the process manager and the services: which there are, of which trace, under whom, and when."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Final

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from streams import settings as settings_module
from streams import tracing as tracing_module
from streams.batch import Batch, Headers
from streams.errors import ConfigurationError
from streams.headers import TRACEPARENT, header
from streams.processing.traced import TracedProcessManager
from streams.tracing.spans import Tracing, parse
from tests.streams.manager import COMMAND_ID, NOW_MS, ORDER_ID, Manager
from topology.policy import Policy

SOURCE: Final = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
ELSEWHERE: Final = "00-11111111111111111111111111111111-2222222222222222-01"


class Traced(Manager):
    """A process manager with spans, and what it has exported."""

    def __init__(self, policy: Policy | None = None, **options: Any) -> None:
        super().__init__(policy, **options)
        self._exporter = InMemorySpanExporter()
        self.tracing = Tracing(settings_module.load(), "rejoinder-worker", "1", self._exporter)
        refuse = options.get("resolve", lambda _: None)
        self._decide = TracedProcessManager(self.codec, refuse, self.policy, 1, tracing=self.tracing)

    def commit(self, batch: Batch) -> list[ReadableSpan]:
        """Say that *batch* is committed; return the spans that are exported then."""
        self._exporter.clear()
        self.tracing.committed([SimpleNamespace(batch=batch)])
        self.tracing._provider.force_flush()
        return list(self._exporter.get_finished_spans())

    def go(self, *records: Any, **options: Any) -> tuple[list[ReadableSpan], list[str | None]]:
        """Decide and commit; return the spans, and what each output carries."""
        batch = self.run(*records, **options)
        return self.commit(batch), [header(output.headers, TRACEPARENT) for output in batch.outputs]


def carrying(traceparent: str) -> Headers:
    """Return headers with *traceparent*."""
    return [(TRACEPARENT, traceparent.encode())]


def of(span: ReadableSpan) -> tuple[int, int]:
    """Return the span's trace and id."""
    return span.context.trace_id, span.context.span_id


def parent_of(span: ReadableSpan) -> tuple[int, int] | None:
    """Return the parent's trace and id."""
    return (span.parent.trace_id, span.parent.span_id) if span.parent else None


def attributes_of(span: ReadableSpan) -> dict[str, Any]:
    """Return the span's attributes."""
    return dict(span.attributes or {})


def named(traceparent: str | None) -> tuple[int, int]:
    """Return the trace and id that a header names."""
    context = parse(traceparent)
    assert context is not None
    return context.trace_id, context.span_id


def test_each_step_is_a_child_of_what_caused_it_in_the_commands_trace() -> None:
    """Source, command, query; the answer carries the trace on to the SendEmail, its outcome to the last event."""
    manager = Traced()
    (command, query), (asks,) = manager.go(manager.command(headers=carrying(SOURCE)))
    assert named(SOURCE) == parent_of(command)
    assert of(command) == parent_of(query)
    assert named(asks) == of(query)
    assert ["process order-confirmation.commands", "send order-details.queries"] == [command.name, query.name]

    assert asks is not None
    (answered, mail), (sends,) = manager.go(manager.details(headers=carrying(asks)))
    assert named(asks) == parent_of(answered)
    assert of(answered) == parent_of(mail)
    assert COMMAND_ID == attributes_of(mail)["messaging.message.conversation_id"]
    assert ORDER_ID == attributes_of(mail)["messaging.kafka.message.key"]

    sent = manager.sent()._replace(headers=carrying(sends or ""))
    (told, outcome), _ = manager.go(sent)
    assert [named(sends), of(told)] == [parent_of(told), parent_of(outcome)]
    assert {named(SOURCE)[0]} == {span.context.trace_id for span in (command, query, answered, mail, told, outcome)}


def test_command_without_a_trace_is_one_of_its_own_by_its_identity() -> None:
    """Whoever decides it derives the same trace; one that began elsewhere is the parent of nothing."""
    first, second = Traced(), Traced()
    (command, query), carried = first.go(first.command())
    again, same = second.go(second.command())
    assert None is command.parent
    assert of(command) == parent_of(query)
    assert [of(command), of(query)] == [of(span) for span in again]
    assert carried == same


def test_details_of_another_trace_are_a_link_and_the_commands_span_the_parent() -> None:
    """Published unasked, they have a trace of their own, or none."""
    for headers, links in ((carrying(ELSEWHERE), [named(ELSEWHERE)]), (None, [])):
        manager = Traced()
        (command, _), _ = manager.go(manager.command(headers=carrying(SOURCE)))
        (details, mail), _ = manager.go(manager.details(headers=headers))
        assert of(command) == parent_of(details)
        assert links == [(link.context.trace_id, link.context.span_id) for link in details.links]
        assert of(details) == parent_of(mail)


def test_deadline_is_a_child_of_the_commands_span_each_attempt_another() -> None:
    """No record causes it, so nothing but the row says whose it is."""
    manager = Traced(Policy(retry_first_ms=1_000, retry_most_ms=1_000))
    (command, _), _ = manager.go(manager.command(headers=carrying(SOURCE)))
    found = []
    for passed_ms in (10_000, 20_000):
        spans, _ = manager.go(due=[ORDER_ID.encode()], now_ms=NOW_MS + passed_ms)
        assert [of(command)] == [parent_of(span) for span in spans]
        found += [of(span) for span in spans]
    assert 2 == len(set(found))


def test_aborted_batch_exports_nothing_and_decided_again_carries_the_same() -> None:
    """What a reader of committed records sees doesn't depend on how often it took."""
    manager = Traced()
    record = manager.command(headers=carrying(SOURCE))
    aborted = manager.decide(record)
    decided = manager.decide(record)
    assert aborted.outputs == decided.outputs
    assert [] == manager.commit(aborted)
    assert 2 == len(manager.commit(decided))
    assert [] == manager.commit(decided)


def test_refused_record_is_an_error_with_its_reason() -> None:
    """A dead letter is found in the trace that it ended."""
    manager = Traced()
    record = manager.command(headers=carrying(SOURCE))._replace(value=b"\0")
    (span,), _ = manager.go(record)
    assert not span.status.is_ok
    assert named(SOURCE) == parent_of(span)
    assert manager.run(record).refusals[0].reason == attributes_of(span)["error.type"]


def test_unsampled_trace_is_passed_on_and_exports_nothing() -> None:
    """The source has decided."""
    manager = Traced()
    spans, (asks,) = manager.go(manager.command(headers=carrying(SOURCE[:-1] + "0")))
    assert [] == spans
    assert asks is not None
    assert asks.endswith("-00")
    assert named(SOURCE)[0] == named(asks)[0]


def test_sampling_of_a_trace_of_ours_is_the_same_at_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """A deadline's span is sampled if the command's was: by ratio, from the trace's id."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.5")
    seen = set()
    for number in range(20):
        manager = Traced(Policy(retry_first_ms=1_000, retry_most_ms=1_000))
        order_id = f"order-{number}"
        first, _ = manager.go(manager.command(order_id))
        later, _ = manager.go(due=[order_id.encode()], now_ms=NOW_MS + 10_000)
        assert (len(first) > 0) == (len(later) > 0)
        seen.add(len(first) > 0)
    assert {True, False} == seen


def test_traceparents_that_are_none() -> None:
    """W3C's syntax; what isn't valid is as good as none."""
    assert None is parse("00-a-b-01")
    assert None is parse("ff" + SOURCE[2:])
    assert None is parse(SOURCE.replace("4bf92f3577b34da6a3ce929d0e0e4736", "0" * 32))
    assert parse(SOURCE + "-more") == parse(SOURCE)


@pytest.fixture
def otel(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Set and unset the variables of OpenTelemetry."""
    for name in list(os.environ):
        if name.startswith("OTEL_"):
            monkeypatch.delenv(name)

    def put(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(f"OTEL_{name}", value)

    return put


def test_on_only_where_an_endpoint_is_set(otel: Callable[..., None]) -> None:
    """And neither the SDK, nor traces, nor headers are off."""
    settings = settings_module.load()
    assert None is tracing_module.open_tracing(settings, "g")
    otel(EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9")
    assert None is tracing_module.open_tracing(settings_module.load(headers="off"), "g")
    found = tracing_module.open_tracing(settings, "g")
    assert found is not None
    found._provider.shutdown()
    otel(TRACES_EXPORTER="none")
    assert None is tracing_module.open_tracing(settings, "g")
    otel(TRACES_EXPORTER="otlp", SDK_DISABLED="true")
    assert None is tracing_module.open_tracing(settings, "g")


def test_protocol_that_is_not_installed_or_none_is_named(otel: Callable[..., None]) -> None:
    """A typing error must not become silence."""
    otel(EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9", EXPORTER_OTLP_PROTOCOL="grcp")
    with pytest.raises(ConfigurationError, match="OTEL_EXPORTER_OTLP_PROTOCOL='grcp': http/protobuf or grpc"):
        tracing_module.open_tracing(settings_module.load(), "g")
    otel(EXPORTER_OTLP_PROTOCOL="grpc")
    with pytest.raises(ConfigurationError, match="install opentelemetry-exporter-otlp-proto-grpc"):
        tracing_module.open_tracing(settings_module.load(), "g")


def test_where_it_is_off_nothing_of_it_is_imported() -> None:
    """No time and no memory, and the extra needn't be installed."""
    code = (
        "import sys\n"
        "from streams import settings\n"
        "from streams.app import create_app\n"
        "create_app(settings.load())\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_without_the_extra_it_says_what_to_install(otel: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """An endpoint that is set and silently not used would be found when the traces are needed."""
    otel(EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9")
    monkeypatch.setitem(sys.modules, "streams.tracing.spans", None)
    with pytest.raises(ConfigurationError, match=r"install rejoinder\[otel\]"):
        tracing_module.open_tracing(settings_module.load(), "g")
