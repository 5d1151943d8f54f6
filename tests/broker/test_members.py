"""Workers come, go and die; each order has one e-mail, and no partition number runs half owned."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from streams.local.kafka import LocalKafka
from streams.settings import Settings, Switch
from streams.transport import config
from streams.transport.transaction import Transaction
from tests.broker.harness import (
    PARTITIONS,
    Worker,
    keys,
    keys_of_partition,
    produce,
    sent,
    settings_for,
    wait_for,
    wait_for_mails,
)
from tests.broker.member import Member
from topology.topics import COMMANDS, DETAILS

PAUSE_S = 0.05
"""Between two portions of the load."""


@contextmanager
def load(settings: Settings) -> Iterator[list[str]]:
    """Produce both halves of orders, the second some time after the first, until the end of the context."""
    orders: list[str] = []
    ending = threading.Event()

    def run() -> None:
        details: list[list[str]] = []
        while not ending.wait(PAUSE_S):
            some = keys(20, len(orders))
            produce(settings, COMMANDS.name, dict.fromkeys(some, b"c"))
            orders.extend(some)
            details.append(some)
            if len(details) > 20:
                produce(settings, DETAILS.name, dict.fromkeys(details.pop(0), b"d"))
        for some in details:
            produce(settings, DETAILS.name, dict.fromkeys(some, b"d"))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield orders
    finally:
        ending.set()
        thread.join(30)


def wait_for_work(*workers: Worker) -> None:
    """Wait until *workers* have all partitions among them and each has some."""

    def shared() -> bool:
        numbers = [worker.running() for worker in workers]
        return all(numbers) and sum(map(len, numbers)) == PARTITIONS

    wait_for(shared, "all partitions are worked on")


def test_from_one_worker_to_three_to_one_under_load(kafka: LocalKafka, unique: str, tmp_path: Path) -> None:
    """Two join, one of them is killed and comes back, then both leave; a session that runs half owned would crash."""
    settings = settings_for(kafka.bootstrap_servers, unique, instance_id="first")
    with load(settings) as orders, Worker(settings, tmp_path / "first") as first, ExitStack() as others:

        def member(name: str) -> Member:
            return others.enter_context(Member(settings, tmp_path / name, name))

        wait_for_work(first)
        second, third = member("second"), member("third")
        wait_for(lambda: len(first.running()) <= 2 and second.owns() and third.owns(), "three share the work")
        third.kill()
        third = member("third")
        wait_for(third.owns, "the killed one is back")
        second.stop()
        third.stop()
        wait_for_work(first)
    with Worker(settings, tmp_path / "first"):
        wait_for_mails(settings, orders)
    assert Counter(orders) == sent(settings)


def test_half_owned_partitions_dont_run(
    kafka: LocalKafka, unique: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An assignor that tears inputs apart stops what it tore; with the right one again all of it is done, once."""
    settings = settings_for(kafka.bootstrap_servers, unique)
    one, other = (settings.model_copy(update={"instance_id": name}) for name in ("one", "other"))
    orders = keys(400)
    with monkeypatch.context() as patch:
        # Past the settings, which refuse to pass it through.
        member_config = config.member
        patch.setattr(config, "member", lambda *args: member_config(*args) | {"group.remote.assignor": "uniform"})
        with Worker(one, tmp_path / "one") as first:
            wait_for_work(first)
            with Worker(other, tmp_path / "other") as second:
                wait_for(lambda: second.phases() and set(first.phases()) & set(second.phases()), "halves")
                torn = set(first.phases()) & set(second.phases())
                produce(settings, COMMANDS.name, dict.fromkeys(orders, b"c"))
                produce(settings, DETAILS.name, dict.fromkeys(orders, b"d"))
                whole = [key for number in {*range(PARTITIONS)} - torn for key in keys_of_partition(number, 10)]
                wait_for_mails(settings, whole)
                assert not torn & (first.running() | second.running())
                assert not sent(settings).keys() & {key for number in torn for key in keys_of_partition(number, 10)}
    with Worker(one, tmp_path / "one"), Worker(other, tmp_path / "other"):
        wait_for_mails(settings, orders)
    assert Counter(orders) == sent(settings)


def test_classic_protocol_hands_over(kafka: LocalKafka, unique: str, tmp_path: Path) -> None:
    """Brokers before 4.0: a second worker joins under load, the first leaves, everything is done once."""
    settings = settings_for(kafka.bootstrap_servers, unique, group_protocol="classic")
    one, other = (settings.model_copy(update={"instance_id": name}) for name in ("one", "other"))
    with load(settings) as orders, ExitStack() as stack:
        with Worker(one, tmp_path / "one") as first:
            wait_for_work(first)
            second = stack.enter_context(Worker(other, tmp_path / "other"))
            wait_for_work(first, second)
        wait_for_work(second)
        wait_for(lambda: len(orders) > 400, "some load")
        stack.enter_context(Worker(one, tmp_path / "one"))
    with Worker(one, tmp_path / "one"):
        wait_for_mails(settings, orders)
    assert Counter(orders) == sent(settings)


def test_clean_restart_of_a_static_member_disturbs_nobody(kafka: LocalKafka, unique: str, tmp_path: Path) -> None:
    """With static membership a stop and a start give a worker its partitions back; the other sees no rebalance."""
    settings = settings_for(kafka.bootstrap_servers, unique, static_membership=Switch.ON)
    one, other = (settings.model_copy(update={"instance_id": name}) for name in ("one", "other"))
    orders = keys(200)
    with Worker(one, tmp_path / "one") as staying:
        with Worker(other, tmp_path / "other") as leaving:
            wait_for_work(staying, leaving)
            had = leaving.running()
        assert staying.session is not None
        before = list(staying.session.rebalances)
        with Worker(other, tmp_path / "other") as back:
            wait_for_work(staying, back)
            assert had == back.running()
            for topic in (COMMANDS, DETAILS):
                produce(settings, topic.name, dict.fromkeys(orders, b"x"))
            wait_for_mails(settings, orders)
            assert before == staying.session.rebalances
    assert Counter(orders) == sent(settings)


def test_static_member_comes_back_after_a_kill(kafka: LocalKafka, unique: str, tmp_path: Path) -> None:
    """The broker refuses the instance id while the dead one's session lasts; the new one tries until it has ended."""
    settings = settings_for(kafka.bootstrap_servers, unique, static_membership=Switch.ON)
    orders = keys(200)
    produce(settings, COMMANDS.name, dict.fromkeys(orders, b"c"))
    with Member(settings, tmp_path / "state", "phoenix") as dead:
        wait_for(dead.owns, "it has its partitions")
        dead.kill()
    with Member(settings, tmp_path / "state", "phoenix") as risen:
        produce(settings, DETAILS.name, dict.fromkeys(orders, b"d"))
        wait_for_mails(settings, orders)
        assert risen.said("session over, a new one begins")
        assert risen.said("The instance ID is still used")
        risen.stop()
    assert Counter(orders) == sent(settings)


def test_second_process_with_the_same_instance_id_ends_one_of_them(
    kafka: LocalKafka, unique: str, tmp_path: Path
) -> None:
    """They share a transactional id and would fence each other for ever; one ends and says why, the other goes on."""
    settings = settings_for(kafka.bootstrap_servers, unique)
    with (
        load(settings) as orders,
        Member(settings, tmp_path / "one", "twin") as one,
        Member(settings, tmp_path / "other", "twin") as other,
    ):
        wait_for(lambda: not (one.running and other.running), "one of them ends", 60)
        ended, going_on = (other, one) if one.running else (one, other)
        assert ended.wait_ended() != 0
        assert ended.said("ConfigurationError: another live process uses the transactional id")
        assert ended.said(f"{unique}-worker-twin: this one was fenced twice")
        assert ended.said("REJOINDER_INSTANCE_ID")
        count = len(orders)
        wait_for(lambda: len(orders) > count + 100, "some load")
        going_on.stop()
    with Worker(settings, tmp_path / "third"):
        wait_for_mails(settings, orders)
    assert Counter(orders) == sent(settings)


def test_worker_that_was_fenced_once_goes_on(kafka: LocalKafka, unique: str, tmp_path: Path) -> None:
    """A fence alone is no reason to end: whoever took the id over may be gone by now."""
    settings = settings_for(kafka.bootstrap_servers, unique, instance_id="sleeper")
    orders = keys(200)
    with Worker(settings, tmp_path / "state") as worker:
        wait_for_work(worker)
        Transaction(config.transactional(settings, f"{unique}-worker")).init()
        for topic in (COMMANDS, DETAILS):
            produce(settings, topic.name, dict.fromkeys(orders, b"x"))
        wait_for_mails(settings, orders)
        assert None is worker.crashed
    assert Counter(orders) == sent(settings)
