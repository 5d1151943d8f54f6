"""What an application does with a turn's batches: decide them in one transaction, or work outside transactions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Protocol

from streams.batch import Batch, Record
from streams.processing.commit import Work
from streams.processing.session import Due, Session
from streams.processing.task import Phase, Task, first_positions
from streams.transport.member import Polled


def nothing_more(_: Sequence[Work]) -> None:
    """Do nothing with what was committed."""


class Transactional:
    """
    The logic of a batch function: everything of a turn is decided, then committed.

    *committed* is told what was.
    """

    def __init__(
        self,
        function: Callable[[Batch], object],
        records_max: int,
        committed: Callable[[Sequence[Work]], object] = nothing_more,
    ) -> None:
        self.function = function
        self.records_max = records_max
        self._committed = committed

    def stop(self) -> None:
        """Nothing takes long here."""

    def run(self, session: Session, batches: Mapping[Task, Sequence[Record]], due: Due, polled: Polled) -> None:
        """One transaction."""
        works = session.decide(self.function, batches, due)
        if session.commit(works, polled):
            self._committed(works)


class Handling:
    """
    The logic of work that can't be in a transaction, such as sending mails.

    Three steps: *claim* writes down what is about to be done, with the positions unchanged; *deliver* does it outside
    any transaction; *settle* writes down how it went, with the positions. *committed* is told what was settled.
    """

    def __init__(
        self,
        open_handler: Callable[[], Handler],
        wait: Callable[[Any], Any],
        records_max: int,
        committed: Callable[[Sequence[Work]], object] = nothing_more,
    ) -> None:
        self._open_handler = open_handler
        self._committed = committed
        self.records_max = records_max
        self._wait = wait

    def run(self, session: Session, batches: Mapping[Task, Sequence[Record]], due: Due, polled: Polled) -> None:
        """Two transactions, and the work between them."""
        jobs: dict[int, Sequence[Any]] = {}

        def claim(batch: Batch) -> None:
            jobs[batch.partition] = self.handler.claim(batch)

        claimed = session.decide(claim, batches, {})
        # A held task's part isn't delivered: nothing would settle it.
        works = [
            work._replace(positions=first_positions(work.batch.records))
            for work in claimed
            if work.batch.records and session.tasks[work.batch.partition].phase is Phase.RUNNING
        ]
        for work in works:
            # Refused again, and then for good, by the transaction that passes the records.
            work.batch.refusals.clear()
        if not session.commit(works, polled):
            return
        claimed_by = {session.tasks[work.batch.partition]: work.batch.records for work in works}
        for task in [task for task in claimed_by if task.phase is not Phase.RUNNING]:
            # Its store couldn't be written and is being restored: its records come again after that.
            session.rewind(task, claimed_by.pop(task))
        outcomes = self._wait(self.handler.deliver({task.partition: jobs[task.partition] for task in claimed_by}))
        works = session.decide(lambda batch: self.handler.settle(batch, outcomes.get(batch.partition)), claimed_by, due)
        if session.commit(works, polled):
            self._committed(works)

    def stop(self) -> None:
        """Begin nothing more of the batch under way; any thread may call it."""
        if "handler" in vars(self):
            self.handler.stop()

    @cached_property
    def handler(self) -> Handler:
        """The handler, opened when it is first needed."""
        return self._open_handler()


class Handler(Protocol):
    """Work outside transactions, see `Handling`."""

    def claim(self, batch: Batch) -> Sequence[Any]:
        """Write down what is about to be done; return it as jobs."""

    async def deliver(self, jobs: Mapping[int, Sequence[Any]]) -> Mapping[int, Any]:
        """Do the jobs, by partition number; return what became of them."""

    def settle(self, batch: Batch, outcomes: Any) -> None:
        """Write down what became of the same batch's jobs; None: there were none, deadlines only."""

    def stop(self) -> None:
        """Let `deliver` end soon: begin no further job; any thread may call it."""
