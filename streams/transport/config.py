"""librdkafka's configuration from the settings. What is passed through by REJOINDER_KAFKA_… wins, but for identity."""

from __future__ import annotations

from typing import Any, Final

from streams.settings import GroupProtocol, Settings, Switch

MESSAGE_BYTES_MAX: Final = 8 * 1_048_576
"""Larger than any topic's max.message.bytes: the topic's own limit is the one that refuses."""


LOG_LEVEL: Final = 5
"""Syslog's: notices and worse. At its default librdkafka tells of every connection that is closed."""


def common(settings: Settings) -> dict[str, Any]:
    """Return what every client needs."""
    # Clients that live for one question tell what went wrong by their exceptions; librdkafka's own lines on standard
    # error would come on top. Those that live for long log (LOG_LEVEL).
    return {
        "bootstrap.servers": settings.bootstrap_servers,
        # On every connection, so that brokers' logs, quotas and a network's filters know whose it is.
        "client.id": settings.advertised_url,
        "log_level": 2,
    } | settings.kafka


def member(settings: Settings, group: str) -> dict[str, Any]:
    """
    Return the configuration of a group member.

    The client id is the web server's URL, so that the group's description is the map from partition to host.
    """
    config = {
        "isolation.level": "read_committed",  # Also makes the fetch of offsets wait for open transactions.
        "enable.partition.eof": True,  # At EOF the position has passed the transaction markers.
        "fetch.queue.backoff.ms": 5,  # The default of a second stalls a fast consumer.
        # Under load a turn takes longer than this, and an answer for every record that comes would only cost: a tenth
        # of the worker's time and a seventh of the broker's at 5,000 orders a second, and with them the latency.
        # Without load a record waits for half of it, and a worker asks 50 times a second.
        "fetch.wait.max.ms": 20,
        "fetch.min.bytes": 64 << 10,
        "queued.min.messages": 100_000,
        # Little more than a batch of small records: what was fetched long before it is decided has left the processor's
        # cache by then. With 64 MiB a join cost a fifth more, and the worker took 100 MiB more.
        "queued.max.messages.kbytes": 2_048,
        # Some of every partition in each answer. Left alone, librdkafka bounds an answer by the queue's size, and
        # begins with the same partitions each time the queue was full: of a backlog, one input was read to its end
        # before another one began. (Batches larger than a partition's part still come one an answer.)
        "fetch.max.bytes": 8 << 20,
        "fetch.message.max.bytes": 256 << 10,
    }
    if settings.group_protocol is GroupProtocol.CONSUMER:
        # The range assignor gives partition p of every input to one member; the guard in `processing` checks it.
        config |= {"group.protocol": "consumer", "group.remote.assignor": "range"}
    else:
        config |= {"group.protocol": "classic", "partition.assignment.strategy": "range"}
    if settings.static_membership is Switch.ON:
        config["group.instance.id"] = settings.instance
    return (
        config
        | common(settings)
        | {
            "group.id": group,
            "client.id": settings.advertised_url,
            "log_level": LOG_LEVEL,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            # A position that is out of range means that records were lost to retention: a person must know.
            "auto.offset.reset": "error",
        }
    )


def transactional(settings: Settings, group: str) -> dict[str, Any]:
    """Return the configuration of the transactional producer: its id is the instance's, stable over restarts."""
    return (
        {
            "linger.ms": 5,
            "compression.type": "lz4",
            "queue.buffering.max.messages": 1_000_000,
            # When all brokers are away, librdkafka 2.16 forgets them and begins with the bootstrap servers again; a
            # transaction that is open then never gets its positions sent, though they are back. A new session begins
            # with the bootstrap servers anyway.
            "metadata.recovery.strategy": "none",
            # A transaction that begins soon after another one is told to try again until the markers of that one are
            # written, which takes some milliseconds. The default of 100 ms was most of an e-mail's way at light load.
            "retry.backoff.ms": 10,
        }
        | common(settings)
        | {
            "client.id": settings.advertised_url,
            "log_level": LOG_LEVEL,
            "message.max.bytes": MESSAGE_BYTES_MAX,
            "transactional.id": f"{group}-{settings.instance}",
            "transaction.timeout.ms": settings.transaction_timeout,
            "enable.idempotence": True,
            "partitioner": "murmur2_random",  # librdkafka's own default is CRC32, which no Java client agrees with.
        }
    )


def redrive(settings: Settings) -> dict[str, Any]:
    """Return the configuration of who puts dead letters back: one id for all, so that a second one fences the first."""
    name = f"{settings.application_id}-redrive"
    return transactional(settings, name) | {"transactional.id": name, "client.id": name, "log_level": 2}


def plain_producer(settings: Settings) -> dict[str, Any]:
    """Return the configuration of a producer outside transactions, for commands sent by hand."""
    return common(settings) | {
        "enable.idempotence": True,
        "partitioner": "murmur2_random",
        "linger.ms": 5,
        "compression.type": "lz4",
        "message.max.bytes": MESSAGE_BYTES_MAX,
    }
