"""
The two services' answers as fast as they can be given: ``python -m bench.responder FILE``.

A query is answered with its order's details, a SendEmail with EmailSent; nothing is looked up and no mail is sent. It
stands for services that are no bottleneck, so that the worker is what a round trip measures.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
from pathlib import Path
from typing import Final

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

from bench.dataset import Templates
from bench.join import PARTITIONS
from bench.watching import consume_error, prompt_reader
from streams import settings as settings_module
from streams.transport import config
from topology.topics import DETAILS, EMAIL_COMMANDS, EMAIL_EVENTS, QUERIES

ID_AT: Final = 6
"""Where the id of a query or an e-mail is in its value: its first field, behind the frame and its own length."""
ID_BYTES: Final = 36


def main() -> None:
    """Answer until told to end."""
    given = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    settings = settings_module.load(**given)
    ending = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ending.set())
    templates = Templates()
    queries, emails, details, sent = (
        settings.topic(topic.name) for topic in (QUERIES, EMAIL_COMMANDS, DETAILS, EMAIL_EVENTS)
    )
    consumer = Consumer(prompt_reader(settings))
    consumer.assign(
        [TopicPartition(topic, number, OFFSET_BEGINNING) for topic in (queries, emails) for number in range(PARTITIONS)]
    )
    producer = Producer(config.plain_producer(settings) | {"queue.buffering.max.messages": 1_000_000})
    while not ending.is_set():
        for message in consumer.consume(5_000, 0.05):
            consume_error(message)
            key, value = message.key() or b"", message.value() or b""
            asked = value[ID_AT : ID_AT + ID_BYTES]
            if message.topic() == queries:
                producer.produce(details, templates.answer(key, asked), key)
            else:
                producer.produce(sent, templates.email_sent(key, asked), key)
        producer.poll(0)
    producer.flush(10)
    consumer.close()


if __name__ == "__main__":
    main()
