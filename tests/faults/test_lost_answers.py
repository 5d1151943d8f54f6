"""Answers of the broker that are lost or late, though what was asked for took effect."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import OffsetSpec

from streams.local.kafka import LocalKafka
from streams.monitor.group_offsets import PATIENCE_S, GroupLooker
from streams.settings import Settings
from streams.store import changelog as changelog_module
from streams.store.partition import Partition
from streams.transport import transaction as transaction_module
from tests.broker.changelogs import Changelog, contents, row
from tests.broker.harness import (
    PARTITIONS,
    Worker,
    keys,
    produce,
    sent,
    settings_for,
    wait_for,
    wait_for_mails,
)
from tests.chaos.proxy import ADD_OFFSETS_TO_TXN, ADD_PARTITIONS_TO_TXN, END_TXN, PRODUCE, TXN_OFFSET_COMMIT, Proxy
from tests.faults.check import check, settle
from topology.topics import COMMANDS, DETAILS

FETCH, OFFSET_FETCH, FIND_COORDINATOR, INIT_PRODUCER_ID, HEARTBEAT = 1, 9, 10, 22, 68
LIST_OFFSETS, DESCRIBE_GROUPS = 2, 15
NAMES = {
    PRODUCE: "Produce",
    FETCH: "Fetch",
    INIT_PRODUCER_ID: "InitProducerId",
    ADD_PARTITIONS_TO_TXN: "AddPartitionsToTxn",
    ADD_OFFSETS_TO_TXN: "AddOffsetsToTxn",
    TXN_OFFSET_COMMIT: "TxnOffsetCommit",
    END_TXN: "EndTxn",
    HEARTBEAT: "ConsumerGroupHeartbeat",
}
MARKS = dict.fromkeys(NAMES.keys() - {PRODUCE, TXN_OFFSET_COMMIT, END_TXN}, pytest.mark.chaos)
"""Of those whose loss is dealt with by librdkafka alone."""
ORDERS = keys(1_000)


class Way:
    """A worker behind the proxy, and the orders that it has to join while answers are lost."""

    def __init__(self, kafka: LocalKafka, proxy: Proxy, name: str, state: Path) -> None:
        self.settings: Settings = settings_for(kafka.bootstrap_servers, name, batch_records=50)
        self.outside = self.settings.model_copy(update={"bootstrap_servers": proxy.bootstrap_servers})
        self.state = state
        self._proxy = proxy

    def run(self, arm: Callable[[], None], counted: str, at_least: int, timeout_s: float = 60) -> None:
        """Join half of the orders, *arm* the faults meanwhile, join the others, and check all."""
        half = len(ORDERS) // 2
        before = self._proxy.counts()[counted]
        produce(self.settings, COMMANDS.name, dict.fromkeys(ORDERS, b"c"))
        with Worker(self.outside, self.state) as worker:
            produce(self.settings, DETAILS.name, dict.fromkeys(ORDERS[:half], b"d"))
            wait_for(lambda: sent(self.settings), "some e-mails")
            arm()
            produce(self.settings, DETAILS.name, dict.fromkeys(ORDERS[half:], b"d"))
            settle(self.settings, worker, ORDERS, timeout_s)
        assert self._proxy.counts()[counted] - before >= at_least
        check(self.settings, ORDERS, self.state)


@pytest.fixture
def way(kafka: LocalKafka, proxy: Proxy, unique: str, tmp_path: Path) -> Way:
    """Return a worker that is started by its `Way.run`."""
    return Way(kafka, proxy, unique, tmp_path / "state")


@pytest.mark.parametrize(
    "api_key", [pytest.param(key, marks=MARKS.get(key, ()), id=name) for key, name in NAMES.items()]
)
def test_lost_answer_loses_nothing_and_doubles_nothing(way: Way, proxy: Proxy, api_key: int) -> None:
    """The request took effect and its answer is lost with the connection, three times: each order has one e-mail."""
    if api_key == INIT_PRODUCER_ID:
        proxy.lose(api_key, 3)  # Asked at the beginning only.
    way.run(lambda: proxy.lose(api_key, 3), f"lost {api_key}", 3 if api_key != HEARTBEAT else 1)


@pytest.mark.parametrize(
    "hold_s", [pytest.param(1.0, id="within"), pytest.param(6.0, id="beyond", marks=pytest.mark.chaos)]
)
def test_late_answer_to_the_commit(way: Way, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, hold_s: float) -> None:
    """It comes within the time in which the call is repeated, or beyond it: then a new session sees the outcome."""
    monkeypatch.setattr(transaction_module, "CALL_S", 0.5)
    monkeypatch.setattr(transaction_module, "CALL_S_MAX", 3.0)
    way.run(lambda: proxy.hold(END_TXN, hold_s, 2), f"held {END_TXN}", 2)


@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_answer_to_the_commit_beyond_the_real_timeouts(way: Way, proxy: Proxy) -> None:
    """Held for longer than a call is repeated as the product has it, and than the transaction may last."""
    way.run(lambda: proxy.hold(END_TXN, transaction_module.CALL_S_MAX + 15), f"held {END_TXN}", 1, 180)


def test_rebalance_while_answers_to_the_question_for_positions_are_lost(
    kafka: LocalKafka, proxy: Proxy, unique: str, tmp_path: Path
) -> None:
    """
    Once answers come again, and mostly before, the second worker gets its share, and the first reads on.

    librdkafka 2.16 gives up its question when the assignment has changed meanwhile: the first read nothing more, and
    kept for five minutes what it was to hand over.
    """
    settings = settings_for(kafka.bootstrap_servers, unique)
    for topic in (COMMANDS, DETAILS):
        produce(settings, topic.name, dict.fromkeys(ORDERS, b"x"))
    first = settings.model_copy(update={"instance_id": "first", "bootstrap_servers": proxy.bootstrap_servers})
    second = settings.model_copy(update={"instance_id": "second"})
    proxy.lose(OFFSET_FETCH, 10_000)
    with Worker(first, tmp_path / "first") as one:
        wait_for(lambda: len(one.phases()) == PARTITIONS, "the first has all partitions")
        with Worker(second, tmp_path / "second") as two:
            # It may need the answers: the connection that breaks with each of them is the heartbeats' too.
            with contextlib.suppress(AssertionError):
                wait_for(lambda: len(two.phases()) == PARTITIONS // 2, "the second has its share", 20)
            proxy.forget()
            wait_for(lambda: len(two.phases()) == PARTITIONS // 2, "the second has its share", 40)
            wait_for(lambda: one.running() | two.running() == set(range(PARTITIONS)), "all partitions run", 40)
            wait_for_mails(settings, ORDERS)
    assert Counter(ORDERS) == sent(settings)


@pytest.mark.parametrize("api_key", [LIST_OFFSETS, OFFSET_FETCH, FIND_COORDINATOR, DESCRIBE_GROUPS])
def test_look_at_the_groups_asks_again(api_key: int, kafka: LocalKafka, proxy: Proxy, unique: str) -> None:
    """An answer that never comes costs a part of the patience, not all of it."""
    settings = settings_for(kafka.bootstrap_servers, unique)
    produce(settings, COMMANDS.name, dict.fromkeys(ORDERS, b"c"))
    looker = GroupLooker(settings.model_copy(update={"bootstrap_servers": proxy.bootstrap_servers}), ["worker"])
    name = f"held {api_key}"
    before = proxy.counts()[name]
    proxy.hold(api_key, 10 * PATIENCE_S)
    try:
        looks = looker.look().looks
    finally:
        looker.close()
    assert len(ORDERS) == sum(look.end for place, look in looks.items() if place.topic == settings.topic(COMMANDS.name))
    assert 1 == proxy.counts()[name] - before


@pytest.mark.parametrize("unanswered", [1, 2], ids=["of the start", "of the end"])
def test_restore_that_isnt_told_the_bounds_asks_again(
    unanswered: int, kafka: LocalKafka, proxy: Proxy, unique: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A changelog isn't empty for want of an answer: the store would be wiped, and the orders in it forgotten."""
    rows = [(b"key-%d" % number, row("text")) for number in range(100)]
    changelog = Changelog(kafka, unique, tmp_path)
    changelog.create()
    changelog.commit(rows)
    restored = changelog.restored()
    assert dict(rows) == contents(restored)

    monkeypatch.setattr(changelog_module, "_ANSWER_S_MAX", 2.0)
    changelog.config["bootstrap.servers"] = proxy.bootstrap_servers
    asked = proxy.counts()[f"held {LIST_OFFSETS}"]
    wiped = Counter[bool]()
    monkeypatch.setattr(Partition, "wipe", lambda _: wiped.update([True]))
    if unanswered == 1:
        proxy.hold(LIST_OFFSETS, 60)
    else:
        ask = changelog_module.Changelog._offsets

        def held(self: Any, partitions: Any, spec: Any) -> dict[int, int]:
            if isinstance(spec, type(OffsetSpec.latest())) and proxy.counts()[f"held {LIST_OFFSETS}"] == asked:
                proxy.hold(LIST_OFFSETS, 60)
            return ask(self, partitions, spec)

        monkeypatch.setattr(changelog_module.Changelog, "_offsets", held)
    assert dict(rows) == contents(changelog.restored())
    assert 1 == proxy.counts()[f"held {LIST_OFFSETS}"] - asked
    assert not wiped
