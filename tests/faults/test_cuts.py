"""A network that is cut between a worker and a broker for a while: nothing lost, nothing twice, and it goes on."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from streams.local.kafka import LocalKafka
from streams.settings import Settings
from tests.broker.harness import PARTITIONS, Worker, sent, settings_for, wait_for, wait_for_mails
from tests.broker.test_members import load, wait_for_work
from tests.chaos.proxy import Proxy, proxied
from tests.faults.check import check, settle

BEYOND_SESSION_S = 9.0
"""LocalKafka's brokers take a member for gone that was silent for 6 s."""
SETTLED_S = 90.0


def behind(settings: Settings, proxy: Proxy, number: int) -> Settings:
    """Return the settings of worker *number*, behind *proxy*, with a client id of its own."""
    more = {"bootstrap_servers": proxy.bootstrap_servers, "instance_id": f"worker-{number}", "web_port": 7_000 + number}
    return settings.model_copy(update=more)


def wait_for_more(settings: Settings, count: int) -> None:
    """Wait until *count* more orders have their e-mails."""
    before = len(sent(settings))
    wait_for(lambda: len(sent(settings)) >= before + count, f"{count} more e-mails", SETTLED_S)


def check_restored(settings: Settings, topics: Settings, orders: Sequence[str], directory: Path) -> None:
    """Start a worker of *settings* once more on *directory*, and check all that it has then."""
    with Worker(settings, directory) as worker:
        wait_for(lambda: len(worker.running()) == PARTITIONS, "its stores are restored")
        settle(topics, worker, orders, SETTLED_S)
    check(topics, orders, directory)


@pytest.mark.parametrize(
    "silent", [pytest.param(False, id="reset", marks=pytest.mark.chaos), pytest.param(True, id="silent")]
)
def test_worker_cut_from_the_only_broker_goes_on(
    kafka: LocalKafka, proxy: Proxy, unique: str, tmp_path: Path, silent: bool
) -> None:
    """For three seconds amid the load, with a transaction open or not: the same process does the rest, once."""
    settings = settings_for(kafka.bootstrap_servers, unique, batch_records=50)
    with Worker(behind(settings, proxy, 0), tmp_path / "state") as worker:
        with load(settings) as orders:
            wait_for_more(settings, 20)
            proxy.cut(silent=silent)
            time.sleep(3)
            proxy.heal()
        settle(settings, worker, orders, SETTLED_S)
    check(settings, orders, tmp_path / "state")


@pytest.mark.parametrize(
    "silent", [pytest.param(False, id="reset"), pytest.param(True, id="silent", marks=pytest.mark.chaos)]
)
def test_worker_cut_beyond_its_session_is_replaced_and_comes_back(
    kafka: LocalKafka, proxy: Proxy, unique: str, tmp_path: Path, silent: bool
) -> None:
    """The other takes everything over meanwhile; what the first commits when it is healed is refused: none twice."""
    settings = settings_for(kafka.bootstrap_servers, unique, batch_records=50)
    cut_off, staying = behind(settings, proxy, 0), behind(settings, proxy, 1)
    with Worker(cut_off, tmp_path / "cut") as first, Worker(staying, tmp_path / "staying") as second:
        wait_for_work(first, second)
        with load(settings) as orders:
            wait_for_more(settings, 50)
            proxy.cut(client=cut_off.advertised_url, silent=silent)
            wait_for(lambda: len(second.running()) == PARTITIONS, "the other has all partitions")
            wait_for_more(settings, 100)
            proxy.heal(client=cut_off.advertised_url)
            wait_for(lambda: first.running() and len(first.running() | second.running()) == PARTITIONS, "both work")
            wait_for_more(settings, 100)
        settle(settings, first, orders, SETTLED_S)
        assert None is second.crashed
    check_restored(staying, settings, orders, tmp_path / "staying")


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LocalKafka, Proxy]]:
    """Return three brokers and the proxy before them."""
    with proxied(tmp_path_factory.mktemp("three") / "kafka", brokers=3) as both:
        yield both


@pytest.mark.chaos
@pytest.mark.timeout(300)
@pytest.mark.parametrize("silent", [False, True], ids=["reset", "silent"])
@pytest.mark.parametrize("broker", range(3))
def test_worker_cut_from_one_of_three_brokers(
    three: tuple[LocalKafka, Proxy], unique: str, tmp_path: Path, broker: int, silent: bool
) -> None:
    """Each is a leader, one the group's coordinator, one the transactions': whichever is cut off, none is lost."""
    kafka, proxy = three
    settings = settings_for(kafka.bootstrap_servers, unique, batch_records=50, replication_factor=3)
    cut_off, staying = behind(settings, proxy, 0), behind(settings, proxy, 1)
    with Worker(cut_off, tmp_path / "cut") as first, Worker(staying, tmp_path / "staying") as second:
        wait_for_work(first, second)
        with load(settings) as orders:
            wait_for_more(settings, 50)
            proxy.cut(broker=broker, client=cut_off.advertised_url, silent=silent)
            time.sleep(BEYOND_SESSION_S)
            proxy.heal()
        wait_for_mails(settings, orders, SETTLED_S)
        settle(settings, first, orders, SETTLED_S)
        assert None is second.crashed
    check_restored(staying, settings, orders, tmp_path / "staying")
