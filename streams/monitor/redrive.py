"""
Redrive: dead letters back onto the topics that they came from.

Each is put back in one transaction with a mark that says so, in a topic of its own: whatever interrupts a redrive, what
was put back is marked and what is marked was put back, and the next redrive passes it over. All redrives have one
transactional id. So a second one ends the first, whose open transaction is aborted before the marks are read.

Only letters that were there at the beginning are put back. One that is refused again is a new letter, with a count one
higher: nothing here goes round by itself.

The record keeps the time at which it first came (`headers.original_ms`), so what is too old stays refused. Only
*force* lets it be handled as if it came now.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import Enum
from typing import Final, NamedTuple, Self, TypeAlias

from streams.batch import Headers
from streams.errors import RejoinderError, Unavailable
from streams.headers import ORIGINAL_TIMESTAMP, REDRIVE_COUNT, REDRIVEN_FROM
from streams.monitor.dead_letter_log import DeadLetterLog, Marks
from streams.monitor.dead_letters import Letter
from streams.settings import Settings
from streams.transport import config
from streams.transport.partitioner import partition_of
from streams.transport.topics import Cluster
from streams.transport.transaction import Aborted, Fenced, SessionOver, Transaction
from topology.topics import TOPICS

REDRIVES_MAX: Final = 10
"""A record that was refused this often isn't put back again unless by force."""

_BATCH_LETTERS: Final = 500
_BATCH_BYTES: Final = 4 * 1_048_576
_ABORTS_MAX: Final = 3


class Why(Enum):
    """Why a letter is left where it is."""

    MARKED = "put back before; --force does it again"
    EXPIRED = "its process may have been forgotten, and a second e-mail would go out; --force handles it as new"
    TOO_OFTEN = f"refused {REDRIVES_MAX} times already; --force puts it back once more"
    LEFT_OUT = "too large to have been kept: the original is at its coordinates, as long as its topic keeps it"
    NO_INPUT = "it doesn't say which of our topics it comes from"
    REFUSED = "the broker doesn't take it: larger than its topic allows"


class Back(NamedTuple):
    """Where a letter's record goes, and with which headers; *topic* is the cluster's name."""

    letter: Letter
    topic: str
    partition: int
    headers: Headers


class Left(NamedTuple):
    """A letter that stays."""

    letter: Letter
    why: Why


Plan: TypeAlias = Back | Left


class Rules(NamedTuple):
    """*partitions*: of each input topic, by the cluster's name. Durations and instants are milliseconds."""

    partitions: dict[str, int]
    finished_ttl_ms: int
    now_ms: int
    force: bool = False


def plan(letter: Letter, marks: Marks, rules: Rules) -> Plan:
    """Say what is done with *letter*."""
    origin = letter.origin
    if origin is None or origin.topic not in rules.partitions:
        return Left(letter, Why.NO_INPUT)
    if letter.left_out_bytes:
        return Left(letter, Why.LEFT_OUT)
    expired = rules.now_ms - letter.original_ms > rules.finished_ttl_ms
    if not rules.force:
        if letter.at in marks:
            return Left(letter, Why.MARKED)
        if expired:
            return Left(letter, Why.EXPIRED)
        if letter.redrives >= REDRIVES_MAX:
            return Left(letter, Why.TOO_OFTEN)
    headers = [
        *letter.own_headers,
        (REDRIVEN_FROM, str(letter.at).encode()),
        (REDRIVE_COUNT, b"%d" % (letter.redrives + 1)),
    ]
    if not expired:
        headers.append((ORIGINAL_TIMESTAMP, b"%d" % letter.original_ms))
    count = rules.partitions[origin.topic]
    # Where its key belongs, wherever it was: one from the wrong partition gets to the right one.
    partition = origin.partition % count if letter.key is None else partition_of(letter.key, count)
    return Back(letter, origin.topic, partition, headers)


class Report:
    """What a redrive did, so far: letters put back by topic, letters left by why."""

    def __init__(self) -> None:
        self.back: Counter[str] = Counter()
        self.left: Counter[Why] = Counter()


def rules_of(settings: Settings, now_ms: int, *, force: bool) -> Rules:
    """
    Return the rules of a redrive that begins now; asks the cluster.

    Raises:
        Unavailable: no broker answers.
    """
    found = Cluster(settings).partitions(topic for topic in TOPICS if topic.is_input)
    partitions = {settings.topic(name): count for name, count in found.items()}
    return Rules(partitions, settings.finished_ttl, now_ms, force)


class Redrive:
    """
    One redrive; a context that ends it, at any time. *rate*: letters a second at most, 0 for as fast as it goes.

    Raises:
        Unavailable: the brokers don't answer, or another redrive has begun: the same may be done again.
        ConfigurationError: the broker refuses our transactional id, or a topic is missing.
    """

    def __init__(self, settings: Settings, log: DeadLetterLog, rules: Rules, rate: float = 0.0) -> None:
        self._settings = settings
        self._log = log
        self._rules = rules
        self._rate = rate
        self._began_s = 0.0
        self.report = Report()
        self._transaction = Transaction(config.redrive(settings))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._transaction.close()

    def run(self, letters: Iterable[Letter], show: Callable[[Plan], None]) -> None:
        """Put *letters* back, all that may be; *show* each when it is done."""
        try:
            self._transaction.init()
            # Only now: whoever was at it can't add to them any more.
            marks = self._log.marks()
            self._began_s = time.monotonic()
            for batch in self._batches(letters, marks, show):
                self._put_back(batch, show)
        except Fenced as exc:
            raise Unavailable("another redrive has begun and goes on with it; run this again afterwards") from exc
        except SessionOver as exc:
            raise Unavailable(f"{exc}; what was put back is marked: run the same command again") from exc

    def _batches(
        self, letters: Iterable[Letter], marks: Marks, show: Callable[[Plan], None]
    ) -> Iterator[Sequence[Back]]:
        batch: list[Back] = []
        size = 0
        letters_max = min(_BATCH_LETTERS, max(1, int(self._rate / 2))) if self._rate else _BATCH_LETTERS
        for letter in letters:
            found = plan(letter, marks, self._rules)
            if isinstance(found, Left):
                self._leave(found, show)
                continue
            batch.append(found)
            size += letter.size
            if len(batch) >= letters_max or size >= _BATCH_BYTES:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch

    def _leave(self, left: Left, show: Callable[[Plan], None]) -> None:
        self.report.left[left.why] += 1
        show(left)

    def _put_back(self, batch: Sequence[Back], show: Callable[[Plan], None]) -> None:
        """Put *batch* back; one that the broker refuses is found by trying each alone."""
        for attempt in range(_ABORTS_MAX):
            try:
                self._commit(batch)
            except Aborted as exc:
                if len(batch) == 1 and "MSG_SIZE_TOO_LARGE" in str(exc):
                    self._leave(Left(batch[0].letter, Why.REFUSED), show)
                    return
                if attempt == _ABORTS_MAX - 1 and len(batch) == 1:
                    raise Unavailable(f"{batch[0].letter.at} can't be put back: {exc}; try again") from exc
            else:
                self._done(batch, show)
                return
        for back in batch:
            self._put_back([back], show)

    def _commit(self, batch: Sequence[Back]) -> None:
        transaction, log = self._transaction, self._log
        transaction.begin()
        for letter, topic, partition, headers in batch:
            transaction.produce(topic, partition, letter.key, letter.value, headers)
            mark = log.mark_of(letter, f"{topic}/{partition}", self._rules.now_ms)
            transaction.produce(
                self._settings.topic(mark.topic), log.mark_partition(letter), mark.key, mark.value, mark.headers
            )
        transaction.commit_records()

    def _done(self, batch: Sequence[Back], show: Callable[[Plan], None]) -> None:
        for back in batch:
            self.report.back[back.topic] += 1
            show(back)
        if self._rate:
            ahead_s = self.report.back.total() / self._rate - (time.monotonic() - self._began_s)
            if ahead_s > 0:
                time.sleep(ahead_s)


def rehearse(letters: Iterable[Letter], log: DeadLetterLog, rules: Rules, show: Callable[[Plan], None]) -> Report:
    """Show what a redrive would do now, and do nothing."""
    report, marks = Report(), log.marks()
    for letter in letters:
        found = plan(letter, marks, rules)
        if isinstance(found, Back):
            report.back[found.topic] += 1
        else:
            report.left[found.why] += 1
        show(found)
    return report


class Interrupted(RejoinderError):
    """A person ended it; what was put back is marked."""

    exit_code = 130
