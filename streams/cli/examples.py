"""``rejoinder examples``: something in the orders' database to try commands on."""

from __future__ import annotations

from typing import Annotated

import typer

from streams import settings as settings_module
from streams.services.orders.database import Database


def examples(orders: Annotated[int, typer.Option(min=1, help="How many orders.")] = 1_000) -> None:
    """
    Add example orders to the orders service's database (REJOINDER_DATABASE_URL): order-000001 and so on.

    Safe to repeat: orders that are there stay as they are. Their customers' addresses are nobody's.
    """
    settings = settings_module.load()
    with Database(settings.orders_url) as database:
        database.create_schema()
        order_ids = database.seed(orders)
    typer.echo(f"{order_ids[0]} to {order_ids[-1]} are there")
