"""Dead letters as text for a terminal and as JSON; no control character of a record gets to the terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

from rich.console import Console
from rich.markup import escape

from streams.cli.arguments import plain
from streams.headers import rfc3339
from streams.monitor.dead_letters import Letter, mask, mask_text

DUMP_BYTES: Final = 1_024
"""Of a value, unless all of it is asked for."""

LINE_KEY_CHARS: Final = 60
_HEADER_CHARS: Final = 200
_LINE_BYTES: Final = 16
_PRINTABLE: Final = range(0x20, 0x7F)
_TIME_CHARS: Final = 19
_KIB: Final = 1_024


def console() -> Console:
    """Return where people read."""
    return Console(highlight=False, soft_wrap=True)


def when(ms: int) -> str:
    """Return an instant to the second, in UTC; whatever a record claims to be one."""
    try:
        return rfc3339(ms).decode()[:_TIME_CHARS].replace("T", " ") + "Z"
    except (ValueError, OverflowError, OSError):
        return f"{ms} ms"


def printable(data: bytes | None, *, raw: bool, chars_max: int | None = None) -> str:
    """Return *data* as text that does nothing to a terminal, addresses masked unless *raw*."""
    if data is None:
        return "null"
    text = plain((data if raw else mask(data)).decode(errors="backslashreplace"))
    return text if chars_max is None or len(text) <= chars_max else f"{text[:chars_max]}…"


def size(count: int) -> str:
    """Return a size for a person."""
    return f"{count:,} B" if count < 10 * _KIB else f"{count / _KIB:,.0f} KiB"


def headline(letter: Letter, reason_chars: int, *, put_back: bool) -> str:
    """Return the first line of *letter* in a list."""
    where, reason = escape(str(letter.at)), escape(f"{plain(letter.reason):{reason_chars}}")
    key = escape(printable(letter.key, raw=False, chars_max=LINE_KEY_CHARS))
    done = "  [green]put back[/]" if put_back else ""
    return f"[bold]{where}[/]  [yellow]{reason}[/]  {when(letter.refused_ms)}  {size(letter.size):>9}  key {key}{done}"


def below(letter: Letter) -> str:
    """Return the second line."""
    origin = plain(str(letter.origin)) if letter.origin else "an unknown place"
    said = f": {plain(mask_text(letter.detail))}" if letter.detail else ""
    times = f" (put back and refused again, {letter.redrives}×)" if letter.redrives else ""
    return f"    [dim]from {escape(origin + said + times)}[/]"


def as_json(letter: Letter, *, put_back: bool) -> str:
    """Return *letter* as a line of JSON, without its value."""
    origin = letter.origin
    return json.dumps(
        {
            "letter": str(letter.at),
            "origin": str(origin) if origin else None,
            "reason": letter.reason,
            "detail": mask_text(letter.detail),
            "key": None if letter.key is None else mask(letter.key).decode(errors="backslashreplace"),
            "refused_at": when(letter.refused_ms).replace(" ", "T", 1),
            "first_came_at": when(letter.original_ms).replace(" ", "T", 1),
            "bytes": letter.size,
            "redrives": letter.redrives,
            "put_back": put_back,
        }
    )


def whole(letter: Letter, decoded: tuple[str, Any] | str, *, put_back: bool, raw: bool) -> Iterator[str]:
    """Yield all lines about *letter*; *decoded*: its record's name and fields, or why it has none."""
    key = "null" if letter.key is None else f"{printable(letter.key, raw=raw)} ({len(letter.key):,} bytes)"
    detail = plain(letter.detail if raw else mask_text(letter.detail))
    rows = [
        ("refused", f"{when(letter.refused_ms)}, {plain(letter.reason)}"),
        ("because", detail),
        ("from", f"{plain(str(letter.origin))}, where it came {when(letter.original_ms)}" if letter.origin else "?"),
        ("put back", "yes" if put_back else "no"),
        ("key", key),
    ]
    if letter.redrives:
        rows.insert(4, ("refused", f"{letter.redrives} times before, each time after it had been put back"))
    yield f"[bold]{escape(str(letter.at))}[/]"
    for title, text in rows:
        yield f"  {title:<9} {escape(text)}"
    yield f"\n[bold]headers[/] ({len(letter.headers)})"
    width = max((len(plain(name)) for name, _ in letter.headers), default=0)
    for name, data in letter.headers:
        shown = printable(data, raw=raw, chars_max=None if raw else _HEADER_CHARS)
        yield f"  {escape(f'{plain(name):<{min(width, 40)}}')}  {escape(shown)}"
    yield from _value(letter, raw=raw)
    if isinstance(decoded, str):
        yield f"\n[bold]not decodable[/]: {escape(plain(decoded if raw else mask_text(decoded)))}"
        return
    record, fields = decoded
    yield f"\n[bold]decoded[/]: {escape(record)}"
    text = json.dumps(fields, indent=2, ensure_ascii=False, default=str)
    for line in (text if raw else mask_text(text)).splitlines():
        yield f"  {escape(plain(line))}"


def _value(letter: Letter, *, raw: bool) -> Iterator[str]:
    if letter.value is None:
        left_out = f": {letter.left_out_bytes:,} bytes were left out" if letter.left_out_bytes else ""
        yield f"\n[bold]value[/]: null{left_out}"
        return
    yield f"\n[bold]value[/] ({len(letter.value):,} bytes)"
    shown = letter.value if raw else letter.value[:DUMP_BYTES]
    yield from (f"  {escape(line)}" for line in dump(shown, shown if raw else mask(letter.value)[: len(shown)]))
    if more := len(letter.value) - len(shown):
        yield f"  … {more:,} more; --raw shows all"


def dump(data: bytes, masked: bytes) -> Iterator[str]:
    """Yield the lines of a hex dump of *data*, with what differs in *masked* written as asterisks."""
    for at in range(0, len(data), _LINE_BYTES):
        pairs: Sequence[tuple[int, int]] = list(
            zip(data[at : at + _LINE_BYTES], masked[at : at + _LINE_BYTES], strict=True)
        )
        digits = [f"{byte:02x}" if byte == shown else "**" for byte, shown in pairs]
        text = "".join(chr(shown) if shown in _PRINTABLE else "." for _, shown in pairs)
        yield f"{at:08x}  {' '.join(digits):<{3 * _LINE_BYTES - 1}}  |{text}|"
