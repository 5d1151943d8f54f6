"""
The loops that hand a batch's records to Kafka's client: apart from `transaction`, so that they can be compiled.

Each takes the client's method, which copies the record into its queue, and stops where that is full.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from streams.batch import Output, RowChange

Produce = Callable[..., object]
"""`confluent_kafka.Producer.produce`. Its arguments are positional here: keywords would cost a tenth of it."""


def produce_outputs(produce: Produce, outputs: Sequence[Output], at: int, partition: int, names: dict[str, str]) -> int:
    """Produce *outputs* from index *at* on; return the index of the first for which there was no room, or the end."""
    for i in range(at, len(outputs)):
        topic, key, value, headers = outputs[i]
        try:
            produce(names[topic], value, key, partition, None, None, 0, headers)
        except BufferError:
            return i
    return len(outputs)


def produce_rows(
    produce: Produce,
    rows: Sequence[RowChange],
    at: int,
    partition: int,
    topic: str,
    last_delivered: Callable[[Any, Any], None],
) -> int:
    """
    Produce the new values of *rows*, as `produce_outputs`.

    *last_delivered* is told of the last one's delivery, and may be None as for any.
    """
    last = len(rows) - 1
    for i in range(at, len(rows)):
        key, _, new = rows[i]
        on_delivery = last_delivered if i == last else None
        try:
            produce(topic, new, key, partition, on_delivery, on_delivery, 0, None)
        except BufferError:
            return i
    return len(rows)
