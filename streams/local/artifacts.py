"""
Maven artifacts, pinned by SHA-256 and kept in a cache outside the checkout.

A pins file has a line for each artifact, ``group:artifact:version[:packaging[:classifier]] sha256``. The cache is
addressed by that digest, and a file gets its place there only after its bytes were checked: so what lies in the cache
is right, a changed pin is a different file, and a warm cache needs no network.

jgo does the download because it knows Maven's layout and default repository, needs neither Java nor Maven, and obeys
the usual proxy settings. It only warns about a wrong checksum: hence the check here.
"""

import hashlib
import logging
import os
import re
import tarfile
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from streams.local.errors import ArtifactError

_log = logging.getLogger(__name__)

_DOWNLOADS_MAX = 8
_SILENCE_S_MAX = 60
_PIN = re.compile(r"(?P<coordinates>[\w.-]+(?::[\w.-]+){2,4}) (?P<sha256>[0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Artifact:
    """One file of a Maven repository and the SHA-256 (64 hex digits) that its bytes must have."""

    group: str
    name: str
    version: str
    packaging: str
    classifier: str
    sha256: str

    @property
    def file_name(self) -> str:
        """The name that Maven's repository layout gives the file."""
        classifier = f"-{self.classifier}" if self.classifier else ""
        return f"{self.name}-{self.version}{classifier}.{self.packaging}"

    def __str__(self) -> str:
        """Return Maven's coordinates."""
        return ":".join(filter(None, (self.group, self.name, self.version, self.packaging, self.classifier)))


def read_pins(path: Path) -> tuple[Artifact, ...]:
    """
    Return the artifacts of the pins file at *path*, in its order.

    Raises:
        ArtifactError: A line isn't a pin.
    """
    return tuple(
        _parse_pin(line, f"{path}:{number}")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if line and not line.startswith("#")
    )


def cache_directory() -> Path:
    """Return where artifacts are kept: REJOINDER_CACHE_DIR, or else ``rejoinder`` in the XDG cache directory."""
    if own := os.environ.get("REJOINDER_CACHE_DIR"):
        return Path(own).absolute()
    if xdg := os.environ.get("XDG_CACHE_HOME"):
        return Path(xdg).absolute() / "rejoinder"
    return Path.home() / ".cache" / "rejoinder"


def fetch(artifacts: Sequence[Artifact], cache: Path) -> list[Path]:
    """
    Return the checked files of *artifacts*, after downloading those that *cache* lacks.

    Processes may do this at the same time: each downloads to a directory of its own, and the last rename wins with the
    same bytes.

    Returns:
        ``paths[i]`` is the file of ``artifacts[i]``.

    Raises:
        ArtifactError: An artifact can't be downloaded or has other bytes than those pinned; nothing of it is kept.
    """
    paths = [cache / "artifacts" / artifact.sha256 / artifact.file_name for artifact in artifacts]
    missing = [(artifact, path) for artifact, path in zip(artifacts, paths, strict=True) if not path.exists()]
    if missing:
        _log.info("downloading %d of %d artifacts to %s", len(missing), len(artifacts), cache)
        cache.mkdir(parents=True, exist_ok=True)
        # In the cache, not in /tmp: a rename is only atomic within one file system.
        with (
            tempfile.TemporaryDirectory(prefix=".download-", dir=cache) as scratch,
            ThreadPoolExecutor(_DOWNLOADS_MAX) as pool,
        ):
            list(pool.map(lambda wanted: _fetch_one(wanted[0], wanted[1], Path(scratch)), missing))
    return paths


def unpack(archive: Path, cache: Path) -> Path:
    """Return the directory with the contents of *archive*, a checked .tar.gz of :func:`fetch`; unpack it if need be."""
    target = cache / "unpacked" / archive.parent.name
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".unpack-", dir=cache) as scratch:
            contents = Path(scratch) / "contents"
            with tarfile.open(archive) as tar:
                tar.extractall(contents, filter="data")
            try:
                contents.rename(target)
            except OSError:
                # Another process was first, with the same bytes.
                if not target.exists():
                    raise
    return target


def _parse_pin(line: str, where: str) -> Artifact:
    match = _PIN.fullmatch(line)
    if match is None:
        raise ArtifactError(
            f"{where}: not a pin: {line!r}; write group:artifact:version[:packaging[:classifier]] sha256"
        )
    group, name, version, *rest = match["coordinates"].split(":")
    packaging = rest[0] if rest else "jar"
    classifier = rest[1] if len(rest) > 1 else ""
    return Artifact(group, name, version, packaging, classifier, match["sha256"])


def _fetch_one(artifact: Artifact, path: Path, scratch: Path) -> None:
    downloaded = _download(artifact, scratch)
    with downloaded.open("r+b") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != artifact.sha256:
            downloaded.unlink()
            raise ArtifactError(
                f"{artifact}: the download has SHA-256 {digest}, but {artifact.sha256} is pinned; it was removed. "
                "Find out who changed it (a proxy, a mirror, the pin) before you try again"
            )
        # On disk before it has its name: after a power cut the name must not stand for half a file.
        os.fsync(file.fileno())
    path.parent.mkdir(parents=True, exist_ok=True)
    downloaded.replace(path)


def _download(artifact: Artifact, scratch: Path) -> Path:
    """Return the unchecked file of *artifact* below *scratch*."""
    # Imported here because it takes 0.3 s and a warm cache doesn't need it.
    try:
        from jgo.maven import MavenContext  # noqa: PLC0415
    except ImportError as error:
        raise ArtifactError(f"{artifact}: can't be downloaded without jgo; install rejoinder[local]") from error
    repository = MavenContext(repo_cache=scratch, timeout=_SILENCE_S_MAX)
    component = repository.project(artifact.group, artifact.name).at_version(artifact.version)
    try:
        return Path(component.artifact(classifier=artifact.classifier, packaging=artifact.packaging).resolve())
    except (OSError, RuntimeError) as error:  # requests' exceptions are OSErrors, jgo's own are RuntimeErrors
        raise ArtifactError(
            f"{artifact}: can't be downloaded: {error}. Check the network and the proxy settings, or copy the cache "
            "directory of a machine that has it and name it in REJOINDER_CACHE_DIR"
        ) from error
