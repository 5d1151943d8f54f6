"""
Records of inputs and outputs, from topics or from a file, in the order of their time.

A recording is a temporary RocksDB, so that any number of records is sorted in little memory. As a file each record is
a line of JSON, after a line that says by which policy they were decided.
"""

from __future__ import annotations

import base64
import json
import struct
import tempfile
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Self, cast

from rocksdict import Options, Rdict

from streams.batch import ReadHeaders, Record
from streams.errors import ConfigurationError
from streams.headers import header
from streams.processing.process_manager import INPUTS
from topology.policy import Policy
from topology.topics import DEAD_LETTERS, EMAIL_COMMANDS, OUTCOMES, QUERIES, Topic

OUTPUTS: Final = (QUERIES, EMAIL_COMMANDS, OUTCOMES, DEAD_LETTERS)
READ: Final[tuple[Topic, ...]] = (*INPUTS, *OUTPUTS)

_RANK: Final = {topic.name: rank for rank, topic in enumerate(READ)}
"""Of one millisecond: what is asked comes before what answers it, and outputs come after the inputs."""
_POLICY: Final = b'{"policy": '
_PLACE: Final = struct.Struct(">IqBq")


def decided_ms(record: Record) -> int:
    """Return when an output was decided, Unix milliseconds: it says so in ``ce_time``; else the broker's time."""
    said = header(record.headers, "ce_time")
    try:
        return record.timestamp_ms if said is None else int(datetime.fromisoformat(said).timestamp() * 1000)
    except (ValueError, OverflowError):
        return record.timestamp_ms


def as_line(record: Record) -> str:
    """Return *record* as a line of a file."""
    fields = record._asdict()
    headers = None if record.headers is None else [[name, _text(value)] for name, value in record.headers]
    return json.dumps(fields | {"key": _text(record.key), "value": _text(record.value), "headers": headers})


def of_line(line: str | bytes) -> Record:
    """
    Return the record that `as_line` wrote.

    Raises:
        ValueError: it is no such line.
    """
    said: dict[str, Any] = json.loads(line)
    try:
        headers: ReadHeaders | None = None
        if said["headers"] is not None:
            headers = [(str(name), _bytes(value)) for name, value in said["headers"]]
        numbers = (int(said["partition"]), int(said["offset"]), int(said["timestamp_ms"]))
        topic = str(said["topic"])
        if topic not in _RANK:
            raise ValueError(f"{topic!r} is none of the topics that are replayed")
        return Record(topic, *numbers, _bytes(said["key"]), _bytes(said["value"]), headers)
    except (KeyError, TypeError) as exc:
        raise ValueError(f"not a record: {exc}") from exc


def _text(value: bytes | None) -> str | None:
    return None if value is None else base64.b64encode(value).decode()


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text, validate=True)


class Recording:
    """
    Sorts what is added; a context that removes its files.

    ``partition_count``: how many partitions the topics have; None of a file that doesn't say.
    ``kept_from_ms``: by output topic and partition, when what is there of it begins, if its beginning is gone.
    ``seen_ms``: when the inputs' ends were looked at. ``moving``: partition numbers that were being worked on then, of
    which outputs may be there without their inputs; none of a file, which is complete.
    """

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="rejoinder-replay-")
        self._db = Rdict(str(Path(self._directory.name) / "records"), Options(raw_mode=True))
        self.partition_count: int | None = None
        self.kept_from_ms: dict[tuple[str, int], int] = {}
        self.seen_ms = 0
        self.moving: set[int] = set()
        self.partitions: set[int] = set()
        self.records = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()
        self._directory.cleanup()

    @property
    def directory(self) -> Path:
        """Where more may be kept that goes with the recording."""
        return Path(self._directory.name)

    def add(self, record: Record) -> None:
        """Take a record."""
        rank = _RANK[record.topic]
        at_ms = record.timestamp_ms if rank < len(INPUTS) else decided_ms(record)
        place = _PLACE.pack(record.partition, max(0, at_ms), rank, record.offset)
        self._db[place] = as_line(record).encode()
        self.partitions.add(record.partition)
        self.records += 1

    def of(self, partition: int) -> Iterator[Record]:
        """Yield the records of a partition number of all topics, in the order of their time."""
        end = _PLACE.pack(partition + 1, 0, 0, 0)
        for place, line in self._db.items(from_key=_PLACE.pack(partition, 0, 0, 0)):
            if cast("bytes", place) >= end:
                return
            yield of_line(cast("bytes", line))

    def read_file(self, path: Path) -> None:
        """
        Take all records of a file.

        Raises:
            ConfigurationError: it can't be read, or a line is none of ours; with its number.
        """
        try:
            with path.open("rb") as lines:
                self._add_lines(lines, path)
        except OSError as exc:
            raise ConfigurationError(f"{path} can't be read: {exc.strerror}") from exc

    def _add_lines(self, lines: Iterable[bytes], path: Path) -> None:
        for number, line in enumerate(lines, 1):
            try:
                if line.startswith(_POLICY):
                    self.partition_count = json.loads(line).get("partitions")
                elif line.strip():
                    self.add(of_line(line))
            except ValueError as exc:
                raise ConfigurationError(f"{path}, line {number}: {exc}") from exc


def write_file(path: Path, records: Iterable[Record], policy: Policy, partition_count: int) -> int:
    """
    Write *records*, decided by *policy*, as `Recording.read_file` takes them; return how many.

    Raises:
        ConfigurationError: it can't be written.
    """
    lines = [as_line(record) + "\n" for record in records]
    first = json.dumps({"policy": policy._asdict(), "partitions": partition_count}) + "\n"
    try:
        path.write_text(first + "".join(lines), encoding="utf-8")
    except OSError as exc:
        raise ConfigurationError(f"{path} can't be written: {exc.strerror}") from exc
    return len(lines)


def policy_of(path: Path) -> Policy:
    """Return the policy that a file names; today's defaults for what it doesn't."""
    with path.open("rb") as lines:
        first = lines.readline()
    return Policy(**json.loads(first)["policy"]) if first.startswith(_POLICY) else Policy()
