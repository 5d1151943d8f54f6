"""What is in the cache is what was pinned, whatever the network and other processes do."""

import hashlib
import io
import subprocess
import sys
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from streams.local import artifacts
from streams.local.artifacts import Artifact, cache_directory, fetch, read_pins, unpack
from streams.local.errors import ArtifactError

CONTENT = b"a jar"
PINNED = Artifact("org.example", "thing", "1.0", "jar", "", hashlib.sha256(CONTENT).hexdigest())


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch) -> list[Artifact]:
    """Answer every download with CONTENT and return the list of what was asked for."""
    asked: list[Artifact] = []

    def download(artifact: Artifact, scratch: Path) -> Path:
        asked.append(artifact)
        path = scratch / artifact.file_name
        path.write_bytes(CONTENT)
        return path

    monkeypatch.setattr(artifacts, "_download", download)
    return asked


def files_below(directory: Path) -> list[Path]:
    """Return the files anywhere below *directory*."""
    return [path for path in directory.rglob("*") if path.is_file()]


def test_second_fetch_downloads_nothing(tmp_path: Path, downloads: list[Artifact]) -> None:
    """A warm cache is enough."""
    first = fetch([PINNED], tmp_path)
    second = fetch([PINNED], tmp_path)

    assert first == second
    assert CONTENT == first[0].read_bytes()
    assert [PINNED] == downloads


@pytest.mark.usefixtures("downloads")
def test_wrong_bytes_are_refused_and_removed(tmp_path: Path) -> None:
    """Other bytes than those pinned are an error with both digests, and nothing of them stays."""
    other = Artifact("org.example", "thing", "1.0", "jar", "", "0" * 64)
    with pytest.raises(ArtifactError, match=f"thing:1.0:jar: the download has SHA-256 {PINNED.sha256}, but 0{{64}}"):
        fetch([other], tmp_path)

    assert [] == files_below(tmp_path)


@pytest.mark.usefixtures("downloads")
def test_fetches_at_the_same_time_agree(tmp_path: Path) -> None:
    """Processes that start together all get the whole file."""
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: fetch([PINNED], tmp_path), range(8)))

    assert [CONTENT] * 8 == [paths[0].read_bytes() for paths in answers]
    assert [answers[0][0]] == files_below(tmp_path)


def test_warm_cache_needs_no_downloader(tmp_path: Path, downloads: list[Artifact]) -> None:
    """Offline, the downloader isn't even imported."""
    fetch([PINNED], tmp_path)
    program = (
        "import sys; from pathlib import Path; from streams.local.artifacts import Artifact, fetch\n"
        f"fetch([{PINNED!r}], Path(sys.argv[1])); print([name for name in ('jgo', 'requests') if name in sys.modules])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
        cwd=Path(__file__).parents[2],
    )

    assert "[]\n" == answer.stdout
    assert [PINNED] == downloads


def test_failed_download_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unreachable network is our error, with the way out."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("no_proxy", "")
    with pytest.raises(
        ArtifactError, match=r"(?s)org\.example:thing:1\.0:jar: can't be downloaded.*REJOINDER_CACHE_DIR"
    ):
        fetch([PINNED], tmp_path)


def test_pin_with_packaging_and_classifier(tmp_path: Path) -> None:
    """Coordinates have up to five parts, in the order of Maven's own tools."""
    pins = tmp_path / "some.pins"
    pins.write_text(f"# why\norg.example:thing:1.0 {'a' * 64}\norg.example:app:2:tar.gz:all {'b' * 64}\n", "utf-8")

    thing, app = read_pins(pins)

    assert "thing-1.0.jar" == thing.file_name
    assert "app-2-all.tar.gz" == app.file_name
    assert "org.example:app:2:tar.gz:all" == str(app)


@pytest.mark.parametrize("line", ["org.example:thing:1.0", f"thing:1.0 {'a' * 64}", f"a:b:c {'A' * 64}"])
def test_line_that_is_no_pin_is_refused(tmp_path: Path, line: str) -> None:
    """The error has the file, the line and the form that is expected."""
    pins = tmp_path / "some.pins"
    pins.write_text(f"{line}\n", "utf-8")
    with pytest.raises(ArtifactError, match=r"some\.pins:1: not a pin"):
        read_pins(pins)


def test_cache_directory_by_precedence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Our own variable goes before the XDG one, and that before the home directory."""
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("REJOINDER_CACHE_DIR", raising=False)
    assert Path("/home/somebody/.cache/rejoinder") == cache_directory()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert tmp_path / "rejoinder" == cache_directory()
    monkeypatch.setenv("REJOINDER_CACHE_DIR", str(tmp_path / "own"))
    assert tmp_path / "own" == cache_directory()


def test_archive_is_unpacked_once(tmp_path: Path) -> None:
    """The second time, the directory is there already."""
    archive = tmp_path / "artifacts" / "digest" / "app.tar.gz"
    archive.parent.mkdir(parents=True)
    with tarfile.open(archive, "w:gz") as tar:
        member = tarfile.TarInfo("app/readme")
        member.size = len(CONTENT)
        tar.addfile(member, io.BytesIO(CONTENT))

    home = unpack(archive, tmp_path)
    archive.unlink()

    assert home == unpack(archive, tmp_path)
    assert CONTENT == (home / "app" / "readme").read_bytes()
