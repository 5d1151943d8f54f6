"""
A real role process (worker, orders, email), that kills itself at a chosen step or whose clock a file moves.

    FAULT_KILL=STEP FAULT_KILL_AT=N FAULT_CLOCK=FILE python -m tests.faults.role ROLE

It is ``rejoinder ROLE`` with a function or two of the product wrapped; what the product does is unchanged.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from aiosmtplib.protocol import SMTPProtocol

from streams.cli import main
from streams.demo.system import RoleProcess as Role
from streams.local.process import ChildProcess
from streams.processing.clock import Clock
from streams.services.email.notes import Mark, Notes
from streams.services.email.service import EmailService
from streams.services.email.smtp import SmtpSender
from streams.store.partition import Partition
from streams.transport.transaction import Transaction

ROOT = Path(__file__).parents[2]
CLAIM, SETTLE = "claim", "settle"

_step: dict[str, str] = {}
"""Which of its two transactions the e-mail service is in."""


class RoleProcess(Role):
    """The test's handle of such a process; *faults* is what it is told besides its settings."""

    def __init__(
        self,
        role: str,
        name: str,
        directory: Path,
        environment: Mapping[str, str],
        faults: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(role, name, directory, environment)
        self._environment |= {"PYTHONPATH": str(ROOT)}
        self.faults = dict(faults or {})

    def start(self) -> None:
        """Start; returns before it is ready."""
        command = [sys.executable, "-m", "tests.faults.role", self.role]
        self._child = ChildProcess(self.name, command, self.log, self._environment | self.faults)

    def wait_killed(self, timeout_s: float) -> None:
        """Wait until it has killed itself."""
        assert self._child is not None
        assert -signal.SIGKILL == self._child.wait(timeout_s), self.tail()


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)  # The signal is on its way.


class Killer:
    """Kills this process when step *step* is come to for the *at*th time."""

    def __init__(self, step: str, at: int) -> None:
        self._step = step
        self._left = at

    def passes(self, step: str, here: bool = True) -> None:
        """Come by *step*, if *here*."""
        if here and step == self._step:
            self._left -= 1
            if self._left == 0:
                _die()

    def wrap(
        self,
        owner: type,
        name: str,
        before: str = "",
        after: str = "",
        when: Callable[..., bool] = lambda *_: True,
    ) -> None:
        """Let *owner*'s method *name* come by *before* and *after*, where *when* holds of its arguments."""
        original = getattr(owner, name)

        def wrapped(*args: Any, **options: Any) -> Any:
            here = when(*args)
            self.passes(before, here)
            result = original(*args, **options)
            self.passes(after, here)
            return result

        setattr(owner, name, wrapped)


def _install_kill(step: str, at: int) -> None:
    killer = Killer(step, at)
    _watch_records()
    _tell_which(EmailService, CLAIM)
    _tell_which(EmailService, SETTLE)
    for which in (CLAIM, SETTLE):
        killer.wrap(
            Transaction,
            "commit",
            f"before the {which}'s commit",
            f"after the {which}'s commit",
            lambda transaction, *_, which=which: transaction.records > 0 and _step.get("in") == which,
        )
    killer.wrap(Transaction, "commit", "before a commit", "after a commit", lambda one, *_: one.records > 0)
    # Its records and positions are at the broker.
    killer.wrap(
        Transaction,
        "_call",
        "in an open transaction",
        when=lambda one, name, *_: name == "commit_transaction" and one.records > 0 and one._producer.flush(10) == 0,
    )
    killer.wrap(Partition, "write", "", "after the settle's store write", lambda *_: _step.get("in") == SETTLE)
    killer.wrap(SmtpSender, "_connect", "before the connection")
    killer.wrap(Notes, "write", "before the dot's note", "after the dot's note", lambda *args: args[3].mark is Mark.DOT)
    killer.wrap(EmailService, "_note", "after the answer, before its note")
    killer.wrap(Notes, "write", "", "after the answer's note", lambda *args: args[3].mark is Mark.ACCEPTED)
    _cut_message(killer)


def _tell_which(owner: type, name: str) -> None:
    original = getattr(owner, name)

    def wrapped(self: Any, batch: Any, *args: Any) -> Any:
        if batch.records:
            _step["in"] = name
        return original(self, batch, *args)

    setattr(owner, name, wrapped)


def _watch_records() -> None:
    """Count each transaction's records: those that move positions only are no step."""
    begin, until_taken = Transaction.begin, Transaction._until_taken

    def begin_counted(self: Any) -> None:
        self.records = 0
        begin(self)

    def taken_counted(self: Any, some: Any, count: int) -> None:
        self.records += count
        until_taken(self, some, count)

    Transaction.begin = begin_counted  # type: ignore[method-assign]
    Transaction._until_taken = taken_counted  # type: ignore[method-assign]


def _cut_message(killer: Killer) -> None:
    """Come by the steps within and after the write of message and final dot."""
    write = SMTPProtocol.write

    def cut(self: Any, data: bytes) -> None:
        message = data.endswith(b"\r\n.\r\n")
        if message and killer._step == "within the message" and killer._left == 1:
            write(self, data[: len(data) // 2])
        killer.passes("within the message", message)
        write(self, data)
        killer.passes("after the dot, before the answer", message)

    SMTPProtocol.write = cut  # type: ignore[method-assign]


def _install_clock(file: Path) -> None:
    """
    Let the wall clock be ahead by what *file* says, in milliseconds; it is read anew all the time.

    It is Python's alone, which is all that the product goes by. libfaketime moves the whole process's, but makes
    librdkafka's timed waits as long as the clock was moved (tried, 0.9.10: a poll of half a second took an hour).
    """
    wall_ns, wall_s = time.time_ns, time.time

    def ahead_ms() -> int:
        return int(file.read_text() or 0)

    time.time_ns = lambda: wall_ns() + ahead_ms() * 1_000_000
    time.time = lambda: wall_s() + ahead_ms() / 1_000
    Clock.__init__.__defaults__ = (time.time_ns, time.monotonic_ns)


if __name__ == "__main__":
    if "FAULT_KILL" in os.environ:
        _install_kill(os.environ["FAULT_KILL"], int(os.environ.get("FAULT_KILL_AT", "1")))
    if "FAULT_CLOCK" in os.environ:
        _install_clock(Path(os.environ["FAULT_CLOCK"]))
    sys.argv[0] = "rejoinder"
    main()
