"""Dead letters put back: as they came, once, whatever interrupts it, and never round and round."""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from streams.batch import Headers
from streams.errors import ConfigurationError, Unavailable
from streams.headers import original_ms
from streams.local.kafka import LocalKafka
from streams.monitor.dead_letter_log import DeadLetterLog
from streams.monitor.dead_letters import Filters
from streams.monitor.redrive import Redrive, rules_of
from streams.settings import Settings
from streams.transport import config
from streams.transport.partitioner import partition_of
from streams.transport.topics import Cluster
from tests.broker.harness import PARTITIONS, keys, keys_of_partition, produce, read_all, sent, settings_for, wait_for
from tests.broker.letters import came, marks, put_letters, refusal, rejoinder, said, start
from tests.broker.test_dead_letters import command, details, letters, worker_of
from topology.policy import DAY_MS
from topology.topics import COMMANDS, DEAD_LETTERS, DETAILS, EMAIL_COMMANDS, QUERIES, REDRIVES

HEADERS: Headers = [("ce_id", b"abc"), ("twice", b"1"), ("twice", b"\xff\x00")]


def now_ms() -> int:
    """Return the time, Unix milliseconds."""
    return time.time_ns() // 1_000_000


@pytest.fixture
def settings(kafka: LocalKafka, unique: str) -> Settings:
    """Return settings of topics that only this test has."""
    return settings_for(kafka.bootstrap_servers, unique)


def test_record_goes_back_as_it_came(settings: Settings) -> None:
    """Raw key, value and headers, the time it first came, and the partition of its key, wherever it had been."""
    (elsewhere,) = keys_of_partition(2, 1)
    first_ms = now_ms() - 5_000
    wrong = refusal(elsewhere.encode(), b"\0raw", 7, headers=HEADERS, timestamp_ms=first_ms, reason="wrong-partition")
    nulls = refusal(None, None, 8, timestamp_ms=first_ms, reason="null", partition=3)
    put_letters(settings, [wrong, nulls])
    assert "2 put back" in said(settings, "redrive", "--all")
    by_partition = {message.partition(): message for message in read_all(settings, COMMANDS.name)}
    assert {2, 3} == set(by_partition)
    record, null = by_partition[2], by_partition[3]
    assert (elsewhere.encode(), b"\0raw") == (record.key(), record.value())
    assert (None, None) == (null.key(), null.value())
    letter = f"{settings.topic(DEAD_LETTERS.name)}/0/0".encode()
    added: Headers = [
        ("rejoinder.redriven-from", letter),
        ("rejoinder.redrive-count", b"1"),
        ("rejoinder.original-timestamp", b"%d" % first_ms),
    ]
    assert HEADERS + added == record.headers()


def test_letters_of_all_roles_go_back_to_their_own_topics(settings: Settings) -> None:
    """Worker, orders service, e-mail service."""
    topics = (COMMANDS.name, DETAILS.name, QUERIES.name, EMAIL_COMMANDS.name)
    put_letters(settings, [refusal(b"k", t.encode(), i, topic=t, timestamp_ms=now_ms()) for i, t in enumerate(topics)])
    assert "4 put back" in said(settings, "redrive", "--all")
    assert [[(b"k", topic.encode())] for topic in topics] == [came(settings, topic) for topic in topics]


def test_only_what_is_meant_goes_back(settings: Settings) -> None:
    """By reason, topic and coordinates, and not at all when it is only rehearsed or nothing is named."""
    put_letters(
        settings,
        [
            refusal(b"a", b"1", 0, reason="unknown-schema", timestamp_ms=now_ms()),
            refusal(b"b", b"2", 1, reason="truncated", timestamp_ms=now_ms()),
            refusal(b"c", b"3", 2, topic=DETAILS.name, timestamp_ms=now_ms()),
            refusal(b"d", b"4", 3, reason="null", timestamp_ms=now_ms(), partition=1),
        ],
    )
    refused = rejoinder(settings, "redrive")
    assert isinstance(refused.exception, ConfigurationError)
    rehearsed = said(settings, "redrive", "--all", "--dry-run")
    assert "4 would be put back" in rehearsed
    assert f"would go to {settings.topic(DETAILS.name)}/{partition_of(b'c', PARTITIONS)}, key c" in rehearsed
    assert ([], []) == (came(settings), marks(settings))
    assert "0 put back" in said(settings, "redrive", "--reason", "unknown-schema", "--topic", EMAIL_COMMANDS.name)
    assert "1 put back" in said(settings, "redrive", "--reason", "unknown-schema", "--topic", COMMANDS.name)
    assert [(b"a", b"1")] == came(settings)
    assert "1 put back" in said(settings, "redrive", "1/0", "1/0")
    assert [(b"a", b"1"), (b"d", b"4")] == came(settings)
    assert "0 put back" in said(settings, "redrive", "--all", "--since", "2999-01-01")
    assert "2 put back" in said(settings, "redrive", "--all", "--since", "1h")
    assert ([(b"a", b"1"), (b"b", b"2"), (b"d", b"4")], [(b"c", b"3")]) == (
        came(settings),
        came(settings, DETAILS.name),
    )


def test_what_was_put_back_is_passed_over_unless_by_force(settings: Settings) -> None:
    """Repeating it is safe; what a person wants again, he says."""
    put_letters(settings, [refusal(b"a", b"1", 0, timestamp_ms=now_ms())])
    assert "1 put back" in said(settings, "redrive", "--all")
    again = said(settings, "redrive", "--all")
    assert "0 put back" in again
    assert "1 left: put back before" in again
    assert [b"0/0"] == marks(settings)
    assert [(b"a", b"1")] == came(settings)
    assert "1 put back" in said(settings, "redrive", "0/0", "--force")
    assert [(b"a", b"1")] * 2 == came(settings)


def test_marks_of_a_topic_that_was_created_anew_mean_nothing(settings: Settings) -> None:
    """The new letters have the old ones' offsets."""
    put_letters(settings, [refusal(b"a", b"1", 0, timestamp_ms=now_ms())])
    said(settings, "redrive", "--all")
    name = settings.topic(DEAD_LETTERS.name)
    admin = AdminClient(config.common(settings))
    admin.delete_topics([name])[name].result(20)
    wait_for(lambda: name not in admin.list_topics(timeout=10).topics, "the topic is gone")
    Cluster(settings).apply()
    put_letters(settings, [refusal(b"b", b"2", 1, timestamp_ms=now_ms())])
    assert "1 put back" in said(settings, "redrive", "--all")


def test_expired_record_stays_unless_by_force(settings: Settings) -> None:
    """Nobody knows any more whether it was carried out. By force it is handled as if it came now."""
    put_letters(settings, [refusal(b"a", b"1", 0, timestamp_ms=now_ms() - 36 * DAY_MS, reason="expired")])
    left = said(settings, "redrive", "--all")
    assert "0 put back" in left
    assert "a second e-mail would go out" in left
    assert "1 put back" in said(settings, "redrive", "0/0", "--force")
    (record,) = read_all(settings, COMMANDS.name)
    assert ["rejoinder.redriven-from", "rejoinder.redrive-count"] == [name for name, _ in record.headers()]


def test_what_can_t_go_back_is_left_and_said(settings: Settings) -> None:
    """Not kept, from nowhere, from a topic of somebody else, or more than its topic takes; the others go."""
    put_letters(
        settings,
        [
            refusal(b"a", bytes(3_000_000), 0, timestamp_ms=now_ms()),
            refusal(b"b", os.urandom(1_200_000), 1, timestamp_ms=now_ms(), reason="too-large"),
            refusal(b"c", b"3", 2, topic="their.topic", timestamp_ms=now_ms()),
            refusal(b"d", b"4", 3, timestamp_ms=now_ms()),
        ],
    )
    produce(settings, DEAD_LETTERS.name, {"e": b"by hand"})
    left = said(settings, "redrive", "--all")
    assert "1 put back" in left
    for words in (
        "1 left: too large to have been kept",
        "2 left: it doesn't say",
        "1 left: the broker doesn't take it",
    ):
        assert words in left
    assert [(b"d", b"4")] == came(settings)
    listed = said(settings, "list")
    assert "unknown" in listed
    assert "from an unknown place" in listed


def test_kill_in_the_middle_puts_nothing_back_twice(settings: Settings) -> None:
    """Record and mark are one transaction: the next one goes on where the killed one was."""
    orders = [key.encode() for key in keys(60)]
    put_letters(settings, [refusal(key, b"x" + key, i, timestamp_ms=now_ms()) for i, key in enumerate(orders)])
    running = start(settings, "redrive", "--all", "--rate", "10")
    wait_for(lambda: len(read_all(settings, REDRIVES.name, "read_uncommitted")) >= 12, "some are put back")
    running.kill()
    running.communicate(timeout=10)
    rest = said(settings, "redrive", "--all")
    some = 60 - int(rest.partition(" put back")[0].split()[-1])
    assert 5 <= some < 60
    assert [(key, b"x" + key) for key in orders] == came(settings)


def test_second_redrive_ends_the_first(settings: Settings) -> None:
    """Two people at it at three in the morning: each letter goes back once."""
    orders = [key.encode() for key in keys(40)]
    put_letters(settings, [refusal(key, key, i, timestamp_ms=now_ms()) for i, key in enumerate(orders)])
    log = DeadLetterLog(settings)
    rules = rules_of(settings, now_ms(), force=False)
    with Redrive(settings, log, rules, rate=20) as first:
        begun = iter(log.letters(Filters()))

        def until_taken_over() -> Any:
            for number, letter in enumerate(begun):
                if number == 15:
                    assert "put back" in said(settings, "redrive", "--all")
                yield letter

        with pytest.raises(Unavailable, match="another redrive has begun"):
            first.run(until_taken_over(), lambda _: None)
    assert 0 < first.report.back.total() < 40
    assert [(key, key) for key in orders] == came(settings)


def test_interrupt_says_how_far_it_came(settings: Settings) -> None:
    """Ctrl-C: the transaction under way is given up, and the next redrive puts back the rest."""
    put_letters(settings, [refusal(b"k%d" % i, b"", i, timestamp_ms=now_ms()) for i in range(8)])
    log = DeadLetterLog(settings)

    def interrupted() -> Any:
        for number, letter in enumerate(log.letters(Filters())):
            if number == 5:
                raise KeyboardInterrupt
            yield letter

    rules = rules_of(settings, now_ms(), force=False)
    with Redrive(settings, log, rules, rate=4) as run, pytest.raises(KeyboardInterrupt):
        run.run(interrupted(), lambda _: None)
    assert 4 == run.report.back.total()
    assert "4 put back" in said(settings, "redrive", "--all")
    assert 8 == len(came(settings))


def test_record_refused_again_is_a_new_letter_and_goes_round_no_further(settings: Settings, tmp_path: Path) -> None:
    """The count goes up with each person's redrive; a dozen redrives later it stays where it is."""
    (key,) = keys_of_partition(1, 1)
    poison = command(key)[:-1]
    producer = Producer(config.plain_producer(settings))
    more: Any = HEADERS
    producer.produce(settings.topic(COMMANDS.name), poison, key.encode(), headers=more)
    assert 0 == producer.flush(20)
    with worker_of(settings, tmp_path / "state"):
        for times in range(1, 11):
            wait_for(lambda times=times: len(letters(settings)) == times, "the next letter")  # type: ignore[misc]
            assert "1 put back" in said(settings, "redrive", "--all")
        wait_for(lambda: len(letters(settings)) == 11, "the last letter")
        stays = said(settings, "redrive", "--all")
        time.sleep(1)
    found = letters(settings)
    assert 11 == len(found)
    assert "refused 10 times already" in stays
    counts = [dict(letter.headers()).get("rejoinder.redrive-count") for letter in found]
    assert [None, *(b"%d" % times for times in range(1, 11))] == counts
    assert {poison} == {letter.value() for letter in found}
    names = Counter(name for name, _ in found[-1].headers())
    assert {1} == {count for name, count in names.items() if name != "twice"}
    assert HEADERS == found[-1].headers()[:3]
    first = {dict(letter.headers())["rejoinder.timestamp"] for letter in found}
    assert 1 == len(first)
    assert {} == sent(settings)


def test_time_of_a_record_that_was_put_back_is_the_first(settings: Settings, tmp_path: Path) -> None:
    """A redrive resurrects nothing: expired when it is read, it is refused, although the broker has just stamped it."""
    (key,) = keys_of_partition(1, 1)
    old: Headers = [("rejoinder.original-timestamp", b"%d" % (now_ms() - 36 * DAY_MS))]
    future: Headers = [("rejoinder.original-timestamp", b"%d" % (now_ms() + 36 * DAY_MS))]
    producer = Producer(config.plain_producer(settings))
    for headers in (old, future):
        more: Any = headers
        producer.produce(settings.topic(COMMANDS.name), command(key), key.encode(), headers=more)
    producer.produce(settings.topic(DETAILS.name), details(key), key.encode())
    assert 0 == producer.flush(20)
    with worker_of(settings, tmp_path / "state"):
        wait_for(lambda: len(letters(settings)) == 1, "the old one's letter")
        wait_for(lambda: sent(settings), "the other's e-mail")
    (letter,) = letters(settings)
    assert b"expired" == dict(letter.headers())["rejoinder.reason"]
    assert old[0][1] == dict(letter.headers())["rejoinder.timestamp"]
    assert {key: 1} == sent(settings)


def test_original_time_is_only_ever_older() -> None:
    """Whatever anybody writes into the header."""
    for value, expected in (
        (b"5", 5), (b"15", 10), (b"-1", 10), (b"", 10), (b"x", 10), (b"9" * 5_000, 10), (b"0", 0), (None, 10),
        ("٣".encode(), 10), (b" 5", 10), (b"5.0", 10),
    ):  # fmt: skip
        more: Any = [("other", b"1"), ("rejoinder.original-timestamp", value)]
        assert expected == original_ms(refusal(b"k", b"v", 0, headers=more, timestamp_ms=10).record)
