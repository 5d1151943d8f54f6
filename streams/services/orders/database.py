"""
The orders' database: PostgreSQL in production, an SQLite file otherwise, both through SQLAlchemy.

Every wait has an end: for a connection, a lock, a statement, an answer of the server.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

from sqlalchemy import URL, Connection, create_engine, delete, event, func, insert, make_url, select, update
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from streams.errors import ConfigurationError, Unavailable
from streams.secrets import without_login
from streams.services.orders.examples import example_orders
from streams.services.orders.tables import CUSTOMERS, METADATA, ORDER_LINES, ORDERS, OUTBOX

WAIT_S_MAX: Final = 5
"""For a connection, or for another writer."""
STATEMENT_S_MAX: Final = 20

# SQLite takes 32,766 parameters in a statement, PostgreSQL 65,535.
_IDS_MAX: Final = 30_000
_ROWS_MAX: Final = 1_000

_DETAILS: Final = (
    select(
        ORDERS,
        CUSTOMERS.c.name.label("customer_name"),
        CUSTOMERS.c.email,
        *(column for column in ORDER_LINES.c if column.name != "order_id"),
    )
    .join(CUSTOMERS, CUSTOMERS.c.customer_id == ORDERS.c.customer_id)
    .outerjoin(ORDER_LINES, ORDER_LINES.c.order_id == ORDERS.c.order_id)
    .order_by(ORDERS.c.order_id, ORDER_LINES.c.line)
)


class UnknownOrder(Exception):
    """There is no such order; says which."""


class Line(NamedTuple):
    """One line of an order; *unit_price* in minor units of the order's currency."""

    sku: str
    name: str
    quantity: int
    unit_price: int


class Database:
    """
    The orders; safe to use from several threads.

    Raises from all methods:
        Unavailable: the database doesn't answer, or not in time; the same call may work later.
    """

    def __init__(self, url: str, *, publish_changes: bool = False) -> None:
        """
        Prepare the database at *url* (SQLAlchemy's form); nothing is opened yet.

        *publish_changes*: `change` also writes an outbox row.

        Raises:
            ConfigurationError: *url* is none, or its driver isn't installed.
        """
        self._publish_changes = publish_changes
        parsed = _parse(url)
        self._where = without_login(url)
        is_sqlite = parsed.get_backend_name() == "sqlite"
        if is_sqlite and parsed.database not in {None, "", ":memory:"}:
            Path(str(parsed.database)).parent.mkdir(parents=True, exist_ok=True)
        try:
            self._engine = create_engine(
                parsed,
                pool_pre_ping=True,  # A connection that died while it lay idle costs no answer.
                pool_timeout=WAIT_S_MAX,
                connect_args=_SQLITE_ARGUMENTS if is_sqlite else _POSTGRESQL_ARGUMENTS,
            )
        except ImportError as exc:
            raise ConfigurationError(f"{self._where}: {exc}; install rejoinder[postgresql]") from exc
        if is_sqlite:
            event.listen(self._engine, "connect", _prepare_sqlite)

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        """Use it in a with-statement."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close all connections."""
        self.close()

    def create_schema(self) -> None:
        """Create the tables that aren't there."""
        with self._transaction() as connection:
            METADATA.create_all(connection)

    def drop_schema(self) -> None:
        """Drop the tables and all that is in them."""
        with self._transaction() as connection:
            METADATA.drop_all(connection)

    def seed(self, count: int) -> list[str]:
        """Add the first *count* example orders, those that aren't there; return their order ids."""
        examples = example_orders(count)
        with self._transaction() as connection:
            known: set[str] = set(
                connection.scalars(select(ORDERS.c.order_id).where(ORDERS.c.order_id.like("order-%")))
            )
            missing = [example for example in examples if example.order["order_id"] not in known]
            for start in range(0, len(missing), _ROWS_MAX):
                some = missing[start : start + _ROWS_MAX]
                connection.execute(insert(CUSTOMERS), [example.customer for example in some])
                connection.execute(insert(ORDERS), [example.order for example in some])
                connection.execute(insert(ORDER_LINES), [line for example in some for line in example.lines])
        return [str(example.order["order_id"]) for example in examples]

    def details_of(self, order_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """
        Return the details of those of *order_ids* that exist, as OrderDetails records.

        One select for up to 30,000 ids: order, customer and lines are of one version, because one statement sees one
        snapshot.
        """
        # PostgreSQL's text holds no NUL and takes none in a parameter: no order is called so.
        unique = [order_id for order_id in dict.fromkeys(order_ids) if "\0" not in order_id]
        found: dict[str, dict[str, Any]] = {}
        with self._transaction() as connection:
            for start in range(0, len(unique), _IDS_MAX):
                some = unique[start : start + _IDS_MAX]
                for row in connection.execute(_DETAILS.where(ORDERS.c.order_id.in_(some))):
                    _fold(row, found)
        return found

    def change(self, order_id: str, *, shipping_address: str | None = None, lines: Sequence[Line] | None = None) -> int:
        """
        Change an order (None: as it was) and return its new version, one more than before.

        Raises:
            UnknownOrder: there is none.
        """
        values: dict[str, Any] = {"version": ORDERS.c.version + 1}
        if shipping_address is not None:
            values["shipping_address"] = shipping_address
        if lines is not None:
            values["total"] = sum(line.quantity * line.unit_price for line in lines)
        changed = update(ORDERS).where(ORDERS.c.order_id == order_id).values(values).returning(ORDERS.c.version)
        with self._transaction() as connection:
            # The update comes first: it locks the order, so changes of one order are one after the other.
            version = connection.scalar(changed)
            if version is None:
                raise UnknownOrder(f"there is no order {order_id!r}")
            if lines is not None:
                connection.execute(delete(ORDER_LINES).where(ORDER_LINES.c.order_id == order_id))
            if lines:
                rows = [{"order_id": order_id, "line": at, **line._asdict()} for at, line in enumerate(lines, 1)]
                connection.execute(insert(ORDER_LINES), rows)
            if self._publish_changes:
                connection.execute(insert(OUTBOX).values(order_id=order_id))
        return int(version)

    def unpublished(self, limit: int) -> list[tuple[int, str]]:
        """Return outbox id and order id of up to *limit* changes that aren't published, the oldest first."""
        with self._transaction() as connection:
            chosen = select(OUTBOX.c.outbox_id, OUTBOX.c.order_id).order_by(OUTBOX.c.outbox_id).limit(limit)
            return [(row.outbox_id, row.order_id) for row in connection.execute(chosen)]

    def mark_published(self, outbox_ids: Sequence[int]) -> None:
        """Take these changes out of the outbox, when what `unpublished` gave has been committed to Kafka."""
        with self._transaction() as connection:
            for start in range(0, len(outbox_ids), _IDS_MAX):
                some = outbox_ids[start : start + _IDS_MAX]
                connection.execute(delete(OUTBOX).where(OUTBOX.c.outbox_id.in_(some)))

    def count(self) -> int:
        """Return how many orders there are."""
        with self._transaction() as connection:
            return int(connection.scalar(select(func.count()).select_from(ORDERS)) or 0)

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except (OperationalError, InterfaceError, PoolTimeoutError) as exc:
            raise self._unavailable(exc) from exc
        except DBAPIError as exc:
            if not exc.connection_invalidated:
                raise
            raise self._unavailable(exc) from exc

    def _unavailable(self, exc: Exception) -> Unavailable:
        # SQLAlchemy's own text quotes the statement's parameters, which are somebody's data.
        cause = str(getattr(exc, "orig", None) or exc).strip()
        return Unavailable(f"{self._where}: the orders' database can't be used: {cause}; it is tried again")


def _parse(text: str) -> URL:
    try:
        url = make_url(text)
    except ArgumentError as exc:
        raise ConfigurationError(f"the orders' database URL can't be read; {_ALLOWED}") from exc
    if url.get_backend_name() not in _DRIVERS:
        raise ConfigurationError(f"{url.get_backend_name()}://: no database for the orders; {_ALLOWED}")
    return url.set(drivername=_DRIVERS[url.get_backend_name()])


_ALLOWED: Final = "allowed: postgresql://user:password@host/name or sqlite:///FILE"
_DRIVERS: Final = {"postgresql": "postgresql+psycopg", "sqlite": "sqlite+pysqlite"}

_SQLITE_ARGUMENTS: Final = {"timeout": WAIT_S_MAX}

_POSTGRESQL_ARGUMENTS: Final = {
    "connect_timeout": WAIT_S_MAX,
    "options": f"-c statement_timeout={STATEMENT_S_MAX}s -c lock_timeout={WAIT_S_MAX}s",
    # A server that vanished without a word is noticed by the kernel: statement_timeout is the server's to keep.
    "tcp_user_timeout": STATEMENT_S_MAX * 1_000,
    "keepalives_idle": WAIT_S_MAX,
    "keepalives_interval": WAIT_S_MAX,
    "keepalives_count": 3,
}


def _prepare_sqlite(connection: Any, _: object) -> None:
    cursor = connection.cursor()
    # Readers and one writer at a time don't wait for each other; a killed process loses nothing.
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _fold(row: Any, found: dict[str, dict[str, Any]]) -> None:
    """Add one row of the select, an order with one of its lines, to what was found."""
    details = found.get(row.order_id)
    if details is None:
        details = found[row.order_id] = {
            "order_id": row.order_id,
            "version": row.version,
            "placed_at": row.placed_at_ms,
            "customer": {"customer_id": row.customer_id, "name": row.customer_name, "email": row.email},
            "currency": row.currency,
            "lines": [],
            "total": row.total,
            "shipping_address": row.shipping_address,
        }
    if row.line is not None:
        details["lines"].append(
            {"sku": row.sku, "name": row.name, "quantity": row.quantity, "unit_price": row.unit_price}
        )
