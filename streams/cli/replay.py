"""``rejoinder replay`` and ``rejoinder export``: what today's code makes of what came, before it is deployed."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import typer

from streams import settings as settings_module
from streams.cli.arguments import OrderId, plain
from streams.durations import parse_duration_ms
from streams.errors import ConfigurationError, RejoinderError
from streams.registry import open_registry
from streams.replay.engine import Replay, Result
from streams.replay.masked import masked
from streams.replay.recording import Recording, policy_of, write_file
from streams.replay.source import of_order, read_topics
from streams.transport.topics import partitions_of
from topology.policy import Policy
from topology.topics import COMMANDS


class Differs(RejoinderError):
    """Not all is as it was recorded."""

    exit_code = 1


class NothingRecorded(RejoinderError):
    """There is no record of the order."""

    exit_code = 1


def replay(
    from_topics: Annotated[
        bool, typer.Option("--from-topics", "--from-topic", help="Read the topics; nothing is written.")
    ] = False,
    file: Annotated[Path | None, typer.Option("--file", help="Read a file of `rejoinder export`.")] = None,
    since: Annotated[str | None, typer.Option(help="Of topics: only what is younger (6h, 2d).")] = None,
    limit: Annotated[int, typer.Option(min=0, help="How many differences are listed.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Print figures and differences as JSON.")] = False,
) -> None:
    """
    Run recorded inputs through this code, and compare each process's actions with the recorded ones. Writes nothing.

    The check before changed rules are deployed. Exit code 0: the same; 1: differences, which are listed.
    """
    if from_topics == (file is not None):
        raise ConfigurationError("what is to be replayed? One of --from-topics and --file FILE")
    settings = settings_module.load()
    registry = open_registry(settings)
    with Recording() as recording:
        if file is not None:
            recording.read_file(file)
            _tell_rules(policy_of(file), settings.policy)
        else:
            since_ms = None if since is None else time.time_ns() // 1_000_000 - parse_duration_ms(since)
            read_topics(settings, recording, since_ms)
        result = Replay(settings, registry, recording).run()
    if as_json:
        found = [one._asdict() for one in result.differences]
        typer.echo(json.dumps(result._asdict() | {"differences": found}, indent=2))
    else:
        _show(result, limit)
    if result.differences:
        count = len(result.differences)
        raise Differs("1 action isn't as it was recorded" if count == 1 else f"{count:,} actions aren't as recorded")


def _tell_rules(then: Policy, now: Policy) -> None:
    """Say which of today's rules aren't those that a file was decided by: they are what is replayed."""
    for name, was in then._asdict().items():
        if (is_now := getattr(now, name)) != was:
            typer.secho(f"rejoinder: {name} was {was} when it was recorded and is {is_now} here", err=True)


def _show(result: Result, limit: int) -> None:
    for one in result.differences[:limit]:
        typer.echo(f"order {plain(one.order_id)}, command {plain(one.command_id) or '-'}: {plain(one.action)}")
        typer.echo(f"    recorded  {plain(one.recorded or 'nothing')}")
        typer.echo(f"    now       {plain(one.now or 'nothing')}")
    if len(result.differences) > limit:
        typer.echo(f"and {len(result.differences) - limit:,} more; --limit shows them")
    typer.echo(f"inputs          {result.inputs:,}")
    typer.echo(f"same            {result.same:,} e-mails, outcomes and refusals")
    typer.echo(f"different       {len(result.differences):,}")
    typer.echo(f"deadlines       {result.deadlines:,}, as recorded outputs tell")
    typer.echo(f"queries         {result.queries_recorded:,} recorded, {result.queries_now:,} now; not compared")
    for reason, times in sorted(result.not_judged.items()):
        typer.echo(f"can't be told   {times:,} {reason}")


def export(
    order_id: OrderId,
    into: Annotated[Path, typer.Option("--into", help="The file; it is overwritten.")],
    unmasked: Annotated[bool, typer.Option("--unmasked", help="With names, addresses and all other texts.")] = False,
) -> None:
    """
    Write what came for one order, and what came of it, as a file that `replay --file` takes.

    In tests/replay/recordings/ it is a test. Texts are masked, letter by letter; ids, amounts and times stay.
    """
    settings = settings_module.load()
    registry = open_registry(settings)
    records = [record if unmasked else masked(registry.codec, record) for record in of_order(settings, order_id)]
    if not records:
        raise NothingRecorded(f"there is no record of order {plain(order_id)}")
    count = write_file(into, records, settings.policy, partitions_of(settings, COMMANDS))
    typer.echo(f"{count} records of order {plain(order_id)} in {into}; rejoinder replay --file {into}")
