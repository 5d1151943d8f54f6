"""Asking the processes' web servers, from outside them or from another one."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from http import HTTPStatus
from typing import Any, Final

from streams.access import Access
from streams.errors import ConfigurationError, RejoinderError, Unavailable
from streams.settings import Settings

ASK_S: Final = 10.0


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A token goes where it was checked to go."""

    def redirect_request(self, *_: Any) -> None:
        """Follow none."""


# No proxy: the environment's is for the way out, and would see the token.
_OPENER: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirects)


class NotFound(RejoinderError):
    """There is nothing of this name; the exception's text is what was answered."""

    exit_code = 1


class Refused(RejoinderError):
    """It can't be done as things are, and trying again doesn't help."""

    exit_code = 1


def ask(settings: Settings, peer: str, path: str, *, post: bool = False, timeout_s: float = ASK_S) -> dict[str, Any]:
    """
    Return what the worker at *peer*, a URL from its group's description, answers to *path*.

    *post*: it is told to do something, see `access.ACT`.

    Raises:
        NotFound: it answers so.
        ConfigurationError: it isn't a worker of ours, or doesn't tell us.
        Refused: what it was told to do can't be done.
        Unavailable: it doesn't answer, or can't now.
    """
    access = Access(settings)
    access.check_peer(peer)
    url = peer + path
    request = urllib.request.Request(  # noqa: S310 -- checked to be http.
        url, headers=access.headers(act=post), method="POST" if post else "GET"
    )
    try:
        with _OPENER.open(request, timeout=timeout_s) as answer:
            return dict(json.load(answer))
    except urllib.error.HTTPError as exc:
        with exc:
            said = _said(exc.read(2_000).decode(errors="replace"))
        if exc.code == HTTPStatus.NOT_FOUND:
            raise NotFound(said) from exc
        if exc.code in (HTTPStatus.FORBIDDEN, HTTPStatus.UNAUTHORIZED):
            raise ConfigurationError(
                f"{peer} doesn't tell: {said}; workers answer with REJOINDER_WEB_ORDERS=on, and only to those who "
                "have their REJOINDER_WEB_TOKEN"
            ) from exc
        if exc.code == HTTPStatus.CONFLICT:
            raise Refused(said) from exc
        raise Unavailable(f"{url} answers {exc.code}: {said}") from exc
    except ValueError as exc:
        raise Unavailable(f"{url} doesn't answer in JSON: {exc}; is it a worker of this release?") from exc
    except OSError as exc:
        raise Unavailable(f"{url} doesn't answer: {exc}; the worker may be starting or stopping, try again") from exc


def _said(text: str) -> str:
    """Return the words of an answer that isn't the wanted one: a worker's own, or whatever else came."""
    try:
        return str(json.loads(text)["error"])
    except (ValueError, KeyError, TypeError):
        return text[:500]
