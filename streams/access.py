"""
Who may ask a web server about orders or look at its page, and whom we ask: switches, token, and whom it is sent to.

Each worker's address comes from its group's description, so from whoever may join the group. The group's ACL guards
that; `check_peer` is the second fence: a member that isn't ours learns no token, and can't send us to other services.
"""

from __future__ import annotations

import fnmatch
import hmac
import ipaddress
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from streams.errors import ConfigurationError
from streams.settings import Settings, Switch, is_loopback

SCHEME: Final = "Bearer"
ACT: Final = "Rejoinder-Act"
"""
Header of a request that wants something done. A page in somebody's browser can't set it: the browser would ask first
whether it may, and nobody here says yes.
"""


class Denied(NamedTuple):
    """Why a question isn't answered: the HTTP status, and what is wrong for a person."""

    status: HTTPStatus
    error: str


class Access:
    """What *settings* say of questions about orders."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._token = settings.web_token.get_secret_value()

    def deny(self, headers: Mapping[str, str]) -> Denied | None:
        """Return why a request with these *headers* gets no orders; None if it does."""
        if self._settings.web_orders is not Switch.ON:
            return Denied(HTTPStatus.FORBIDDEN, "orders aren't served here; REJOINDER_WEB_ORDERS=on serves them")
        return self.deny_look(headers)

    def deny_look(self, headers: Mapping[str, str]) -> Denied | None:
        """Return why a request with these *headers* gets nothing that isn't for everybody; None if it does."""
        if not self._token:
            # Without a token a page in the browser of somebody on this machine could ask, by a name of its own that
            # it lets point here.
            host = _host(headers.get("Host", ""))
            if _address(host) or is_loopback(host) or host == self._settings.web_host.lower():
                return None
            return Denied(HTTPStatus.FORBIDDEN, "this is served under this machine's own name or address only")
        scheme, _, given = headers.get("Authorization", "").partition(" ")
        # The time that it takes says nothing of how much of a guess is right.
        if scheme.lower() == SCHEME.lower() and hmac.compare_digest(given.strip().encode(), self._token.encode()):
            return None
        return Denied(HTTPStatus.UNAUTHORIZED, f"the header Authorization: {SCHEME} REJOINDER_WEB_TOKEN is needed")

    def deny_act(self, headers: Mapping[str, str]) -> Denied | None:
        """Return why a request with these *headers* gets nothing done; None if it does."""
        if ACT not in headers:
            return Denied(HTTPStatus.FORBIDDEN, f"the header {ACT} is needed")
        return self.deny(headers)

    def headers(self, *, act: bool = False) -> dict[str, str]:
        """Return what a question to another worker carries; *act*: what a request to do something does."""
        headers = {"Authorization": f"{SCHEME} {self._token}"} if self._token else {}
        return headers | ({ACT: "yes"} if act else {})

    def check_peer(self, url: str) -> None:
        """
        Look at a worker's *url* before it is asked.

        Raises:
            ConfigurationError: it isn't one of ours, or not surely: which setting makes it so.
        """
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname or "", parts.port
        except ValueError:
            host = ""
        if not host or url != f"{parts.scheme}://{parts.netloc}" or parts.scheme != "http" or "@" in parts.netloc:
            raise ConfigurationError(f"a member of the group calls itself {url[:200]!r}, which is no worker's address")
        address = _address(host)
        if address is not None and (address.is_link_local or address.is_multicast or address.is_unspecified):
            raise ConfigurationError(f"a member of the group calls itself {url!r}: no worker has such an address")
        if self._token and not is_loopback(host) and not self._is_named(host):
            raise ConfigurationError(
                f"the token isn't sent to {url!r}, which REJOINDER_WEB_PEERS doesn't name; add the workers' names "
                "(*.rejoinder.svc) or their network (10.0.0.0/8) to it"
            )

    def _is_named(self, host: str) -> bool:
        address = _address(host)
        for pattern in filter(None, self._settings.web_peers.split(",")):
            if address is None:
                if fnmatch.fnmatchcase(host.lower(), pattern.lower()):
                    return True
            elif (network := _network(pattern)) is not None and address in network:
                return True
        return False


_IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


def _host(header: str) -> str:
    """Return the host of a Host header; nothing if it can't be one."""
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""


def _address(host: str) -> _IpAddress | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None
