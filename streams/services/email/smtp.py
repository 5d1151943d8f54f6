"""
Sending one mail by SMTP, and knowing whether it was taken.

The message's final dot is the line. Before it a mail surely isn't taken, whatever goes wrong. After it only the mail
server's answer tells; without one the mail is in doubt. So the caller is told right before the dot (`note`), and writes
that down.

| what happens | before the dot | after the dot |
|-|-|-|
| connection refused or broken | some quick tries, then refused | in doubt |
| no answer in time | refused | in doubt |
| 4xx | some quick tries, then refused | refused |
| 5xx about the mail | refused for ever | refused for ever |
| 5xx about us: greeting, EHLO, TLS, login | refused | – |

Source: RFC 5321, sections 3.3, 4.2.1 and 4.5.3.2.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Callable
from typing import Final, Self

from aiosmtplib import (
    SMTP,
    SMTPAuthenticationError,
    SMTPDataError,
    SMTPException,
    SMTPHeloError,
    SMTPResponseException,
)

from streams.masking import mask_addresses
from streams.services.email.outcome import InDoubt, Outcome, Refused, Sent
from streams.services.email.render import Mail
from streams.services.email.smtp_url import StartTls, parse_smtp_url

TRIES_MAX: Final = 3
_PAUSE_FIRST_S: Final = 0.1
_QUIT_S_MAX: Final = 1.0

_START_INPUT: Final = 354
# A reply's first digit.
_DONE, _LATER, _NEVER = 2, 4, 5
_START_TLS: Final = {StartTls.IF_OFFERED: None, StartTls.REQUIRED: True, StartTls.OFF: False}
# Replies that are about us or this connection, whenever they come: closing, and the kinds of "authenticate first".
_ABOUT_US: Final = frozenset({421, 530, 534, 535, 538})
_LINE_END: Final = re.compile(rb"\r\n|\r|\n")
_LEADING_DOT: Final = re.compile(rb"^\.", re.MULTILINE)


class SmtpSender:
    """
    One mail server, with a bounded number of connections that are used again.

    It belongs to the event loop that sends first.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float,
        connections: int,
        now_ms: Callable[[], int],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """
        Plan to send by the server at *url* (see `smtp_url`); nothing is connected yet.

        Args:
            url: The server, and the login if it wants one.
            timeout_s: The longest that one `send` takes, waiting for a free connection not counted.
            connections: How many mails are in sending at one time, at most.
            now_ms: The clock, Unix milliseconds.
            tls: Whom to trust; the system's certificate authorities if None.

        Raises:
            ConfigurationError: *url* is none.
        """
        self._url = parse_smtp_url(url)
        self._timeout_s = timeout_s
        self._now_ms = now_ms
        self._tls = tls
        self._free = asyncio.Semaphore(connections)
        self._idle: list[SMTP] = []
        self._closed = False
        self._stopping = False

    async def __aenter__(self) -> Self:
        """Use it in an async with-statement."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connections."""
        await self.close()

    async def close(self) -> None:
        """Take leave on all idle connections; those in use end with their mail."""
        self._closed = True
        idle, self._idle = self._idle, []
        await asyncio.gather(*map(_quit, idle))

    def stop(self) -> None:
        """Begin no further mail: each is refused, not for ever. Those in sending end. Any thread may call it."""
        self._stopping = True

    async def send(self, mail: Mail, note: Callable[[], None], begin_by: float) -> Outcome:
        """
        Send *mail*; *note* is called right before the final dot.

        What *note* raises ends the sending, surely before the dot, and is passed on. So is a cancellation, which after
        the dot leaves the mail in doubt.

        Args:
            mail: The mail.
            note: Says that from here on the mail may arrive.
            begin_by: When it is too late to begin, in the event loop's time: the mail is then refused, not for ever.
        """
        too_late = Refused(permanent=False, reason=f"{self._url.where}: too slow, the mail's turn didn't come")
        try:
            async with asyncio.timeout_at(begin_by):
                await self._free.acquire()
        except TimeoutError:
            return too_late
        try:
            if self._stopping:
                return Refused(permanent=False, reason=f"{self._url.where}: the e-mail service is stopping")
            if asyncio.get_running_loop().time() > begin_by:
                return too_late
            delivery = _Delivery(mail, note)
            try:
                async with asyncio.timeout(self._timeout_s):
                    return await self._try(delivery)
            except TimeoutError:
                return delivery.broken(f"{self._url.where}: no answer within {self._timeout_s:g} s")
        finally:
            self._free.release()

    async def _try(self, delivery: _Delivery) -> Outcome:
        pause_s = _PAUSE_FIRST_S
        for again in range(TRIES_MAX - 1, -1, -1):
            outcome, useful = await self._try_once(delivery)
            if not (useful and again):
                break
            await asyncio.sleep(pause_s)
            pause_s *= 3
        return outcome

    async def _try_once(self, delivery: _Delivery) -> tuple[Outcome, bool]:
        """Return the outcome of one try, and whether another is of use now."""
        try:
            connection = await self._connect()
        except SMTPAuthenticationError as exc:
            # No quick tries: they would look like somebody guessing.
            return Refused(permanent=False, reason=self._why("login refused", exc)), False
        except (SMTPException, OSError) as exc:
            return Refused(permanent=False, reason=self._why("can't connect", exc)), True
        usable = False
        try:
            await delivery.run(connection)
            usable = not self._closed
        except SMTPHeloError as exc:
            return Refused(permanent=False, reason=self._why("refused us", exc)), True
        except SMTPResponseException as exc:
            return self._judge(delivery, exc)
        except (SMTPException, OSError) as exc:
            return delivery.broken(self._why("connection broken", exc)), not delivery.dotted
        else:
            return Sent(self._now_ms()), False
        finally:
            if usable:
                self._idle.append(connection)
            else:
                connection.close()

    def _judge(self, delivery: _Delivery, exc: SMTPResponseException) -> tuple[Outcome, bool]:
        """Judge a reply that isn't the one that was hoped for."""
        reason = self._why("refused", exc)
        if exc.code // 100 == _NEVER and exc.code not in _ABOUT_US:
            return Refused(permanent=True, reason=reason), False
        if exc.code // 100 in {_LATER, _NEVER}:
            return Refused(permanent=False, reason=reason), not delivery.dotted
        # No reply that SMTP knows here.
        return delivery.broken(reason), not delivery.dotted

    def _why(self, what: str, exc: Exception) -> str:
        """Return what went wrong, for logs, events and people: without the address, which refusals quote."""
        if isinstance(exc, SMTPResponseException):
            said = f"{exc.code} {' '.join(str(exc.message).split())}"
        else:
            said = str(exc)
        return f"{self._url.where}: {what}: {mask_addresses(said)}"

    async def _connect(self) -> SMTP:
        """Return the connection that was used last, or a new one."""
        while self._idle:
            connection = self._idle.pop()
            if connection.is_connected:
                return connection
        url = self._url
        checked = url.tls or url.starttls is StartTls.REQUIRED
        connection = SMTP(
            hostname=url.host,
            port=url.port,
            username=url.username,
            password=url.password,
            local_hostname=socket.gethostname(),
            timeout=None,  # `send` keeps the time, of all steps together.
            use_tls=url.tls,
            start_tls=_START_TLS[url.starttls],
            validate_certs=checked,
            tls_context=self._tls if checked else None,
        )
        await connection.connect()
        return connection


class _Delivery:
    """One mail on its way; ``dotted``: the final dot was written, the server may have the whole of it."""

    def __init__(self, mail: Mail, note: Callable[[], None]) -> None:
        self._mail = mail
        # Bare line feeds and leading dots would end the message early, and what follows be taken for commands.
        lines = _LINE_END.sub(b"\r\n", mail.data).removesuffix(b"\r\n")
        self._data = _LEADING_DOT.sub(b"..", lines) + b"\r\n"
        self._note = note
        self.dotted = False

    async def run(self, connection: SMTP) -> None:
        """
        Go through the transaction; return when the mail was taken.

        Raises:
            SMTPException, OSError: it wasn't, or it isn't known.
        """
        await connection.mail(self._mail.sender)
        await connection.rcpt(self._mail.recipient)
        reply = await connection.execute_command(b"DATA")
        protocol = connection.protocol
        if reply.code != _START_INPUT or protocol is None:
            raise SMTPDataError(reply.code, reply.message)
        self._note()
        # Message and dot are one write: nothing of it is on its way before the note. It raises only if the connection
        # is known to be broken, and has then written nothing.
        protocol.write(self._data + b".\r\n")
        self.dotted = True
        reply = await protocol.read_response()
        if reply.code // 100 != _DONE:
            raise SMTPDataError(reply.code, reply.message)

    def broken(self, reason: str) -> Outcome:
        """Return what it comes to when no answer is known."""
        return InDoubt(reason) if self.dotted else Refused(permanent=False, reason=reason)


async def _quit(connection: SMTP) -> None:
    try:
        async with asyncio.timeout(_QUIT_S_MAX):
            await connection.quit()
    except (SMTPException, OSError):
        pass  # Leaving is a courtesy.
    finally:
        connection.close()
