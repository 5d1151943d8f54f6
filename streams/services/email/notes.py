"""
Notes on this machine about mails in sending: how far an attempt had come when the process ended.

A note is one `write` to a file, so it survives the process's end however that comes (SIGKILL too): the kernel has it.
It isn't synced, so it does *not* survive a power cut. Therefore the file has a store id, which the ledger's rows name:
it is chosen anew when the file is new or damaged, and when the machine was started since. What was in sending under
another store id is in doubt. (The machine's start is told by Linux's boot id; elsewhere a power cut isn't noticed.)

The file: the store's identity, then records, of which the last one of a mail counts. It is written anew when it is
opened, and when much of it is of mails that are over.
"""

from __future__ import annotations

import os
import struct
import threading
import uuid
import zlib
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path
from typing import Final, NamedTuple, Self

from streams.errors import Unavailable

_MAGIC: Final = b"rejoinder-notes1"
_IDENTITY: Final = struct.Struct(">16s16s16s")  # Magic, store id, boot id.
_RECORD: Final = struct.Struct(">16sIBq")  # E-mail id, attempt, mark (0: over), Unix milliseconds.
_CHECK: Final = struct.Struct(">I")  # CRC 32 of the identity or record before it.
_OVER: Final = 0
_OVER_MAX: Final = 20_000
"""Records that don't count any more, before the file is written anew: 660 kB."""


class Mark(IntEnum):
    """How far an attempt had come. The numbers are stored: append only."""

    DOT = 1
    """The message's final dot is about to be written: from here on the mail may arrive."""
    ACCEPTED = 2
    """The mail server said that it took the mail."""
    REFUSED = 3
    """The mail surely wasn't taken, though the dot had been noted."""


class Note(NamedTuple):
    """What is noted of an attempt, and when (Unix milliseconds)."""

    mark: Mark
    at_ms: int


class Notes:
    """
    The notes in *directory*, for one process at a time (the state directory's lock sees to that).

    ``store_id``: 16 bytes, random.
    """

    def __init__(self, directory: Path) -> None:
        """
        Open the notes, or begin new ones.

        Raises:
            Unavailable: the directory can't be used.
        """
        self._path = directory / "notes"
        self._lock = threading.Lock()
        self._notes: dict[str, tuple[int, Note]] = {}
        self._boot_id = _boot_id()
        self._file = -1
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            data = self._path.read_bytes() if self._path.exists() else b""
            try:
                self.store_id = self._read(data)
            except _NotOurs:
                self._notes.clear()
                self.store_id = uuid.uuid4().bytes
            self._rewrite()
        except OSError as exc:
            raise Unavailable(f"{directory}: the notes can't be opened: {exc}") from exc

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Self:
        """Use it in a with-statement."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()

    def write(self, email_id: str, attempt: int, note: Note) -> None:
        """
        Write down how far *attempt* has come; when this returns, it survives the process.

        Raises:
            Unavailable: it couldn't be written (the disk is full); it then isn't noted.
        """
        with self._lock:
            self._append(_record(email_id, attempt, note.mark, note.at_ms))
            self._notes[email_id] = attempt, note

    def find(self, email_id: str, attempt: int) -> Note | None:
        """Return what is noted of *attempt*, None if nothing is."""
        noted, note = self._notes.get(email_id, (0, None))
        return note if noted == attempt else None

    def forget(self, email_id: str) -> None:
        """
        Drop what is noted of a mail, when the ledger has what became of it.

        Raises:
            Unavailable: it couldn't be written; it is forgotten in this process only.
        """
        with self._lock:
            attempt, note = self._notes.pop(email_id, (0, None))
            if note is None:
                return
            self._append(_record(email_id, attempt, _OVER, note.at_ms))
            if self._records - len(self._notes) > _OVER_MAX:
                try:
                    self._rewrite()
                except OSError as exc:
                    raise Unavailable(f"{self._path}: can't be written anew: {exc}; free some space") from exc

    def __len__(self) -> int:
        """Return of how many mails something is noted."""
        return len(self._notes)

    def _read(self, data: bytes) -> bytes:
        """Take in the file's records and return its store id."""
        pieces = _checked(data)
        magic, store_id, boot_id = _IDENTITY.unpack(next(pieces))
        if magic != _MAGIC or boot_id != self._boot_id:
            raise _NotOurs
        for piece in pieces:
            email, attempt, mark, at_ms = _RECORD.unpack(piece)
            email_id = str(uuid.UUID(bytes=email))
            if mark == _OVER:
                self._notes.pop(email_id, None)
            else:
                self._notes[email_id] = attempt, Note(Mark(mark), at_ms)
        return bytes(store_id)

    def _rewrite(self) -> None:
        """Write the file anew with what counts; a crash leaves the old one or the new one."""
        records = (_record(email_id, attempt, *note) for email_id, (attempt, note) in self._notes.items())
        unfinished = self._path.with_suffix(".new")
        # Its owner's alone, whatever the process's umask.
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(_with_check(_IDENTITY.pack(_MAGIC, self.store_id, self._boot_id)) + b"".join(records))
        unfinished.replace(self._path)
        self.close()
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        self._records = len(self._notes)

    def _append(self, record: bytes) -> None:
        try:
            written = os.write(self._file, record)
            if written != len(record):  # What fitted is taken back, or all that follows couldn't be read.
                os.ftruncate(self._file, os.fstat(self._file).st_size - written)
        except OSError as exc:
            raise Unavailable(f"{self._path}: can't be written: {exc}; free some space") from exc
        if written != len(record):
            raise Unavailable(f"{self._path}: only a part of a note fitted; free some space")
        self._records += 1


class _NotOurs(Exception):
    """The file is new, damaged, or from before the machine was started."""


def _checked(data: bytes) -> Iterator[bytes]:
    """Yield identity and records; a last one that is cut short was never written: nobody went on after it."""
    at = 0
    for size in _sizes():
        end = at + size + _CHECK.size
        if end > len(data):
            if at == 0:
                raise _NotOurs
            return
        piece = data[at : at + size]
        if data[at + size : end] != _CHECK.pack(zlib.crc32(piece)):
            raise _NotOurs
        yield piece
        at = end


def _sizes() -> Iterator[int]:
    yield _IDENTITY.size
    while True:
        yield _RECORD.size


def _record(email_id: str, attempt: int, mark: int, at_ms: int) -> bytes:
    return _with_check(_RECORD.pack(uuid.UUID(email_id).bytes, attempt, mark, at_ms))


def _with_check(piece: bytes) -> bytes:
    return piece + _CHECK.pack(zlib.crc32(piece))


def _boot_id() -> bytes:
    try:
        return uuid.UUID(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()).bytes
    except OSError:
        return bytes(16)
