"""The orders service, on SQLite and on PostgreSQL where there is one."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from structlog.testing import capture_logs

from schemas.codec import Codec
from streams.batch import Batch, Record
from streams.errors import ConfigurationError, Unavailable
from streams.headers import header
from streams.services.orders import database as database_module
from streams.services.orders.answer import ANSWER_BYTES_MAX, answer
from streams.services.orders.database import Database, Line, UnknownOrder
from streams.services.orders.publish import publications
from streams.services.records import Reader
from tests.postgresql import NoPostgresqlError, running_postgresql
from topology.topics import DETAILS, QUERIES

QUERY_ID = "6f0c7e9e-1111-5222-8333-444455556666"


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """Return the URL of a PostgreSQL that runs for these tests."""
    with ExitStack() as stack:
        try:
            url = stack.enter_context(running_postgresql())
        except NoPostgresqlError as exc:
            pytest.skip(str(exc))
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """Return a database with the first three example orders, which publishes changes."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'new' / 'orders.sqlite'}"
    else:
        url = request.getfixturevalue("postgresql")
    with Database(url, publish_changes=True) as opened:
        opened.create_schema()
        opened.seed(3)
        yield opened
        opened.drop_schema()


@pytest.fixture
def query(codec: Codec, record: Callable[..., Record]) -> Callable[..., Record]:
    """Return a maker of GetOrderDetails."""

    def make(order_id: str, **others: Any) -> Record:
        body = {"query_id": QUERY_ID, "order_id": order_id, "attempt": 1, "asked_at": 0}
        value = codec.encode_record("orders.GetOrderDetails", body)
        return record(**{"topic": QUERIES.name, "key": order_id.encode(), "value": value} | others)

    return make


def test_details_hold_what_the_contract_asks_for(database: Database, codec: Codec) -> None:
    """What comes from the database goes through the codec unchanged."""
    details = database.details_of(["order-000002"])["order-000002"]
    body = {"query_id": None, "retrieved_at": 1, "order": details}
    value = codec.encode_record("orders.OrderDetailsRetrieved", body)
    assert ("orders.OrderDetailsRetrieved", body) == codec.decode_record(value)
    assert 1 == details["version"]
    assert details["total"] == sum(line["quantity"] * line["unit_price"] for line in details["lines"])


def test_batch_is_looked_up_with_one_select(database: Database) -> None:
    """However many orders are asked for, and an order asked for twice is one."""
    selects: list[str] = []
    event.listen(database._engine, "before_cursor_execute", lambda *args: selects.append(args[2]))
    found = database.details_of(["order-000003", "order-000001", "order-000003", "nobody's"])
    assert {"order-000001", "order-000003"} == set(found)
    assert 1 == len(selects)


def test_id_with_a_nul_is_not_found_and_not_asked_for(database: Database) -> None:
    """PostgreSQL takes none, and its refusal would hold the partition."""
    selects: list[str] = []
    event.listen(database._engine, "before_cursor_execute", lambda *args: selects.append(str(args[3])))
    assert {"order-000001"} == set(database.details_of(["order\0", "order-000001"]))
    assert {} == database.details_of(["\0"])
    [parameters] = selects
    assert "\0" not in parameters
    assert "\\x00" not in parameters


def test_nothing_asked_for_is_nothing_found(database: Database) -> None:
    """A batch in which all is refused asks for nothing."""
    assert {} == database.details_of([])


def test_examples_are_the_same_every_time(database: Database) -> None:
    """Seeding again changes nothing, seeding more adds the rest."""
    before = database.details_of(["order-000001"])
    assert ["order-000001", "order-000002", "order-000003", "order-000004"] == database.seed(4)
    assert before == database.details_of(["order-000001"])
    assert 4 == database.count()


def test_change_bumps_version_by_one_and_keeps_the_rest(database: Database) -> None:
    """The new lines make the new total."""
    before = database.details_of(["order-000001"])["order-000001"]
    assert 2 == database.change("order-000001", shipping_address="elsewhere")
    assert 3 == database.change("order-000001", lines=[Line("A", "Ä", 2, 300), Line("B", "B", 1, 5)])
    lines = [
        {"sku": "A", "name": "Ä", "quantity": 2, "unit_price": 300},
        {"sku": "B", "name": "B", "quantity": 1, "unit_price": 5},
    ]
    expected = before | {"version": 3, "shipping_address": "elsewhere", "lines": lines, "total": 605}
    assert expected == database.details_of(["order-000001"])["order-000001"]


def test_order_without_lines_is_found(database: Database) -> None:
    """All lines may have been taken away."""
    database.change("order-000001", lines=[])
    details = database.details_of(["order-000001"])["order-000001"]
    assert ([], 0) == (details["lines"], details["total"])


def test_change_of_unknown_order_changes_nothing(database: Database) -> None:
    """Neither an order nor an outbox row comes about."""
    with pytest.raises(UnknownOrder, match="nobody's"):
        database.change("nobody's", shipping_address="x")
    assert [] == database.unpublished(10)


def test_concurrent_changes_each_get_a_version(database: Database) -> None:
    """No version is given twice, whoever else writes."""
    versions: list[int] = []

    def change() -> None:
        versions.extend(database.change("order-000001") for _ in range(10))

    threads = [threading.Thread(target=change) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert list(range(2, 42)) == sorted(versions)


def test_change_without_publishing_writes_no_outbox_row(tmp_path: Path) -> None:
    """The outbox of a service that nobody empties would only grow."""
    with Database(f"sqlite:///{tmp_path / 'orders.sqlite'}") as database:
        database.create_schema()
        database.seed(1)
        database.change("order-000001")
        assert [] == database.unpublished(10)


def test_changes_of_one_order_are_published_once_with_the_newest_version(
    database: Database, codec: Codec, now_ms: int
) -> None:
    """Only the newest version is of use, and all its changes are done with it."""
    for order_id in ("order-000001", "order-000002", "order-000001"):
        database.change(order_id)
    found = publications(database, codec, 10, now_ms)
    bodies = [codec.decode_record(output.value or b"")[1] for output in found.outputs]
    assert {("order-000001", 3), ("order-000002", 2)} == {
        (body["order"]["order_id"], body["order"]["version"]) for body in bodies
    }
    assert [None, None] == [body["query_id"] for body in bodies]
    assert [DETAILS.name] * 2 == [output.topic for output in found.outputs]
    assert found.outputs == publications(database, codec, 10, now_ms).outputs
    database.mark_published(found.outbox_ids)
    assert ([], []) == publications(database, codec, 10, now_ms)


@pytest.mark.parametrize(
    "line",
    [Line("BIG", "x" * ANSWER_BYTES_MAX, 1, 1), Line("MANY", "Tea", 2**31, 0)],
    ids=["larger than the topic takes", "quantity larger than the schema's int"],
)
def test_order_that_cant_be_published_holds_up_no_other(tmp_path: Path, codec: Codec, now_ms: int, line: Line) -> None:
    """It is logged, without what is in it, and counts as published. On SQLite, which keeps any number."""
    with Database(f"sqlite:///{tmp_path / 'orders.sqlite'}", publish_changes=True) as database:
        database.create_schema()
        database.seed(2)
        database.change("order-000001", lines=[line])
        database.change("order-000002")
        with capture_logs() as lines:
            found = publications(database, codec, 10, now_ms)
        assert [b"order-000002"] == [output.key for output in found.outputs]
        database.mark_published(found.outbox_ids)
        assert [] == database.unpublished(10)
    [logged] = lines
    assert ("error", "order-000001", 2) == (logged["log_level"], logged["order_id"], logged["version"])
    assert line.name not in str(logged)


def test_change_while_publishing_stays_unpublished(database: Database, codec: Codec, now_ms: int) -> None:
    """Only what was read is marked."""
    database.change("order-000001")
    found = publications(database, codec, 10, now_ms)
    database.change("order-000001")
    database.mark_published(found.outbox_ids)
    assert ["order-000001"] == [order_id for _, order_id in database.unpublished(10)]


def test_queries_are_answered_with_details_or_not_found(
    database: Database, reader: Reader, query: Callable[..., Record], batch: Callable[..., Batch], now_ms: int
) -> None:
    """In the queries' order, under the queries' keys."""
    asked = batch([query("order-000002", offset=1), query("nobody's", offset=2)])
    answer(asked, database, reader)
    order = database.details_of(["order-000002"])["order-000002"]
    expected = [
        ("orders.OrderDetailsRetrieved", {"query_id": QUERY_ID, "retrieved_at": now_ms, "order": order}),
        ("orders.OrderDetailsNotFound", {"query_id": QUERY_ID, "order_id": "nobody's", "answered_at": now_ms}),
    ]
    assert expected == [reader.codec.decode_record(output.value or b"") for output in asked.outputs]
    assert [(DETAILS.name, b"order-000002"), (DETAILS.name, b"nobody's")] == [out[:2] for out in asked.outputs]
    assert [] == asked.refusals


def test_answer_passes_trace_and_correlation_on(
    database: Database, reader: Reader, query: Callable[..., Record], batch: Callable[..., Batch]
) -> None:
    """Caused by the query, about the same command."""
    headers = [("ce_id", b"the-query"), ("ce_correlationid", b"the-command"), ("traceparent", b"00-a-b-01")]
    asked = batch([query("order-000001", headers=headers), query("order-000002")])
    answer(asked, database, reader)
    names = ("ce_causationid", "ce_correlationid", "traceparent", "ce_source", "ce_type")
    first, second = ([header(output.headers, name) for name in names] for output in asked.outputs)
    assert ["the-query", "the-command", "00-a-b-01", "/orders", "orders.OrderDetailsRetrieved"] == first
    assert [QUERY_ID, None, None, "/orders", "orders.OrderDetailsRetrieved"] == second


def test_same_query_again_gives_the_same_event_id(
    database: Database, reader: Reader, query: Callable[..., Record], batch: Callable[..., Batch]
) -> None:
    """Until the order is changed: then it is another event."""
    ids = []
    for _ in range(2):
        asked = batch([query("order-000001")])
        answer(asked, database, reader)
        ids.append(header(asked.outputs[0].headers, "ce_id"))
    database.change("order-000001")
    asked = batch([query("order-000001")])
    answer(asked, database, reader)
    assert ids[0] == ids[1] != header(asked.outputs[0].headers, "ce_id")


def test_what_is_no_query_is_refused_and_the_rest_answered(
    database: Database, reader: Reader, query: Callable[..., Record], batch: Callable[..., Batch]
) -> None:
    """Each with its reason; nothing stops the batch."""
    found = {"query_id": QUERY_ID, "order_id": "order-000001", "answered_at": 0}
    stranger = reader.codec.encode_record("orders.OrderDetailsNotFound", found)
    asked = batch(
        [
            query("order-000001", key=None),
            query("order-000001", value=None),
            query("order-000001", value=b"\x00\x00\x00\xff\xff rubbish"),
            query("order-000001", value=b"rubbish"),
            query("order-000001", value=stranger),
            query("order-000001", key=b"order-000002"),
            query("order-000001"),
        ]
    )
    answer(asked, database, reader)
    expected = ["null", "null", "unknown-schema", "not-framed", "unexpected-record", "key-mismatch"]
    assert expected == [str(refusal.reason) for refusal in asked.refusals]
    assert 1 == len(asked.outputs)


def test_unknown_schema_is_learned(
    database: Database, codec: Codec, query: Callable[..., Record], batch: Callable[..., Batch]
) -> None:
    """The registry is asked once; what it still doesn't know is refused."""
    learned: list[int] = []
    asked = batch([query("order-000001", value=b"\x00\x00\x00\xff\xff rubbish")])
    answer(asked, database, Reader(codec, learned.append))
    assert [65_535] == learned
    assert 1 == len(asked.refusals)


def test_locked_database_is_unavailable_and_then_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever locks it: the caller tries again."""
    url = f"sqlite:///{tmp_path / 'orders.sqlite'}"
    with Database(url) as database:
        database.create_schema()
        database.seed(1)
    monkeypatch.setitem(database_module._SQLITE_ARGUMENTS, "timeout", 0.05)
    with Database(url) as database, Database(url) as hurried:
        with database._transaction() as connection:
            connection.exec_driver_sql("UPDATE orders SET version = 7")
            with pytest.raises(Unavailable, match=r"orders\.sqlite.*locked"):
                hurried.change("order-000001")
        assert 8 == hurried.change("order-000001")


def test_unreachable_server_is_unavailable_and_its_password_not_told() -> None:
    """The message goes to logs."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with (
        Database(f"postgresql://shop:secret@127.0.0.1:{port}/orders") as database,
        pytest.raises(Unavailable) as raised,
    ):
        database.details_of(["order-000001"])
    assert "secret" not in str(raised.value)
    assert str(port) in str(raised.value)


@pytest.mark.parametrize("url", ["", "nonsense", "mysql://secret@host/orders"])
def test_url_of_something_else_is_a_configuration_error(url: str) -> None:
    """At start, with what is allowed, and without the password."""
    with pytest.raises(ConfigurationError, match="allowed: postgresql://") as raised:
        Database(url)
    assert "secret" not in str(raised.value)
