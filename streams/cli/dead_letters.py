"""``rejoinder dead-letters``: what couldn't be handled, why, and putting it back."""

from __future__ import annotations

import heapq
import time
from collections import Counter
from collections.abc import Iterable
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.markup import escape

from streams import settings as settings_module
from streams.cli import letter_view as view
from streams.cli.arguments import plain
from streams.errors import ConfigurationError, RejoinderError
from streams.monitor.dead_letter_log import DeadLetterLog
from streams.monitor.dead_letters import Coordinates, Filters, Letter, decoded, parse_since_ms
from streams.monitor.redrive import Back, Interrupted, Plan, Redrive, Report, Why, rehearse, rules_of
from streams.registry import open_registry
from streams.settings import Settings
from topology.topics import DEAD_LETTERS

LIMIT: Final = 50

app = typer.Typer(
    add_completion=False,
    help="Dead letters, the records that couldn't be handled: list them, look at one, put them back.",
    no_args_is_help=True,
)

Reasons = Annotated[
    list[str] | None, typer.Option("--reason", help="Refused for this reason; may be repeated.", show_default=False)
]
Topics = Annotated[
    list[str] | None, typer.Option("--topic", help="Records of this topic; may be repeated.", show_default=False)
]
Since = Annotated[
    str | None,
    typer.Option(help="Refused so long ago at most (90m, 24h, 7d), or since then (2026-01-31T03:00, in UTC)."),
]


@app.command("list")
def list_(
    reason: Reasons = None,
    since: Since = None,
    topic: Topics = None,
    limit: Annotated[int, typer.Option(min=1, help="Show the newest so many; all are counted.")] = LIMIT,
    as_json: Annotated[bool, typer.Option("--json", help="Print all of them, one JSON object a line.")] = False,
) -> None:
    """List dead letters, the newest last. E-mail addresses are masked."""
    settings = settings_module.load()
    filters = _filters(settings, reason, since, topic)
    log = DeadLetterLog(settings)
    marks = log.marks()
    if as_json:
        for letter in log.letters(filters):
            typer.echo(view.as_json(letter, put_back=letter.at in marks))
        return
    # No more than is shown is kept, however many there are.
    newest: list[tuple[int, Coordinates, bool, Letter]] = []
    reasons: Counter[str] = Counter()
    back = 0
    for letter in log.letters(filters):
        reasons[letter.reason] += 1
        put_back = letter.at in marks
        back += put_back
        kept = (
            letter.refused_ms,
            letter.at,
            put_back,
            letter._replace(value=None, headers=[], left_out_bytes=letter.size),
        )
        if len(newest) < limit:
            heapq.heappush(newest, kept)
        else:
            heapq.heappushpop(newest, kept)
    _show_list(sorted(newest), reasons, back)


def _show_list(newest: list[tuple[int, Coordinates, bool, Letter]], reasons: Counter[str], back: int) -> None:
    console = view.console()
    width = max((len(plain(letter.reason)) for *_, letter in newest), default=0)
    for _, _, put_back, letter in newest:
        console.print(view.headline(letter, width, put_back=put_back))
        console.print(view.below(letter))
    total = reasons.total()
    if not total:
        console.print("no dead letters")
        return
    each = ", ".join(f"{plain(reason)} {count:,}" for reason, count in reasons.most_common())
    older = f" ({total - len(newest):,} older ones aren't shown: --limit)" if total > len(newest) else ""
    console.print(f"\n[bold]{total:,}[/] {_letters(total)}{older}: {escape(each)}; {back:,} of them put back")
    console.print("[dim]rejoinder dead-letters show TOPIC/PARTITION/OFFSET says everything about one[/]")


def _letters(count: int) -> str:
    return "dead letter" if count == 1 else "dead letters"


@app.command()
def show(
    letter: Annotated[
        str, typer.Argument(metavar="TOPIC/PARTITION/OFFSET", help="As the list says; TOPIC/ may be left out.")
    ],
    raw: Annotated[bool, typer.Option("--raw", help="Mask no e-mail addresses, and show all bytes.")] = False,
) -> None:
    """Say everything about one dead letter: why, from where, headers, bytes, and what they decode to."""
    settings = settings_module.load()
    at = Coordinates.parse(letter, settings.topic(DEAD_LETTERS.name))
    log = DeadLetterLog(settings)
    found = log.letter(at)
    marks = log.marks()
    try:
        registry = open_registry(settings)
        content = decoded(found, registry.codec, registry.resolve)
    except RejoinderError as exc:  # The rest can be shown all the same.
        content = str(exc)
    console = view.console()
    for line in view.whole(found, content, put_back=at in marks, raw=raw):
        console.print(line)


@app.command()
def redrive(
    letters: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TOPIC/PARTITION/OFFSET]...", help="Which ones, as the list says.", show_default=False),
    ] = None,
    reason: Reasons = None,
    since: Since = None,
    topic: Topics = None,
    everything: Annotated[bool, typer.Option("--all", help="All that were never put back.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    rate: Annotated[float, typer.Option(min=0, help="So many a second at most; 0: as fast as it goes.")] = 0,
    force: Annotated[
        bool,
        typer.Option("--force", help="Also what was put back before, is expired, or was refused again and again."),
    ] = False,
) -> None:
    """
    Put dead letters back onto the topics that they came from, each once: repeat and interrupt it as you like.

    Key, value and headers are as they came, and so is the time that decides whether a record is too old.
    """
    if not (letters or reason or since or topic or everything):
        raise ConfigurationError("which ones? Name dead letters, or use --reason, --since, --topic or --all")
    settings = settings_module.load()
    filters = _filters(settings, reason, since, topic)
    name = settings.topic(DEAD_LETTERS.name)
    wanted = list(dict.fromkeys(Coordinates.parse(text, name) for text in letters or ()))
    log = DeadLetterLog(settings)
    meant = _named(log, wanted, filters) if wanted else log.letters(filters)
    rules = rules_of(settings, _now_ms(), force=force)
    console = view.console()

    def say(plan: Plan) -> None:
        # Those that were put back before may be many, and nobody needs to do anything about them.
        if dry_run if isinstance(plan, Back) else plan.why is not Why.MARKED:
            console.print(_line(plan, dry_run=dry_run))

    if dry_run:
        _sum_up(console, rehearse(meant, log, rules, say), "would be put back")
        return
    with Redrive(settings, log, rules, rate) as run:
        try:
            run.run(meant, say)
        except KeyboardInterrupt:
            _sum_up(console, run.report, "put back")
            raise Interrupted("interrupted; what was put back is marked: run the same command to go on") from None
        except RejoinderError:
            _sum_up(console, run.report, "put back")
            raise
    _sum_up(console, run.report, "put back")


def _named(log: DeadLetterLog, wanted: Iterable[Coordinates], filters: Filters) -> Iterable[Letter]:
    return (letter for letter in [log.letter(at) for at in wanted] if filters.match(letter))


def _line(plan: Plan, *, dry_run: bool) -> str:
    letter = plan.letter
    where = f"[bold]{escape(str(letter.at))}[/]  [yellow]{escape(plain(letter.reason))}[/]"
    if isinstance(plan, Back):
        key = escape(view.printable(letter.key, raw=False, chars_max=view.LINE_KEY_CHARS))
        return f"{where}  {'would go' if dry_run else 'went'} to {escape(plan.topic)}/{plan.partition}, key {key}"
    return f"{where}  [red]left[/]: {plan.why.value}"


def _sum_up(console: Console, report: Report, done: str) -> None:
    each = ", ".join(f"{topic} {count:,}" for topic, count in sorted(report.back.items()))
    console.print(f"[bold]{report.back.total():,}[/] {done}{f': {escape(each)}' if each else ''}")
    for why, count in report.left.items():
        console.print(f"[bold]{count:,}[/] left: {why.value}")


def _filters(settings: Settings, reason: list[str] | None, since: str | None, topic: list[str] | None) -> Filters:
    return Filters(
        frozenset(reason or ()),
        None if since is None else parse_since_ms(since, _now_ms()),
        # Both names of a topic are taken: the declared one, and the cluster's.
        frozenset(name for given in topic or () for name in (given, settings.topic(given))),
    )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
