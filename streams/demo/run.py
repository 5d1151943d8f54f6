"""
A run: commands in, and what became of each of them.

The judge is outside the system: the mail server's mailbox says what was delivered, and when; the outcomes' topic, read
committed, says which commands ended.
"""

from __future__ import annotations

import random
import statistics
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import confluent_kafka

from schemas.codec import Codec
from streams.demo.system import RoleProcess, System
from streams.errors import Unavailable
from streams.local.smtp import LocalSmtp
from streams.settings import Settings
from streams.transport import config
from topology import ids
from topology.topics import COMMANDS, OUTCOMES

PAUSE_S: Final = 0.05
STALL_S: Final = 90.0
"""No news for this long: the run is over, and what is missing is lost."""
SETTLE_S: Final = 1.5
"""After the last outcome: time for a mail too many to arrive."""
KILLS: Final = (0.1, 0.3, 0.5, 0.7)
"""With kills, a worker is killed when these shares of the outcomes are there."""
DOWN_S: Final = 1.0


class Command(NamedTuple):
    """One command and the e-mail that it must lead to."""

    order_id: str
    command_id: str
    email_id: str


class Progress(NamedTuple):
    """How far a run is."""

    commands: int
    delivered: int
    failed: int
    kills: int


class Summary(NamedTuple):
    """
    What became of the commands.

    *duplicates*: mails beyond the first of a command; *lost*: commands that ended neither with a mail and
    OrderConfirmationSent, nor with OrderConfirmationFailed and no mail.
    """

    commands: int
    delivered: int
    failed: int
    duplicates: int
    lost: int
    seconds: float
    per_second: float
    latency_ms_p50: float
    latency_ms_p99: float
    kills: int

    @property
    def exactly_once(self) -> bool:
        """Whether each command has one mail, and is known to have."""
        return self.delivered == self.commands and not self.duplicates and not self.lost


class Run:
    """Sends a command for each of *order_ids* and watches until each has ended."""

    def __init__(
        self, settings: Settings, codec: Codec, system: System, smtp: LocalSmtp, order_ids: Sequence[str]
    ) -> None:
        self._settings = settings
        self._codec = codec
        self._system = system
        self._smtp = smtp
        self._commands = [self._command(order_id) for order_id in order_ids]
        self._by_email = {command.email_id: command for command in self._commands}
        self._produced_ms: dict[str, int] = {}
        self._ended: dict[str, str] = {}
        self._outcomes = self._open_outcomes()
        self._kills = 0
        self._down: dict[RoleProcess, float] = {}
        # Seeded: which worker is killed is a matter of the run's number only.
        self._random = random.Random(len(order_ids))  # noqa: S311 -- no secret.

    @staticmethod
    def _command(order_id: str) -> Command:
        command_id = str(uuid.uuid4())
        return Command(order_id, command_id, ids.email_id(order_id, command_id))

    def execute(self, show: Callable[[Progress], None], kill: bool) -> Summary:
        """
        Run; *show* is told how far it is, some twenty times a second.

        Raises:
            Unavailable: the broker doesn't take the commands.
            RejoinderError: a process ended that nobody killed.
        """
        began_s = time.monotonic()
        self._send()
        thresholds = [share * len(self._commands) for share in KILLS] if kill else []
        news_s, seen = time.monotonic(), -1
        while len(self._ended) < len(self._commands) and time.monotonic() - news_s < STALL_S:
            self._read_outcomes()
            show(self._progress())
            if len(self._ended) != seen:
                news_s, seen = time.monotonic(), len(self._ended)
            if thresholds and len(self._ended) >= thresholds[0]:
                thresholds.pop(0)
                self._kill_one()
            self._restart_killed()
            self._system.check()
            time.sleep(PAUSE_S)
        seconds = time.monotonic() - began_s
        time.sleep(SETTLE_S)
        self._outcomes.close()
        summary = self._summary(seconds)
        show(self._progress())
        return summary

    def _send(self) -> None:
        producer = confluent_kafka.Producer(config.plain_producer(self._settings))
        topic = self._settings.topic(COMMANDS.name)
        failures: list[Any] = []

        def delivered(error: Any, _message: Any) -> None:
            if error is not None:
                failures.append(error)

        for command in self._commands:
            now_ms = time.time_ns() // 1_000_000
            value = self._codec.encode_record(
                "communications.SendOrderConfirmationEmail",
                {
                    "command_id": command.command_id,
                    "order_id": command.order_id,
                    "requested_at": now_ms,
                    "requested_by": "demo",
                    "locale": "de" if len(self._produced_ms) % 4 == 0 else "en",
                },
            )
            self._produced_ms[command.email_id] = now_ms
            producer.produce(topic, value, command.order_id.encode(), on_delivery=delivered)
            producer.poll(0)
        if producer.flush(STALL_S) or failures:
            raise Unavailable(f"{topic}: commands weren't taken: {failures[:1]}")

    def _open_outcomes(self) -> confluent_kafka.Consumer:
        consumer = confluent_kafka.Consumer(
            config.common(self._settings)
            | {"group.id": f"{self._settings.application_id}-demo", "isolation.level": "read_committed"}
            | {"enable.auto.commit": False}
        )
        topic = self._settings.topic(OUTCOMES.name)
        consumer.assign(
            [
                confluent_kafka.TopicPartition(topic, number, confluent_kafka.OFFSET_BEGINNING)
                for number in range(self._system.partitions)
            ]
        )
        return consumer

    def _read_outcomes(self) -> None:
        for message in self._outcomes.consume(10_000, PAUSE_S):
            value = message.value()
            if message.error() is None and value is not None:
                record, fields = self._codec.decode_record(value)
                self._ended[str(fields["command_id"])] = record.rpartition(".")[2]

    def _progress(self) -> Progress:
        failed = sum(outcome == "OrderConfirmationFailed" for outcome in self._ended.values())
        return Progress(len(self._commands), len(self._mails()), failed, self._kills)

    def _mails(self) -> Mapping[str, Sequence[int]]:
        """Return the arrival times (Unix milliseconds) of each e-mail id's mails."""
        return {
            email_id: times
            for message_id, times in self._smtp.arrivals.items()
            if (email_id := message_id.strip("<>").partition("@")[0]) in self._by_email
        }

    def _kill_one(self) -> None:
        running = [worker for worker in self._system.workers if worker.running]
        if running:
            worker = self._random.choice(running)
            worker.kill()
            self._kills += 1
            self._down[worker] = time.monotonic()

    def _restart_killed(self) -> None:
        for worker, since_s in list(self._down.items()):
            if time.monotonic() - since_s > DOWN_S:
                del self._down[worker]
                worker.start()

    def _summary(self, seconds: float) -> Summary:
        mails = self._mails()
        failed = {command_id for command_id, outcome in self._ended.items() if outcome == "OrderConfirmationFailed"}
        latencies = [times[0] - self._produced_ms[email_id] for email_id, times in mails.items()]
        quantiles = statistics.quantiles(latencies, n=100, method="inclusive") if len(latencies) > 1 else [0.0] * 99
        extra = Counter({email_id: len(times) - 1 for email_id, times in mails.items()})
        return Summary(
            commands=len(self._commands),
            delivered=len(mails),
            failed=len(failed),
            duplicates=extra.total(),
            lost=sum(
                self._ended.get(c.command_id)
                != ("OrderConfirmationSent" if c.email_id in mails else "OrderConfirmationFailed")
                for c in self._commands
            ),
            seconds=round(seconds, 3),
            per_second=round(len(self._ended) / seconds, 1),
            latency_ms_p50=round(quantiles[49], 1),
            latency_ms_p99=round(quantiles[98], 1),
            kills=self._kills,
        )
