"""The mail server's URL: where it is, how it is talked to, and as whom."""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from streams.errors import ConfigurationError

_ALLOWED: Final = "allowed: smtp[s]://[user:password@]host[:port][?starttls=if-offered|required|off]"


class StartTls(Enum):
    """Whether a plain connection is turned into TLS."""

    IF_OFFERED = "if-offered"
    """Any certificate will do: whoever could forge one could as well hide the offer (RFC 7435)."""
    REQUIRED = "required"
    """With a certificate that is checked."""
    OFF = "off"


class SmtpUrl(NamedTuple):
    """``tls``: from the first byte on (smtps://); then ``starttls`` is OFF."""

    host: str
    port: int
    username: str | None
    password: str | None
    tls: bool
    starttls: StartTls

    @property
    def where(self) -> str:
        """The server for people, without the password."""
        return f"{'smtps' if self.tls else 'smtp'}://{self.host}:{self.port}"


def parse_smtp_url(text: str) -> SmtpUrl:
    """
    Read a mail server's URL.

    Ports are 25, with a login 587, and 465 with smtps. A login on smtp:// requires STARTTLS unless it's said otherwise:
    a password is never sent in the clear because somebody on the way hid the offer.

    Raises:
        ConfigurationError: it is none.
    """
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
        options = {name: values[-1] for name, values in parse_qs(parts.query, strict_parsing=bool(parts.query)).items()}
        chosen = options.pop("starttls", None)
        starttls = StartTls(chosen) if chosen else None
    except ValueError as exc:
        raise ConfigurationError(f"REJOINDER_SMTP_URL can't be read; {_ALLOWED}") from exc
    tls = parts.scheme == "smtps"
    if (
        parts.scheme not in {"smtp", "smtps"}
        or not host
        or options
        or parts.path not in {"", "/"}
        or (tls and starttls)
    ):
        raise ConfigurationError(f"REJOINDER_SMTP_URL can't be read; {_ALLOWED}")
    username = unquote(parts.username) if parts.username else None
    password = unquote(parts.password) if parts.password else None
    if tls:
        return SmtpUrl(host, port or 465, username, password, tls=True, starttls=StartTls.OFF)
    usual = (587, StartTls.REQUIRED) if username else (25, StartTls.IF_OFFERED)
    return SmtpUrl(host, port or usual[0], username, password, tls=False, starttls=starttls or usual[1])
