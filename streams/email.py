"""
The e-mail service's application: ``faust -A streams.email worker``, or ``rejoinder email``.
"""

from __future__ import annotations

import ssl
import time

from streams import settings as settings_module
from streams.errors import ConfigurationError
from streams.frame import App, watch_lag
from streams.registry import open_registry
from streams.services.email.notes import Notes
from streams.services.email.render import sender_of
from streams.services.email.service import EmailService, Rules
from streams.services.email.smtp import SmtpSender
from streams.services.records import Reader
from streams.settings import Settings, Switch
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

    def open_service() -> EmailService:
        # Once the state directory is this process's own: the notes are in it.
        return EmailService(reader, smtp, Notes(app.state_path / "notes"), rules, _now_ms)

    app.handle(
        app.declared(EMAIL_COMMANDS),
        open_service,
        table=app.table_of("ledger", LEDGER_CHANGELOG),
        records_max=settings.email_batch,
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
