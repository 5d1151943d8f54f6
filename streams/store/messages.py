"""The changelog's messages as rows: the loop over them, apart from `changelog`, so that it can be compiled."""

from __future__ import annotations

from typing import Any, NamedTuple

Rows = list[tuple[bytes, "bytes | None"]]


class Sorted(NamedTuple):
    """What one read brought: *rows* and the *last* message with one, by partition number; and what is no row."""

    rows: dict[int, Rows]
    last: dict[int, Any]
    special: list[Any]


def sorted_out(messages: list[Any]) -> Sorted:
    """
    Return the rows of *messages* by partition, each partition's in offset order.

    The library's types allow None everywhere; a record of a compacted topic has a key, an offset and a partition.
    """
    rows: dict[int, Rows] = {}
    last: dict[int, Any] = {}
    special: list[Any] = []
    for message in messages:
        if message.error() is not None:
            special.append(message)
            continue
        number: int = message.partition()
        row = (message.key(), message.value())
        try:
            rows[number].append(row)
        except KeyError:
            rows[number] = [row]
        last[number] = message
    return Sorted(rows, last, special)


def bytes_of(rows: Rows) -> int:
    """Return how many bytes *rows* are, keys and values."""
    total = 0
    for key, value in rows:
        total += len(key)
        if value is not None:
            total += len(value)
    return total
