"""Flipped and truncated bytes in the files of a closed store: whatever it answers then is right, or it is `Corrupt`."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from streams.batch import RowChange
from streams.errors import Corrupt
from streams.store.options import StoreOptions
from streams.store.partition import Partition

OPTIONS = StoreOptions(16)
FLUSHES = 5
ROWS = {
    b"%06d" % number: b"\1" + (1_000 + number).to_bytes(8, "big") + b"%08d" % number * 20 for number in range(3_000)
}
BLOCKS = ".sst"
LISTS = ("MANIFEST", "CURRENT", "OPTIONS", "IDENTITY", "rocksdict-config")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a closed store of `ROWS`, written in `FLUSHES` files; its checkpoint is the number of the rows."""
    path = tmp_path_factory.mktemp("damage") / "0"
    partition = Partition.open(path, OPTIONS)
    partition.load([], 0, "topic", 1)
    items = list(ROWS.items())
    step = len(items) // FLUSHES
    for start in range(0, len(items), step):
        some = items[start : start + step]
        partition.write([RowChange(key, None, row) for key, row in some], start + step, start + step)
        partition.flush()
    partition.close()
    return path


def damage(store: Path, seed: int, names: tuple[str, ...]) -> None:
    """Change or cut off some bytes of one file of the closed *store*, whose name has one of *names*."""
    dice = random.Random(seed)  # noqa: S311 -- the seed makes the damage.
    file = dice.choice([file for file in sorted(store.iterdir()) if any(name in file.name for name in names)])
    content = bytearray(file.read_bytes())
    if dice.random() < 0.5:
        content = content[: dice.randrange(len(content))]
    for _ in range(dice.choice([1, 1, 3]) if content else 0):
        content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
    file.write_bytes(content)


def answer(ask: Callable[[], Any]) -> Any:
    """Return what *ask* does, `Corrupt` if it finds the damage."""
    try:
        return ask()
    except Corrupt:
        return Corrupt


@pytest.mark.parametrize("names", [(BLOCKS,), LISTS], ids=["blocks", "lists"])
@pytest.mark.parametrize("seed", range(30))
def test_no_wrong_row_is_served_and_none_hidden(store: Path, tmp_path: Path, seed: int, names: tuple[str, ...]) -> None:
    """Reads, the list of rows and the deadlines are those of the checkpoint, or an error: never less, silently."""
    shutil.copytree(store, tmp_path / "0")
    damage(tmp_path / "0", seed, names)
    partition = Partition.open(tmp_path / "0", OPTIONS)
    # A list of files that was cut off may lead to an older state: that has the older checkpoint, and is restored on.
    expected = {key: row for key, row in ROWS.items() if int(key) < partition.position}
    found = [
        answer(lambda: {key: row for key, row in zip(ROWS, partition.get_many(list(ROWS)), strict=True) if row}),
        answer(lambda: dict(partition.items())),
        answer(lambda: {key: ROWS[key] for _, key in partition.due(10**9, 10**6)}),
    ]
    assert [] == [len(some) for some in found if some not in (Corrupt, expected)]
    partition.wipe()
    assert {} == dict(partition.items())
    partition.close()


def test_damage_that_hides_deadlines_is_found(store: Path, tmp_path: Path) -> None:
    """One bit in any block of the index of deadlines: asking for those that are due says so, and goes on saying it."""
    shutil.copytree(store, tmp_path / "0")
    for file in (tmp_path / "0").glob("*.sst"):
        content = bytearray(file.read_bytes())
        content[1_000] ^= 1  # The first blocks: the prefix of the index sorts before that of the rows.
        file.write_bytes(content)
    partition = Partition.open(tmp_path / "0", OPTIONS)
    for _ in range(2):
        with pytest.raises(Corrupt, match="restored from its changelog"):
            partition.due(10**9, 10**6)
    partition.wipe()
    partition.close()
