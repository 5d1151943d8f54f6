"""
Mails in doubt that are held for a person (`in_doubt = hold`): which they are, and saying what becomes of them.

The ledger's changelog says which. A verdict is a record: the very SendEmail once more, with a header. The e-mail
service reads it as any other, sends the mail under the same Message-ID or never, and writes that down; nobody else
touches its table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import confluent_kafka

from schemas.catalog import UnknownSchema
from schemas.undecodable import Undecodable
from streams.errors import ConfigurationError, RejoinderError
from streams.registry import Registry
from streams.services.email import ledger
from streams.services.email.ledger import Row, Status, Verdict
from streams.settings import Settings
from streams.transport import config
from streams.transport.messages import headers_of
from streams.transport.reading import Span, TopicReader
from streams.transport.refusals import Errors
from streams.transport.topics import Cluster
from topology.acls import Role
from topology.topics import EMAIL_COMMANDS, LEDGER_CHANGELOG

DELIVERY_S: Final = 30.0


class NotDoubtful(RejoinderError):
    """There is no mail in doubt with this id, or its SendEmail isn't there any more."""


class Doubtful(NamedTuple):
    """One mail in doubt."""

    email_id: str
    partition: int
    row: Row


class DoubtfulMails:
    """
    The mails in doubt as they are now.

    Raises from all methods:
        ConfigurationError: there is no such topic, or the brokers don't let us read or write it.
        Unavailable: no broker answers.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        topics = (LEDGER_CHANGELOG, EMAIL_COMMANDS)
        self._partitions = Cluster(settings).partitions(topics)
        if missing := [topic.name for topic in topics if topic.name not in self._partitions]:
            raise ConfigurationError(
                f"no topic {', '.join(map(settings.topic, missing))} at {settings.bootstrap_servers}; "
                "run `rejoinder topics apply`"
            )

    def all(self) -> list[Doubtful]:
        """Return all of them, the oldest first; reads the whole changelog."""
        found: dict[str, Doubtful] = {}
        for partition, email_id, data in self._rows():
            found.pop(email_id, None)
            if data is not None and (row := ledger.decode(data)).status is Status.DOUBTFUL:
                found[email_id] = Doubtful(email_id, partition, row)
        return sorted(found.values(), key=lambda one: (one.row.changed_ms, one.email_id))

    def _rows(self) -> Iterator[tuple[int, str, bytes | None]]:
        reader = TopicReader(self._settings, self._settings.topic(LEDGER_CHANGELOG.name))
        for message in reader.read(reader.spans(self._partitions[LEDGER_CHANGELOG.name], stable=True)):
            yield message.partition(), (message.key() or b"").decode(errors="replace"), message.value()

    def decide(
        self, mails: list[Doubtful], verdict: Verdict, registry: Registry, say: Callable[[Doubtful], None]
    ) -> None:
        """
        Put each of *mails*' SendEmail onto its topic again, with *verdict*; *say* each when the brokers have it.

        Raises:
            NotDoubtful: what a row points to isn't its SendEmail; those before it are done.
        """
        errors = Errors()
        producer = confluent_kafka.Producer(config.plain_producer(self._settings) | {"error_cb": errors})
        topic = self._settings.topic(EMAIL_COMMANDS.name)
        for mail in mails:
            message = self._original(mail, registry)
            headers = [(name, value) for name, value in headers_of(message) or [] if name != ledger.VERDICT]
            delivered: list[Any] = []

            def report(error: Any, _: Any, to: list[Any] = delivered) -> None:
                to.append(error)

            producer.produce(
                topic,
                message.value(),
                message.key(),
                mail.partition,
                headers=[*headers, (ledger.VERDICT, verdict.value.encode())],
                on_delivery=report,
            )
            producer.flush(DELIVERY_S)
            # Not by `==`: a KafkaError that is compared with None leaves an exception set (confluent-kafka 2.16).
            if not delivered or delivered[0] is not None:
                failure = errors.failure(self._settings, delivered[0] if delivered else None, Role.REDRIVER)
                raise type(failure)(f"{topic} didn't take the verdict on {mail.email_id}: {failure}")
            say(mail)

    def _original(self, mail: Doubtful, registry: Registry) -> Any:
        reader = TopicReader(self._settings, self._settings.topic(EMAIL_COMMANDS.name))
        spans = reader.spans(self._partitions[EMAIL_COMMANDS.name], stable=True)
        offset, span = mail.row.offset, spans[mail.partition]
        where = f"{self._settings.topic(EMAIL_COMMANDS.name)}/{mail.partition}/{offset}"
        if span.start <= offset < span.end:
            for message in reader.read({mail.partition: Span(offset, offset + 1)}):
                if _email_id(message.value(), registry) == mail.email_id:
                    return message
        raise NotDoubtful(
            f"the SendEmail of {mail.email_id} isn't at {where} any more: it is kept for 7 days; without it nothing "
            "can be sent again, and its row is forgotten by itself"
        )


def _email_id(value: bytes | None, registry: Registry) -> str | None:
    """Return the id of a SendEmail; None if it is none that can be read."""
    try:
        try:
            name, body = registry.codec.decode_record(value or b"")
        except UnknownSchema as exc:
            registry.resolve(exc.schema_id)
            name, body = registry.codec.decode_record(value or b"")
    except (UnknownSchema, Undecodable):
        return None
    return str(body["email_id"]).lower() if name == "communications.SendEmail" else None
