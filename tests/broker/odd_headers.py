"""
Produces records with a header whose name isn't UTF-8, which no client of ours would: one of another language may.

    AIOKAFKA_NO_EXTENSIONS=1 python -m tests.broker.odd_headers SERVERS TOPIC PARTITION KEY VALUE_HEX COUNT
"""

from __future__ import annotations

import asyncio
import sys

from aiokafka import AIOKafkaProducer


class Odd(str):
    """A name whose UTF-8 isn't."""

    __slots__ = ()

    def encode(self, *_: object) -> bytes:
        """Return what no text is."""
        return b"\xff\xfe"


async def main(servers: str, topic: str, partition: str, key: str, value: str, count: str) -> None:
    """Produce it."""
    producer = AIOKafkaProducer(bootstrap_servers=servers)
    await producer.start()
    try:
        headers = [("ce_id", b"1"), (Odd("x"), b"2")]
        for _ in range(int(count)):
            await producer.send_and_wait(
                topic, bytes.fromhex(value), key.encode(), partition=int(partition), headers=headers
            )
    finally:
        await producer.stop()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
