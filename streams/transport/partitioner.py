"""Which partition a key belongs to: murmur2, as Java's clients hash."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mypy_extensions import i64

_MASK: Final = 0xFFFFFFFF
_M: Final = 0x5BD1E995
_SEED: Final = 0x9747B28C
_WORDS: Final = tuple(Struct(f"<{n}I") for n in range(65))


def murmur2(key: bytes) -> int:
    """
    Return the 32-bit murmur2 hash of *key*.

    Source: Appleby's MurmurHash2 with the seed of Apache Kafka's ``Utils.murmur2``.
    """
    length = len(key)
    whole = length // 4
    words = _WORDS[whole] if whole < len(_WORDS) else Struct(f"<{whole}I")
    # Machine integers where it is compiled: no product of two of these reaches 63 bits.
    h: i64 = _SEED ^ length
    k: i64
    for word in words.unpack_from(key):
        k = word
        k = k * _M & _MASK
        h = h * _M & _MASK ^ (k ^ k >> 24) * _M & _MASK
    if tail := key[whole * 4 :]:
        k = int.from_bytes(tail, "little")
        h = (h ^ k) * _M & _MASK
    h = (h ^ h >> 13) * _M & _MASK
    return h ^ h >> 15


def partition_of(key: bytes, partitions: int) -> int:
    """Return the partition of *key* in a topic of *partitions* partitions."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions
