"""
Takes customers' addresses and our own secrets out of text that people and log collectors read.

A mail server's refusal quotes the address, a library's error what it couldn't read. So what comes from outside is
masked where it comes in, and every log line once more where it goes out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Final

MASK: Final = "***"
KNOWN_CHARS_MIN: Final = 3
SECRET_CHARS_MIN: Final = 6
"""A shorter secret isn't looked for: its letters would be masked everywhere."""

_ADDRESS: Final = re.compile(
    # A quoted local part, or what may stand before an @ with or without quoting.
    r"""(?:"(?:[^"\\\r\n]|\\.){1,64}"|[^\s<>()\[\]:;,@"'\\=/]{1,64})@(?=[\w\[-])"""
)


def mask_addresses(text: str, *known: str) -> str:
    """
    Return *text* with ``***`` for what stands before each @, and for each of the *known* texts that isn't very short.

    The domain stays: it tells an operator whose mail server it is.
    """
    for one in sorted((one for one in known if len(one) >= KNOWN_CHARS_MIN), key=len, reverse=True):
        text = text.replace(one, MASK)
    return _ADDRESS.sub(f"{MASK}@", text)


def _forms(secret: str) -> tuple[str, ...]:
    return secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1]


class Masker:
    """Masks addresses, and *secrets* however they are written: as they are, or as JSON and `repr` write them."""

    def __init__(self, secrets: Iterable[str]) -> None:
        long = [secret for secret in secrets if len(secret) >= SECRET_CHARS_MIN]
        # A repr in a line of JSON: written twice.
        written = {form for secret in long for once in _forms(secret) for form in _forms(once)}
        # The longest first: one may be a part of another.
        longest = sorted(written, key=len, reverse=True)
        self._secrets = re.compile("|".join(map(re.escape, longest))) if longest else None

    def __call__(self, text: str) -> str:
        """Return *text*, masked."""
        if self._secrets is not None:
            text = self._secrets.sub(MASK, text)
        return mask_addresses(text) if "@" in text else text
