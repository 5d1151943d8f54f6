"""The transaction: what each class of librdkafka's errors comes to, and where it leaves the producer."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any, Final

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from streams.errors import ConfigurationError
from streams.transport import transaction as module
from streams.transport.transaction import Aborted, Fenced, SessionOver, State, Transaction

ID: Final = "rejoinder-worker-1"
RETRIABLE: Final = KafkaError(KafkaError.COORDINATOR_LOAD_IN_PROGRESS, "later", retriable=True)
ABORTABLE: Final = KafkaError(KafkaError.UNKNOWN_MEMBER_ID, "lost", txn_requires_abort=True)
FATAL: Final = KafkaError(KafkaError._FENCED, "another one", fatal=True)
OTHER: Final = KafkaError(KafkaError._STATE, "unexpected")
STEPS: Final = ("send_offsets_to_transaction", "commit_transaction")


class Producer:
    """Librdkafka's producer, whose calls fail as a test has told."""

    def __init__(self) -> None:
        self.errors: dict[str, deque[KafkaError]] = {}
        self.calls: list[str] = []
        self.full = 0

    def fail(self, name: str, *errors: KafkaError) -> None:
        """Let the next calls of *name* fail so."""
        self.errors[name] = deque(errors)

    def __getattr__(self, name: str) -> Any:
        def call(*_: Any) -> None:
            self.calls.append(name)
            if self.errors.get(name):
                raise KafkaException(self.errors[name].popleft())

        return call

    def produce(self, *_: Any) -> None:
        """Take a record unless the queue is full."""
        self.calls.append("produce")
        if self.full:
            self.full -= 1
            raise BufferError("Local: Queue full")


@pytest.fixture
def producer(monkeypatch: pytest.MonkeyPatch) -> Producer:
    """Return the producer of the next `Transaction`."""
    made = Producer()
    monkeypatch.setattr(module, "Producer", lambda *_, **__: made)
    return made


@pytest.fixture
def transaction(producer: Producer) -> Transaction:
    """Return a transaction over *producer*, registered."""
    transaction = Transaction({"transactional.id": ID})
    transaction.init()
    producer.calls.clear()
    return transaction


def _commit(transaction: Transaction) -> None:
    transaction.commit([TopicPartition("commands", 0, 1)], object())


def test_good_transaction_is_ready_again(transaction: Transaction, producer: Producer) -> None:
    """READY, OPEN, READY: positions before the commit, and both once."""
    states = [transaction.state]
    transaction.begin()
    states.append(transaction.state)
    transaction.produce("t", 0, b"k", b"v", None)
    _commit(transaction)
    assert [State.READY, State.OPEN, State.READY] == [*states, transaction.state]
    assert ["begin_transaction", "produce", *STEPS] == producer.calls


@pytest.mark.parametrize("step", STEPS)
def test_retriable_error_is_the_same_call_again(transaction: Transaction, producer: Producer, step: str) -> None:
    """Until it works, and without an abort."""
    transaction.begin()
    producer.fail(step, RETRIABLE, RETRIABLE)
    _commit(transaction)
    assert State.READY is transaction.state
    expected = {name: 3 if name == step else 1 for name in STEPS} | {"begin_transaction": 1}
    assert expected == {name: producer.calls.count(name) for name in producer.calls}


@pytest.mark.parametrize("step", STEPS)
def test_retriable_error_for_too_long_is_an_unknown_outcome(
    transaction: Transaction, producer: Producer, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session is over; nothing is aborted, as it may be committed."""
    transaction.begin()
    monkeypatch.setattr(module, "CALL_S_MAX", 0)
    producer.fail(step, RETRIABLE)
    with pytest.raises(SessionOver, match=rf"{step} of {ID}: COORDINATOR_LOAD_IN_PROGRESS"):
        _commit(transaction)
    assert State.OVER is transaction.state
    assert "abort_transaction" not in producer.calls


@pytest.mark.parametrize("step", STEPS)
def test_abortable_error_aborts(transaction: Transaction, producer: Producer, step: str) -> None:
    """Nothing was written, the records come again, and the next transaction may begin."""
    transaction.begin()
    producer.fail(step, ABORTABLE)
    with pytest.raises(Aborted, match=rf"{step} of {ID}: UNKNOWN_MEMBER_ID"):
        _commit(transaction)
    assert (State.READY, "abort_transaction") == (transaction.state, producer.calls[-1])
    transaction.begin()
    _commit(transaction)
    assert State.READY is transaction.state


@pytest.mark.parametrize("error", [FATAL, OTHER])
@pytest.mark.parametrize("step", STEPS)
def test_fatal_or_unexpected_error_ends_the_session(
    transaction: Transaction, producer: Producer, step: str, error: KafkaError
) -> None:
    """This producer is of no more use, and what became of its transaction is for Kafka to say."""
    transaction.begin()
    producer.fail(step, error)
    with pytest.raises(SessionOver):
        _commit(transaction)
    assert State.OVER is transaction.state
    assert "abort_transaction" not in producer.calls


def test_transaction_that_cannot_begin_ends_the_session(transaction: Transaction, producer: Producer) -> None:
    """Fenced before the first record."""
    producer.fail("begin_transaction", FATAL)
    with pytest.raises(SessionOver):
        transaction.begin()
    assert State.OVER is transaction.state


def test_abort_that_fails_ends_the_session(transaction: Transaction, producer: Producer) -> None:
    """Fenced while aborting: not `Aborted`, which would have the records read again under the same producer."""
    transaction.begin()
    producer.fail("commit_transaction", ABORTABLE)
    producer.fail("abort_transaction", FATAL)
    with pytest.raises(SessionOver):
        _commit(transaction)
    assert State.OVER is transaction.state


def test_abort_that_asks_for_an_abort_ends_the_session(transaction: Transaction, producer: Producer) -> None:
    """Else it would be left open, and the next one couldn't begin."""
    transaction.begin()
    producer.fail("abort_transaction", ABORTABLE)
    with pytest.raises(SessionOver):
        transaction.abort()
    assert State.OVER is transaction.state


def test_abort_is_retried_as_any_call(transaction: Transaction, producer: Producer) -> None:
    """The coordinator may be on its way."""
    transaction.begin()
    producer.fail("abort_transaction", RETRIABLE)
    transaction.abort()
    assert (State.READY, 2) == (transaction.state, producer.calls.count("abort_transaction"))


def test_abort_of_nothing_asks_nobody(transaction: Transaction, producer: Producer) -> None:
    """Without an open transaction there is nothing to give up."""
    transaction.abort()
    assert [] == producer.calls


def test_refused_id_is_a_configuration_error(producer: Producer) -> None:
    """No new session would be any better; the message says which id and what to check."""
    transaction = Transaction({"transactional.id": ID})
    producer.fail("init_transactions", KafkaError(KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, "no", fatal=True))
    with pytest.raises(ConfigurationError, match=rf"{ID}.*`rejoinder acls apply`.*REJOINDER_TRANSACTION_TIMEOUT"):
        transaction.init()
    assert State.OVER is transaction.state


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("code", [KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED])
def test_right_that_was_taken_away_is_a_configuration_error(
    transaction: Transaction, producer: Producer, step: str, code: int
) -> None:
    """Reading the same records again would be refused again, for ever."""
    transaction.begin()
    producer.fail(step, KafkaError(code, "no", txn_requires_abort=True))
    with pytest.raises(ConfigurationError, match="`rejoinder acls apply`"):
        transaction.commit([], None)
    assert State.OVER is transaction.state
    assert "abort_transaction" in producer.calls


def test_topic_that_may_not_be_written_any_more_is_a_configuration_error(
    transaction: Transaction, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Librdkafka may know it before it sends anything; a new session would know no better."""

    def refuse(*_: Any) -> None:
        raise KafkaException(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED, "no"))

    monkeypatch.setattr(producer, "produce", refuse)
    transaction.begin()
    with pytest.raises(ConfigurationError, match=r"refuses produce of .*`rejoinder acls apply`"):
        transaction.produce("t", 0, b"k", b"v", None)
    assert State.OVER is transaction.state
    assert "abort_transaction" in producer.calls


def test_full_queue_waits_for_the_brokers(transaction: Transaction, producer: Producer) -> None:
    """Deliveries are served meanwhile, and the record isn't lost."""
    transaction.begin()
    producer.full = 2
    transaction.produce("t", 0, b"k", b"v", None)
    assert ["begin_transaction", "produce", "poll", "produce", "poll", "produce"] == producer.calls


def test_queue_that_stays_full_ends_the_session(
    transaction: Transaction, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The brokers don't take records: begin anew from what was committed."""
    transaction.begin()
    monkeypatch.setattr(module, "CALL_S_MAX", -1)
    producer.full = 1_000
    with pytest.raises(SessionOver, match="stayed full"):
        transaction.produce("t", 0, b"k", b"v", None)
    assert State.OVER is transaction.state


@pytest.mark.parametrize("errors", [[], [FATAL]])
def test_close_aborts_what_is_open(transaction: Transaction, producer: Producer, errors: list[KafkaError]) -> None:
    """Once; if that fails, the broker does it at the transaction's time-out."""
    transaction.begin()
    producer.fail("abort_transaction", *errors)
    transaction.close()
    assert (State.OVER, 1) == (transaction.state, producer.calls.count("abort_transaction"))


# With librdkafka itself, and its own mock of a cluster.


def _mocked(**more: Any) -> Transaction:
    transaction = Transaction({"transactional.id": ID, "test.mock.num.brokers": 1, "log_level": 0, **more})
    transaction.init()
    return transaction


def test_record_is_handed_over_as_it_is(
    transaction: Transaction, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Key, value and headers, null or not, with a report of its delivery and without."""
    taken: list[tuple[Any, ...]] = []
    monkeypatch.setattr(producer, "produce", lambda *args: taken.append(args))
    transaction.begin()
    headers = [("h", b"v")]
    transaction.produce("t", 3, None, None, headers, print)
    transaction.produce("t", 3, b"k", b"v", None)
    assert [("t", None, None, 3, print, print, 0, headers), ("t", b"v", b"k", 3, None, None, 0, None)] == taken


def test_librdkafka_commits() -> None:
    """The calls are the ones that it wants, in its order; delivery is reported before the commit returns."""
    transaction = _mocked()
    delivered: list[Any] = []
    member = Consumer({"group.id": "g", "bootstrap.servers": "127.0.0.1:1", "log_level": 0})
    for _ in range(2):
        transaction.begin()
        transaction.produce("t", 0, b"k", b"v", [("h", b"v")], lambda error, _: delivered.append(error))
        transaction.commit([TopicPartition("t", 0, 1)], member.consumer_group_metadata())
    assert (State.READY, [None, None]) == (transaction.state, delivered)
    member.close()
    transaction.close()


def test_record_that_cannot_be_delivered_aborts() -> None:
    """A failed delivery fails the commit, and the next transaction is a good one."""
    transaction = _mocked()
    member = Consumer({"group.id": "g", "bootstrap.servers": "127.0.0.1:1", "log_level": 0})
    metadata = member.consumer_group_metadata()
    transaction.begin()
    transaction.produce("t", 0, b"k", b"v", None)
    transaction.produce("never-seen", 99, b"k", b"v", None)  # Of a known topic, librdkafka would refuse it at once.
    with pytest.raises(Aborted, match="commit_transaction"):
        transaction.commit([TopicPartition("t", 0, 1)], metadata)
    assert State.READY is transaction.state
    transaction.begin()
    transaction.produce("t", 0, b"k", b"v", None)
    transaction.commit([TopicPartition("t", 0, 1)], metadata)
    member.close()
    transaction.close()


def test_no_broker_ends_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """Librdkafka calls it retriable for ever; we begin anew after a while."""
    monkeypatch.setattr(module, "CALL_S", 0.1)
    monkeypatch.setattr(module, "CALL_S_MAX", 0.2)
    transaction = Transaction({"transactional.id": ID, "bootstrap.servers": "127.0.0.1:1", "log_level": 0})
    with pytest.raises(SessionOver, match=f"init_transactions of {ID}"):
        transaction.init()
    assert State.OVER is transaction.state


def test_fence_met_while_producing_says_that_it_is_one(transaction: Transaction, producer: Producer) -> None:
    """``produce`` says no more than "fatal", but a second fence in turn must be known as one."""
    producer.fail("abort_transaction", FATAL)

    def fatal(*_: Any) -> None:
        raise KafkaException(KafkaError(KafkaError._FATAL, "Unable to produce message: Local: Fatal error"))

    transaction.begin()
    producer.produce = fatal  # type: ignore[method-assign]
    with pytest.raises(Fenced):
        transaction.produce("topic", 0, b"key", b"value", None)
    assert State.OVER is transaction.state


@pytest.mark.parametrize(("open_s", "expected"), [(9.0, Fenced), (11.0, SessionOver)])
def test_fence_after_the_time_out_is_no_other_process(
    producer: Producer, monkeypatch: pytest.MonkeyPatch, open_s: float, expected: type[SessionOver]
) -> None:
    """The broker aborted what was open for too long, and fenced its producer: two such ends are no two processes."""
    now_s = 1_000.0
    monkeypatch.setattr("streams.transport.transaction.time.monotonic", lambda: now_s)
    transaction = Transaction({"transactional.id": ID, "transaction.timeout.ms": 10_000})
    transaction.begin()
    now_s += open_s
    producer.fail("commit_transaction", FATAL)
    with pytest.raises(SessionOver) as raised:
        _commit(transaction)
    assert expected is type(raised.value)


@pytest.mark.parametrize("step", STEPS)
def test_call_that_does_not_come_back_ends_the_session(
    transaction: Transaction, producer: Producer, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """The library doesn't keep to its time-out: it is left alone, and nothing waits for it, the end neither."""
    let_go = threading.Event()
    monkeypatch.setattr(module, "CALL_S", 0.1)
    monkeypatch.setattr(module, "HUNG_S", 0.1)
    monkeypatch.setattr(producer, step, lambda *_: let_go.wait(60), raising=False)
    transaction.begin()
    with pytest.raises(SessionOver, match=f"{step} of {ID} doesn't come back"):
        _commit(transaction)
    assert State.OVER is transaction.state
    transaction.close()
    let_go.set()
