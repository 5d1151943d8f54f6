"""
What the kernel is told of: rows, records, ids and rules, so that it holds no second copy of any of them.

The kernel (`kernel.pyx`) is there where it was compiled, see ``./dev native``; without it all goes by `straight`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from schemas import program, state_codec, timeline_codec
from schemas.codec import INPUTS, Codec
from schemas.record_schema import Schema
from streams import headers
from streams.batch import Output, Record
from streams.processing import waiting
from topology import events, ids
from topology.messages import Action, GetOrderDetails, OrderConfirmationSent, SendEmail
from topology.policy import Policy
from topology.state import Step
from topology.topics import COMMANDS, DETAILS, EMAIL_EVENTS, RECORD_BYTES_MAX
from topology.transitions import Branch

_READ: Final = (
    ("communications.SendOrderConfirmationEmail", COMMANDS),
    ("orders.OrderDetailsRetrieved", DETAILS),
    ("communications.EmailSent", EMAIL_EVENTS),
)
"""The kernel's records, in its order of them, and where they come from."""

# The kernel's own order of fields, which it writes one by one.
_QUERY_FIELDS: Final[Sequence[tuple[str, Schema]]] = (
    ("query_id", "string"), ("order_id", "string"), ("attempt", "int"), ("asked_at", "long"),
)  # fmt: skip
_OUTCOME_FIELDS: Final[Sequence[tuple[str, Schema]]] = (
    ("command_id", "string"), ("order_id", "string"), ("email_id", "string"), ("ended_at", "long"),
)  # fmt: skip

_KINDS: Final = [event for event, _ in timeline_codec.KINDS]

_EVENTS: Final = (
    events.CommandReceived,
    events.OrderDetailsQueried,
    events.OrderDetailsRetrieved,
    events.EmailRequested,
    events.EmailSent,
)
"""What the kernel records in timelines, in its order of them."""

_Action: TypeAlias = tuple[str, tuple[tuple[str, bytes], ...], bytes, bytes]
"""An output's topic, what its headers begin with, what its value begins and ends with."""


class KernelFacts(NamedTuple):
    """The kernel's only argument."""

    version: int
    layouts: dict[str, str]
    operations: dict[str, int]
    programs: Sequence[Sequence[int]]
    records: Sequence[str]
    topics: Sequence[str]
    as_is: dict[bytes, str]
    """Of the codec, which goes on to learn: the record by a value's first bytes."""
    command_schema: int
    details_schema: int
    query: _Action
    email: _Action
    outcome: _Action
    template: bytes
    policy: Policy
    partitions: int
    with_headers: bool
    branches: Sequence[Branch]
    namespace: bytes
    output_type: type[Output]
    original_timestamp: str
    row_bytes_max: int
    record_bytes_max: int
    trace_chars_max: int
    copied_chars_max: int
    bucket_ms: int
    steps: int
    steps_of: Sequence[Step]
    """Awaiting details, awaiting the e-mail's outcome, sent."""
    event_kinds: Sequence[int]
    topic_indices: Sequence[int]
    """Commands, details, e-mail events; and how many there are."""


class Kernel(Protocol):
    """See `kernel.pyx`."""

    at: int

    def decide(
        self,
        records: list[Record],
        at: int,
        end: int,
        now_ms: int,
        time: bytes,
        loaded: dict[bytes, bytes | None],
        rows: dict[bytes, bytes | None],
        orders: dict[bytes, Any],
        moved: dict[int, int],
        outputs: list[Output],
        taken: list[Branch],
    ) -> int:
        """Decide the records from index *at* on; return that of the first left to Python, or *end*."""


def kernel_module() -> Any:
    """Return the kernel's module, None where it isn't compiled."""
    try:
        return import_module("streams.processing.kernel")
    except ImportError:
        return None


def kernel(tell: Callable[[], KernelFacts | None]) -> Kernel | None:
    """Return the kernel of what *tell* returns; None where it isn't compiled, or there are no words for a schema."""
    module = kernel_module()
    told = tell() if module else None
    made: Kernel | None = module.Kernel(told) if told else None
    return made


def facts(
    codec: Codec,
    policy: Policy,
    partitions: int,
    source: str,
    actions: Mapping[type[Action], tuple[str, str]],
    branches: Sequence[Branch],
    row_bytes_max: int,
    trace_chars_max: int,
    *,
    with_headers: bool,
) -> KernelFacts | None:
    """
    Return what the kernel is told; None if there are no words for a schema.

    Args:
        codec: What it is to agree with.
        policy: Waits and attempts.
        partitions: Of every topic.
        source: The outputs' ``ce_source``.
        actions: Where each goes, and the full name of its record.
        branches: The table's, as `straight` names them.
        row_bytes_max: A row that may grow beyond this is the table's.
        trace_chars_max: A longer traceparent is passed over.
        with_headers: Whether outputs have any.
    """
    programs = [program.program(codec.current(record), INPUTS[record].fields) for record, _ in _READ]
    spliced = codec.spliced()
    if spliced is None:
        return None
    expressed = [some for some in programs if some is not None]
    if len(expressed) < len(programs):
        return None

    def written(action: type[Action], fields: Sequence[tuple[str, Schema]]) -> _Action:
        topic, record = actions[action]
        return topic, headers.fixed(source, record), codec.plain(record, fields), b""

    email_topic, email_record = actions[SendEmail]

    topics = timeline_codec.TOPICS
    return KernelFacts(
        version=state_codec.VERSION,
        layouts={
            "head": state_codec.HEAD.format,
            "body": state_codec.BODY.format,
            "details": state_codec.DETAILS.format,
            "process": state_codec.PROCESS.format,
            **{event.__name__: layout.format for event, layout in timeline_codec.KINDS if event in _EVENTS},
        },
        operations=program.OPERATIONS,
        programs=expressed,
        records=[record for record, _ in _READ],
        topics=[topic.name for _, topic in _READ],
        as_is=codec.as_is,
        command_schema=spliced.command_schema,
        details_schema=spliced.order_schema,
        query=written(GetOrderDetails, _QUERY_FIELDS),
        email=(email_topic, headers.fixed(source, email_record), spliced.head, spliced.tail),
        outcome=written(OrderConfirmationSent, _OUTCOME_FIELDS),
        template=spliced.template,
        policy=policy,
        partitions=partitions,
        with_headers=with_headers,
        branches=branches,
        namespace=ids.NAMESPACE,
        output_type=Output,
        original_timestamp=headers.ORIGINAL_TIMESTAMP,
        row_bytes_max=row_bytes_max,
        record_bytes_max=RECORD_BYTES_MAX,
        trace_chars_max=trace_chars_max,
        copied_chars_max=headers.COPIED_CHARS_MAX,
        bucket_ms=waiting.BUCKET_MS,
        steps=len(Step),
        steps_of=(Step.AWAITING_DETAILS, Step.AWAITING_EMAIL, Step.SENT),
        event_kinds=[_KINDS.index(event) for event in _EVENTS],
        topic_indices=[*(topics.index(topic.name) for topic in (COMMANDS, DETAILS, EMAIL_EVENTS)), len(topics)],
    )
