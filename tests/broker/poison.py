"""Every kind of poison that a topic of the process manager can hold: what is refused, and for which reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from schemas.codec import FRAME_BYTES, frame
from topology.topics import KEY_BYTES_MAX, RECORD_BYTES_MAX

UNKNOWN_ID: Final = 0x0FFFFF


class Poison(NamedTuple):
    """A record to produce, and why it is refused; *elsewhere*: not in the partition that its key belongs to."""

    reason: str
    key: bytes | None
    value: bytes | None
    elsewhere: bool = False


Make = Callable[[bytes, bytes, int], Poison]
"""Takes the key and the value of a good command, and a number to make this one differ from the others of its kind."""


def _changed(value: bytes, at: int, new: bytes) -> bytes:
    return value[:at] + new + value[at + len(new) :]


KINDS: Final[dict[str, Make]] = {
    "null key": lambda _key, value, _n: Poison("null", None, value),
    "null value": lambda key, _value, _n: Poison("null", key, None),
    "nothing": lambda key, _value, _n: Poison("not-framed", key, b""),
    "short header": lambda key, value, n: Poison("not-framed", key, value[: 1 + n % (FRAME_BYTES - 1)]),
    "bad magic": lambda key, value, n: Poison("not-framed", key, bytes([1 + n % 255]) + value[1:]),
    "unknown schema id": lambda key, value, n: Poison(
        "unknown-schema", key, frame(UNKNOWN_ID + n) + value[FRAME_BYTES:]
    ),
    "truncated": lambda key, value, n: Poison("truncated", key, value[: len(value) - 1 - n % 30]),
    "trailing bytes": lambda key, value, n: Poison("trailing-bytes", key, value + bytes(1 + n % 9)),
    "bad UTF-8": lambda key, value, _n: Poison("bad-text", key, value[:-1] + b"\xff"),
    "bad UUID": lambda key, value, _n: Poison("bad-uuid", key, _changed(value, FRAME_BYTES + 1, b"no UUID")),
    "bad number": lambda key, value, _n: Poison("bad-number", key, _changed(value, FRAME_BYTES + 37, b"\x80\x00")),
    "key of another order": lambda key, value, n: Poison("key-mismatch", key + b"%d" % n, value),
    "key that is no text": lambda _key, value, _n: Poison("key-mismatch", b"\xff\xfe", value),
    "key too long": lambda _key, value, _n: Poison("key-too-long", b"k" * (KEY_BYTES_MAX + 1), value),
    "wrong partition": lambda key, value, _n: Poison("wrong-partition", key, value, elsewhere=True),
}
"""Kinds by name; the command's last field is its locale, and its first its id."""

LARGE: Final[Make] = lambda key, value, n: Poison(  # noqa: E731 - one of `KINDS`, apart for its size.
    "too-large", key, value + bytes(RECORD_BYTES_MAX - len(value) + 1 + n % 9)
)
"""Larger than may be, yet taken by the broker, to which it is small: it is compressed."""


def endless() -> Iterator[tuple[str, Make]]:
    """Yield the kinds, over and over."""
    while True:
        yield from KINDS.items()
