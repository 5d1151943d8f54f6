"""The join in plain Faust, at least once: ``python -m bench.peers.faust_join FILE``, the configuration as JSON."""

from __future__ import annotations

import gc
import json
import logging
import sys
from pathlib import Path
from typing import Any

import faust
import mode.loop
from faust.transport.producer import ProducerBuffer

from bench.peers.halves import advance, headers, read

BUFFERED_MAX = 10_000
"""Messages that may wait for the producer; with Faust's own 100 a stream stops at nearly every event."""


def create_app(given: dict[str, Any]) -> faust.App:
    """Return the application, ready to start."""
    app = faust.App(
        given["application"],
        broker=f"kafka://{given['bootstrap_servers']}",
        store="rocksdb://",
        datadir=given["state"],
        topic_partitions=given["partitions"],
        topic_replication_factor=1,
        topic_disable_leader=True,
        web_enabled=False,
        table_standby_replicas=0,
        consumer_auto_offset_reset="earliest",
        # Larger buffers and rarer commits than the defaults; nothing is waited for record by record.
        stream_buffer_maxsize=32_768,
        stream_wait_empty=False,
        broker_commit_every=20_000,
        broker_commit_interval=2.0,
        consumer_max_fetch_size=4 << 20,
        producer_linger=0.02,
        producer_max_batch_size=256 << 10,
        producer_compression_type="lz4",
        producer_partitioner=None,
    )
    raw: Any = {"key_type": bytes, "value_type": bytes, "key_serializer": "raw", "value_serializer": "raw"}
    inputs = app.topic(given["commands"], given["details"], **raw)
    emails = app.topic(given["emails"], **raw)
    orders = app.Table("orders", partitions=given["partitions"], key_type=bytes, value_type=bytes)

    @app.agent(inputs)
    async def join(stream: Any) -> None:
        async for event in stream.events():
            half = read(event.key, event.value)
            if half is None:
                continue
            row, due = advance(orders.get(event.key), half)
            if row is not None:
                orders[event.key] = row
            message = event.message
            for email in due:
                emails.send_soon(
                    key=event.key,
                    value=email.value,
                    partition=message.partition,
                    headers=headers(email, message.topic, message.partition, message.offset),
                )

    return app


def main() -> None:
    """Run until it is told to end."""
    given = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    ProducerBuffer.max_messages = BUFFERED_MAX
    # Faust logs each message that it sends; at a level that isn't shown, but made all the same.
    logging.disable(logging.INFO)
    mode.loop.use("uvloop")
    # Thousands of events wait in buffers; looking for garbage among them finds none.
    gc.set_threshold(100_000, 50, 50)
    app = create_app(given)
    sys.argv[1:] = ["worker", "--loglevel", "warn"]
    app.main()


if __name__ == "__main__":
    main()
