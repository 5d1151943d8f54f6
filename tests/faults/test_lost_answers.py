"""Answers of the broker that are lost or late, though what was asked for took effect."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from streams.local.kafka import LocalKafka
from streams.settings import Settings
from streams.transport import transaction as transaction_module
from tests.broker.harness import Worker, keys, produce, sent, settings_for, wait_for
from tests.chaos.proxy import ADD_OFFSETS_TO_TXN, ADD_PARTITIONS_TO_TXN, END_TXN, PRODUCE, TXN_OFFSET_COMMIT, Proxy
from tests.faults.check import check, settle
from topology.topics import COMMANDS, DETAILS

FETCH, FIND_COORDINATOR, INIT_PRODUCER_ID, HEARTBEAT = 1, 10, 22, 68
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
