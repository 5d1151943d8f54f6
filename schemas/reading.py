"""
What the strict readers are made with: the way over lengths and numbers.

Compiled, positions are machine integers; so what is too large for any value is cut to `BEYOND`, which is as far beyond
a value's end as the number itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from schemas.diagnosis import LONG_BYTES_MAX, LONG_LAST_BYTE_MAX, MORE, UUID_SHAPE, UUID_SHAPES

if TYPE_CHECKING:
    from mypy_extensions import i64

__all__ = ["BEYOND", "SHAPES", "SKIP", "UUID", "Reader", "Refuse", "block_at", "length_at", "long_at"]

Reader: TypeAlias = Callable[[bytes], tuple[Any, ...]]
"""Takes a value; returns the fields asked for, in that order. Raises `Undecodable`."""

Refuse: TypeAlias = Callable[[bytes, Exception], Exception]
"""Makes the `Undecodable` of a value at which a reader met the exception."""

BEYOND: Final = 1 << 62
SKIP: Final = tuple(0 if byte >= MORE else BEYOND if byte & 1 else 1 + (byte >> 1) for byte in range(256))
"""The way over a string whose length is this byte: 0 where the length goes on, beyond any end where it is negative."""

SHAPES: Final = UUID_SHAPES
UUID: Final = UUID_SHAPE


def long_at(b: bytes, p: i64) -> tuple[int, i64]:
    """Return the long at *p* and the position after it."""
    n = shift = 0
    first = p
    while (byte := b[p]) >= MORE:
        n |= (byte & 127) << shift
        shift += 7
        p += 1
    n |= byte << shift
    size = p - first + 1
    if size > 1 and (byte == 0 or size > LONG_BYTES_MAX or (size == LONG_BYTES_MAX and byte > LONG_LAST_BYTE_MAX)):
        raise ValueError
    return n >> 1 ^ -(n & 1), p + 1


def length_at(b: bytes, p: i64) -> tuple[i64, i64]:
    """Return the length at *p* and the position after it."""
    n, p = long_at(b, p)
    if n < 0:
        raise ValueError
    return min(n, BEYOND), p


def block_at(b: bytes, p: i64) -> tuple[i64, i64, i64]:
    """Return the number of a block's items, the position after it, and where the block ends (-1: doesn't say)."""
    n, p = long_at(b, p)
    if n >= 0:
        return min(n, BEYOND), p, -1
    size, p = length_at(b, p)
    return min(-n, BEYOND), p, p + size
