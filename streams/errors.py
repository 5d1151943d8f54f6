"""
Every error that a person may see, and what it asks for.

    RejoinderError              says what, where and what to do; exit_code for the command line
    ├── ConfigurationError      2   a setting, a topic or a schema isn't as it must be; nothing was started
    ├── Unavailable             75  somebody doesn't answer (broker, registry, database, disk): try again later
    ├── Corrupt                 70  local state can't be read: it is wiped and restored from its changelog
    └── Bug                     70  our own code failed on a record; its partition is held
"""

from __future__ import annotations

from typing import ClassVar


class RejoinderError(Exception):
    """The base of all: a message for a person, and the exit code of the command that ends with it."""

    exit_code: ClassVar[int] = 1


class ConfigurationError(RejoinderError):
    """Something isn't as it must be before anything starts."""

    exit_code = 2


class Unavailable(RejoinderError):
    """Something outside doesn't answer now; the same call may work later."""

    exit_code = 75


class Corrupt(RejoinderError):
    """Local state contradicts itself or can't be read; the changelog has everything."""

    exit_code = 70


class Bug(RejoinderError):
    """Our own code failed; the record's coordinates are in the message."""

    exit_code = 70
