"""``rejoinder explain``: one order's timeline, for a person at three in the morning."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from http import HTTPStatus
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.markup import escape

from streams import settings as settings_module
from streams.access import Access
from streams.cli.arguments import OrderId, plain
from streams.errors import ConfigurationError, RejoinderError, Unavailable
from streams.settings import Settings
from streams.transport.assignment import owners_of
from streams.transport.partitioner import partition_of
from streams.transport.topics import partitions_of
from topology.topics import COMMANDS

ASK_S: Final = 10.0


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A token goes where it was checked to go."""

    def redirect_request(self, *_: Any) -> None:
        """Follow none."""


# No proxy: the environment's is for the way out, and would see the token.
_OPENER: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirects)


class UnknownOrder(RejoinderError):
    """Nothing is remembered of the order."""

    exit_code = 1


def explain(
    order_id: OrderId,
    as_json: Annotated[bool, typer.Option("--json", help="Print what the worker answers, as JSON.")] = False,
) -> None:
    """Say what happened to an order and when, what it waits for and until when, and who owns it."""
    found = _ask(settings_module.load(), order_id)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    _show(found)


def _ask(settings: Settings, order_id: str) -> dict[str, Any]:
    partition = partition_of(order_id.encode(), partitions_of(settings, COMMANDS))
    owner = owners_of(settings, f"{settings.application_id}-worker").get(partition)
    if owner is None:
        raise Unavailable(f"no worker owns partition {partition} of order {order_id} now; is one running? Try again")
    access = Access(settings)
    access.check_peer(owner)
    url = f"{owner}/orders/{urllib.parse.quote(order_id, safe='')}"
    request = urllib.request.Request(url, headers=access.headers())  # noqa: S310 -- checked to be http.
    try:
        with _OPENER.open(request, timeout=ASK_S) as answer:
            return dict(json.load(answer))
    except urllib.error.HTTPError as exc:
        with exc:
            said = exc.read(500).decode(errors="replace")
        if exc.code == HTTPStatus.NOT_FOUND:
            raise UnknownOrder(f"nothing is remembered of order {order_id} (asked {owner})") from exc
        if exc.code in (HTTPStatus.FORBIDDEN, HTTPStatus.UNAUTHORIZED):
            raise ConfigurationError(
                f"{owner} doesn't tell: {said}; workers answer with REJOINDER_WEB_ORDERS=on, and only to those who "
                "have their REJOINDER_WEB_TOKEN"
            ) from exc
        raise Unavailable(f"{url} answers {exc.code}: {said}") from exc
    except OSError as exc:
        raise Unavailable(f"{url} doesn't answer: {exc}; the worker may be starting or stopping, try again") from exc


def _show(found: dict[str, Any]) -> None:
    console = Console(highlight=False, soft_wrap=True)
    # Escaped: an order id or a mail server's answer may look like markup.
    order_id = escape(plain(found["order_id"]))
    console.print(f"[bold]order {order_id}[/], partition {found['partition']}, owned by {found['owner']}")
    if details := found["details"]:
        console.print(f"details: version {details['version']}, seen {details['seen_at']}")
    for process in found["processes"]:
        _show_process(console, process, found["partition"])
    for early in found["sent_before_their_command"]:
        console.print(f"\ne-mail {early['email_id']}: reported sent {early['heard_at']}, its command hasn't come")


def _show_process(console: Console, process: dict[str, Any], partition: int) -> None:
    reason = f" ({process['reason']})" if process["reason"] else ""
    console.print(f"\n[bold]command {process['command_id']}[/]: {process['state']}{reason}")
    if process["waits_for"]:
        console.print(f"waits for {process['waits_for']}, next deadline {process['next_deadline_at']}")
    if process["gives_up_at"]:
        console.print(f"gives up at {process['gives_up_at']}")
    for event in process["timeline"]:
        rest = ", ".join(f"{name} {value}" for name, value in event.items() if name not in ("at", "event", "cause"))
        what = f"{event['event']} ({rest})" if rest else event["event"]
        cause = event["cause"]
        because = "a deadline" if cause.get("deadline") else f"{cause['topic']}/{partition}/{cause['offset']}"
        console.print(f"  {event['at']}  {escape(plain(what)):<44}  {because}")
