"""``rejoinder doubtful``: mails of which nobody knows whether the mail server took them, held for a person."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from streams import settings as settings_module
from streams.cli.arguments import plain
from streams.errors import ConfigurationError
from streams.monitor.explain import instant
from streams.registry import open_registry
from streams.services.email.doubtful import Doubtful, DoubtfulMails, NotDoubtful
from streams.services.email.ledger import Verdict

app = typer.Typer(
    add_completion=False,
    help="Mails in doubt that are held (REJOINDER_IN_DOUBT=hold): list them, and say what becomes of them.",
    no_args_is_help=True,
)

EmailIds = Annotated[
    list[str] | None, typer.Argument(metavar="[EMAIL_ID]...", help="Which ones, as the list says.", show_default=False)
]
Everything = Annotated[bool, typer.Option("--all", help="All of them.")]


@app.command("list")
def list_(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False) -> None:
    """List the mails in doubt, the oldest first."""
    mails = DoubtfulMails(settings_module.load()).all()
    if as_json:
        for mail in mails:
            typer.echo(json.dumps(_as_json(mail)))
        return
    console = Console(highlight=False, soft_wrap=True)
    for mail in mails:
        row = mail.row
        console.print(
            f"[bold]{escape(plain(mail.email_id))}[/]  order {escape(plain(row.order_id))}, in doubt since "
            f"{instant(row.changed_ms)}, sent {row.attempts} times\n    {escape(plain(row.reason))}\n"
            f"    Message-ID {escape(plain(row.message_id))}: look for it in the mail server's log"
        )
    console.print(f"[bold]{len(mails):,}[/] in doubt")


@app.command()
def resend(email_ids: EmailIds = None, everything: Everything = False) -> None:
    """Have mails sent again, under the same Message-ID; a customer may get one twice."""
    _decide(email_ids, Verdict.RESEND, everything=everything)


@app.command()
def drop(email_ids: EmailIds = None, everything: Everything = False) -> None:
    """Have mails never sent again; their processes end as EMAIL_OUTCOME_UNKNOWN."""
    _decide(email_ids, Verdict.DROP, everything=everything)


def _decide(email_ids: list[str] | None, verdict: Verdict, *, everything: bool) -> None:
    if bool(email_ids) == everything:
        raise ConfigurationError("which ones? Name mails as `rejoinder doubtful list` does, or use --all")
    settings = settings_module.load()
    doubtful = DoubtfulMails(settings)
    found = {mail.email_id: mail for mail in doubtful.all()}
    if unknown := [email_id for email_id in email_ids or () if email_id.lower() not in found]:
        raise NotDoubtful(f"not in doubt: {', '.join(map(plain, unknown))}; `rejoinder doubtful list` shows what is")
    wanted = [found[email_id.lower()] for email_id in dict.fromkeys(email_ids or found)]
    doubtful.decide(
        wanted, verdict, open_registry(settings), lambda mail: typer.echo(f"{mail.email_id}: {verdict.value}")
    )
    typer.echo(f"{len(wanted)} told to the e-mail service, which does it when it comes to it")


def _as_json(mail: Doubtful) -> dict[str, str | int]:
    row = mail.row
    return {
        "email_id": mail.email_id,
        "order_id": row.order_id,
        "partition": mail.partition,
        "offset": row.offset,
        "message_id": row.message_id,
        "since": instant(row.changed_ms),
        "attempts": row.attempts,
        "doubts": row.doubts,
        "reason": row.reason,
    }
