"""Durations as people write them in settings: "500ms", "30s", "after 2m"."""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import BeforeValidator

from topology.policy import DAY_MS, NEVER_ASK

_UNITS_MS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


_DURATION_MS_MAX: Final = 3_650 * DAY_MS


def parse_duration_ms(text: object) -> int:
    """
    Return *text* ("500ms", "30s", "5m", "24h", "7d"; a unit is always said) in milliseconds.

    Raises:
        ValueError: it is none.
    """
    if isinstance(text, int):  # From code; the environment gives text.
        return text
    match = re.fullmatch(r"(\d+)\s*(ms|s|m|h|d)", str(text).strip())
    if not match:
        raise ValueError(
            f"{text!r} is no duration; allowed: a whole number and a unit, such as 500ms, 30s, 5m, 24h, 7d"
        )
    duration_ms = int(match[1]) * _UNITS_MS[match[2]]
    if duration_ms > _DURATION_MS_MAX:
        raise ValueError(f"{text!r} is too long; at most {_DURATION_MS_MAX // DAY_MS}d")
    return duration_ms


def parse_ask_ms(text: object) -> int:
    """
    Return when order details are asked for: milliseconds after the command, `NEVER_ASK` for never.

    Raises:
        ValueError: *text* is neither "at once", "never" nor "after DURATION".
    """
    words = str(text).strip()
    if words == "at once":
        return 0
    if words == "never":
        return NEVER_ASK
    if words.startswith("after "):
        return parse_duration_ms(words.removeprefix("after "))
    if isinstance(text, int):
        return text
    raise ValueError(f'{text!r} is not allowed; allowed: "at once", "never", or "after" and a duration: "after 500ms"')


Duration = Annotated[int, BeforeValidator(parse_duration_ms)]


def format_duration(duration_ms: int) -> str:
    """Return *duration_ms* as `parse_duration_ms` reads it, in the largest unit that is exact."""
    for unit, unit_ms in reversed(_UNITS_MS.items()):
        if duration_ms and duration_ms % unit_ms == 0:
            return f"{duration_ms // unit_ms}{unit}"
    return f"{duration_ms}ms"
