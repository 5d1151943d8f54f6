"""The batch function fails: its partition rests or is held, the others go on, and nothing is lost or doubled."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from streams.batch import Batch
from streams.errors import Unavailable
from streams.local.kafka import LocalKafka
from streams.processing.task import HeldAt, Phase
from streams.transport.transaction import Aborted, Transaction
from tests.broker.harness import (
    Busy,
    Worker,
    committed,
    join,
    keys_of_partition,
    produce,
    read_all,
    sent,
    settings_for,
    wait_for,
    wait_for_mails,
)
from topology.topics import COMMANDS, DEAD_LETTERS, DETAILS, Topic

NUMBER = 2
ORDERS, OTHERS = keys_of_partition(NUMBER, 100), keys_of_partition(0, 50) + keys_of_partition(3, 50)


def failing_at(topic: str, key: str) -> Callable[[Batch], None]:
    """Return a `join` with a bug: it fails on *topic*'s record of *key*."""

    def function(batch: Batch) -> None:
        for record in batch:
            if (record.topic, record.key) == (topic, key.encode()):
                raise ZeroDivisionError
        join(batch)

    return function


@pytest.mark.parametrize(("topic", "at"), [(COMMANDS, 0), (COMMANDS, 50), (DETAILS, 99)])
def test_bug_on_one_record_holds_its_partition(
    kafka: LocalKafka, unique: str, tmp_path: Path, topic: Topic, at: int
) -> None:
    """What came before the record is committed and nothing beyond it; with the bug fixed everything else follows."""
    settings = settings_for(kafka.bootstrap_servers, unique)
    produce(settings, COMMANDS.name, dict.fromkeys(ORDERS + OTHERS, b"c"))
    produce(settings, DETAILS.name, dict.fromkeys(ORDERS + OTHERS, b"d"))
    with Worker(settings, tmp_path / "state", function=failing_at(topic.name, ORDERS[at])) as worker:
        wait_for(lambda: worker.phases().get(NUMBER) is Phase.HELD, "the partition is held")
        wait_for_mails(settings, OTHERS)
        more = keys_of_partition(0, 60)[50:]
        for each in (COMMANDS, DETAILS):
            produce(settings, each.name, dict.fromkeys(more, b"x"))
        wait_for_mails(settings, more)
        assert Phase.HELD is worker.phases()[NUMBER]
        assert at >= committed(settings)[settings.topic(topic.name), NUMBER]
    with Worker(settings, tmp_path / "state"):
        wait_for_mails(settings, ORDERS)
    assert Counter(ORDERS + OTHERS + more) == sent(settings)


def test_end_of_the_partition_beyond_a_bug_isnt_committed(kafka: LocalKafka, unique: str, tmp_path: Path) -> None:
    """The end comes with the same poll as the record with the bug, and as records of another topic that are good."""
    settings = settings_for(kafka.bootstrap_servers, unique)
    first = keys_of_partition(0, 1)
    busy = Busy(failing_at(DETAILS.name, ORDERS[0]))
    with Worker(settings, tmp_path / "state", function=busy) as worker:
        produce(settings, COMMANDS.name, dict.fromkeys(first, b"c"))
        assert busy.entered.wait(30)
        produce(settings, COMMANDS.name, dict.fromkeys(ORDERS, b"c"))
        time.sleep(Busy.END_S)  # The order in which topics are fetched is nobody's promise.
        produce(settings, DETAILS.name, dict.fromkeys(ORDERS, b"d"))
        busy.free()
        wait_for(lambda: worker.phases().get(NUMBER) is Phase.HELD, "the partition is held")
    assert len(ORDERS) == committed(settings)[settings.topic(COMMANDS.name), NUMBER]
    assert 0 == committed(settings)[settings.topic(DETAILS.name), NUMBER]
    with Worker(settings, tmp_path / "state"):
        wait_for_mails(settings, ORDERS, 20)
    assert Counter(ORDERS) == sent(settings)


def test_records_before_a_bug_are_committed(kafka: LocalKafka, unique: str, tmp_path: Path) -> None:
    """The orders that were joined before the record with the bug have their e-mails."""
    settings = settings_for(kafka.bootstrap_servers, unique)
    produce(settings, COMMANDS.name, dict.fromkeys(ORDERS, b"c"))
    with Worker(settings, tmp_path / "state", function=failing_at(DETAILS.name, ORDERS[30])) as worker:
        wait_for(lambda: committed(settings)[settings.topic(COMMANDS.name), NUMBER] == len(ORDERS), "all commands")
        produce(settings, DETAILS.name, dict.fromkeys(ORDERS, b"d"))
        wait_for(lambda: worker.phases().get(NUMBER) is Phase.HELD, "the partition is held")
        wait_for_mails(settings, ORDERS[:30])
    assert Counter(ORDERS[:30]) == sent(settings)
    assert 30 == committed(settings)[settings.topic(DETAILS.name), NUMBER]


def test_partition_backs_off_while_somebody_doesnt_answer(kafka: LocalKafka, unique: str, tmp_path: Path) -> None:
    """A registry that can't be reached: its partition waits, others don't, and afterwards it goes on where it was."""
    settings = settings_for(kafka.bootstrap_servers, unique)
    answers_from_s = time.monotonic() + 4
    refused: list[int] = []

    def function(batch: Batch) -> None:
        if batch.partition == NUMBER and time.monotonic() < answers_from_s:
            refused.append(len(batch.records))
            raise Unavailable("nobody answers")
        join(batch)

    produce(settings, COMMANDS.name, dict.fromkeys(ORDERS + OTHERS, b"c"))
    produce(settings, DETAILS.name, dict.fromkeys(ORDERS + OTHERS, b"d"))
    with Worker(settings, tmp_path / "state", function=function) as worker:
        wait_for(lambda: worker.phases().get(NUMBER) is Phase.BACKING_OFF, "the partition rests")
        wait_for_mails(settings, OTHERS, 4)
        assert 0 == committed(settings)[settings.topic(COMMANDS.name), NUMBER]
        wait_for_mails(settings, ORDERS)
    assert Counter(ORDERS + OTHERS) == sent(settings)
    assert 2 <= len(refused) <= 5, "it tried again, at longer and longer intervals"


def test_record_that_a_person_skips_is_a_dead_letter(kafka: LocalKafka, unique: str, tmp_path: Path) -> None:
    """Its partition goes on behind it, in the same membership; only the record that it is held at can be skipped."""
    settings = settings_for(kafka.bootstrap_servers, unique)
    produce(settings, COMMANDS.name, dict.fromkeys(ORDERS, b"c"))
    with Worker(settings, tmp_path / "state", function=failing_at(DETAILS.name, ORDERS[30])) as worker:
        wait_for(lambda: committed(settings)[settings.topic(COMMANDS.name), NUMBER] == len(ORDERS), "all commands")
        produce(settings, DETAILS.name, dict.fromkeys(ORDERS, b"d"))
        wait_for(lambda: worker.phases().get(NUMBER) is Phase.HELD, "the partition is held")
        session = worker.session
        assert session is not None
        held = session.tasks[NUMBER].held_at
        assert HeldAt(DETAILS.name, NUMBER, 30) == held
        for wrong in (held._replace(offset=29), held._replace(partition=0), held._replace(topic=COMMANDS.name)):
            assert not session.skip(wrong)
        assert session.skip(held)
        others = ORDERS[:30] + ORDERS[31:]
        wait_for_mails(settings, others)
        assert Phase.RUNNING is worker.phases()[NUMBER]
        assert session is worker.session
        assert session.tasks[NUMBER].held_at is None
        wait_for(lambda: committed(settings)[settings.topic(DETAILS.name), NUMBER] == len(ORDERS), "all details")
    (letter,) = read_all(settings, DEAD_LETTERS.name)
    headers = dict(letter.headers())
    assert (ORDERS[30].encode(), b"d", b"skipped") == (letter.key(), letter.value(), headers["rejoinder.reason"])
    assert b"30" == headers["__streams.errors.offset"]
    assert Counter(others) == sent(settings)


def test_skipped_record_is_skipped_after_an_abort_too(kafka: LocalKafka, unique: str, tmp_path: Path) -> None:
    """The first of its batch: when that is read again, it begins at the record, not behind it."""
    settings = settings_for(kafka.bootstrap_servers, unique)
    produce(settings, COMMANDS.name, dict.fromkeys(ORDERS[:3], b"c"))
    aborting = threading.Event()

    class Aborting(Transaction):
        def commit(self, positions: Any, member: Any) -> None:
            if aborting.is_set():
                aborting.clear()
                self.abort()
                raise Aborted("as the test wants it")
            super().commit(positions, member)

    with Worker(
        settings, tmp_path / "state", function=failing_at(COMMANDS.name, ORDERS[0]), transaction_type=Aborting
    ) as worker:
        wait_for(lambda: worker.phases().get(NUMBER) is Phase.HELD, "the partition is held")
        assert worker.session is not None
        aborting.set()
        assert worker.session.skip(HeldAt(COMMANDS.name, NUMBER, 0))
        wait_for(lambda: committed(settings)[settings.topic(COMMANDS.name), NUMBER] == 3, "all commands")
        assert not aborting.is_set()
    assert [ORDERS[0].encode()] == [letter.key() for letter in read_all(settings, DEAD_LETTERS.name)]
