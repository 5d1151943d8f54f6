"""``rejoinder skip``: past a record on which our own code fails."""

from __future__ import annotations

import re
import time
from typing import Annotated, Any, Final
from urllib.parse import quote

import typer

from streams import settings as settings_module
from streams.errors import ConfigurationError, Unavailable
from streams.peers import ask
from streams.settings import Settings
from streams.transport.assignment import owners_of
from streams.transport.topics import ROLES
from topology.topics import TOPICS

WAIT_S: Final = 30.0
PAUSE_S: Final = 0.3


def skip(
    record: Annotated[
        str, typer.Argument(metavar="TOPIC/PARTITION/OFFSET", help="The record, as `rejoinder status` shows it.")
    ],
) -> None:
    """
    Put the record at which a partition is held into the dead letters, undecided, and let the partition go on.

    The worker that holds it does so in its next transaction. When the code is mended, redrive the dead letter.
    """
    settings = settings_module.load()
    topic, partition, offset = _coordinates(settings, record)
    (consumer,) = [one.consumer for one in TOPICS if one.name == topic]
    owner = owners_of(settings, f"{settings.application_id}-{ROLES[consumer]}").get(partition)
    if owner is None:
        raise Unavailable(f"nobody has partition {partition} of {topic} now; try again")
    ask(settings, owner, f"/skip/{quote(topic, safe='')}/{partition}/{offset}", post=True)
    at = {"topic": topic, "partition": partition, "offset": offset}
    deadline_s = time.monotonic() + WAIT_S
    while not _is_past(ask(settings, owner, "/status"), at):
        if time.monotonic() > deadline_s:
            raise Unavailable(f"{owner} was told, but partition {partition} doesn't run again; see its log")
        time.sleep(PAUSE_S)
    typer.echo(f"{record} is skipped; `rejoinder dead-letters list --reason skipped` shows it")


def _coordinates(settings: Settings, text: str) -> tuple[str, int, int]:
    """
    Return the declared topic, partition and offset.

    Raises:
        ConfigurationError: *text* isn't of that form, or the topic is no input of ours.
    """
    match = re.fullmatch(r"(.+)/(\d{1,9})/(\d{1,15})", text, re.ASCII)
    inputs = {
        name: topic.name for topic in TOPICS if topic.is_input for name in (topic.name, settings.topic(topic.name))
    }
    if match is None or match[1] not in inputs:
        raise ConfigurationError(f"{text!r} is no record of an input; write TOPIC/PARTITION/OFFSET")
    return inputs[match[1]], int(match[2]), int(match[3])


def _is_past(status: dict[str, Any], at: dict[str, Any]) -> bool:
    return at not in status["held"] and status["partitions"].get(str(at["partition"])) != "waiting"
