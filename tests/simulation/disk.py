"""
The disks of the simulated machines: real RocksDBs, opened with the worker's own options, in memory if the system can.

A process that is killed leaves the files as they are: what lay in a memtable only is gone (the write-ahead log is
off). Closing the handle afterwards would flush it, so the files are copied before.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from rocksdict import Options, Rdict, RdictIter, ReadOptions, WriteBatch, WriteOptions

from streams.store.options import StoreOptions
from tests.simulation.kernel import Life, World, the_world

_SHM: Final = Path("/dev/shm")  # noqa: S108 - directories in it are made by mkdtemp.
_PARKED: Final = 0.8
_NO_DATA: Final = ("LOG", "LOCK")
"""Files whose loss or damage means nothing."""


def place_for_disks() -> Path:
    """Return a new directory, in memory if there is such a place."""
    base = _SHM if os.access(_SHM, os.W_OK) else None
    return Path(tempfile.mkdtemp(prefix="rejoinder-simulation-", dir=base))


def small_options() -> StoreOptions:
    """Return the worker's options, with what only costs time in a small database switched off."""
    options = StoreOptions(8)
    database = options.database
    # In the background, at an instant that no seed decides.
    database.set_disable_auto_compactions(True)
    database.set_max_file_opening_threads(1)
    database.set_stats_dump_period_sec(0)
    database.set_stats_persist_period_sec(0)
    database.set_skip_stats_update_on_db_open(True)
    database.set_keep_log_file_num(1)
    database.set_table_cache_num_shard_bits(0)
    return options


class Disk:
    """All disks of one world."""

    def __init__(self, world: World, root: Path) -> None:
        self.world = world
        self.root = root
        self.open: dict[str, Database] = {}
        self._parked: dict[str, Rdict] = {}
        self._copies = itertools.count()
        world.shutdown.append(self.close)

    def crash(self, life: Life) -> None:
        """*life* is dead: keep what it had on disk, and nothing of what it had in memory."""
        for path, database in list(self.open.items()):
            if database.life is life:
                left = _copy(Path(path), self.root / f"crash-{next(self._copies)}")
                database.db.close()
                del self.open[path]
                shutil.rmtree(path)
                left.rename(path)

    def take(self, path: str, options: Options) -> Rdict:
        """Open the database at *path*; one that was closed cleanly may still be open, which saves most of the time."""
        parked = self._parked.pop(path, None)
        if parked is not None:
            if self.world.random.random() < _PARKED:
                return parked
            parked.close()
        return Rdict(path, options)

    def park(self, path: str, database: Rdict) -> None:
        """Close *database*, all of which is on disk."""
        del self.open[path]
        self._parked[path] = database

    def unpark(self, path: Path) -> None:
        """Close the database at *path* for good, before something is done to its files."""
        parked = self._parked.pop(str(path), None)
        if parked is not None:
            parked.close()

    def remember(self, machine: Path) -> None:
        """Keep a copy of a machine's stores, to come back later as a stale one."""
        for path in _stores(machine):
            self.unpark(path)
            old = path.with_name(f"{path.name}.old")
            shutil.rmtree(old, ignore_errors=True)
            _copy(path, old)

    def damage(self, machine: Path) -> str:
        """Do something to one of a machine's stores, none of which is open; return what."""
        random = self.world.random
        stores = _stores(machine)
        if not stores:
            return ""
        path = random.choice(stores)
        assert str(path) not in self.open
        self.unpark(path)
        files = sorted(file for file in path.iterdir() if not file.name.startswith(_NO_DATA))
        kind = random.choice(("wiped", "flipped", "truncated", "missing", "stale"))
        if kind == "stale":
            old = path.with_name(f"{path.name}.old")
            if not old.exists():
                return ""
            shutil.rmtree(path)
            _copy(old, path)
        elif kind == "wiped" or not files:
            shutil.rmtree(path)
        else:
            file = random.choice(files)
            if kind == "missing":
                file.unlink()
            elif size := file.stat().st_size:
                at = random.randrange(size)
                # A copy first: it may be linked with a remembered one.
                data = bytearray(file.read_bytes())
                file.unlink()
                data[at] ^= 1 << random.randrange(8)
                file.write_bytes(data if kind == "flipped" else data[:at])
                self.world.trace(f"{file.name} at {at} of {size}")
                if file.name.startswith("MANIFEST") or file.suffix == ".log":
                    self._ended_if_hung(path)
        return f"store {kind}"

    def _ended_if_hung(self, path: Path) -> None:
        """Do as a supervisor does with a worker that hangs for ever in opening the store at *path*: end it."""
        probed = _copy(path, self.root / f"probe-{next(self._copies)}")
        try:
            subprocess.run([sys.executable, "-c", _PROBE, probed], check=False, capture_output=True, timeout=5)
        except subprocess.TimeoutExpired:
            path.with_name(f"{path.name}.opening").touch()
            self.world.happens("store hangs")

    def close(self) -> None:
        """Close what is open."""
        for database in [*(opened.db for opened in self.open.values()), *self._parked.values()]:
            database.close()
        self.open.clear()
        self._parked.clear()


_PROBE: Final = "import sys, rocksdict; rocksdict.Rdict(sys.argv[1], rocksdict.Options(raw_mode=True))"


def _stores(machine: Path) -> list[Path]:
    return sorted(path for path in machine.iterdir() if path.name.isdigit()) if machine.exists() else []


def _copy(source: Path, target: Path) -> Path:
    """Copy a database: tables never change, so they are linked."""
    target.mkdir(parents=True)
    for file in os.scandir(source):
        if file.name.startswith(_NO_DATA):
            continue
        if file.name.endswith(".sst"):
            os.link(file.path, target / file.name)
        else:
            shutil.copyfile(file.path, target / file.name)
    return target


class Database:
    """`rocksdict.Rdict`, a real one: its calls are points of the simulation, and its disk may refuse."""

    def __init__(self, path: str, options: Options) -> None:
        self._world = world = the_world()
        self.life = world.point("store.open")
        self._refuse("store.open")
        self.path = path
        assert path not in world.disk.open, "two processes with one state directory"
        self.db = world.disk.take(path, options)
        world.disk.open[path] = self
        self._flushed = True
        self._broken = False

    def _refuse(self, name: str) -> None:
        if (text := self._world.plan.disk_error(name)) is not None:
            self._world.trace(f"{self.life.name}: {name}: {text}")
            raise OSError(text)

    def set_write_options(self, options: WriteOptions) -> None:
        """See `Rdict`."""
        self.db.set_write_options(options)

    def get(self, keys: Any) -> Any:
        """See `Rdict`."""
        self._world.point("store.get")
        self._refuse("store.get")
        return self.db.get(keys)

    def iter(self, options: ReadOptions | None = None) -> RdictIter:
        """See `Rdict`."""
        return self.db.iter(options)

    def write(self, batch: WriteBatch) -> None:
        """See `Rdict`; the memtable may be flushed at once."""
        self._world.point("store.write")
        self._refuse("store.write")
        self.db.write(batch)
        self._flushed = False
        if self._world.plan.flushes(self.life):
            self.db.flush()
            self._flushed = True
        self._world.point("store.write, done")

    def flush(self) -> None:
        """See `Rdict`."""
        self._world.point("store.flush")
        self._refuse("store.flush")
        if not self._flushed:
            self.db.flush()
        self._flushed = True

    def close(self) -> None:
        """See `Rdict`."""
        self._world.point("store.close")
        if self._flushed:
            self._world.disk.park(self.path, self.db)
        else:
            self.db.close()
            del self._world.disk.open[self.path]


class Shutil:
    """`shutil`, as far as stores are removed with it: a process may be killed half way."""

    @staticmethod
    def rmtree(path: Path) -> None:
        """Remove *path* file by file."""
        world = the_world()
        world.point("store.remove")
        world.disk.unpark(path)
        files = sorted(path.iterdir()) if path.exists() else []
        if files:
            for file in world.random.sample(files, world.random.randrange(len(files))):
                with contextlib.suppress(FileNotFoundError):
                    file.unlink()
            world.point("store.remove, half")
        shutil.rmtree(path)
