"""Known bugs, to be planted: each must make some seed fail, or the simulator proves nothing."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final
from unittest.mock import patch

from confluent_kafka import KafkaException, TopicPartition
from rocksdict import WriteBatch

from streams.batch import Batch, Headers, Record
from streams.offsets import Listed
from streams.processing import logic
from streams.processing.commit import Committer, Work
from streams.processing.session import DUE_MAX, Due, Session
from streams.processing.task import Task
from streams.services.email import ledger
from streams.services.email.ledger import Row
from streams.services.email.notes import Note, Notes
from streams.settings import InDoubt
from streams.store.changelog import Bounds, Changelog
from streams.store.changes import Deadlines
from streams.store.partition import _CHECKPOINT, Checkpoint, Partition, _encoded
from streams.transport.heartbeats import Heartbeats
from streams.transport.member import TP, GroupOffsets, Polled
from streams.transport.transaction import Aborted, Transaction
from tests.simulation.kernel import the_world
from tests.simulation.log import Place
from topology.topics import EMAIL_COMMANDS

_batch_send = Batch.send
_commit = Committer.commit
_session_commit = Session.commit
_transaction_commit = Transaction.commit
_left = ledger._left_sending
_apply = Partition._apply
_triage = Transaction._triage
_init = Transaction.__init__


def _write_first(self: Committer, works: Sequence[Work], metadata: Any) -> list[Any]:
    for work in works:
        if work.store is not None and (rows := work.batch.changes):
            work.store.write(rows, work.store.position, work.batch.now_ms, work.spent)
    return _commit(self, works, metadata)


def _newest_metadata(self: Session, works: Sequence[Work], polled: Polled) -> bool:
    return _session_commit(self, works, polled._replace(metadata=self.member._consumer.consumer_group_metadata))


def _ask_for_metadata(self: Transaction, positions: Sequence[TopicPartition], ask: Callable[[], Any]) -> None:
    _transaction_commit(self, positions, ask())


@contextmanager
def _metadata_of_the_commit() -> Iterator[None]:
    with patch.object(Session, "commit", _newest_metadata), patch.object(Transaction, "commit", _ask_for_metadata):
        yield


def _checkpoint_first(self: Partition, batch: WriteBatch, deadlines: Deadlines, checkpoint: Checkpoint) -> None:
    first = WriteBatch(raw_mode=True)
    first.put(_CHECKPOINT, _encoded(checkpoint, self._writes + 1))
    with self._translated():
        self._db.write(first)
    _apply(self, batch, deadlines, checkpoint)


def _ungated(self: Session, now_ms: int) -> Due:
    found = {task: self._due_entries(task, now_ms, DUE_MAX) for task in self._running()}
    return {task: entries for task, entries in found.items() if entries}


def _random_id(self: Transaction, config: dict[str, Any]) -> None:
    world = the_world()
    numbers = vars(world).setdefault("random_ids", itertools.count())
    _init(self, config | {"transactional.id": f"{config['transactional.id']}-{next(numbers)}"})


def _no_seek_back(self: Session, _works: Sequence[Work], _exc: Aborted) -> None:
    """Forget that the records must be read again."""


def _unknown_is_aborted(self: Transaction, exc: KafkaException, name: str, deadline_s: float) -> None:
    if name == "commit_transaction" and exc.args[0].retriable():
        self.state = type(self.state).READY
        raise Aborted("no answer, so nothing happened")
    _triage(self, exc, name, deadline_s)


def _stable_bounds(self: Changelog, numbers: Sequence[int]) -> dict[int, Bounds]:
    world = the_world()
    world.sleep(0.01)
    return {number: Bounds(0, world.broker.logs[Place(self._topic, number)].stable_end) for number in numbers}


def _unchecked(self: Listed, timeout: float | None = None) -> Any:
    return self._future.result(timeout)


def _behind_is_fine(self: Committer, works: Sequence[Work], metadata: Any) -> list[Any]:
    _commit(self, works, metadata)
    return []


def _positions_without_fence(self: Transaction, positions: Sequence[TopicPartition], _member: Any) -> None:
    members = the_world().broker.group.members.values()
    newest = max(((member.id, member.epoch) for member in members), key=lambda member: member[1], default=("", 0))
    self._call("send_offsets_to_transaction", list(positions), newest, 10.0)
    self._call("commit_transaction", 10.0)
    self.state = type(self.state).READY


def _no_wait(self: GroupOffsets, partitions: Sequence[TP], timeout_s: float) -> None:
    """Ask nobody."""


def _no_check(self: Heartbeats) -> None:
    """Believe that what the coordinator said was heard."""


def _no_note(self: Notes, email_id: str, attempt: int, note: Note) -> None:
    """Note nothing."""


def _left_sending(row: Row, setting: InDoubt, store_id: bytes, note: Note | None) -> ledger.Plan:
    return _left(row._replace(store_id=store_id), setting, store_id, note)


def _send_every_other(self: Batch, topic: str, key: bytes, value: bytes | None, headers: Headers) -> None:
    if topic != EMAIL_COMMANDS.name or zlib.crc32(value or b"") % 2:
        _batch_send(self, topic, key, value, headers)


def _last_positions(records: Sequence[Record]) -> dict[TP, int]:
    return {TP(record.topic, record.partition): record.offset + 1 for record in records}


Mutant = Callable[[], AbstractContextManager[Any]]

MUTANTS: Final[dict[str, Mutant]] = {
    "store written before the commit": lambda: patch.object(Committer, "commit", _write_first),
    "restore before offsets are stable": lambda: patch.object(GroupOffsets, "wait_stable", _no_wait),
    "group metadata of the commit": _metadata_of_the_commit,
    "checkpoint apart from its rows": lambda: patch.object(Partition, "_apply", _checkpoint_first),
    "deadlines without the gate": lambda: patch.object(Session, "_due", _ungated),
    "transactional id by chance": lambda: patch.object(Transaction, "__init__", _random_id),
    "no seek back after an abort": lambda: patch.object(Session, "_aborted", _no_seek_back),
    "unknown outcome taken for an abort": lambda: patch.object(Transaction, "_triage", _unknown_is_aborted),
    "restore to the stable end only": lambda: patch.object(Changelog, "bounds", _stable_bounds),
    "offset that nobody told taken for one": lambda: patch.object(Listed, "result", _unchecked),
    "store behind its changelog goes on": lambda: patch.object(Committer, "commit", _behind_is_fine),
    "positions without the group's fence": lambda: patch.object(Transaction, "commit", _positions_without_fence),
    "lost answers to heartbeats unnoticed": lambda: patch.object(Heartbeats, "check", _no_check),
    "mail without a note": lambda: patch.object(Notes, "write", _no_note),
    "another machine's mail taken for unsent": lambda: patch.object(ledger, "_left_sending", _left_sending),
    "claim moves the position": lambda: patch.object(logic, "first_positions", _last_positions),
    "every other e-mail forgotten": lambda: patch.object(Batch, "send", _send_every_other),
    "half owned partitions run": lambda: patch.object(Task, "complete", property(lambda self: bool(self.owned))),
}
"""Each patches the worker's code."""

OF_MAIL: Final = ("mail without a note", "another machine's mail taken for unsent", "claim moves the position")
"""Those that the scenario of the e-mail service finds."""
