"""
Secrets among the settings: how they are given, and how they are shown.

A secret may stand in a file instead of the environment, as Kubernetes and Docker mount them: ``REJOINDER_…_FILE`` is
the file's path, its last line end doesn't count. A process's environment can be read by whoever runs as the same user,
and is inherited by what it starts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from streams.errors import ConfigurationError
from streams.masking import MASK

FILE_SUFFIX: Final = "_FILE"
SECRET_BYTES_MAX: Final = 65_536

_SECRET_PROPERTY: Final = re.compile(
    r"password|secret|jaas|\.pem$|oauthbearer\.(config|assertion\.jwt|extensions)|assertion\.private\.key"
)


class SecretUrl(SecretStr):
    """A URL that may carry a login: shown without it, whole by ``get_secret_value()``."""

    def _display(self) -> str:
        return without_login(self._secret_value)


def without_login(url: str) -> str:
    """
    Return *url* with ``***`` for user and password, and for its query if that may hold any.

    Up to the last @: a password that should have been quoted may hold one.
    """
    head, at, host = url.rpartition("@")
    scheme, colon, _ = head.partition("://")
    shown = f"{scheme + colon if colon else ''}{MASK}@{host}" if at else url
    path, question, query = shown.partition("?")
    return f"{path}?{MASK}" if question and _SECRET_PROPERTY.search(query.lower()) else shown


def is_secret_property(name: str) -> bool:
    """Return whether librdkafka's property *name* holds a secret."""
    return _SECRET_PROPERTY.search(name) is not None


def redact(text: str, properties: Mapping[str, str]) -> str:
    """Return *text* without the values of those of *properties* that are secrets."""
    for name, value in properties.items():
        if value and is_secret_property(name):
            text = text.replace(value, MASK)
    return text


def read_secret(variable: str, path: str) -> str:
    """
    Return what the file *path* holds, which the environment's *variable* names.

    Raises:
        ConfigurationError: it can't be read, isn't text, or is too large to be a secret.
    """
    try:
        with Path(path).open("rb") as file:
            data = file.read(SECRET_BYTES_MAX + 1)
        text = data.decode()
    except (OSError, ValueError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else "not UTF-8"
        raise ConfigurationError(f"{variable}={path!r}: the file can't be read: {why}") from None
    if len(data) > SECRET_BYTES_MAX:
        raise ConfigurationError(f"{variable}={path!r}: more than {SECRET_BYTES_MAX} bytes, too much for a secret")
    return text.removesuffix("\n").removesuffix("\r")


def from_file(environ: Mapping[str, str], variable: str) -> str | None:
    """
    Return the secret *variable* if it is given as a file, None if it isn't.

    Raises:
        ConfigurationError: it is given both ways, or the file can't be read.
    """
    named = variable + FILE_SUFFIX
    if named not in environ:
        return None
    if variable in environ:
        raise ConfigurationError(f"{variable} and {named} are both set; set one of them")
    return read_secret(named, environ[named])
