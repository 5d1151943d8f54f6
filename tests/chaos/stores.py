"""C5: each local store equals a replay of its changelog up to its checkpoint, key by key, deadlines included."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from streams.store.changes import NEVER
from streams.store.options import StoreOptions
from streams.store.partition import Partition, due_of
from tests.chaos.checks import Violation

TOLD_MAX: Final = 20
"""Keys that are told of one store."""
MEMORY_MIB: Final = 64


class StoreLike(Protocol):
    """What is looked at of a store: `Partition` has it."""

    @property
    def position(self) -> int:
        """The next changelog offset after what its rows reflect."""

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield keys and rows."""

    def deadlines(self) -> list[tuple[int, bytes]]:
        """Return the deadline index, as due times and keys."""


class Row(NamedTuple):
    """A changelog record; a value of None deletes the key."""

    offset: int
    key: bytes
    value: bytes | None


class Found(NamedTuple):
    """A store on disk, and where."""

    name: str
    store: StoreLike


def compare(found: Found, replayed: Mapping[bytes, bytes]) -> Iterator[Violation]:
    """Yield where a store differs from what was *replayed* up to its checkpoint."""
    name, store = found
    told = 0
    indexed = set(store.deadlines())
    seen = 0
    for key, row in store.items():
        expected = replayed.get(key)
        seen += expected is not None
        due_ms = due_of(row)
        if expected is None:
            what = "a row that the changelog doesn't have"
        elif expected != row:
            what = "a row that isn't the changelog's last"
        elif due_ms != NEVER and (due_ms, key) not in indexed:
            what = f"a row whose deadline {due_ms} isn't in the index: it would never fire"
        else:
            continue
        told += 1
        if told <= TOLD_MAX:
            yield Violation("C5", key.decode(errors="replace"), f"{what}, in {name} at {store.position}", (name,))
    if seen < len(replayed):
        there = {key for key, _ in store.items()}
        for key in [key for key in replayed if key not in there][:TOLD_MAX]:
            what = f"no row, but the changelog has one, in {name} at {store.position}"
            yield Violation("C5", key.decode(errors="replace"), what, (name,))


class Replayed(NamedTuple):
    """The table after a changelog's last record, what is wrong with its stores, and how many rows were compared."""

    table: dict[bytes, bytes]
    violations: list[Violation]
    compared: int


def check(rows: Iterable[Row], found: Iterable[Found], partition: int) -> Replayed:
    """
    Replay a partition's changelog once, and look at each of its stores when the replay is where the store is.

    One store at least must be up to the changelog's end.
    """
    waiting = sorted(found, key=lambda one: one.store.position)
    violations: list[Violation] = []
    table: dict[bytes, bytes] = {}
    last, compared = -1, 0
    for offset, key, value in rows:
        while waiting and waiting[0].store.position <= offset:
            violations += compare(waiting.pop(0), table)
            compared += len(table)
        if value is None:
            table.pop(key, None)
        else:
            table[key] = value
        last = offset
    for one in waiting:
        violations += compare(one, table)
        compared += len(table)
    if last >= 0 and not waiting:
        what = f"no store of partition {partition} has come to the changelog's last record, {last}"
        violations.append(Violation("C5", "", what))
    return Replayed(table, violations, compared)


def find(directory: Path, application_id: str, partition: int) -> dict[str, Path]:
    """Return the stores of *partition* of all workers whose state is below *directory*, by the worker's name."""
    pattern = f"*/worker/{application_id}/processes/{partition}"
    return {path.relative_to(directory).parts[0]: path for path in sorted(directory.glob(pattern))}


def open_all(paths: Mapping[str, Path], partition: int) -> list[tuple[Found, Partition]]:
    """Open stores; raises `Corrupt` for one that can't be read. The caller closes them."""
    options = StoreOptions(MEMORY_MIB)
    opened = [(name, Partition(path, options)) for name, path in paths.items()]
    return [(Found(f"{name}'s store {partition}", store), store) for name, store in opened]


def rocksdb_version(directory: Path) -> str:
    """Return which RocksDB wrote the stores below *directory*; its own log says so."""
    for path in directory.glob("*/worker/*/processes/*/LOG"):
        if found := re.search(r"RocksDB version: (\S+)", path.read_text(errors="replace")):
            return found[1]
    return "unknown"
