"""
Workers, orders service and e-mail service as processes of this machine, over a broker and a mail server that are there.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, Self

from streams.errors import RejoinderError, Unavailable
from streams.local.process import ChildProcess, free_ports
from streams.settings import PREFIX

READY_S: Final = 60.0
STOP_S: Final = 30.0
ASK_S: Final = 2.0
PAUSE_S: Final = 0.1


class RoleProcess:
    """One worker, orders or e-mail process: *role* is the sub-command, *name* its instance id."""

    def __init__(self, role: str, name: str, directory: Path, environment: Mapping[str, str]) -> None:
        self.role = role
        self.name = name
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        self.log = directory / f"{name}.log"
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(PREFIX)}
        self._environment = inherited | {
            **environment,
            f"{PREFIX}INSTANCE_ID": name,
            f"{PREFIX}WEB_PORT": str(port),
            f"{PREFIX}STATE_DIR": str(directory / name),
        }
        self._child: ChildProcess | None = None

    def start(self) -> None:
        """Start; returns before it is ready."""
        self._child = ChildProcess(self.name, [sys.executable, "-m", "streams", self.role], self.log, self._environment)

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._child is not None
        return self._child.pid

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._child is not None and self._child.exit_status is None

    @property
    def exit_status(self) -> int | None:
        """How it ended; None while it runs."""
        return self._child.exit_status if self._child else None

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once, as a power failure would."""
        if self._child is not None:
            self._child.kill()

    def stop(self) -> None:
        """Let it finish its batch and leave the group."""
        if self._child is not None and self.running:
            self._child.stop(STOP_S)

    def get(self, path: str) -> tuple[int, Any]:
        """
        Return status and JSON of a page of its web server.

        Raises:
            Unavailable: it doesn't answer.
        """
        try:
            with urllib.request.urlopen(f"{self.url}{path}", timeout=ASK_S) as answer:  # noqa: S310 -- our own.
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as exc:
            with exc:
                return exc.code, json.load(exc)
        except OSError as exc:
            raise Unavailable(f"{self.name} at {self.url} doesn't answer: {exc}") from exc

    def partitions(self) -> int:
        """Return how many partitions it works on; 0 while it isn't ready."""
        try:
            status, answer = self.get("/health/ready")
        except Unavailable:
            return 0
        return len(answer["partitions"]) if status == HTTPStatus.OK else 0

    def tail(self) -> str:
        """Return the end of its log."""
        return self._child.log_tail() if self._child else f"{self.name} wasn't started"


class System:
    """*workers* workers, an orders service and an e-mail service; a context that starts and stops them."""

    def __init__(self, directory: Path, environment: Mapping[str, str], workers: int, partitions: int) -> None:
        self.partitions = partitions
        self.workers = [RoleProcess("worker", f"worker-{i}", directory, environment) for i in range(workers)]
        self.orders = RoleProcess("orders", "orders-0", directory, environment)
        self.email = RoleProcess("email", "email-0", directory, environment)

    @property
    def processes(self) -> list[RoleProcess]:
        """All of them."""
        return [*self.workers, self.orders, self.email]

    def start(self) -> None:
        """
        Start all and wait until every partition of every group is worked on.

        Raises:
            RejoinderError: one died; with the end of its log.
            Unavailable: not ready in time.
        """
        for process in self.processes:
            process.start()
        self.wait_ready()

    def wait_ready(self, timeout_s: float = READY_S) -> None:
        """Wait until every partition of every group is worked on; raises as `start`."""
        deadline_s = time.monotonic() + timeout_s
        groups = [self.workers, [self.orders], [self.email]]
        while not all(sum(process.partitions() for process in group) == self.partitions for group in groups):
            self.check()
            if time.monotonic() > deadline_s:
                tails = "\n".join(process.tail() for process in self.processes)
                raise Unavailable(f"not all partitions are worked on after {timeout_s:.0f} s\n{tails}")
            time.sleep(PAUSE_S)

    def check(self) -> None:
        """Raise if a process has ended that nobody killed."""
        for process in self.processes:
            if process.exit_status not in (None, -signal.SIGKILL):
                raise RejoinderError(f"{process.name} ended with {process.exit_status}\n{process.tail()}")

    def stop(self) -> None:
        """Stop all, the services last."""
        for process in self.processes:
            process.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
