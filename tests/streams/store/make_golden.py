"""
Write the golden store of this release: what a crashed worker leaves of one partition, with a row of every kind.

    python -m tests.streams.store.make_golden

Run once before a release that changes what is on the disk (its number in `VERSION` grows then); older ones stay.
"""

from __future__ import annotations

import io
import json
import tarfile
import tempfile
from pathlib import Path
from typing import Final

from streams.batch import RowChange
from streams.store.options import StoreOptions
from streams.store.partition import Partition

VERSION: Final = 1
HERE: Final = Path(__file__).parent / "golden"
ROWS: Final = Path(__file__).parents[2] / "schemas" / "golden"
TOPIC_ID: Final = "1gaSPGjKSqe/k7PgJYNw6w"
WRITTEN_MS: Final = 1_764_700_000_000


def rows(version: int) -> dict[bytes, bytes]:
    """Return the golden rows of the codec's *version*, by a key made of the number of each."""
    cases = json.loads((ROWS / f"rows.{version}.json").read_text(encoding="utf-8"))
    return {b"order-%02d" % number: bytes.fromhex(case["row"]) for number, case in enumerate(cases)}


def make(into: Path) -> None:
    """Write the store's files into the archive *into*: the rows in two tables, as two flushes left them."""
    changes = [RowChange(key, None, row) for key, row in rows(VERSION).items()]
    half = len(changes) // 2
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "0"
        partition = Partition.open(path, StoreOptions(16))
        partition.load([], 0, TOPIC_ID, WRITTEN_MS)
        partition.write(changes[:half], half, WRITTEN_MS)
        partition.flush()
        partition.write(changes[half:], len(changes), WRITTEN_MS)
        partition.flush()
        packed = io.BytesIO()
        # Not closed before: this is how a SIGKILL leaves it.
        with tarfile.open(fileobj=packed, mode="w:xz") as archive:
            for file in sorted(path.iterdir()):
                if file.name != "LOCK" and not file.name.startswith("LOG"):
                    archive.add(file, file.name)
        partition.close()
    into.write_bytes(packed.getvalue())


if __name__ == "__main__":
    HERE.mkdir(exist_ok=True)
    make(HERE / f"store.{VERSION}.tar.xz")
