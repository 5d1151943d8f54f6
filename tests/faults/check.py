"""What must be true in the end, whatever broke: everything done, once, read to the end, stores as their changelogs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from streams.errors import Corrupt
from streams.settings import Settings
from streams.store.options import StoreOptions
from streams.store.partition import Partition, due_of
from tests.broker.harness import PARTITIONS, Worker, committed, ends, read_all, sent, wait_for, wait_for_mails
from topology.state import NEVER_MS
from topology.topics import PROCESSES_CHANGELOG

SETTLED_S = 60.0


def replayed(settings: Settings, changelog: str = PROCESSES_CHANGELOG.name) -> list[dict[bytes, bytes]]:
    """Return the table as *changelog* has it, by partition number."""
    tables: list[dict[bytes, bytes]] = [{} for _ in range(PARTITIONS)]
    for message in read_all(settings, changelog):
        if message.value() is None:
            tables[message.partition()].pop(message.key(), None)
        else:
            tables[message.partition()][message.key()] = message.value()
    return tables


def stored(paths: Iterable[Path]) -> list[dict[bytes, bytes]]:
    """Return the table as the closed stores at *paths* have it, all deadlines being where their rows are due."""
    options = StoreOptions(16)
    tables = []
    for path in paths:
        store = Partition.open(path, options)
        rows = dict(store.items())
        due = {(due_of(row), key) for key, row in rows.items() if due_of(row) != NEVER_MS}
        assert due <= set(store.deadlines()), f"{path}: deadlines are missing"
        tables.append(rows)
        store.close()
    return tables


def check_readable(settings: Settings, state: Path) -> list[int]:
    """
    Compare the stores below *state* with a replay of the changelog, but for those that say themselves they are damaged.

    Returns:
        The partition numbers of these; a worker restores them as soon as it comes to the damage.
    """
    corrupt = []
    for number, expected in enumerate(replayed(settings)):
        try:
            assert [expected] == stored([state / str(number)])
        except Corrupt:
            corrupt.append(number)
    return corrupt


def settle(settings: Settings, worker: Worker, orders: Iterable[str], timeout_s: float = SETTLED_S) -> None:
    """Wait until *worker* has done everything: a mail of each order, and no lag, which an open transaction is too."""
    wait_for_mails(settings, orders, timeout_s)
    wait_for(lambda: committed(settings) == ends(settings), "no lag", timeout_s)
    assert None is worker.crashed


def check(settings: Settings, orders: Iterable[str], state: Path) -> None:
    """Of the orders each has one e-mail; the stores below *state*, closed by now, equal a replay of the changelog."""
    assert Counter(orders) == sent(settings)
    assert replayed(settings) == stored(state / str(number) for number in range(PARTITIONS))
