"""Selectors of our own metrics for rules and dashboards: a name or a label that isn't declared fails at import."""

from __future__ import annotations

from typing import Final

from streams.metrics import DECLARED

_LABELS: Final[dict[str, frozenset[str]]] = {
    name: frozenset(metric.labels)
    for metric in DECLARED
    for name in (
        [f"{metric.name}_{part}" for part in ("bucket", "count", "sum")]
        if metric.type == "histogram"
        else [metric.name]
    )
}
_SCRAPED_WITH: Final = frozenset({"job", "instance"})
"""Labels that Prometheus itself puts on."""


def select(name: str, job: str, **matchers: str) -> str:
    """
    Return the selector of the series *name* of the jobs that match the regular expression *job*.

    *matchers* are values by label; one that begins with ``~`` is a regular expression.

    Raises:
        ValueError: no such series is exposed, or not with such a label.
    """
    if name not in _LABELS:
        raise ValueError(f"{name} isn't declared in streams/metrics.py")
    if strange := set(matchers) - _LABELS[name] - _SCRAPED_WITH:
        raise ValueError(f"{name} has no label {', '.join(sorted(strange))}")
    chosen = [f'job=~"{job}"']
    chosen += [
        f'{label}=~"{value[1:]}"' if value.startswith("~") else f'{label}="{value}"'
        for label, value in matchers.items()
    ]
    return f"{name}{{{', '.join(chosen)}}}"
