"""
What the process manager may do with an order's records: a model of docs/process.md, written without its code.

The topics keep the order of their own records, but nobody knows how a worker's reading interleaved them, nor when it
looked at its deadlines. So the model isn't told: `explain` searches for an interleaving that yields exactly what was
produced. If there is none, then something was produced that must not have been, or wasn't that must have been.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from typing import Final, NamedTuple, TypeAlias

NOT_FOUND_ATTEMPTS: Final = 3
EMAIL_ATTEMPTS: Final = 3


class Kind(IntEnum):
    """What an input says."""

    COMMAND = 0
    CANCEL = 1
    DETAILS = 2
    """The number is the version."""
    NOT_FOUND = 3
    """The number is the attempt whose query it answers."""
    SENT = 4
    EARLY = 5
    """Sent, said before the e-mail was requested."""
    FAILED = 6
    """The number is 1 if it is for ever."""


class Input(NamedTuple):
    """One record of an input topic: *command* is which of the order's commands (from 0) it is about."""

    kind: Kind
    command: int
    number: int


class Produced(NamedTuple):
    """
    What was produced for one command.

    *queries*: how many, attempt 1 first; *version*: of the details that its e-mails hold; *ended*: the reasons, empty
    for sent.
    """

    queries: int
    emails: int
    version: int
    ended: tuple[str, ...]


Inputs: TypeAlias = tuple[tuple[Input, ...], tuple[Input, ...], tuple[Input, ...]]
"""Of the commands', the details' and the e-mail events' topic, each in its order."""


class Step(IntEnum):
    """Where a process stands."""

    ABSENT = 0
    CANCELLED_EARLY = 1
    AWAITING_DETAILS = 2
    AWAITING_EMAIL = 3
    RETRYING = 4
    SENT = 5
    FAILED = 6


class Process(NamedTuple):
    """One command's process; what it has produced is counted as in `Produced`."""

    step: Step = Step.ABSENT
    heard: bool = False
    """Its e-mail was reported sent before there was a process."""
    queries: int = 0
    answered: int = 0
    """The attempt that was last answered by «not found»."""
    missing: int = 0
    emails: int = 0
    version: int = 0
    ended: tuple[str, ...] = ()

    def end(self, reason: str) -> Process:
        """Return it ended."""
        step = Step.FAILED if reason else Step.SENT
        return self._replace(step=step, ended=(*self.ended, reason))

    def send(self, version: int) -> Process:
        """Return it with one more SendEmail; what is sent first is sent always."""
        return self._replace(step=Step.AWAITING_EMAIL, emails=self.emails + 1, version=self.version or version)


State: TypeAlias = tuple[int, tuple[Process, ...]]
"""The newest version of the order's details (0: none), and its processes."""


def take(state: State, given: Input) -> State:
    """Return the state after *given*."""
    newest, processes = state
    if given.kind is Kind.DETAILS:
        newest = max(newest, given.number)
        return newest, tuple([p.send(newest) if p.step is Step.AWAITING_DETAILS else p for p in processes])
    at = given.command
    process = _CELLS[given.kind](processes[at], given.number, newest)
    return newest, (*processes[:at], process, *processes[at + 1 :])


def _command(process: Process, _number: int, newest: int) -> Process:
    if process.step is Step.CANCELLED_EARLY:
        return process.end("" if process.heard else "CANCELLED")
    if process.step is not Step.ABSENT:
        return process
    if process.heard:
        return process.end("")
    if newest:
        return process.send(newest)
    return process._replace(step=Step.AWAITING_DETAILS, queries=1)


def _cancel(process: Process, _number: int, _newest: int) -> Process:
    if process.step is Step.ABSENT:
        return process._replace(step=Step.CANCELLED_EARLY)
    return process.end("CANCELLED") if process.step in {Step.AWAITING_DETAILS, Step.RETRYING} else process


def _not_found(process: Process, number: int, _newest: int) -> Process:
    if process.step is not Step.AWAITING_DETAILS or number != process.queries or number == process.answered:
        return process
    process = process._replace(answered=number, missing=process.missing + 1)
    return process.end("ORDER_NOT_FOUND") if process.missing >= NOT_FOUND_ATTEMPTS else process


def _sent(process: Process, _number: int, _newest: int) -> Process:
    if process.step is Step.ABSENT:
        return process._replace(heard=True)
    if process.step is Step.SENT or (process.step is Step.FAILED and process.ended[-1] != "EMAIL_OUTCOME_UNKNOWN"):
        return process
    return process.end("")


def _failed(process: Process, number: int, _newest: int) -> Process:
    if process.step is not Step.AWAITING_EMAIL:
        return process
    return process.end("EMAIL_REJECTED") if number else process._replace(step=Step.RETRYING)


_CELLS: Final = {
    Kind.COMMAND: _command,
    Kind.CANCEL: _cancel,
    Kind.NOT_FOUND: _not_found,
    Kind.SENT: _sent,
    Kind.EARLY: _sent,
    Kind.FAILED: _failed,
}


def deadlines(process: Process) -> Iterator[Process]:
    """Yield what a deadline may make of *process*; when it may pass isn't asked here, see `checks.not_too_early`."""
    if process.step is Step.AWAITING_DETAILS:
        yield process._replace(queries=process.queries + 1)
        yield process.end("ORDER_DETAILS_TIMED_OUT")
    elif process.step is Step.AWAITING_EMAIL:
        yield process.end("EMAIL_OUTCOME_UNKNOWN")
    elif process.step is Step.RETRYING:
        if process.emails < EMAIL_ATTEMPTS:
            yield process.send(process.version)
        yield process.end("EMAIL_REJECTED")


def explain(inputs: Inputs, produced: tuple[Produced, ...]) -> tuple[Process, ...] | None:
    """
    Return the processes after an interleaving of *inputs* that yields exactly *produced*; None if there is none.

    An answer is never taken in before what it answers was produced: the services answer what they have read.
    """
    start: State = 0, tuple([Process()] * len(produced))
    stack: list[Node] = [((0, 0, 0), start)]
    seen = set()
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        at, (_, processes) = node
        if all(at[topic] == len(inputs[topic]) for topic in range(3)) and all(map(_complete, processes, produced)):
            return processes
        stack.extend(after for after in _next(node, inputs) if all(map(_possible, after[1][1], produced)))
    return None


Node: TypeAlias = tuple[tuple[int, int, int], State]
"""How many of each topic's inputs were taken in, and what that has made."""


def _next(node: Node, inputs: Inputs) -> Iterator[Node]:
    """Yield what can come next: a deadline of any process, or the next record of any topic."""
    at, (newest, processes) = node
    for index, process in enumerate(processes):
        for after in deadlines(process):
            yield at, (newest, (*processes[:index], after, *processes[index + 1 :]))
    commands, details, emails = at
    for topic, then in enumerate(
        ((commands + 1, details, emails), (commands, details + 1, emails), (commands, details, emails + 1))
    ):
        if at[topic] < len(inputs[topic]) and _caused(inputs[topic][at[topic]], processes):
            yield then, take((newest, processes), inputs[topic][at[topic]])


def _caused(given: Input, processes: tuple[Process, ...]) -> bool:
    if given.kind is Kind.NOT_FOUND:
        return processes[given.command].queries >= given.number
    return given.kind not in {Kind.SENT, Kind.FAILED} or processes[given.command].emails > 0


def _possible(process: Process, produced: Produced) -> bool:
    """Whether *process* may still come to have produced exactly *produced*."""
    return (
        process.queries <= produced.queries
        and process.emails <= produced.emails
        and process.version in {0, produced.version}
        and process.ended == produced.ended[: len(process.ended)]
    )


def _complete(process: Process, produced: Produced) -> bool:
    return (
        process.queries == produced.queries
        and process.emails == produced.emails
        and process.version == produced.version
        and process.ended == produced.ended
    )
