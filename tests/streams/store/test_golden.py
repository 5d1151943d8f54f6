"""Stores as released versions have left them are opened by this one, read in full, and gone on with."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from schemas import state_codec
from streams.batch import RowChange
from streams.store.changes import NEVER
from streams.store.options import StoreOptions
from streams.store.partition import Checkpoint, Partition, due_of
from tests.streams.store.make_golden import HERE, TOPIC_ID, VERSION, WRITTEN_MS, make, rows

STORES = sorted(HERE.glob("store.*.tar.xz"))


def _unpacked(archive: Path, into: Path) -> Path:
    with tarfile.open(archive) as packed:
        packed.extractall(into, filter="data")
    return into


def test_there_is_one_of_this_version() -> None:
    """Or the next release couldn't be tried on it."""
    assert f"store.{VERSION}.tar.xz" in [path.name for path in STORES]
    assert VERSION == state_codec.VERSION


@pytest.mark.parametrize("archive", STORES, ids=lambda path: path.name)
def test_store_of_a_release_is_read_and_gone_on_with(archive: Path, tmp_path: Path) -> None:
    """Rows, deadlines and checkpoint are what was written; each row is decoded; what is written then stays."""
    expected = rows(int(archive.name.split(".")[1]))
    path = _unpacked(archive, tmp_path / "0")
    partition = Partition.open(path, StoreOptions(16))
    assert expected == dict(partition.items())
    assert Checkpoint(len(expected), TOPIC_ID, WRITTEN_MS) == partition.checkpoint()
    waiting = sorted((due_of(row), key) for key, row in expected.items() if due_of(row) < NEVER)
    assert waiting == partition.due(NEVER - 1, 1_000) == partition.deadlines()
    for key, row in expected.items():
        assert state_codec.encode(state_codec.decode(key.decode(), row), due_of(row))
    changed = expected | {b"order-00": expected[b"order-01"]}
    change = RowChange(b"order-00", expected[b"order-00"], expected[b"order-01"])
    partition.write([change], len(expected) + 1, WRITTEN_MS + 1)
    partition.close()
    partition = Partition.open(path, StoreOptions(16))
    assert changed == dict(partition.items())
    assert len(expected) + 1 == partition.position
    partition.close()


def test_archive_is_what_is_made_today(tmp_path: Path) -> None:
    """As long as the version is the same: the same rows in the same store, whatever RocksDB calls its files."""
    make(tmp_path / "made.tar.xz")
    made = Partition.open(_unpacked(tmp_path / "made.tar.xz", tmp_path / "made"), StoreOptions(16))
    kept = Partition.open(_unpacked(HERE / f"store.{VERSION}.tar.xz", tmp_path / "kept"), StoreOptions(16))
    assert (dict(made.items()), made.checkpoint()) == (dict(kept.items()), kept.checkpoint())
    made.close()
    kept.close()
