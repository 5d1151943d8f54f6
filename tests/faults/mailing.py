"""The real e-mail service as a process, a mail server, and what both say that became of each mail."""

from __future__ import annotations

import copy
import re
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from schemas.catalog import Catalog
from schemas.codec import Codec
from streams.local.kafka import LocalKafka
from streams.local.smtp import LocalSmtp
from streams.services.email import ledger
from streams.settings import Settings
from tests.broker.harness import PARTITIONS, environment_of, produce, read_all, settings_for, wait_for
from tests.faults.role import RoleProcess
from tests.streams.services.conftest import SEND_EMAIL
from topology.topics import EMAIL_COMMANDS, EMAIL_EVENTS, LEDGER_CHANGELOG

SENT, FAILED = "communications.EmailSent", "communications.EmailFailed"
SETTLED_S = 120.0


class Mailing:
    """SendEmails, the service, its ledger and events, and the mail server that counts by Message-ID."""

    def __init__(self, kafka: LocalKafka, directory: Path, name: str, **settings: str) -> None:
        self.settings: Settings = settings_for(kafka.bootstrap_servers, name)
        self.directory = directory
        self.codec = Codec(Catalog.from_files())
        self.smtp = LocalSmtp(None)
        self.smtp.start()
        environment = (
            environment_of(self.settings)
            | {
                "REJOINDER_SMTP_URL": self.smtp.url,
                "REJOINDER_EMAIL_CONCURRENCY": "1",
                "REJOINDER_LOG_FORMAT": "json",
            }
            | {f"REJOINDER_{name.upper()}": value for name, value in settings.items()}
        )
        self.service = RoleProcess("email", "email-0", directory, environment)
        self._ids: list[str] = []

    def close(self) -> None:
        """End service and mail server."""
        self.service.kill()
        self.smtp.stop()

    def command(self, count: int) -> list[str]:
        """Send *count* SendEmails, of orders of their own; return their e-mail ids."""
        values = {}
        for number in range(len(self._ids), len(self._ids) + count):
            body: dict[str, Any] = copy.deepcopy(SEND_EMAIL) | {"email_id": str(uuid.uuid4())}
            body["command"]["order_id"] = body["order"]["order_id"] = f"order-{number}"
            self._ids.append(body["email_id"])
            values[f"order-{number}"] = self.codec.encode_record("communications.SendEmail", body)
        produce(self.settings, EMAIL_COMMANDS.name, values)
        return self._ids[-count:]

    def again(self, email_ids: Sequence[str]) -> None:
        """Send the SendEmails of *email_ids* once more, byte for byte, as the process manager's retry does."""
        wanted = set(email_ids)
        values = {}
        for message in read_all(self.settings, EMAIL_COMMANDS.name):
            if self.codec.decode_record(message.value())[1]["email_id"] in wanted:
                values[message.key().decode()] = message.value()
        assert len(wanted) == len(values)
        produce(self.settings, EMAIL_COMMANDS.name, values)

    def arrivals(self) -> Counter[str]:
        """Return how many mails arrived, by e-mail id."""
        return Counter(mail.message_id.strip("<>").partition("@")[0] for mail in self.smtp.received)

    def rows(self) -> dict[str, ledger.Row]:
        """Return the ledger as its changelog has it, by e-mail id."""
        found = {message.key().decode(): message.value() for message in read_all(self.settings, LEDGER_CHANGELOG.name)}
        return {email_id: ledger.decode(row) for email_id, row in found.items() if row is not None}

    def wait_settled(self, email_ids: Sequence[str]) -> None:
        """Wait until the service works on all partitions and each of *email_ids* has a row that isn't in sending."""
        wait_for(lambda: self.service.partitions() == PARTITIONS, "the service is ready", SETTLED_S)

        def settled() -> bool:
            rows = self.rows()
            return all(
                email_id in rows and rows[email_id].status is not ledger.Status.SENDING for email_id in email_ids
            )

        wait_for(settled, "all mails are settled", SETTLED_S)

    def doubts(self) -> Counter[str]:
        """Return how often each mail was in doubt, by the ledger; those that never were are left out."""
        return Counter({email_id: row.doubts for email_id, row in self.rows().items() if row.doubts})

    def events(self) -> dict[str, list[tuple[str, Mapping[str, Any]]]]:
        """Return what was said of each mail, in order."""
        found: dict[str, list[tuple[str, Mapping[str, Any]]]] = {}
        for message in read_all(self.settings, EMAIL_EVENTS.name):
            name, body = self.codec.decode_record(message.value())
            found.setdefault(body["email_id"], []).append((name, body))
        return found

    def counted_doubts(self, then: str) -> float:
        """Return how many doubts the running service's metric counts."""
        with urlopen(f"{self.service.url}/metrics", timeout=5) as answer:  # noqa: S310 -- our own.
            page = answer.read().decode()
        found = re.search(rf'^rejoinder_mails_in_doubt_total{{then="{then}"}} (\S+)$', page, re.MULTILINE)
        return float(found[1]) if found else 0.0

    def warned(self, email_id: str, then: str) -> bool:
        """Return whether the service's log names the mail as in doubt."""
        lines = self.service.log.read_text().splitlines()
        return any("e-mail in doubt" in line and email_id in line and then in line for line in lines)
