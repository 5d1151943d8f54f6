"""The orders' database: what is kept of an order."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, MetaData, Table, Text

METADATA: Final = MetaData()

CUSTOMERS: Final = Table(
    "customers",
    METADATA,
    Column("customer_id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("email", Text, nullable=False),
)

ORDERS: Final = Table(
    "orders",
    METADATA,
    Column("order_id", Text, primary_key=True),
    Column("version", BigInteger, nullable=False, comment="Grows by one with every change."),
    Column("placed_at_ms", BigInteger, nullable=False, comment="Unix milliseconds."),
    Column("customer_id", ForeignKey(CUSTOMERS.c.customer_id), nullable=False),
    Column("currency", Text, nullable=False, comment="ISO 4217 code."),
    Column("total", BigInteger, nullable=False, comment="In minor units of the currency."),
    Column("shipping_address", Text, nullable=False),
)

ORDER_LINES: Final = Table(
    "order_lines",
    METADATA,
    Column("order_id", ForeignKey(ORDERS.c.order_id, ondelete="CASCADE"), primary_key=True),
    Column("line", Integer, primary_key=True, comment="From 1, the order in which they are shown."),
    Column("sku", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("quantity", Integer, nullable=False),
    Column("unit_price", BigInteger, nullable=False, comment="In minor units of the currency."),
)

# Written in the transaction that changes the order, deleted when the change is published: no change is lost between.
OUTBOX: Final = Table(
    "outbox",
    METADATA,
    # SQLite counts up by itself only in a column that it takes for its row id.
    Column("outbox_id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("order_id", ForeignKey(ORDERS.c.order_id, ondelete="CASCADE"), nullable=False),
    Index("outbox_by_order", "order_id"),
)
