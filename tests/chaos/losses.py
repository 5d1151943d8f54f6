"""Disks that go: a worker moves without its own, loses it, or all of them do. The changelog has everything."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Final

from streams.demo.system import RoleProcess
from tests.chaos.moments import Moments, NotHappened
from tests.chaos.system import Log

CALM_S: Final = 15.0


class Losses(Moments):
    """The losses; each returns what was seen, or raises `NotHappened`."""

    def _nothing(self) -> str:
        self.wait_all_owned()
        self._pause(CALM_S)
        return f"{len(self._system.running)} workers at work for {CALM_S:.0f} s"

    def _move(self) -> str:
        """Stop a worker in good order, and start one of another name, on an empty disk, in its place."""
        system = self._system
        self.wait_all_owned()
        leaver = self._busy()
        joiner = next(worker for worker in system.workers if not worker.running)
        system.wipe(joiner)
        log = Log(joiner.log)
        began_s = time.monotonic()
        system.stop(leaver)
        system.start(joiner)
        self._wait(joiner.partitions, 180, f"{joiner.name} has partitions")
        self.wait_all_owned()
        return f"{leaver.name} to {joiner.name}: {_restored([log])}, {time.monotonic() - began_s:.0f} s"

    def _lose_disk(self) -> str:
        self.wait_all_owned()
        return self._lose([self._busy()])

    def _lose_group(self) -> str:
        self.wait_all_owned()
        return self._lose(self._system.running)

    def _lose(self, workers: Iterable[RoleProcess]) -> str:
        system, workers = self._system, list(workers)
        for worker in workers:
            self._sigkill(worker)
        began_s = time.monotonic()
        logs = [Log(worker.log) for worker in workers]
        for worker in workers:
            system.wipe(worker)
        for worker in workers:
            system.start(worker)
        for worker in workers:
            self._wait(worker.partitions, 180, f"{worker.name} has partitions")
        self.wait_all_owned()
        names = ", ".join(worker.name for worker in workers)
        return f"{names}: {_restored(logs)}, {time.monotonic() - began_s:.0f} s"


def _restored(logs: Iterable[Log]) -> str:
    """Return what was restored since *logs* were opened; raises `NotHappened` if no row was."""
    lines = [entry for log in logs for entry in log.news() if entry.get("event") == "restored"]
    rows = sum(line["rows"] for line in lines)
    if not rows:
        raise NotHappened("nothing was restored")
    return f"{rows} rows of {len(lines)} partitions restored"
