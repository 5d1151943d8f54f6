"""``rejoinder acls``: what each role may do on the cluster."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from streams import settings as settings_module
from streams.errors import ConfigurationError
from streams.transport.acls import Acls, principals
from topology.acls import Grant, Role, grants

app = typer.Typer(
    add_completion=False, help="The ACLs: what each role may do, and nothing beyond it.", no_args_is_help=True
)

Roles = Annotated[
    list[Role] | None, typer.Option("--role", help="Of this role only; may be repeated.", show_default=False)
]


@app.command()
def show(
    role: Roles = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the table of docs/security.md, with the default names.")
    ] = False,
) -> None:
    """List what each role needs; needs no broker."""
    if markdown:
        typer.echo(page(), nl=False)
        return
    settings = settings_module.load()
    table = Table(box=None)
    for column in ("role", "on", "name", "operations"):
        table.add_column(column, overflow="fold")
    for one in role or Role:
        for resource, name, operations in _rows(grants(one, settings.application_id, settings.topic_prefix)):
            table.add_row(one.value, resource, name, operations)
    Console().print(table)


@app.command()
def apply(
    principal: Annotated[
        list[str] | None,
        typer.Option(
            help="ROLE=PRINCIPAL, such as worker=User:CN=worker; may be repeated. Default: User:APPLICATION_ID-ROLE.",
            show_default=False,
        ),
    ] = None,
    role: Roles = None,
    prune: Annotated[bool, typer.Option("--prune", help="Also delete what these principals have on top.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")] = False,
) -> None:
    """Grant each role's principal what it lacks. Safe to repeat; run by an administrator, before the processes."""
    settings = settings_module.load()
    of = principals(settings, dict(map(_chosen, principal or ())))
    acls = Acls(settings)
    differences = acls.differences({one: of[one] for one in role or Role})
    for difference in differences:
        typer.echo(str(difference))
    changes = [difference for difference in differences if prune or not difference.extra]
    if dry_run:
        typer.echo(f"{len(changes)} would be changed")
        return
    acls.apply(changes)
    left = len(differences) - len(changes)
    typer.echo(f"{len(changes)} changed" + (f", {left} more than declared: --prune deletes them" if left else ""))


def _chosen(text: str) -> tuple[Role, str]:
    """
    Return *text* as role and principal.

    Raises:
        ConfigurationError: it is none.
    """
    name, _, principal = text.partition("=")
    roles = {role.value: role for role in Role}
    if name not in roles or ":" not in principal:
        raise ConfigurationError(
            f"--principal {text!r}: allowed: ROLE=PRINCIPAL such as worker=User:shop-worker; roles: {', '.join(roles)}"
        )
    return roles[name], principal


def page() -> str:
    """Return the table of docs/security.md, under the default names."""
    lines = ["| Role | On | Name | Operations |", "|-|-|-|-|"]
    for role in Role:
        for resource, name, operations in _rows(grants(role, "rejoinder")):
            lines.append(f"| {role.value} | {resource} | `{name}` | {operations} |")
    return "\n".join(lines) + "\n"


def _rows(given: list[Grant]) -> list[tuple[str, str, str]]:
    """Return a row for each resource: its kind, its name with * for a prefix, and the operations."""
    rows: dict[tuple[str, str], list[str]] = {}
    for grant in given:
        row = grant.resource.value, grant.name + ("*" if grant.prefixed else "")
        rows.setdefault(row, []).append(grant.operation.value)
    return [(*row, ", ".join(operations)) for row, operations in rows.items()]
