"""``rejoinder health``: what a process of this machine says of itself, for a container's health check."""

from __future__ import annotations

import ipaddress
import urllib.error
import urllib.request
from typing import Annotated, Final

import typer

from streams import settings as settings_module
from streams.cli.roles import WebPort
from streams.errors import Unavailable

ASK_S: Final = 5.0
ANSWER_BYTES_MAX: Final = 65_536


def health(
    ready: Annotated[
        bool, typer.Option("--ready", help="Also ask whether every partition that it owns is worked on.")
    ] = False,
    web_port: WebPort = None,
) -> None:
    """
    Ask the process of this machine whether it lives: its web server, at REJOINDER_WEB_BIND and REJOINDER_WEB_PORT.

    Exit code 0 if it does, 1 if a restart would help (with --ready: or if it isn't ready), 75 if nobody answers.
    """
    settings = settings_module.load(**({} if web_port is None else {"web_port": web_port}))
    url = f"http://{_reachable(settings.web_bind)}:{settings.web_port}/health/{'ready' if ready else 'live'}"
    # No proxy: what is asked is this machine, whatever HTTP_PROXY says.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=ASK_S) as answer:
            typer.echo(_text(answer.read(ANSWER_BYTES_MAX)))
    except urllib.error.HTTPError as exc:
        with exc:
            typer.echo(_text(exc.read(ANSWER_BYTES_MAX)))
        raise typer.Exit(1) from None
    except OSError as exc:
        raise Unavailable(f"nobody answers at {url}: {getattr(exc, 'reason', exc)}") from exc


def _text(body: bytes) -> str:
    return body.decode(errors="replace")


def _reachable(bind: str) -> str:
    """Return where a server is asked that listens on *bind*: any address stands for loopback's."""
    try:
        address = ipaddress.ip_address(bind.strip("[]"))
    except ValueError:
        return bind
    if address.is_unspecified:
        address = ipaddress.ip_address("127.0.0.1" if address.version == 4 else "::1")  # noqa: PLR2004 - IPv4.
    return f"[{address}]" if isinstance(address, ipaddress.IPv6Address) else str(address)
