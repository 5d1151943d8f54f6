"""What the whole process costs beside the plain join: asked at once, and the e-mail's outcome followed."""

from __future__ import annotations

import json
import os
import sys
from typing import Final

from bench.contenders import ROOT, Children, Ours, Place, delete, forget, meter
from bench.dataset import Check, load
from bench.figures import Bar, Figures, rounds
from bench.join import PARTITIONS
from bench.stage import Outcome, Stage, compare, say
from bench.watching import Ends, read_all, watch
from streams.local.process import ChildProcess
from streams.settings import PREFIX
from topology.topics import OUTCOMES

ASKING: Final = Ours("round trip", environment={f"{PREFIX}ASK": "at once"})
PLAIN: Final = Ours("plain join")


def round_trip(stage: Stage) -> Outcome:
    """Commands lie ready in both; in the round trip a quick responder stands for the two services."""
    rows: dict[str, list[Figures]] = {PLAIN.name: [], ASKING.name: []}
    for order in rounds(list(rows), stage.sizes.rounds):
        for name in order:
            figures = _asking(stage) if name == ASKING.name else _plain(stage)
            rows[name].append(figures)
            say(
                f"{name}: {figures['running_joins_per_s']:,.0f} commands/s, "
                f"{figures['whole_joins_per_cpu_s']:,.0f} a CPU-second of the worker"
            )
    bars = [
        Bar(
            "commands/s, round trip against plain join",
            compare(rows, "running_joins_per_s", ASKING.name, PLAIN.name),
            0.5,
        ),
        Bar(
            "the same, a CPU-second of the worker",
            compare(rows, "running_joins_per_cpu_s", ASKING.name, PLAIN.name),
            0.5,
        ),
    ]
    about = (
        f"{stage.sizes.round_trips:,} commands, one worker. The plain join finds both halves ready; the round trip "
        "asks, gets its answer and the outcome from a responder, which shares the machine."
    )
    return Outcome(rows, bars, about)


def _plain(stage: Stage) -> Figures:
    return stage.trial(PLAIN, stage.dataset(stage.sizes.round_trips, stage.sizes.near))


def _asking(stage: Stage) -> Figures:
    count = stage.sizes.round_trips
    place = stage.fresh("round-trip")
    load(place.settings, (stage.templates.command(number) for number in range(count)))
    outcomes = place.settings.topic(OUTCOMES.name)
    responder = _responder(place)
    try:
        ends = Ends(place.bootstrap_servers, outcomes)
        running, figures = watch(lambda: ASKING.start(place), stage.kafka.pids, ends, count, meter)
        running.stop()
    finally:
        responder.stop()
    read_all(place.bootstrap_servers, outcomes, Check(count), with_headers=True)
    delete(place.bootstrap_servers, lambda topic: topic.startswith(place.prefix))
    forget(place)
    return figures


def _responder(place: Place) -> Children:
    place.directory.mkdir(parents=True, exist_ok=True)
    path = place.directory / "responder.json"
    given = {
        "bootstrap_servers": place.bootstrap_servers,
        "topic_prefix": place.prefix,
        "partitions": PARTITIONS,
        "replication_factor": 1,
    }
    path.write_text(json.dumps(given), encoding="utf-8")
    environment = {"PATH": os.environ.get("PATH", ""), "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "bench.responder", str(path)]
    return Children([ChildProcess("responder", command, place.directory / "responder.log", environment)])
