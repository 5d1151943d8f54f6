"""The proxy that the fault tests stand on does what they take for granted, seen by librdkafka's clients."""

from __future__ import annotations

import time
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from streams.local.errors import LocalKafkaError
from streams.local.kafka import LocalKafka
from tests.broker.harness import keys, produce, read_all, settings_for
from tests.chaos.proxy import END_TXN, Proxy
from topology.topics import COMMANDS


def transactional(proxy: Proxy, unique: str, **more: Any) -> Producer:
    """Return a producer behind the proxy that may begin a transaction."""
    producer = Producer(
        {"bootstrap.servers": proxy.bootstrap_servers, "transactional.id": unique, "log_level": 0} | more
    )
    producer.init_transactions(20)
    return producer


def test_clients_stay_behind_the_proxy(kafka: LocalKafka, proxy: Proxy, unique: str) -> None:
    """Everything that is produced behind it arrives, all bytes go through it, and no broker's own address is told."""
    settings = settings_for(proxy.bootstrap_servers, unique)
    before = proxy.counts()["bytes"]
    producer = Producer({"bootstrap.servers": proxy.bootstrap_servers})
    sizes = [1, 100, 10_000, 900_000]
    for number in range(40):
        producer.produce(settings.topic(COMMANDS.name), bytes([number]) * sizes[number % 4], partition=number % 2)
    assert 0 == producer.flush(30)

    values = sorted((message.value() for message in read_all(settings, COMMANDS.name)), key=lambda value: value[0])
    assert [bytes([number]) * sizes[number % 4] for number in range(40)] == values
    assert proxy.counts()["bytes"] - before > 2 * 10 * sum(sizes)
    told = AdminClient({"bootstrap.servers": proxy.bootstrap_servers}).list_topics(timeout=20).brokers
    assert proxy.bootstrap_servers == ",".join(f"{broker.host}:{broker.port}" for broker in told.values())
    assert proxy.bootstrap_servers != kafka.bootstrap_servers


def test_answer_to_end_of_transaction_is_lost(kafka: LocalKafka, proxy: Proxy, unique: str) -> None:
    """The broker has committed when the client's connection breaks: others read the record before the client knows."""
    settings = settings_for(kafka.bootstrap_servers, unique)
    producer = transactional(proxy, unique)
    # While it is cut off, librdkafka can't ask again, so its commit doesn't end.
    before = proxy.counts()
    proxy.lose(END_TXN, count=1_000_000)
    producer.begin_transaction()
    producer.produce(settings.topic(COMMANDS.name), b"value", partition=0)
    with pytest.raises(KafkaException) as failed:
        producer.commit_transaction(2)
    assert KafkaError._TIMED_OUT == failed.value.args[0].code()
    assert [b"value"] == [message.value() for message in read_all(settings, COMMANDS.name)]
    assert (proxy.counts() - before)[f"lost {END_TXN}"] >= 1
    proxy.forget()
    producer.commit_transaction(20)


def test_answer_to_end_of_transaction_is_late(kafka: LocalKafka, proxy: Proxy, unique: str) -> None:
    """It is held for as long as was said, and then arrives."""
    settings = settings_for(kafka.bootstrap_servers, unique)
    producer = transactional(proxy, unique)
    before = proxy.counts()
    proxy.hold(END_TXN, 3.0)
    producer.begin_transaction()
    producer.produce(settings.topic(COMMANDS.name), b"value", partition=0)
    with pytest.raises(KafkaException):
        producer.commit_transaction(1)
    begun_s = time.monotonic()
    producer.commit_transaction(20)
    assert time.monotonic() - begun_s > 1
    assert 1 == (proxy.counts() - before)[f"held {END_TXN}"]


@pytest.mark.parametrize("silent", [False, True], ids=["reset", "silent"])
def test_cut_and_healed(proxy: Proxy, unique: str, silent: bool) -> None:
    """While it is cut, nobody gets an answer, and nobody sees a silent cut; healed, the same client goes on."""
    settings = settings_for(proxy.bootstrap_servers, unique)
    reasons: list[int] = []
    producer = Producer(
        {
            "bootstrap.servers": proxy.bootstrap_servers,
            "log_level": 0,
            "error_cb": lambda error: reasons.append(error.code()),
        }
    )
    producer.produce(settings.topic(COMMANDS.name), b"before", partition=0)
    assert 0 == producer.flush(20)
    proxy.cut(silent=silent)
    producer.produce(settings.topic(COMMANDS.name), b"after", partition=0)
    assert 1 == producer.flush(2)
    assert (not silent) == (KafkaError._TRANSPORT in reasons or KafkaError._ALL_BROKERS_DOWN in reasons)
    proxy.heal()
    assert 0 == producer.flush(20)
    assert [b"before", b"after"] == [message.value() for message in read_all(settings, COMMANDS.name)]


@pytest.mark.parametrize("silent", [False, True], ids=["reset", "silent"])
def test_one_client_alone_is_cut(proxy: Proxy, unique: str, silent: bool) -> None:
    """Of two clients the one that is named gets no answer, on old connections and on new ones; the other does."""
    settings = settings_for(proxy.bootstrap_servers, unique)
    producers = [
        Producer({"bootstrap.servers": proxy.bootstrap_servers, "client.id": name, "log_level": 0})
        for name in ("one", "other")
    ]
    proxy.cut(client="one", silent=silent)
    late = Producer({"bootstrap.servers": proxy.bootstrap_servers, "client.id": "one", "log_level": 0})
    for producer in (*producers, late):
        producer.produce(settings.topic(COMMANDS.name), b"value", partition=0)
    assert 0 == producers[1].flush(20)
    assert [1, 1] == [producer.flush(1) for producer in (producers[0], late)]
    proxy.heal(client="one")
    assert [0, 0] == [producer.flush(20) for producer in (producers[0], late)]


def test_every_client_of_a_process_says_whose_it_is(kafka: LocalKafka, proxy: Proxy, unique: str) -> None:
    """With one web server's URL cut, nothing that the settings of its process lead to gets an answer."""
    settings = settings_for(kafka.bootstrap_servers, unique, web_port=7_001)
    produce(settings, COMMANDS.name, dict.fromkeys(keys(10), b"c"))
    outside = settings.model_copy(update={"bootstrap_servers": proxy.bootstrap_servers})
    assert 10 == len(read_all(outside, COMMANDS.name))
    proxy.cut(client=outside.advertised_url)
    with pytest.raises((AssertionError, KafkaException)):
        read_all(outside, COMMANDS.name, timeout_s=2)
    other = outside.model_copy(update={"web_port": 7_002})
    assert 10 == len(read_all(other, COMMANDS.name))


def test_as_many_outside_ports_as_brokers(tmp_path: Any) -> None:
    """Anything else is refused: a broker would be told of under another's address."""
    with pytest.raises(LocalKafkaError, match="2 outside ports for 1 brokers"):
        LocalKafka(tmp_path, outside_ports=[1, 2])
