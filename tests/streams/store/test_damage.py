"""Flipped and truncated bytes in the files of a closed store: whatever it answers then is right, or it is `Corrupt`."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from streams.batch import RowChange
from streams.errors import Corrupt, RejoinderError
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


# A new database's list of files with one byte flipped, as the simulator found it.
HANGS = bytes.fromhex(
    "5ec5cb52270001814024633635313862"
    "31622d616531342d346561652d383434"
    "322d623061636462343265643536052b"
    "284300000135403f88200001011a6c65"
    "76656c64622e4279746577697365436f"
    "6d70617261746f7289400101f4030c5a"
    "04000502000400fc2c26f9060001090003060400"
)
OPEN = """
import sys
from pathlib import Path
from streams.store.options import StoreOptions
from streams.store.partition import Partition
Partition.open(Path(sys.argv[1]), StoreOptions(16))
"""


def test_store_whose_opening_hangs_is_wiped_by_the_next_process(tmp_path: Path) -> None:
    """RocksDB turns in a circle at this one; a supervisor ends such a worker, and the next mustn't hang as well."""
    path = tmp_path / "0"
    Partition.open(path, OPTIONS).close()
    manifest = next(path.glob("MANIFEST-*"))
    manifest.write_bytes(HANGS)
    (path / "CURRENT").write_text(f"{manifest.name}\n")
    with suppress(subprocess.TimeoutExpired):  # A RocksDB without this defect opens it, or finds the damage.
        subprocess.run([sys.executable, "-c", OPEN, path], check=False, timeout=5)
    partition = Partition.open(path, OPTIONS)
    assert (0, None) == (partition.position, partition.checkpoint())
    partition.close()
    assert [path] == list(tmp_path.iterdir())


def test_store_that_a_process_was_killed_in_opening_is_restored_in_full(store: Path, tmp_path: Path) -> None:
    """Nobody knows whether it hung; its changelog has everything."""
    path = tmp_path / "0"
    shutil.copytree(store, path)
    (tmp_path / "0.opening").touch()
    partition = Partition.open(path, OPTIONS)
    assert (None, []) == (partition.checkpoint(), list(partition.items()))
    partition.close()


def test_opening_leaves_no_trace_of_itself(store: Path, tmp_path: Path) -> None:
    """Whether it went well or the disk refused."""
    path = tmp_path / "0"
    shutil.copytree(store, path)
    Partition.open(path, OPTIONS).close()
    Partition.open(tmp_path / "new" / "0", OPTIONS).close()
    assert ["0"] == [entry.name for entry in (tmp_path / "new").iterdir()]
    (tmp_path / "1").write_text("no directory")
    with pytest.raises(RejoinderError):
        Partition.open(tmp_path / "1", OPTIONS)
    assert ["0", "1", "new"] == sorted(entry.name for entry in tmp_path.iterdir())


def test_error_that_somebody_keeps_keeps_no_lock(store: Path, tmp_path: Path) -> None:
    """Its traceback has the frames that read, and they no cursor: the files can be wiped, and opened again."""
    shutil.copytree(store, tmp_path / "0")
    # The newest has the checkpoint, which is read when it is opened.
    for file in sorted((tmp_path / "0").glob(f"*{BLOCKS}"))[:-1]:
        content = bytearray(file.read_bytes())
        for at in range(0, len(content) // 2, 40):
            content[at] ^= 255
        file.write_bytes(content)
    partition = Partition.open(tmp_path / "0", OPTIONS)
    kept = []
    for ask in (lambda: dict(partition.items()), lambda: partition.due(10**9, 10**6)):
        with pytest.raises(Corrupt) as error:
            ask()
        kept.append(error)
    partition.wipe()
    partition.close()
    Partition.open(tmp_path / "0", OPTIONS).close()
    assert all(error.value.__traceback__ for error in kept)
