"""The state directory: one process at a time."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from streams.errors import ConfigurationError
from streams.store.directory import StateDirectory

_HOLDER = """
import sys
from pathlib import Path
from streams.store.directory import StateDirectory
held = StateDirectory(Path(sys.argv[1]), "worker-0")
print("held", flush=True)
sys.stdin.read()
"""
CHILD_S_MAX = 30


def test_directories_are_for_their_owner_only(tmp_path: Path) -> None:
    """Orders and addresses lie in there."""
    with StateDirectory(tmp_path / "state", "worker-0") as directory:
        parent = directory.partition_path("app", "processes", 3).parent

        assert 0o700 == stat.S_IMODE((tmp_path / "state").stat().st_mode)
        assert 0o700 == stat.S_IMODE(parent.stat().st_mode)


def test_partition_has_its_path(tmp_path: Path) -> None:
    """Application, table and partition each are a level; the last one is RocksDB's to create."""
    with StateDirectory(tmp_path, "worker-0") as directory:
        path = directory.partition_path("app", "processes", 3)

        assert tmp_path / "app" / "processes" / "3" == path
        assert path.parent.is_dir()
        assert not path.exists()


def test_second_process_is_refused_and_told_by_whom(tmp_path: Path) -> None:
    """Two processes on one store would lose each other's rows; a killed one holds nothing."""
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        try:
            assert holder.stdout is not None
            assert b"held\n" == holder.stdout.readline()
            with pytest.raises(
                ConfigurationError, match=rf"pid {holder.pid} on .*instance worker-0, since .*STATE_DIR"
            ):
                StateDirectory(tmp_path, "worker-1")
        finally:
            holder.kill()
            holder.wait(CHILD_S_MAX)
    StateDirectory(tmp_path, "worker-1").close()


def test_closed_directory_can_be_taken_again(tmp_path: Path) -> None:
    """Closing lets go at once, and twice is no error."""
    first = StateDirectory(tmp_path, "worker-0")
    first.close()
    first.close()
    with StateDirectory(tmp_path, "worker-1"):
        assert "instance worker-1" in (tmp_path / "lock").read_text()


def test_path_that_cannot_be_a_directory_is_refused(tmp_path: Path) -> None:
    """The message names the path and the setting."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigurationError, match="REJOINDER_STATE_DIR"):
        StateDirectory(tmp_path / "file" / "state", "worker-0")
