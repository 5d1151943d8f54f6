"""
The producer's transaction: its states, and the one duty that each class of error asks for.

    READY ──begin──▶ OPEN ──commit──▶ READY
                      │ └───abort───▶ READY
                      └──(fatal, or the outcome is unknown)──▶ OVER

librdkafka tells three classes of errors apart (its manual, "Transactional producer"):

- retriable: the same call again, until `CALL_S_MAX` has passed; then the outcome is unknown;
- abortable: abort, then read the same records again: `Aborted`;
- fatal, an outcome that stays unknown, or a call that doesn't come back (`caller`): this producer is over, and so is
  the membership whose positions it wrote: `SessionOver`. A new one begins from what Kafka says.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from functools import partial
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition

from streams.batch import Headers, Output, RowChange
from streams.errors import ConfigurationError, RejoinderError
from streams.transport.caller import Caller
from streams.transport.producing import produce_outputs, produce_rows
from streams.transport.refusals import granted_by

CALL_S: Final = 10.0
"""Time-out of one call; a retriable error then asks for the same call again."""

HUNG_S: Final = 5.0
"""How much longer than its time-out a call may take, before it is left alone: see `caller`."""

TIMEOUT_MS: Final = 60_000
"""librdkafka's transaction.timeout.ms unless it is set."""

CALL_S_MAX: Final = 60.0
"""When retrying stops. A broker that comes back later finds a new session, which begins from what was committed."""

_FORBIDDEN: Final = frozenset(
    {
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.INVALID_TRANSACTION_TIMEOUT,
        KafkaError._UNSUPPORTED_FEATURE,
    }
)


_RIGHTS: Final = frozenset({KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED})
"""Rights that were taken away since the start."""

_FENCED: Final = frozenset({KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH})

_librdkafka = logging.getLogger("librdkafka")


class Aborted(RejoinderError):
    """The transaction is gone and left no trace; its records must be read again."""


class SessionOver(RejoinderError):
    """This membership can't go on: its producer was fenced, its consumer failed, or an outcome is unknown."""

    exit_code = 75


class Fenced(SessionOver):
    """Somebody began anew with *transactional_id*; its own transaction hadn't taken longer than it may."""

    def __init__(self, transactional_id: str, what: str) -> None:
        super().__init__(f"{what} of {transactional_id}: fenced by a newer producer of this id")
        self.transactional_id = transactional_id


class State(Enum):
    """Where the transaction stands; the module's drawing shows the moves."""

    READY = "ready"
    OPEN = "open"
    OVER = "over"


class Transaction:
    """One transaction at a time of one transactional id."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.id: str = config["transactional.id"]
        self.state = State.READY
        self._timeout_s = config.get("transaction.timeout.ms", TIMEOUT_MS) / 1000
        self._began_s = math.inf
        """When what is open was opened."""
        self._producer = Producer(config, logger=_librdkafka)
        self._caller = Caller()

    def init(self) -> None:
        """
        Register the transactional id: fences an older producer of the same id and aborts what it left open.

        Raises:
            ConfigurationError: the broker refuses this id or its settings.
            SessionOver: no coordinator in time.
        """
        self._call("init_transactions", CALL_S)

    def begin(self) -> None:
        """Open; nothing is sent to the broker before the first record."""
        assert self.state is State.READY, self.state
        self._call("begin_transaction")
        self._began_s = time.monotonic()
        self.state = State.OPEN

    def produce(
        self,
        topic: str,
        partition: int,
        key: bytes | None,
        value: bytes | None,
        headers: Headers | None,
        on_delivery: Callable[[Any, Any], None] | None = None,
    ) -> None:
        """
        Add a record.

        Raises:
            SessionOver: see the module; also for a record that can't be produced at all.
            ConfigurationError: the topic isn't ours to write any more.
        """

        def one(at: int) -> int:
            try:
                # Ignored: its lists may hold text too, which a list of bytes can't.
                self._producer.produce(
                    topic,
                    value,
                    key,
                    partition,
                    on_delivery,
                    on_delivery,
                    0,
                    headers,  # type: ignore[arg-type]
                )
            except BufferError:
                return at
            return at + 1

        self._until_taken(one, 1)

    def produce_outputs(self, partition: int, outputs: Sequence[Output], names: dict[str, str]) -> None:
        """
        Add *outputs*, whose topics the cluster calls *names*.

        Raises:
            As `produce`.
        """
        produce = self._producer.produce
        self._until_taken(lambda at: produce_outputs(produce, outputs, at, partition, names), len(outputs))

    def produce_rows(
        self, partition: int, topic: str, rows: Sequence[RowChange], last_delivered: Callable[[Any, Any], None]
    ) -> None:
        """
        Add the new values of *rows*; *last_delivered* is told of the last one.

        Raises:
            As `produce`.
        """
        produce = self._producer.produce
        self._until_taken(lambda at: produce_rows(produce, rows, at, partition, topic, last_delivered), len(rows))

    def _until_taken(self, some: Callable[[int], int], count: int) -> None:
        """Let *some* produce from an index on, and again from where the queue was full, until all *count* are taken."""
        at, deadline_s = 0, 0.0  # The clock is asked only when something is wrong.
        while at < count:
            try:
                reached = some(at)
            except KafkaException as exc:
                # After a fatal error it says no more than that; the next call says why, and raises.
                self.abort()
                self.state = State.OVER
                raise self._over(exc, "produce") from exc
            if reached == count:
                return
            if reached > at or not deadline_s:
                deadline_s = time.monotonic() + CALL_S_MAX
            elif time.monotonic() > deadline_s:
                self.state = State.OVER
                raise SessionOver(
                    f"the queue of {self.id} stayed full for {CALL_S_MAX:.0f} s: the brokers don't take records; "
                    "starting anew from what was committed"
                )
            at = reached
            self._serve()

    def _serve(self) -> None:
        """Let deliveries be reported, so that the queue gets room."""
        try:
            self._producer.poll(0.1)
        except (KafkaException, SystemError) as exc:
            # SystemError: what confluent-kafka 2.16 makes of a fatal error met while it calls back.
            self.state = State.OVER
            raise SessionOver(f"poll of {self.id}: {exc}") from exc

    def commit(self, positions: Iterable[TopicPartition], member: Any) -> None:
        """
        Commit the records and the input *positions* together.

        *member* is the group metadata of when the records were polled: the broker refuses it if the member has lost
        its partitions since (KIP-447), even if it has joined again.

        Raises:
            Aborted: nothing was written; read the records again.
            Fenced: another process has taken this id over.
            SessionOver: see the module.
        """
        self._call("send_offsets_to_transaction", list(positions), member, CALL_S)
        self.commit_records()

    def commit_records(self) -> None:
        """
        Commit the records alone: for who reads as no member of a group, and is fenced by its transactional id only.

        Raises:
            As `commit`.
        """
        self._call("commit_transaction", CALL_S)
        self.state, self._began_s = State.READY, math.inf

    def abort(self) -> None:
        """Give the open transaction up."""
        if self.state is State.OPEN:
            self._call("abort_transaction", CALL_S)
            self.state, self._began_s = State.READY, math.inf

    def close(self) -> None:
        """Let go of the producer; an open transaction is aborted if the broker answers soon."""
        if self.state is State.OPEN:
            # On failure the broker aborts it, at the transaction's time-out or when this id begins anew.
            with contextlib.suppress(KafkaException):
                self._caller.call(partial(self._producer.abort_transaction, CALL_S), CALL_S + HUNG_S)
        self.state = State.OVER
        self._caller.end()
        del self._producer  # Its threads end with it.

    def _call(self, name: str, *args: Any) -> None:
        """Call the producer's method *name*, again as long as its error is retriable."""
        deadline_s = time.monotonic() + CALL_S_MAX
        while True:
            try:
                came_back = self._caller.call(partial(getattr(self._producer, name), *args), CALL_S + HUNG_S)
            except KafkaException as exc:
                self._triage(exc, name, deadline_s)
            except SystemError as exc:  # As in `_serve`.
                self.state = State.OVER
                raise SessionOver(f"{name} of {self.id}: {exc}") from exc
            else:
                if not came_back:
                    self.state = State.OVER
                    raise SessionOver(f"{name} of {self.id} doesn't come back; its time-out was {CALL_S:.0f} s")
                return

    def _triage(self, exc: KafkaException, name: str, deadline_s: float) -> None:
        """Return if the same call is to be made again; raise what the error asks for otherwise."""
        error: KafkaError = exc.args[0]
        if error.code() in _RIGHTS:
            # Read again, it would be refused again, for ever; a supervisor and the check at the start say so.
            with contextlib.suppress(RejoinderError):
                self.abort()
            self.state = State.OVER
            raise self._over(exc, name) from exc
        if error.txn_requires_abort() and name != "abort_transaction":
            self.abort()
            raise Aborted(f"{name} of {self.id}: {error.name()}: {error.str()}") from exc
        if error.retriable() and time.monotonic() < deadline_s:
            return
        self.state = State.OVER
        if error.code() in _FORBIDDEN:
            raise ConfigurationError(
                f"the broker refuses transactional id {self.id}: {error.name()}: {error.str()}; "
                f"{granted_by(None)}; or see REJOINDER_TRANSACTION_TIMEOUT"
            ) from exc
        raise self._over(exc, name) from exc

    def _over(self, exc: KafkaException, name: str) -> RejoinderError:
        error: KafkaError = exc.args[0]
        if error.code() in _RIGHTS:
            return ConfigurationError(
                f"the broker refuses {name} of {self.id}: {error.name()}: {error.str()}; {granted_by(None)}"
            )
        if error.code() in _FENCED:
            open_s = time.monotonic() - self._began_s
            if open_s < self._timeout_s:
                return Fenced(self.id, name)
            # Whoever slept, or whose brokers were away, is fenced by the broker itself, which aborted it.
            return SessionOver(
                f"{name} of {self.id}: its transaction was open for {open_s:.0f} s, and aborted after "
                f"{self._timeout_s:g} s (REJOINDER_TRANSACTION_TIMEOUT)"
            )
        return SessionOver(f"{name} of {self.id}: {error.name()}: {error.str()}")
