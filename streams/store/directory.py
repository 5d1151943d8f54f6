"""
The directory of a process's local state, locked for as long as the process lives.

    DIR/lock                              who has it
    DIR/APPLICATION_ID/TABLE/PARTITION/   one RocksDB each
"""

from __future__ import annotations

import fcntl
import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from streams.errors import ConfigurationError, Unavailable

_LOCK: Final = "lock"
_OWNER_BYTES_MAX: Final = 1_000


class StateDirectory:
    """
    A locked state directory. Paths of partitions come from here only, so whoever has one holds the lock.

    The kernel lets go of the lock when the process ends, however that happens; the file stays and means nothing then.
    """

    def __init__(self, path: Path, instance: str) -> None:
        """
        Create *path*, readable for its owner only, unless it is there, and lock it for *instance*.

        Raises:
            ConfigurationError: another process has it, or it can't be created, opened or locked; says who or why.
            Unavailable: its disk is full.
        """
        self.path = path
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as exc:
            raise ConfigurationError(f"{path}: no directory for the state: {exc}; set REJOINDER_STATE_DIR") from exc
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            owner = os.pread(self._file, _OWNER_BYTES_MAX, 0).decode(errors="replace").strip()
            os.close(self._file)
            if isinstance(exc, BlockingIOError):
                raise ConfigurationError(
                    f"{path}: already in use by {owner or 'another process'}; stop that one, "
                    "or give this one a REJOINDER_STATE_DIR of its own"
                ) from exc
            raise ConfigurationError(f"{path}: can't be locked: {exc}; use a local file system") from exc
        since = datetime.now(UTC).isoformat(timespec="seconds")
        line = f"pid {os.getpid()} on {socket.gethostname()}, instance {instance}, since {since}\n".encode()
        try:
            os.pwrite(self._file, line, 0)
            os.ftruncate(self._file, len(line))
        except OSError as exc:
            self.close()
            raise Unavailable(f"{path}: can't be written: {exc}; free some space, or see the system's log") from exc

    def partition_path(self, application_id: str, table: str, partition: int) -> Path:
        """
        Return where *partition* of *table* lives; the directory above it exists.

        Raises:
            ConfigurationError: that directory can't be created.
        """
        parent = self.path / application_id / table
        try:
            parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as exc:
            raise ConfigurationError(f"{parent}: can't be created: {exc}; see who owns {self.path}") from exc
        return parent / str(partition)

    def close(self) -> None:
        """Let go of the lock; closing twice is no error."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go of the lock."""
        self.close()
