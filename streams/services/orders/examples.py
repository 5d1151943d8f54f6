"""Example orders for demo, tests and benchmarks: the same ones every time, at addresses that nobody has."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

_FIRST_NAMES: Final = (
    "Jürgen", "Zoë", "Björk", "Łukasz", "Renée", "Søren", "Ana", "Çiğdem", "Jiří", "Siân", "Günther", "Noémie",
)  # fmt: skip
_LAST_NAMES: Final = (
    "Müller", "Österreicher", "Nuñez", "Kowalska", "Ångström", "O’Brien", "Weiß", "Dvořák", "Łapiński", "Smith",
    "Yılmaz", "D’Angelo",
)  # fmt: skip
_STREETS: Final = ("Königstraße 1", "12 Rue de l’Église", "Ægirsgade 7", "221B Baker Street", "Große Bleiche 14")
_CITIES: Final = ("70173 Stuttgart", "75005 Paris", "2200 København", "London NW1 6XE", "55116 Mainz")
_GOODS: Final = (
    ("TEA-0100", "Darjeeling, first flush, 100 g", 18),
    ("POT-0001", "Teapot “Käthe”, 1.2 l", 64),
    ("CUP-0006", "Cups, set of 6", 42),
    ("BIS-0250", "Crème brûlée biscuits, 250 g", 9),
    ("TRY-0002", "Tray, oak & brass", 55),
)
# How many minor units one unit of the goods' prices makes: about a euro.
_CURRENCIES: Final = (("EUR", 100), ("EUR", 100), ("EUR", 100), ("CHF", 100), ("GBP", 100), ("JPY", 160), ("KWD", 330))
_PLACED_FIRST_MS: Final = int(datetime(2026, 1, 5, 8, 30, tzinfo=UTC).timestamp() * 1_000)
_PLACED_EVERY_MS: Final = 61_000


class Example(NamedTuple):
    """Rows of one order; ``lines`` are rows of the order's lines."""

    customer: dict[str, Any]
    order: dict[str, Any]
    lines: list[dict[str, Any]]


def example_orders(count: int) -> list[Example]:
    """Return the first *count* example orders, order-000001 and so on; each depends on its number only."""
    return [_example(number) for number in range(1, count + 1)]


def _example(number: int) -> Example:
    chance = random.Random(number)  # noqa: S311 - the same every time is what is wanted.
    order_id = f"order-{number:06}"
    name = f"{chance.choice(_FIRST_NAMES)} {chance.choice(_LAST_NAMES)}"
    currency, minor_units = chance.choice(_CURRENCIES)
    goods = chance.sample(_GOODS, chance.randint(1, 4))
    lines: list[dict[str, Any]] = [
        {
            "order_id": order_id,
            "line": at,
            "sku": sku,
            "name": good,
            "quantity": chance.randint(1, 3),
            "unit_price": price * minor_units - (minor_units > 1) * 5,
        }
        for at, (sku, good, price) in enumerate(goods, 1)
    ]
    customer_id = f"customer-{number:06}"
    return Example(
        {"customer_id": customer_id, "name": name, "email": f"{customer_id}@example.com"},
        {
            "order_id": order_id,
            "version": 1,
            "placed_at_ms": _PLACED_FIRST_MS + number * _PLACED_EVERY_MS,
            "customer_id": customer_id,
            "currency": currency,
            "total": sum(line["quantity"] * line["unit_price"] for line in lines),
            "shipping_address": f"{name}\n{chance.choice(_STREETS)}\n{chance.choice(_CITIES)}",
        },
        lines,
    )
