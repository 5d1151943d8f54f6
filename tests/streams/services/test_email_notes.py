"""Notes that survive the process, and a store id that says whether they could."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from streams.errors import Unavailable
from streams.services.email import notes as notes_module
from streams.services.email.notes import Mark, Note, Notes

ID = "5f0c7e9e-1111-5222-8333-444455556666"
OTHER_ID = "6f0c7e9e-1111-5222-8333-444455556666"
DOT = Note(Mark.DOT, 1_770_000_000_000)


def test_note_is_found_of_its_attempt_only(tmp_path: Path) -> None:
    """An earlier attempt's note says nothing about a later one."""
    with Notes(tmp_path) as notes:
        notes.write(ID, 1, DOT)
        assert (DOT, None, None) == (notes.find(ID, 1), notes.find(ID, 2), notes.find(OTHER_ID, 1))


def test_last_note_counts(tmp_path: Path) -> None:
    """In memory and when it is read again."""
    accepted = Note(Mark.ACCEPTED, 2)
    with Notes(tmp_path) as notes:
        notes.write(ID, 1, DOT)
        notes.write(ID, 1, accepted)
        assert accepted == notes.find(ID, 1)
    with Notes(tmp_path) as notes:
        assert accepted == notes.find(ID, 1)


def test_forgotten_note_stays_forgotten(tmp_path: Path) -> None:
    """Also when it is read again; forgetting what isn't there is nothing."""
    with Notes(tmp_path) as notes:
        notes.write(ID, 1, DOT)
        notes.forget(ID)
        notes.forget(OTHER_ID)
        assert notes.find(ID, 1) is None
    with Notes(tmp_path) as notes:
        assert 0 == len(notes)


def test_note_survives_sigkill(tmp_path: Path) -> None:
    """The process is killed right after `write` returned; the store id is the same."""
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from streams.services.email.notes import Mark, Note, Notes\n"
        "notes = Notes(Path(sys.argv[1]))\n"
        "print(notes.store_id.hex(), flush=True)\n"
        f"notes.write({ID!r}, 1, Note(Mark.DOT, {DOT.at_ms}))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    root = Path(notes_module.__file__).parents[3]
    killed = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=root,
        check=False,
    )
    assert -signal.SIGKILL == killed.returncode, killed.stderr
    with Notes(tmp_path) as notes:
        assert (killed.stdout.strip(), DOT) == (notes.store_id.hex(), notes.find(ID, 1))


def test_store_id_is_new_when_the_file_is_gone(tmp_path: Path) -> None:
    """A new disk, or somebody tidied up."""
    with Notes(tmp_path / "a") as notes, Notes(tmp_path / "b") as others:
        assert notes.store_id != others.store_id
        before = notes.store_id
    (tmp_path / "a" / "notes").unlink()
    with Notes(tmp_path / "a") as notes:
        assert before != notes.store_id


def test_store_id_is_new_when_the_machine_was_started_since(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut may have taken notes that were never synced."""
    with Notes(tmp_path) as notes:
        notes.write(ID, 1, DOT)
        before = notes.store_id
    monkeypatch.setattr(notes_module, "_boot_id", lambda: b"another boot id.")
    with Notes(tmp_path) as notes:
        assert before != notes.store_id
        assert 0 == len(notes)


@pytest.mark.parametrize("at", [3, 20, 40, 60, 90])
def test_store_id_is_new_when_the_file_is_damaged(tmp_path: Path, at: int) -> None:
    """A note that can't be read must not count as none."""
    with Notes(tmp_path) as notes:
        notes.write(ID, 1, DOT)
        notes.write(OTHER_ID, 1, DOT)
        before = notes.store_id
    data = bytearray((tmp_path / "notes").read_bytes())
    data[at] ^= 1
    (tmp_path / "notes").write_bytes(data)
    with Notes(tmp_path) as notes:
        assert before != notes.store_id
        assert 0 == len(notes)


def test_note_that_is_cut_short_was_never_written(tmp_path: Path) -> None:
    """Its sender didn't go on to the dot; what was before counts, what comes after is read."""
    with Notes(tmp_path) as notes:
        notes.write(ID, 1, DOT)
        notes.write(OTHER_ID, 1, DOT)
        before = notes.store_id
    os.truncate(tmp_path / "notes", (tmp_path / "notes").stat().st_size - 1)
    for attempt in (2, 3):
        with Notes(tmp_path) as notes:
            assert (before, None) == (notes.store_id, notes.find(OTHER_ID, 1))
            notes.write(ID, attempt, DOT)
    with Notes(tmp_path) as notes:
        assert DOT == notes.find(ID, 3)


def test_file_stays_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many mails go through, and what counts is kept."""
    monkeypatch.setattr(notes_module, "_OVER_MAX", 100)
    with Notes(tmp_path) as notes:
        notes.write(OTHER_ID, 1, DOT)
        for attempt in range(1_000):
            notes.write(ID, attempt, DOT)
            notes.forget(ID)
        assert (tmp_path / "notes").stat().st_size < 5_000
    with Notes(tmp_path) as notes:
        assert DOT == notes.find(OTHER_ID, 1)


def test_note_that_cant_be_written_isnt_there(tmp_path: Path) -> None:
    """A full disk: nobody may go on to the dot."""
    notes = Notes(tmp_path)
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, notes._file)
    os.close(full)
    with notes, pytest.raises(Unavailable, match="free some space"):
        notes.write(ID, 1, DOT)
    assert notes.find(ID, 1) is None


def test_directory_that_cant_be_made_is_unavailable(tmp_path: Path) -> None:
    """It says which."""
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable, match="file/notes"):
        Notes(tmp_path / "file" / "notes")


def test_notes_are_their_owner_s_alone(tmp_path: Path) -> None:
    """Whatever the process's umask: directory and file, also when it is written anew."""
    before = os.umask(0)
    try:
        for _ in range(2):
            with Notes(tmp_path / "notes"):
                pass
    finally:
        os.umask(before)
    modes = [(tmp_path / path).stat().st_mode & 0o777 for path in ("notes", "notes/notes")]
    assert [0o700, 0o600] == modes
