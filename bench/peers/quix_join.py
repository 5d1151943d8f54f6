"""The join in Quix Streams, exactly once: ``python -m bench.peers.quix_join FILE``, the configuration as JSON."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

from quixstreams import Application, message_context

from bench.peers.halves import Email, advance, headers, read


def main() -> None:
    """Run until it is told to end."""
    given = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    app = Application(
        broker_address=given["bootstrap_servers"],
        consumer_group=given["application"],
        auto_offset_reset="earliest",
        processing_guarantee="exactly-once",
        # A transaction each: few and large ones.
        commit_interval=given.get("commit_s", 2.0),
        state_dir=given["state"],
        # The defaults are 10 times smaller, and a wait of a second once the queue was full.
        consumer_extra_config={"queued.min.messages": 100_000, "fetch.queue.backoff.ms": 5, "fetch.wait.max.ms": 100},
        producer_extra_config={
            "compression.type": "lz4",
            "linger.ms": 20,
            "queue.buffering.max.messages": 1_000_000,
            "partitioner": "murmur2_random",
        },
        max_partition_buffer_size=50_000,
        loglevel=logging.WARNING,
    )
    commands, details = (
        app.topic(given[name], key_deserializer="bytes", value_deserializer="bytes") for name in ("commands", "details")
    )
    emails = app.topic(given["emails"], key_serializer="bytes", value_serializer="bytes")

    def join(value: bytes, key: bytes, _timestamp: int, _headers: Any, state: Any) -> list[Email]:
        half = read(key, value)
        if half is None:
            return []
        row, due = advance(state.get_bytes("row"), half)
        if row is not None:
            state.set_bytes("row", row)
        return due

    def headers_of(email: Email, _key: bytes, _timestamp: int, _headers: Any) -> list[tuple[str, bytes]]:
        cause = message_context()
        return headers(email, cause.topic, cause.partition, cause.offset)

    both = app.dataframe(commands).concat(app.dataframe(details))
    joined = both.apply(join, stateful=True, metadata=True, expand=True)
    joined = joined.set_headers(headers_of)
    joined = joined.apply(lambda email: email.value)
    joined.to_topic(emails)
    app.run()


if __name__ == "__main__":
    main()
