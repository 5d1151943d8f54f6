"""
The e-mail service's application: ``faust -A streams.email worker``, or ``rejoinder email``.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from functools import partial

from streams import settings as settings_module
from streams.errors import ConfigurationError
from streams.frame import App, watch_lag
from streams.processing.logic import nothing_more
from streams.registry import open_registry
from streams.services.email.notes import Notes
from streams.services.email.render import sender_of
from streams.services.email.service import EmailService, Rules
from streams.services.email.smtp import SmtpSender
from streams.services.email.smtp_url import parse_smtp_url
from streams.services.records import Reader
from streams.settings import Settings, Switch
from streams.tracing import open_tracing
from streams.web import add_pages
from topology.topics import EMAIL_COMMANDS, LEDGER_CHANGELOG


def create_app(settings: Settings) -> App:
    """Return the e-mail service, ready to start."""
    app = App(settings, "email")
    registry = open_registry(settings)
    sender = sender_of(settings.email_from)
    rules = Rules(
        sender=sender,
        domain=settings.email_domain or sender.domain,
        in_doubt=settings.in_doubt,
        ledger_ttl_ms=settings.finished_ttl,
        with_headers=settings.headers is Switch.ON,
    )
    smtp = SmtpSender(
        settings.smtp_url.get_secret_value(),
        timeout_s=settings.smtp_timeout / 1_000,
        connections=settings.email_concurrency,
        now_ms=_now_ms,
        tls=_trusting(settings),
    )
    reader = Reader(registry.codec, registry.resolve)

    tracing = open_tracing(settings, app.group)
    make: Callable[..., EmailService] = EmailService
    if tracing is not None:
        from streams.services.email.traced import TracedEmailService  # noqa: PLC0415 - of the extra otel.

        make = partial(TracedEmailService, tracing=tracing, where=parse_smtp_url(settings.smtp_url.get_secret_value()))

    def open_service() -> EmailService:
        # Once the state directory is this process's own: the notes are in it.
        return make(reader, smtp, Notes(app.state_path / "notes"), rules, _now_ms)

    app.handle(
        app.declared(EMAIL_COMMANDS),
        open_service,
        table=app.table_of("ledger", LEDGER_CHANGELOG),
        records_max=settings.email_batch,
        committed=tracing.committed if tracing is not None else nothing_more,
    )
    add_pages(app, watch=watch_lag(app))
    return app


def _trusting(settings: Settings) -> ssl.SSLContext | None:
    """Return whom the mail server's certificate may be signed by, if not by a public authority."""
    if settings.smtp_ca is None:
        return None
    try:
        return ssl.create_default_context(cafile=settings.smtp_ca)
    except OSError as exc:
        raise ConfigurationError(f"REJOINDER_SMTP_CA={str(settings.smtp_ca)!r}: no certificates in PEM: {exc}") from exc


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def __getattr__(name: str) -> App:
    """Make ``app`` when it is first asked for: importing this module reads no settings."""
    if name != "app":
        raise AttributeError(name)
    app = globals()["app"] = create_app(settings_module.load())
    return app
