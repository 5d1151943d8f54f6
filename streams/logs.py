"""Log lines: JSON in production, readable on a terminal; Faust's own go the same way."""

from __future__ import annotations

import logging
import sys
from typing import Any
from urllib.parse import unquote

import structlog

from streams.errors import RejoinderError
from streams.masking import Masker
from streams.secrets import SecretUrl, is_secret_property
from streams.settings import LogFormat, Settings, secrets


def configure(settings: Settings) -> None:
    """Send structlog's and the standard library's log lines to standard error, as *settings* want them."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    last: list[Any]
    if settings.log_format is LogFormat.JSON:
        # Without locals: they hold customers' addresses.
        tracebacks = structlog.processors.ExceptionRenderer(
            structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        )
        last = [tracebacks, structlog.processors.JSONRenderer()]
    else:
        plain = structlog.dev.plain_traceback
        last = [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        _Masking(
            Masker(known_secrets(settings)),
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
            foreign_pre_chain=shared,
        )
    )
    handler.addFilter(_is_news)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level)
    # Each access of the health pages is no news.
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    logging.getLogger("faust").setLevel(max(logging.WARNING, root.level))
    logging.getLogger("mode").setLevel(max(logging.WARNING, root.level))


class _Masking(structlog.stdlib.ProcessorFormatter):
    """Whatever a library logs, at whatever level and with whatever traceback: no line has an address or a secret."""

    def __init__(self, masker: Masker, **options: Any) -> None:
        super().__init__(**options)
        self._masker = masker

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        return self._masker(super().format(record))


def known_secrets(settings: Settings) -> list[str]:
    """Return all secrets of *settings*, passwords in URLs both as they are written and as they are meant."""
    found = [value for name, value in settings.kafka.items() if is_secret_property(name)]
    for name in secrets():
        value = getattr(settings, name).get_secret_value()
        if isinstance(getattr(settings, name), SecretUrl):
            # As `without_login` splits it: a password that should have been quoted may hold an @.
            password = value.partition("://")[2].rpartition("@")[0].partition(":")[2]
            found += [password, unquote(password)]
        else:
            found.append(value)
    return [secret for secret in found if secret]


def _is_news(record: logging.LogRecord) -> bool:
    """
    Leave out mode's lines about each service that starts and stops, which it logs under our modules' names.

    Of our own errors the message is enough: it says what, where and what to do.
    """
    if record.exc_info and isinstance(record.exc_info[1], RejoinderError):
        record.msg, record.args, record.exc_info = str(record.exc_info[1]), (), None
    return record.levelno >= logging.WARNING or not str(record.msg).startswith("[^")
