"""A Java program as a child: its output is kept, and it ends when it should."""

import socket
from pathlib import Path

import psutil
import pytest

from streams.local.errors import LocalServerError
from streams.local.process import JavaProcess, free_ports

FIRST_EPHEMERAL_PORT = 32_768
# A server that is in every Java runtime.
SERVER = ["-m", "jdk.httpserver", "-b", "127.0.0.1", "-p", "0"]


def test_free_ports_are_different_bindable_and_not_ephemeral() -> None:
    """A client that waits for its server is never lent the server's port."""
    ports = free_ports(6)

    assert 6 == len(set(ports))
    assert all(port < FIRST_EPHEMERAL_PORT for port in ports)
    for port in ports:
        with socket.socket() as server:
            server.bind(("127.0.0.1", port))


def test_output_is_in_the_log_and_the_status_is_java_s(tmp_path: Path) -> None:
    """A program that ends by itself gives its status, and the log its words without the stack's frames."""
    log = tmp_path / "java.log"
    with JavaProcess("nobody", ["NoSuchClass"], log) as process:
        assert 1 == process.wait(30)
        assert 1 == process.exit_status

    tail = process.log_tail()
    assert str(log) in tail
    assert "Could not find or load main class NoSuchClass" in tail
    assert "\tat " not in tail


def test_program_that_takes_too_long_is_killed(tmp_path: Path) -> None:
    """Waiting has a limit, after which nothing is left running."""
    process = JavaProcess("a server", SERVER, tmp_path / "java.log")
    with pytest.raises(LocalServerError, match=r"a server: didn't end within 0\.2 s and was killed"):
        process.wait(0.2)

    assert not psutil.pid_exists(process.pid)


def test_stop_lets_it_end_by_itself(tmp_path: Path) -> None:
    """SIGTERM is enough for a program that heeds it."""
    process = JavaProcess("a server", SERVER, tmp_path / "java.log")

    assert process.stop(30)
    assert not psutil.pid_exists(process.pid)
