"""Rows that can't be read."""

from __future__ import annotations


class CorruptRow(Exception):
    """Bytes that are no row of the table; *position* is the byte at which that became clear."""

    def __init__(self, position: int, what: str) -> None:
        super().__init__(position, what)
        self.position = position
        self.what = what

    def __str__(self) -> str:
        """Return where and what."""
        return f"row can't be read at byte {self.position}: {self.what}"


class RowTooNew(Exception):
    """A row that a newer release wrote: nothing is corrupt, and a restore would bring the same."""

    def __init__(self, version: int, known: int) -> None:
        super().__init__(version, known)
        self.version = version
        self.known = known

    def __str__(self) -> str:
        """Return which versions, and what to do."""
        return f"row of version {self.version}, and this release reads up to {self.known}: run the newer release"
