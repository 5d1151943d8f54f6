"""Traces: on where an OTLP endpoint is set, by the standard ``OTEL_…`` variables; nothing is imported where none is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

import structlog

from streams.errors import ConfigurationError
from streams.settings import Settings, Switch

if TYPE_CHECKING:
    from streams.tracing.spans import Tracing

log = structlog.get_logger(__name__)

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


def wanted(environ: Mapping[str, str]) -> bool:
    """Return whether *environ* asks for traces: it names an endpoint, and turns neither the SDK nor traces off."""
    off = environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    exporter = environ.get("OTEL_TRACES_EXPORTER", "").strip().lower() or "otlp"
    return not off and exporter == "otlp" and any(environ.get(name) for name in _ENDPOINTS)


def open_tracing(settings: Settings, group: str) -> Tracing | None:
    """
    Return what makes the spans of the process whose consumer group is *group*; None where none are wanted.

    Raises:
        ConfigurationError: they are, and can't be made; says what to install or to set.
    """
    if not wanted(os.environ):
        return None
    if settings.headers is Switch.OFF:
        log.warning("no traces: REJOINDER_HEADERS=off, and a trace goes from process to process in headers")
        return None
    try:
        from streams.tracing.spans import Tracing  # noqa: PLC0415 - an extra, and half a second where it isn't used.
    except ModuleNotFoundError as exc:
        raise ConfigurationError(
            f"an OTLP endpoint is set, but {exc.name} isn't installed: install rejoinder[otel], or set "
            "OTEL_SDK_DISABLED=true"
        ) from exc
    return Tracing(settings, group, version("rejoinder"))
