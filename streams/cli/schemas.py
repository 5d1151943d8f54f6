"""``rejoinder schemas``: register the schemas of the topics' records, and check a change of them."""

from __future__ import annotations

from typing import Annotated

import typer

from streams import registry
from streams import settings as settings_module
from streams.settings import PREFIX, Settings

app = typer.Typer(
    add_completion=False,
    help="The Avro schemas of the topics' records: check a change, register them.",
    no_args_is_help=True,
)

Url = Annotated[
    str | None,
    typer.Option(
        help="file: for the released versions that come with the code, or the http(s) URL of a Confluent-compatible"
        f" schema registry; overrides {PREFIX}SCHEMA_REGISTRY_URL, and is no place for a password: other users of the"
        " machine see the arguments of every process.",
        show_default=False,
    ),
]


@app.command()
def register(url: Url = None) -> None:
    """
    Register the current schemas. A step of every deployment, before the workers: they only look up.

    Each record of each topic has its subject, TOPIC-RECORD. Safe to repeat: what is registered stays as it is. A schema
    that a registered version can't be read as, or the other way round, is refused, and nothing after it is registered.
    """
    settings = _load(url)
    if settings.schema_registry_url.get_secret_value() == registry.FILE:
        typer.echo("nothing to register: with file: the ids come with the code, in schemas/ids.json")
        return
    registered = registry.register(settings)
    for subject, schema_id in registered:
        typer.echo(f"{subject}: id {schema_id}")
    typer.echo(f"all {len(registered)} schemas are registered")


@app.command()
def check(url: Url = None) -> None:
    """
    Check that the current schemas fit all earlier versions, in both directions; exit code 1 if not.

    So that producers, consumers and stored records may be upgraded in any order. With file: it also checks that every
    schema is released as it is now, and says how to release it.
    """
    problems = registry.check(_load(url))
    for problem in problems:
        typer.echo(problem, err=True)
    if problems:
        raise typer.Exit(1)
    typer.echo("all schemas fit all their earlier versions")


def _load(url: str | None) -> Settings:
    return settings_module.load(**({} if url is None else {"schema_registry_url": url}))
