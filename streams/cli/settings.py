"""``rejoinder settings``: every setting, its value now, and what it means."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from streams import settings as settings_module
from streams.settings import PREFIX, Settings

_SECRET = ("database_url", "smtp_url", "schema_registry_url")


def settings(
    markdown: Annotated[bool, typer.Option(help="Print the defaults as a Markdown table, for docs/settings.md.")] = False,
) -> None:
    """List every setting with its value in this environment. Passwords in URLs are not shown."""
    if markdown:
        typer.echo(markdown_table())
        return
    now = settings_module.load()
    table = Table(box=None)
    for column in ("setting", "value", "meaning"):
        table.add_column(column, overflow="fold")
    for name, field in Settings.model_fields.items():
        table.add_row(PREFIX + name.upper(), _text(name, getattr(now, name)), field.description)
    Console().print(table)


def markdown_table() -> str:
    """Return the settings, their defaults and meanings as a Markdown table."""
    lines = ["| Setting | Default | Meaning |", "|-|-|-|"]
    for name, field in Settings.model_fields.items():
        default = field.get_default() if field.default_factory is None else ""
        lines.append(f"| `{PREFIX}{name.upper()}` | {_code(name, default)} | {field.description} |")
    return "\n".join(lines)


def _code(name: str, value: Any) -> str:
    text = _text(name, value)
    return f"`{text}`" if text else ""


def _text(name: str, value: Any) -> str:
    if isinstance(value, Enum):
        return str(value.value)
    if name == "ask":
        return {0: "at once", -1: "never"}.get(value, f"after {value}ms")
    if isinstance(value, int) and settings_module.is_duration(name):
        return settings_module.format_duration(value)
    if name in _SECRET and "@" in str(value):
        scheme, _, rest = str(value).partition("://")
        return f"{scheme}://***@{rest.rpartition('@')[2]}"
    return str(value)
