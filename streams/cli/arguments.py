"""What the command line takes for an order, and text for a terminal."""

from __future__ import annotations

from typing import Annotated

import typer

from topology.topics import KEY_BYTES_MAX


def check_order_id(text: str) -> str:
    """
    Return *text* if it can be an order's id.

    Raises:
        typer.BadParameter: it is empty, too long, or not UTF-8 (bytes that aren't are lone surrogates here).
    """
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise typer.BadParameter("an order id is UTF-8") from None
    if not 0 < size <= KEY_BYTES_MAX:
        raise typer.BadParameter(f"an order id has 1 to {KEY_BYTES_MAX} bytes, this one {size}")
    return text


OrderId = Annotated[str, typer.Argument(help="The order.", callback=check_order_id)]


def plain(text: str) -> str:
    """Return *text* with what isn't printable written as escapes: nothing in it does anything to a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def spoken(seconds: float) -> str:
    """Return a duration for people, in its two largest units: "3d 4h", "12s"."""
    left = int(seconds)
    parts: list[str] = []
    for unit, unit_s in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        count, left = divmod(left, unit_s)
        if count or parts or unit == "s":
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2])
