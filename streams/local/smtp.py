"""
A mail server on this machine: takes every mail, keeps it as a file, and knows when each Message-ID arrived.

For the demo and the tests. It can be told to behave badly: `LocalSmtp.react`.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Final, NamedTuple, Self, TypeAlias

import aiosmtpd.smtp
from aiosmtpd.smtp import AuthResult, Envelope, LoginPassword, Session

from streams.local.errors import LocalServerError

_START_S_MAX: Final = 10.0
_STOP_S_MAX: Final = 5.0
_MESSAGE_ID: Final = re.compile(rb"^Message-ID:\s*(\S+)", re.MULTILINE | re.IGNORECASE)
_DATA_BYTES_MAX: Final = 8 * 1024 * 1024


class Stage(Enum):
    """Where in a mail's way the server can be told to behave badly."""

    HELLO = "EHLO"
    MAIL = "MAIL FROM"
    RCPT = "RCPT TO"
    DATA = "DATA, before the message"
    DOT = "after the final dot, before the mail is kept"
    REPLY = "after the final dot, when the mail is kept"


class Misbehaviour(Enum):
    """What it does then, besides answering with another reply."""

    HANG = "says nothing more"
    DROP = "drops the connection"


Reaction: TypeAlias = Misbehaviour | str
"""A misbehaviour, or a reply: "451 not now"."""


class Received(NamedTuple):
    """A mail that arrived; *at_ms* in Unix milliseconds, *file* None if nothing is kept."""

    message_id: str
    recipients: tuple[str, ...]
    at_ms: int
    file: Path | None


class LocalSmtp:
    """
    The server, on a free port of 127.0.0.1, in a thread of its own.

    Attributes:
        url: Where it listens, ``smtp://127.0.0.1:PORT``.
    """

    def __init__(
        self,
        directory: Path | None,
        *,
        tls: ssl.SSLContext | None = None,
        tls_at_once: bool = False,
        logins: Mapping[str, str] | None = None,
    ) -> None:
        """
        Plan a server; nothing listens before `start`.

        Args:
            directory: Where mails are kept, ``000001.eml`` and so on; made if need be. None: they aren't.
            tls: Offers STARTTLS with this certificate.
            tls_at_once: TLS from the first byte on instead.
            logins: Passwords by user name; with any, nobody sends without one.
        """
        self._directory = directory
        self._tls = tls
        self._tls_at_once = tls_at_once
        self._logins = dict(logins or {})
        self._lock = threading.Condition()
        self._received: list[Received] = []
        self._reactions: dict[Stage, deque[Reaction]] = {stage: deque() for stage in Stage}
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.connections = 0
        self.url = ""

    @property
    def received(self) -> list[Received]:
        """The mails that arrived so far, in that order."""
        with self._lock:
            return list(self._received)

    @property
    def arrivals(self) -> dict[str, list[int]]:
        """For each Message-ID when it arrived (Unix milliseconds): more than one is a mail that was sent again."""
        arrivals: dict[str, list[int]] = {}
        for mail in self.received:
            arrivals.setdefault(mail.message_id, []).append(mail.at_ms)
        return arrivals

    def wait_for(self, count: int, timeout_s: float) -> bool:
        """Wait until *count* mails arrived; return whether they did in time."""
        with self._lock:
            return self._lock.wait_for(lambda: len(self._received) >= count, timeout_s)

    def react(self, stage: Stage, reaction: Reaction, times: int = 1) -> None:
        """Behave so when mails reach *stage*, the next *times* times."""
        with self._lock:
            self._reactions[stage].extend([reaction] * times)

    def forget(self) -> None:
        """Behave well from now on."""
        with self._lock:
            for reactions in self._reactions.values():
                reactions.clear()

    def start(self) -> None:
        """
        Listen.

        Raises:
            LocalServerError: it doesn't come up.
        """
        if self._directory is not None:
            self._directory.mkdir(parents=True, exist_ok=True)
        listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        scheme = "smtps" if self._tls_at_once else "smtp"
        self.url = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(listener, started), name="local-smtp", daemon=True)
        self._thread.start()
        if not started.wait(_START_S_MAX):
            raise LocalServerError(f"{self.url}: the local mail server doesn't come up; is the machine out of memory?")

    def stop(self) -> None:
        """Close all connections and the port."""
        if self._thread is None or self._loop is None:
            return
        loop, thread = self._loop, self._thread
        self._thread = None
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_STOP_S_MAX)

    def __enter__(self) -> Self:
        """Listen."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Close everything."""
        self.stop()

    def _run(self, listener: socket.socket, started: threading.Event) -> None:
        with asyncio.Runner() as runner:
            loop = self._loop = runner.get_loop()
            tls = self._tls if self._tls_at_once else None
            server = runner.run(_serve(loop, lambda: self._session(loop), listener, tls))
            started.set()
            loop.run_forever()
            server.close()
            # Runner cancels the sessions that are left.

    def _session(self, loop: asyncio.AbstractEventLoop) -> _Session:
        self.connections += 1
        return _Session(
            _Handler(self),
            hostname="localhost",
            loop=loop,
            data_size_limit=_DATA_BYTES_MAX,
            tls_context=None if self._tls_at_once else self._tls,
            auth_required=bool(self._logins),
            auth_require_tls=self._tls is not None and not self._tls_at_once,
            authenticator=self._login if self._logins else None,
        )

    def _login(self, _server: Any, _session: Session, _envelope: Envelope, _mechanism: str, data: Any) -> AuthResult:
        known = isinstance(data, LoginPassword) and self._logins.get(data.login.decode()) == data.password.decode()
        return AuthResult(success=known)

    async def reached(self, stage: Stage, session: _Session) -> str | None:
        """Behave as told at *stage*: return a reply to give, None to go on."""
        with self._lock:
            reaction = self._reactions[stage].popleft() if self._reactions[stage] else None
        if not isinstance(reaction, Misbehaviour):
            return reaction
        if reaction is Misbehaviour.DROP:
            session.drop()
        # For ever: the end of the connection cancels it.
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    def keep(self, envelope: Envelope) -> None:
        """Take a mail in."""
        data = envelope.content or b""
        assert isinstance(data, bytes)
        found = _MESSAGE_ID.search(data)
        with self._lock:
            file = None
            if self._directory is not None:
                file = self._directory / f"{len(self._received) + 1:06}.eml"
                file.write_bytes(data)
            message_id = found[1].decode() if found else ""
            at_ms = time.time_ns() // 1_000_000
            self._received.append(Received(message_id, tuple(envelope.rcpt_tos), at_ms, file))
            self._lock.notify_all()


async def _serve(
    loop: asyncio.AbstractEventLoop,
    session: Callable[[], _Session],
    listener: socket.socket,
    tls: ssl.SSLContext | None,
) -> asyncio.Server:
    return await loop.create_server(session, sock=listener, ssl=tls)


class _Session(aiosmtpd.smtp.SMTP):
    """One connection."""

    async def smtp_DATA(self, arg: str) -> None:
        """Answer DATA."""
        handler: _Handler = self.event_handler
        if reply := await handler.server.reached(Stage.DATA, self):
            await self.push(reply)
            return
        await super().smtp_DATA(arg)

    def drop(self) -> None:
        """End the connection without a word."""
        assert isinstance(self.transport, asyncio.WriteTransport)
        self.transport.abort()


# ruff: noqa: ARG002, N802 - aiosmtpd's hooks: it calls them by these names with all of these arguments.
class _Handler:
    """aiosmtpd's hooks."""

    def __init__(self, server: LocalSmtp) -> None:
        self.server = server

    async def handle_EHLO(
        self, session: _Session, state: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        state.host_name = hostname
        reply = await self.server.reached(Stage.HELLO, session)
        return [reply] if reply else responses

    async def handle_MAIL(
        self, session: _Session, state: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if reply := await self.server.reached(Stage.MAIL, session):
            return reply
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 OK"

    async def handle_RCPT(
        self, session: _Session, state: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if reply := await self.server.reached(Stage.RCPT, session):
            return reply
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 OK"

    async def handle_DATA(self, session: _Session, state: Session, envelope: Envelope) -> str:
        if reply := await self.server.reached(Stage.DOT, session):
            return reply
        self.server.keep(envelope)
        return await self.server.reached(Stage.REPLY, session) or "250 OK"
