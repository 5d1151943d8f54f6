"""
The second scenario: the e-mail service's three steps, with its ledger and its real file of notes.

The mail server takes a mail, refuses it for now or for good, or breaks the connection before or after the message's
final dot. What it took is counted by Message-ID: none is missing, and none came twice but those that the ledger
counted as in doubt.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any, Final

from streams.batch import Batch
from streams.processing.logic import Handler, Handling
from streams.processing.session import Logic
from streams.services.email import ledger
from streams.services.email.notes import Notes
from streams.services.email.outcome import InDoubt, Outcome, Refused, Sent
from streams.services.email.render import Mail, sender_of
from streams.services.email.service import Done, EmailService, Job, Rules
from streams.services.records import Reader
from streams.settings import InDoubt as InDoubtSetting
from tests.simulation.checker import Checker, Decided
from tests.simulation.kernel import SimulationError, World
from tests.simulation.log import Place, Txn
from tests.simulation.participants import Order, Outside, Subscription, command_body, details_body
from tests.simulation.seams import Time
from tests.simulation.worker import PARTITIONS, POLICY, Worker, codec
from topology import ids
from topology.messages import SendEmail
from topology.topics import EMAIL_COMMANDS, EMAIL_EVENTS, LEDGER_CHANGELOG

_MESSAGE_ID: Final = re.compile(rb"^Message-ID:\s*<([0-9a-f-]{36})@", re.MULTILINE | re.IGNORECASE)


class MailServer:
    """Every machine's way to the customers: which mails it took, by e-mail id."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.taken: Counter[str] = Counter()

    async def send(self, mail: Mail, note: Callable[[], None], begin_by: float) -> Outcome:
        """See `SmtpSender`."""
        world, random = self._world, self._world.random
        found = _MESSAGE_ID.search(mail.data)
        assert found is not None
        email_id = found[1].decode()
        world.point("smtp.begin")
        world.sleep(world.latency_s())
        chance = random.random() if world.plan.active else 1.0
        if world.me().life.cut or chance < 0.10 or Time.monotonic() > begin_by:
            return self._refused("mail server refuses for now", permanent=False)
        if chance < 0.15:
            return self._refused("mail server refuses for good", permanent=True)
        note()
        world.point("smtp.dot")
        if chance < 0.20:
            return self._doubt("connection broke at the dot")
        if chance < 0.25:
            return self._refused("mail server refuses after the dot", permanent=False)
        self.taken[email_id] += 1
        world.trace(f"mail server: took {email_id}")
        world.point("smtp.answer")
        if chance < 0.30:
            return self._doubt("connection broke after the dot")
        world.sleep(world.latency_s())
        world.point("smtp.answered")
        return Sent(Time.time_ns() // 1_000_000)

    def _refused(self, reason: str, permanent: bool) -> Refused:
        self._world.happens(reason)
        return Refused(permanent=permanent, reason=reason)

    def _doubt(self, reason: str) -> InDoubt:
        self._world.happens(reason)
        return InDoubt(reason)

    def stop(self) -> None:
        """Nothing takes long here."""


class Watched:
    """The service, and what it settles."""

    def __init__(self, service: EmailService, mailer: Mailer) -> None:
        self._service = service
        self._mailer = mailer
        self.deliver = service.deliver
        self.stop = service.stop

    def claim(self, batch: Batch) -> list[Job]:
        """See `EmailService`."""
        self._mailer.checker.deciding(self._mailer, batch)
        return self._service.claim(batch)

    def settle(self, batch: Batch, done: Any) -> None:
        """See `EmailService`."""
        some: list[Done] | None = done
        self._service.settle(batch, some)
        self._mailer.checker.decided(self._mailer, batch)


class Mailer(Worker):
    """One process of the e-mail service."""

    group = "simulated-email"
    inputs = (EMAIL_COMMANDS.name,)
    changelog = LEDGER_CHANGELOG.name

    def open_logic(self) -> Logic:
        """See `Worker`."""
        rules = Rules(
            sender_of("Shop <orders@example.com>"), "example.com", InDoubtSetting.RESEND, POLICY.finished_ttl_ms
        )

        def open_service() -> Handler:
            notes = Notes(self.directory / "notes")
            self.at_death.append(notes.close)
            checker = self.checker
            assert isinstance(checker, MailChecker)
            service = EmailService(Reader(codec(), self.resolve), checker.server, notes, rules, _wall_ms)
            return Watched(service, self)

        return Handling(open_service, _run, 3)

    @staticmethod
    def damage(directory: Path, world: World) -> None:
        """Lose the notes, or flip one bit in them."""
        path = directory / "notes" / "notes"
        random = world.random
        if not world.plan.on("notes lost") or not path.exists() or random.random() < 0.6:
            return
        world.happens("notes lost")
        world.trace(f"{directory.name}: notes lost")
        data = bytearray(path.read_bytes())
        path.unlink()
        if random.random() < 0.5:
            data[random.randrange(len(data))] ^= 1 << random.randrange(8)
            path.write_bytes(data)


def _wall_ms() -> int:
    return Time.time_ns() // 1_000_000


def _run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run *coroutine*, which sleeps as fibers do and waits for nothing else."""
    try:
        coroutine.send(None)
    except StopIteration as exc:
        return exc.value
    raise SimulationError("a delivery waited for something outside of the simulation")


class MailChecker(Checker):
    """What holds of the e-mail service."""

    inputs = Mailer.inputs
    changelog = Mailer.changelog

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.server = MailServer(world)

    def _replay(self, txn: Txn, decided: Decided, taken: Any) -> None:
        """Each record is settled once, in its order; the rows are what the transaction wrote."""
        if list(decided.records) != taken:
            self.world.violation(f"{txn.maker.name}: settled {decided.records}, but positions say {taken}")
        self._follow(txn, decided.partition)

    def _check(self, txn: Txn, taken: dict[int, list[tuple[Place, int]]]) -> None:
        super()._check(txn, taken)
        for number in {place.partition for place, _ in txn.entries} - taken.keys():
            self._follow(txn, number)

    def _follow(self, txn: Txn, number: int) -> None:
        for place, entry in txn.entries:
            if place == Place(self.changelog, number) and entry.key is not None:
                if entry.value is None:
                    self.rows[number].pop(entry.key, None)
                else:
                    self.rows[number][entry.key] = entry.value


class Shop(Outside):
    """Who asks for mails: the process manager's part, as far as the e-mail service sees it."""

    def _begin(self, within_s: float) -> None:
        self.asked: Counter[str] = Counter()
        self._values: dict[str, tuple[Order, bytes]] = {}
        for order in self.orders.values():
            for command_id in order.commands:
                email_id = ids.email_id(order.id, command_id)
                bodies = command_body(order.id, command_id), details_body(order.id, 1)
                self._values[email_id] = order, codec().encode(SendEmail(order.id, email_id, *bodies))
                self._in(self.random.random() * within_s, partial(self._ask, email_id))
        for number in range(PARTITIONS):
            Subscription(self.world, self.world.broker.logs[Place(EMAIL_EVENTS.name, number)], self._heard)

    def _ask(self, email_id: str) -> None:
        self.asked[email_id] += 1
        self.send(EMAIL_COMMANDS.name, *self._values[email_id])

    def _heard(self, value: bytes) -> None:
        _, fields = codec().decode_record(value)
        if fields.get("permanent") is False and self.asked[fields["email_id"]] < 4:
            self._in(self._delay_s(), lambda: self._ask(fields["email_id"]))


def check(world: World, checker: Checker, outside: Outside) -> None:
    """Compare what was asked for, what was said, and what the mail server took."""
    assert isinstance(checker, MailChecker)
    assert isinstance(outside, Shop)
    asked: Counter[str] = Counter()
    said: Counter[str] = Counter()
    sent: set[str] = set()
    for number in range(PARTITIONS):
        for topic, counts in ((EMAIL_COMMANDS.name, asked), (EMAIL_EVENTS.name, said)):
            log = world.broker.logs[Place(topic, number)]
            for entry in log.committed(0, log.end):
                record, fields = codec().decode_record(entry.value or b"")
                counts[fields["email_id"]] += 1
                if record.endswith("EmailSent"):
                    sent.add(fields["email_id"])
    if asked != said:
        world.violation(f"asked {asked}, but said {said}")
    rows = {key.decode(): ledger.decode(row) for rows in checker.rows for key, row in rows.items()}
    for email_id in asked:
        row, taken = rows[email_id], checker.server.taken[email_id]
        world.happened["mails taken"] += taken
        world.happened["mails taken twice"] += taken > 1
        if taken > 1 + row.doubts:
            world.violation(f"{email_id} was taken {taken} times, with {row.doubts} doubts")
        if email_id in sent and not taken:
            world.violation(f"{email_id} is said to be sent, but the mail server hasn't it")
        if taken and email_id not in sent and not row.doubts:
            world.violation(f"{email_id} was taken, but that is neither said nor doubted")
