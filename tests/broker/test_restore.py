"""Restoring stores from real changelogs: what a cluster really puts into them, and what goes wrong on the way."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaException, TopicPartition

from schemas import state_codec
from streams.batch import RowChange
from streams.errors import Unavailable
from streams.local.kafka import LocalKafka
from streams.store.partition import Partition
from streams.store.restore import Restorer
from tests.broker.changelogs import WAIT_S_MAX, Changelog, contents, row, take, wait_until
from topology.state import NEVER_MS


@pytest.fixture
def changelog(kafka: LocalKafka, unique: str, tmp_path: Path) -> Changelog:
    """A changelog topic of this test's own."""
    changelog = Changelog(kafka, unique, tmp_path)
    changelog.create()
    return changelog


@pytest.fixture
def restorer(changelog: Changelog) -> Iterator[Restorer]:
    """A restorer of the changelog."""
    restorer = changelog.restorer()
    yield restorer
    restorer.stop()


def test_restored_store_has_the_last_values_and_their_deadlines(changelog: Changelog) -> None:
    """Of each key the last committed value counts, a tombstone is no row, deadlines come from the rows."""
    changelog.commit([(b"a", row("a1", 10)), (b"b", row("b1", 20)), (b"c", row("c1", 30))])
    changelog.commit([(b"a", row("a2", 40)), (b"b", None)])

    store = changelog.restored()

    assert changelog.end() == store.position
    assert {(30, b"c"), (40, b"a")} <= set(store.due(100, 10))
    assert {b"a": row("a2", 40), b"c": row("c1", 30)} == contents(store)


def test_changelog_of_every_release_is_restored(changelog: Changelog) -> None:
    """An upgrade that finds no directory: rows as each release wrote them, with their deadlines, and readable."""
    files = sorted((Path(__file__).parents[1] / "schemas" / "golden").glob("rows.*.json"))
    cases = [(f"{path.stem}-{number}", case)
             for path in files for number, case in enumerate(json.loads(path.read_text("utf-8")))]  # fmt: skip
    rows = {order_id.encode(): bytes.fromhex(case["row"]) for order_id, case in cases}
    changelog.commit(list(rows.items()))

    store = changelog.restored()

    deadlines = {(case["due_ms"], order_id.encode()) for order_id, case in cases if case["due_ms"] < NEVER_MS}
    assert deadlines == set(store.due(NEVER_MS - 1, len(rows) + 1))
    assert len(deadlines) > 1
    assert rows == contents(store)
    for key, value in rows.items():
        assert value[0] <= state_codec.VERSION
        assert key.decode() == state_codec.decode(key.decode(), value).order_id


def test_empty_changelog_is_restored_at_once(changelog: Changelog) -> None:
    """A new application's partition is ready, with a checkpoint."""
    store = changelog.restored()

    assert 0 == store.position
    assert store.checkpoint() is not None
    assert {} == contents(store)


def test_markers_and_tombstones_at_the_end_are_passed(changelog: Changelog) -> None:
    """The last offsets deliver no row: a restore that waits for a record there never ends."""
    changelog.commit([(b"a", row("a1"))])
    changelog.commit([(b"a", None)])
    for name in ("one", "two"):
        changelog.begin(name, [(b"b", row("aborted"))]).abort_transaction(WAIT_S_MAX)

    store = changelog.restored()

    assert changelog.end() == store.position
    assert {} == contents(store)


def test_restore_goes_on_at_the_checkpoint(changelog: Changelog) -> None:
    """What the store has already isn't read again."""
    changelog.commit([(b"%d" % i, row("old")) for i in range(50)])
    contents(changelog.restored())
    changelog.commit([(b"new", row("new"))])

    store = changelog.open(0)
    checkpoint = store.checkpoint()
    assert checkpoint is not None
    store.write([RowChange(b"local", None, row("in no changelog"))], checkpoint.position, checkpoint.written_at_ms)
    store.close()
    store = changelog.restored()

    # This row would be gone if the store had been wiped.
    assert [row("in no changelog")] == store.get_many([b"local"])
    assert 52 == len(contents(store))


def test_aborted_rows_never_load(changelog: Changelog) -> None:
    """What a transaction that was aborted wrote isn't there, before committed rows or after."""
    changelog.begin("a", [(b"a", row("aborted"))]).abort_transaction(WAIT_S_MAX)
    changelog.commit([(b"b", row("b1"))])
    changelog.begin("b", [(b"b", row("aborted"))]).abort_transaction(WAIT_S_MAX)

    assert {b"b": row("b1")} == contents(changelog.restored())


def test_checkpoint_beyond_the_end_restores_in_full(changelog: Changelog) -> None:
    """A store that knows more than its changelog is another changelog's: it must not wait for offsets to come."""
    changelog.commit([(b"a", row("a1"))])
    store = changelog.restored()
    store.write([RowChange(b"junk", None, row("junk"))], 1_000, time.time_ns() // 1_000_000)
    store.close()

    store = changelog.restored()

    assert changelog.end() == store.position
    assert {b"a": row("a1")} == contents(store)


def test_topic_created_anew_restores_in_full(changelog: Changelog) -> None:
    """The same name and more records than the checkpoint: only the topic's id tells that it is another."""
    changelog.commit([(b"old", row("old"))])
    contents(changelog.restored())
    changelog.delete()
    changelog.create()
    changelog.commit([(b"new-%d" % i, row("new")) for i in range(20)])

    assert {b"new-%d" % i: row("new") for i in range(20)} == contents(changelog.restored())


def test_unreadable_store_restores_in_full(changelog: Changelog) -> None:
    """The changelog has everything."""
    changelog.commit([(b"a", row("a1"))])
    contents(changelog.restored())
    for manifest in (changelog.directory / "0").glob("MANIFEST-*"):
        manifest.write_bytes(b"garbage" * 100)

    assert {b"a": row("a1")} == contents(changelog.restored())


def test_compacted_changelog_is_restored(kafka: LocalKafka, unique: str, tmp_path: Path) -> None:
    """Offsets with holes: the broker's cleaner has removed most of the records."""
    changelog = Changelog(kafka, unique, tmp_path)
    changelog.create(**{"min.cleanable.dirty.ratio": "0.001", "segment.ms": "100", "segment.bytes": "1048576"})
    for turn in range(5):
        changelog.commit([(b"%d" % i, None if i % 10 == 0 else row(f"turn {turn}")) for i in range(200)])
        time.sleep(0.15)  # Longer than segment.ms: only closed segments are cleaned.
    changelog.commit([(b"last", row("last"))])

    wait_until(lambda: changelog.records() < 500)
    expected = {b"%d" % i: row("turn 4") for i in range(200) if i % 10} | {b"last": row("last")}
    assert expected == contents(changelog.restored())


def test_rows_behind_a_dead_owners_transaction_are_restored(changelog: Changelog, restorer: Restorer) -> None:
    """An open transaction hides what was committed after it; the restore waits for its abort and gets them all."""
    dead = changelog.begin("dead", [(b"a", row("of the dead"))], timeout_ms=3_000)
    changelog.commit([(b"%d" % i, row("alive")) for i in range(100)])
    restorer.restore([0])
    wait_until(lambda: any(progress.left is not None for progress in restorer.progress()))
    assert [] == restorer.ready()

    store = take(restorer)

    assert changelog.end() == store.position
    assert {b"%d" % i: row("alive") for i in range(100)} == contents(store)
    with pytest.raises(KafkaException):
        dead.commit_transaction(WAIT_S_MAX)


def test_rows_of_a_commit_under_way_at_the_takeover_are_restored(changelog: Changelog, unique: str) -> None:
    """A former owner that has sent its offsets may still produce and commit: an end asked for before loses its rows."""
    consumer = Consumer({**changelog.config, "group.id": unique, "isolation.level": "read_committed"})
    former = changelog.begin("former", [(b"a", row("produced before"))])
    position = TopicPartition(changelog.topic, 0, 1)
    former.send_offsets_to_transaction([position], consumer.consumer_group_metadata(), WAIT_S_MAX)
    calls = 0
    rows = 30_000  # More than one read brings, so that a restore with an old end stops before the last of them.

    def offsets_stable(numbers: Sequence[int]) -> None:
        nonlocal calls
        calls += 1
        partitions = [TopicPartition(changelog.topic, number) for number in numbers]
        if calls == 1:
            with pytest.raises(KafkaException):
                consumer.committed(partitions, timeout=0.5)
            raise Unavailable("not stable yet")
        assert [] == changelog.opened
        for number in range(rows):
            former.produce(changelog.topic, key=b"%d" % number, value=row("produced after"), partition=0)
        former.commit_transaction(WAIT_S_MAX)
        consumer.committed(partitions, timeout=WAIT_S_MAX)

    restorer = changelog.restorer(offsets_stable)
    try:
        restorer.restore([0])
        expected = {b"a": row("produced before")} | {b"%d" % number: row("produced after") for number in range(rows)}
        assert expected == contents(take(restorer))
        assert calls == 2
    finally:
        restorer.stop()
        consumer.close()


def test_ready_partition_works_while_another_restores(changelog: Changelog, restorer: Restorer) -> None:
    """Partition 1 is handed over, read and written while partition 0 waits for a dead owner's transaction."""
    dead = changelog.begin("dead", [(b"a", row("of the dead"))])
    changelog.commit([(b"b", row("b1"))], partition=1)
    restorer.restore([0, 1])

    store = take(restorer, 1)

    assert [0] == [progress.partition for progress in restorer.progress()]
    store.write([RowChange(b"b", row("b1"), row("b2"))], changelog.end(1), 1)
    assert {b"b": row("b2")} == contents(store)
    dead.abort_transaction(WAIT_S_MAX)
    assert {} == contents(take(restorer, 0))


def test_partition_assigned_during_a_restore_is_restored_too(changelog: Changelog, restorer: Restorer) -> None:
    """A second assignment doesn't disturb what the first one began."""
    dead = changelog.begin("dead", [(b"a", row("of the dead"))])
    changelog.commit([(b"b", row("b1"))], partition=1)
    restorer.restore([0])
    wait_until(lambda: any(progress.left is not None for progress in restorer.progress()))
    restorer.restore([1])

    assert {b"b": row("b1")} == contents(take(restorer, 1))
    dead.commit_transaction(WAIT_S_MAX)
    assert {b"a": row("of the dead")} == contents(take(restorer, 0))


def test_cancelled_partition_is_let_go_at_once(changelog: Changelog, restorer: Restorer) -> None:
    """After `cancel` the store can be opened by somebody else, also amid a restore, and restored again later."""
    dead = changelog.begin("dead", [(b"a", row("of the dead"))])
    restorer.restore([0])
    wait_until(lambda: any(progress.left is not None for progress in restorer.progress()))
    began_s = time.monotonic()
    restorer.cancel([0, 1])

    assert time.monotonic() - began_s < 2
    changelog.open(0).close()
    assert [] == restorer.progress()
    dead.commit_transaction(WAIT_S_MAX)
    restorer.restore([0])
    assert {b"a": row("of the dead")} == contents(take(restorer))


def test_ready_partition_that_nobody_took_is_closed_by_cancel(changelog: Changelog, restorer: Restorer) -> None:
    """A revocation may come between the end of the restore and `ready`."""
    restorer.restore([0])
    wait_until(lambda: [] == restorer.progress())
    restorer.cancel([0])

    assert [] == restorer.ready()
    changelog.open(0).close()


def test_revocation_does_not_wait_for_unstable_offsets(changelog: Changelog) -> None:
    """While offsets aren't stable nothing is open yet, so there is nothing to wait for."""
    calls = []

    def never_stable(numbers: Sequence[int]) -> None:
        calls.append(numbers)
        time.sleep(1)  # As long as a call may take.
        raise Unavailable("not stable yet")

    restorer = changelog.restorer(never_stable)
    restorer.restore([0])
    wait_until(lambda: bool(calls))
    began_s = time.monotonic()
    restorer.cancel([0])
    cancelled_s = time.monotonic() - began_s
    restorer.stop()

    assert cancelled_s < 0.5
    assert time.monotonic() - began_s < 3
    assert [] == changelog.opened


def test_failing_store_is_reported_and_tried_again(changelog: Changelog) -> None:
    """A full disk is said, and ends some time; the other partitions don't wait for it."""
    changelog.commit([(b"a", row("a1"))])
    disk_is_full = True

    def open_partition(number: int) -> Partition:
        if disk_is_full and number == 0:
            raise Unavailable("the disk is full")
        return changelog.open(number)

    restorer = Restorer(changelog.config, changelog.topic, open_partition, lambda _: None)
    try:
        restorer.restore([0, 1])
        take(restorer, 1).close()
        wait_until(lambda: bool(restorer.failures()))
        assert "the disk is full" == str(restorer.failures()[0])
        disk_is_full = False
        assert {b"a": row("a1")} == contents(take(restorer))
        assert {} == restorer.failures()
    finally:
        restorer.stop()


def test_changelog_that_is_missing_is_reported_and_waited_for(kafka: LocalKafka, unique: str, tmp_path: Path) -> None:
    """Whoever forgot to create the topic reads its name, and needn't restart the worker."""
    changelog = Changelog(kafka, unique, tmp_path)
    restorer = changelog.restorer()
    try:
        restorer.restore([0])
        wait_until(lambda: bool(restorer.failures()))
        assert changelog.topic in str(restorer.failures()[0])
        changelog.create()
        assert {} == contents(take(restorer))
    finally:
        restorer.stop()


def test_broker_that_is_down_only_delays(tmp_path: Path) -> None:
    """A restore goes on by itself when the broker is back."""
    with LocalKafka(tmp_path / "kafka") as kafka:
        changelog = Changelog(kafka, "changelog", tmp_path)
        changelog.create()
        changelog.commit([(b"a", row("a1"))])
        # A lone broker that is killed before it has written the transaction's marker may never write it.
        wait_until(lambda: changelog.records() == 1)
        kafka.kill()
        restorer = changelog.restorer()
        try:
            restorer.restore([0])
            wait_until(lambda: bool(restorer.progress()))
            assert [] == restorer.ready()
            kafka.restart()
            assert {b"a": row("a1")} == contents(take(restorer))
        finally:
            restorer.stop()
