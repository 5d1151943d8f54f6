"""``rejoinder settings``: every setting, its value now, and what it means."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from pydantic import SecretStr
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from streams import settings as settings_module
from streams.settings import KAFKA_PREFIX, PREFIX, Settings

_PAGE = """\
# Settings

Every setting is an environment variable, read once at start. A name that doesn't exist or a value that isn't allowed is
refused at start. `rejoinder settings` shows the values in force. This page is generated:
`rejoinder settings --markdown > docs/settings.md`.

A duration is a whole number and a unit: `500ms`, `30s`, `5m`, `24h`, `7d`.

What is a secret, or may hold one ({secrets}, and any of librdkafka's below), may stand in a file instead: its name with
`_FILE` is the file's path, as Kubernetes and Docker mount secrets. `REJOINDER_SMTP_URL_FILE=/run/secrets/smtp` and
`REJOINDER_KAFKA_SASL_PASSWORD_FILE=/run/secrets/kafka`. The file's last line end doesn't count.

{table}

## librdkafka

`REJOINDER_KAFKA_…` passes any of librdkafka's configuration properties through, to all of its clients: the rest of the
name is the property, in lower case and with dots for underscores. `REJOINDER_KAFKA_SECURITY_PROTOCOL=SASL_SSL` sets
`security.protocol`, `REJOINDER_KAFKA_SASL_USERNAME` and `REJOINDER_KAFKA_SASL_PASSWORD` the login. They win over our
own choices, such as `linger.ms`. Those that exactly-once rests on (`isolation.level`, `group.id`, `enable.idempotence`
and their like) and those that have a setting above are refused. librdkafka checks names and values at start.
"""


def settings(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print names, defaults and meanings as docs/settings.md has them.")
    ] = False,
) -> None:
    """List every setting with its value in this environment. Passwords are not shown."""
    if markdown:
        typer.echo(page(), nl=False)
        return
    now = settings_module.load()
    table = Table(box=None)
    for column in ("setting", "value", "meaning"):
        table.add_column(column, overflow="fold")
    for name, field in Settings.model_fields.items():
        table.add_row(PREFIX + name.upper(), escape(_text(name, getattr(now, name))), field.description)
    for name in now.kafka:
        # Some are secrets, and which ones is librdkafka's to know.
        table.add_row(KAFKA_PREFIX + name.upper().replace(".", "_"), "***", f"librdkafka's {name}.")
    Console().print(table)


def page() -> str:
    """Return docs/settings.md: the settings, their defaults and meanings."""
    lines = ["| Setting | Default | Meaning |", "|-|-|-|"]
    for name, field in Settings.model_fields.items():
        default = field.get_default() if field.default_factory is None else ""
        lines.append(f"| `{PREFIX}{name.upper()}` | {_code(name, default)} | {field.description} |")
    secrets = ", ".join(f"`{PREFIX}{name.upper()}`" for name in settings_module.secrets())
    return _PAGE.format(table="\n".join(lines), secrets=secrets)


def _code(name: str, value: Any) -> str:
    text = _text(name, value)
    return f"`{text}`" if text else ""


def _text(name: str, value: Any) -> str:
    # A secret's own text is a mask, or a URL without its login.
    return str(value) if isinstance(value, SecretStr) else settings_module.as_environment(name, value)
