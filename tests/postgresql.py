"""A PostgreSQL of the tests' own, from Debian's package."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class NoPostgresqlError(Exception):
    """There is none here; says what to install."""


@contextmanager
def running_postgresql() -> Iterator[str]:
    """
    Run one on a free port of 127.0.0.1, and give the URL of its super user, who needs no password.

    Raises:
        NoPostgresqlError: it isn't installed, or can't be run.
    """
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not programs:
        raise NoPostgresqlError("no initdb in /usr/lib/postgresql/*/bin; install postgresql")
    as_user: list[str] = []
    # Under /tmp and not pytest's directory, which other users can't enter.
    home = Path(tempfile.mkdtemp(prefix="rejoinder-postgresql-"))
    try:
        if os.geteuid() == 0:
            try:
                user = pwd.getpwnam("postgres")
            except KeyError:
                raise NoPostgresqlError("PostgreSQL won't run as root, and there is no user postgres") from None
            os.chown(home, user.pw_uid, user.pw_gid)
            as_user = ["runuser", "-u", "postgres", "--"]
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]

        def run(program: str, *arguments: object) -> None:
            command = [*as_user, str(programs[-1].parent / program), "-D", str(home / "data"), *map(str, arguments)]
            subprocess.run(command, check=True, capture_output=True, timeout=60, cwd="/")

        run("initdb", "-U", "postgres", "--auth=trust", "--no-sync", "-E", "UTF8")
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
        # Its output goes to a file: a pipe would stay open as long as the server runs.
        run("pg_ctl", "-w", "-t", "30", "-l", home / "log", "-o", options, "start")
        try:
            yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
        finally:
            run("pg_ctl", "-m", "immediate", "-w", "-t", "30", "stop")
    finally:
        shutil.rmtree(home, ignore_errors=True)
