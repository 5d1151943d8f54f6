"""Faust's store ``rejoinder://``: a reading view of the partitions that are open in this worker."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, MutableMapping
from typing import Any, NoReturn

from faust.stores.base import SerializedStore

from streams.errors import Unavailable
from streams.store.partition import Partition


class Store(SerializedStore[bytes, bytes]):
    """
    The rows of the partitions that this worker holds now, for the web server and whoever else only reads.

    ``partitions`` is the session's: it opens and closes them in its own thread, so that a read may meet a partition
    that has just been closed; it is then as absent as one that was never here.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.partitions: MutableMapping[int, Partition] = {}

    def _get(self, key: bytes) -> bytes | None:
        for partition in list(self.partitions.values()):
            with contextlib.suppress(Unavailable):
                (row,) = partition.get_many([key])
                if row is not None:
                    return row
        return None

    def _contains(self, key: bytes) -> bool:
        return self._get(key) is not None

    def _iteritems(self) -> Iterator[tuple[bytes, bytes]]:
        for partition in list(self.partitions.values()):
            with contextlib.suppress(Unavailable):
                yield from partition.items()

    def _iterkeys(self) -> Iterator[bytes]:
        return (key for key, _ in self._iteritems())

    def _itervalues(self) -> Iterator[bytes]:
        return (row for _, row in self._iteritems())

    def _size(self) -> int:
        return sum(1 for _ in self._iteritems())

    def _read_only(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise NotImplementedError("this table is written by its @app.transaction only; its changelog is its backup")

    _set = _del = _clear = reset_state = backup_partition = restore_backup = _read_only
