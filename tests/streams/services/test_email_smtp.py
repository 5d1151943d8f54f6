"""Sending by SMTP to a real server that misbehaves in every way."""

from __future__ import annotations

import asyncio
import re
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from streams.errors import ConfigurationError, Unavailable
from streams.local.smtp import LocalSmtp, Misbehaviour, Reaction, Stage
from streams.services.email.outcome import InDoubt, Outcome, Refused, Sent
from streams.services.email.render import Mail
from streams.services.email.smtp import SmtpSender
from streams.services.email.smtp_url import SmtpUrl, StartTls, parse_smtp_url

SENT_MS = 1_770_000_000_000
TIMEOUT_S = 1.0
MAIL = Mail("orders@example.com", "ann@example.com", b"Message-ID: <1@example.com>\r\n\r\nHello\r\n")
BEFORE_DOT = (Stage.HELLO, Stage.MAIL, Stage.RCPT, Stage.DATA)
AFTER_DOT = (Stage.DOT, Stage.REPLY)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LocalSmtp]:
    """Return a mail server."""
    with LocalSmtp(tmp_path / "mails") as running:
        yield running


def sender_to(url: str, tls: ssl.SSLContext | None = None, connections: int = 5) -> SmtpSender:
    """Return a sender with short waits."""
    return SmtpSender(url, timeout_s=TIMEOUT_S, connections=connections, now_ms=lambda: SENT_MS, tls=tls)


@pytest.fixture
async def sender(server: LocalSmtp) -> AsyncIterator[SmtpSender]:
    """Return a sender to the server."""
    async with sender_to(server.url) as opened:
        yield opened


async def send(sender: SmtpSender, mail: Mail = MAIL, notes: list[str] | None = None, within_s: float = 60) -> Outcome:
    """Send one mail."""
    note: Callable[[], None] = (lambda: notes.append("dot")) if notes is not None else lambda: None
    return await sender.send(mail, note, asyncio.get_running_loop().time() + within_s)


async def test_mail_arrives_as_it_is(server: LocalSmtp, sender: SmtpSender) -> None:
    """Once, noted once, with leading dots and the last line's end."""
    notes: list[str] = []
    data = b"Message-ID: <1@example.com>\r\n\r\n.\r\n..\r\n.dot\r\nend"
    assert Sent(SENT_MS) == await send(sender, MAIL._replace(data=data), notes)
    [received] = server.received
    assert ("<1@example.com>", ("ann@example.com",)) == received[:2]
    assert received.file is not None
    assert data + b"\r\n" == received.file.read_bytes()
    assert ["dot"] == notes
    assert ["<1@example.com>"] == list(server.arrivals)


async def test_bare_line_feeds_end_no_message(server: LocalSmtp, sender: SmtpSender) -> None:
    """A second mail can't be smuggled in a body, whatever line ends the server takes."""
    data = b"Message-ID: <1@example.com>\r\n\r\nHello\n.\nMAIL FROM:<eve@example.net>\r.\rRSET\n"
    assert Sent(SENT_MS) == await send(sender, MAIL._replace(data=data))
    [received] = server.received
    assert received.file is not None
    assert b"Hello\r\n.\r\nMAIL FROM:<eve@example.net>\r\n.\r\nRSET\r\n" in received.file.read_bytes()


@pytest.mark.parametrize(
    ("stage", "reaction"),
    [
        (stage, reaction)
        for stage in BEFORE_DOT
        for reaction in (*Misbehaviour, "451 later", "421 closing", "nonsense")
        # A server that doesn't know EHLO is told HELO.
        if stage is not Stage.HELLO or reaction in {*Misbehaviour, "421 closing"}
    ],
)
async def test_trouble_before_the_dot_is_refused_but_not_for_ever(
    server: LocalSmtp, sender: SmtpSender, stage: Stage, reaction: Reaction
) -> None:
    """Surely nothing was sent, and nothing is noted."""
    notes: list[str] = []
    server.react(stage, reaction, times=9)
    outcome = await send(sender, notes=notes)
    assert isinstance(outcome, Refused)
    assert not outcome.permanent
    assert ([], []) == (notes, server.received)


@pytest.mark.parametrize("stage", BEFORE_DOT)
@pytest.mark.parametrize("reaction", [Misbehaviour.DROP, "451 later", "421 closing"])
async def test_passing_trouble_before_the_dot_is_tried_again(
    server: LocalSmtp, sender: SmtpSender, stage: Stage, reaction: Reaction
) -> None:
    """Quickly, on another connection, and there is one note."""
    notes: list[str] = []
    server.react(stage, reaction, times=2)
    assert Sent(SENT_MS) == await send(sender, notes=notes)
    assert ["dot"] == notes
    assert 1 == len(server.received)


@pytest.mark.parametrize("stage", [Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.DOT])
async def test_5xx_about_the_mail_is_for_ever(server: LocalSmtp, sender: SmtpSender, stage: Stage) -> None:
    """Said once, not asked again; the reply's text is the reason."""
    server.react(stage, "550 no such mailbox")
    outcome = await send(sender)
    assert outcome == Refused(permanent=True, reason=f"{server.url}: refused: 550 no such mailbox")
    assert 1 == server.connections


@pytest.mark.parametrize("stage", [Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.DOT])
async def test_refusal_that_quotes_the_address_is_told_without_it(
    server: LocalSmtp, sender: SmtpSender, stage: Stage
) -> None:
    """The reason goes into events, logs and `explain`; the domain stays, for who looks for the cause."""
    server.react(stage, "550 5.1.1 <ann@example.com>: user unknown; ann@example.com")
    outcome = await send(sender)
    assert isinstance(outcome, Refused)
    assert outcome.reason.endswith("550 5.1.1 <***@example.com>: user unknown; ***@example.com")


@pytest.mark.parametrize("stage", [Stage.MAIL, Stage.RCPT, Stage.DATA])
async def test_5xx_about_us_isnt_the_mails_fault(server: LocalSmtp, sender: SmtpSender, stage: Stage) -> None:
    """A login that is missing must not fail all mails for ever."""
    server.react(stage, "530 authentication required", times=9)
    outcome = await send(sender)
    assert isinstance(outcome, Refused)
    assert not outcome.permanent


@pytest.mark.parametrize("stage", AFTER_DOT)
@pytest.mark.parametrize("reaction", [*Misbehaviour, "nonsense"])
async def test_no_answer_after_the_dot_is_in_doubt(
    server: LocalSmtp, sender: SmtpSender, stage: Stage, reaction: Reaction
) -> None:
    """Whether the mail was kept or not, we can't know, so it isn't tried again here."""
    notes: list[str] = []
    server.react(stage, reaction)
    assert isinstance(await send(sender, notes=notes), InDoubt)
    assert (["dot"], 1) == (notes, server.connections)
    assert (stage is Stage.REPLY) == (len(server.received) == 1)


@pytest.mark.parametrize("reply", ["451 later", "421 closing", "452 full"])
async def test_4xx_after_the_dot_is_refused_but_not_for_ever(server: LocalSmtp, sender: SmtpSender, reply: str) -> None:
    """The server said that it didn't take the mail: no doubt. It isn't tried again at once."""
    server.react(Stage.DOT, reply)
    assert Refused(permanent=False, reason=f"{server.url}: refused: {reply}") == await send(sender)
    assert 1 == server.connections


@pytest.mark.parametrize("reaction", [*Misbehaviour, "451 later", "550 never"])
async def test_connection_is_fit_for_the_next_mail(server: LocalSmtp, sender: SmtpSender, reaction: Reaction) -> None:
    """Whatever became of the one before."""
    server.react(Stage.DOT, reaction)
    await send(sender)
    assert Sent(SENT_MS) == await send(sender)


async def test_connections_are_bounded_and_used_again(server: LocalSmtp) -> None:
    """Many mails at the same time, few connections."""
    async with sender_to(server.url, connections=3) as sender:
        outcomes = await asyncio.gather(*(send(sender) for _ in range(60)))
    assert {Sent(SENT_MS)} == set(outcomes)
    assert 60 == len(server.received)
    assert server.connections <= 3


async def test_server_that_was_started_again_is_found(server: LocalSmtp) -> None:
    """Idle connections that the server has closed are no reason to fail."""
    async with sender_to(server.url) as sender:
        await send(sender)
        for connection in sender._idle:
            assert connection.transport is not None
            connection.transport.close()
        assert Sent(SENT_MS) == await send(sender)


async def test_closed_port_is_refused_but_not_for_ever(server: LocalSmtp, sender: SmtpSender) -> None:
    """After some quick tries."""
    server.stop()
    outcome = await send(sender)
    assert isinstance(outcome, Refused)
    assert not outcome.permanent
    assert "can't connect" in outcome.reason


@pytest.mark.parametrize("greeting", [b"554 no service\r\n", b"421 busy\r\n", b"nonsense\r\n", b""])
async def test_bad_greeting_is_refused_but_not_for_ever(greeting: bytes) -> None:
    """It is about us, not about the mail; an empty one never comes."""

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    async with server, sender_to(f"smtp://127.0.0.1:{server.sockets[0].getsockname()[1]}") as sender:
        outcome = await send(sender)
    assert isinstance(outcome, Refused)
    assert not outcome.permanent


async def test_whole_sending_takes_no_longer_than_set(server: LocalSmtp, sender: SmtpSender) -> None:
    """All tries and steps together."""
    server.react(Stage.MAIL, Misbehaviour.HANG, times=9)
    began = time.monotonic()
    await send(sender)
    assert TIMEOUT_S <= time.monotonic() - began < 2 * TIMEOUT_S


async def test_mail_whose_turn_doesnt_come_isnt_begun(server: LocalSmtp) -> None:
    """The one before it hangs; the mail may be asked for again."""
    server.react(Stage.REPLY, Misbehaviour.HANG)
    async with sender_to(server.url, connections=1) as sender:
        first = asyncio.create_task(send(sender))
        await asyncio.sleep(0)  # The first has the only connection now.
        second = await send(sender, within_s=0.1)
        assert isinstance(second, Refused)
        assert not second.permanent
        assert "turn didn't come" in second.reason
        assert isinstance(await first, InDoubt)
    assert 1 == len(server.received)


async def test_mail_that_is_late_isnt_begun(server: LocalSmtp, sender: SmtpSender) -> None:
    """Even with a free connection."""
    outcome = await send(sender, within_s=-1)
    assert isinstance(outcome, Refused)
    assert [] == server.received


async def test_mail_that_cant_be_noted_isnt_sent(server: LocalSmtp, sender: SmtpSender) -> None:
    """The error is passed on, and the next mail goes well."""

    def note() -> None:
        raise Unavailable("disk full")

    with pytest.raises(Unavailable, match="disk full"):
        await sender.send(MAIL, note, asyncio.get_running_loop().time() + 60)
    assert Sent(SENT_MS) == await send(sender)
    assert 1 == len(server.received)


async def test_cancelled_sending_leaves_nothing_behind(server: LocalSmtp, sender: SmtpSender) -> None:
    """Its connection isn't used again, its place is free."""
    server.react(Stage.REPLY, Misbehaviour.HANG)
    sending = asyncio.create_task(send(sender))
    assert await asyncio.to_thread(server.wait_for, 1, 10)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    assert [] == sender._idle
    assert {Sent(SENT_MS)} == set(await asyncio.gather(*(send(sender) for _ in range(5))))


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a certificate for 127.0.0.1 with its key, in one file, signed by itself."""
    directory = tmp_path_factory.mktemp("tls")
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=127.0.0.1 "
        "-addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out cert.pem"
    )
    try:
        subprocess.run(command.split(), cwd=directory, check=True, capture_output=True, timeout=60)
    except FileNotFoundError:
        pytest.skip("no openssl to make a certificate with")
    both = directory / "both.pem"
    both.write_bytes((directory / "key.pem").read_bytes() + (directory / "cert.pem").read_bytes())
    return both


def server_tls(certificate: Path) -> ssl.SSLContext:
    """Return the server's side."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    return context


async def test_tls_from_the_first_byte(certificate: Path) -> None:
    """smtps://, and the certificate is checked."""
    trusting = ssl.create_default_context(cafile=certificate)
    with LocalSmtp(None, tls=server_tls(certificate), tls_at_once=True) as server:
        async with sender_to(server.url, trusting) as sender:
            assert Sent(SENT_MS) == await send(sender)
        async with sender_to(server.url) as sender:
            outcome = await send(sender)
    assert isinstance(outcome, Refused)
    assert not outcome.permanent
    assert re.search("(?i)certificate", outcome.reason)


async def test_starttls_is_used_if_offered_with_any_certificate(certificate: Path) -> None:
    """Whoever could forge a certificate could hide the offer."""
    with LocalSmtp(None, tls=server_tls(certificate)) as server:
        async with sender_to(server.url) as sender:
            assert Sent(SENT_MS) == await send(sender)
            assert sender._idle[0].get_transport_info("sslcontext") is not None


async def test_starttls_that_is_required_is_checked(certificate: Path, server: LocalSmtp) -> None:
    """A certificate that nobody signed, or no offer at all, sends nothing."""
    trusting = ssl.create_default_context(cafile=certificate)
    with LocalSmtp(None, tls=server_tls(certificate)) as offering:
        async with sender_to(f"{offering.url}?starttls=required", trusting) as sender:
            assert Sent(SENT_MS) == await send(sender)
        async with sender_to(f"{offering.url}?starttls=required") as sender:
            assert isinstance(await send(sender), Refused)
        assert 1 == len(offering.received)
    async with sender_to(f"{server.url}?starttls=required") as sender:
        assert isinstance(await send(sender), Refused)
    assert [] == server.received


async def test_login(certificate: Path) -> None:
    """A wrong password is tried once, is no fault of the mail, and isn't told."""
    trusting = ssl.create_default_context(cafile=certificate)
    with LocalSmtp(None, tls=server_tls(certificate), logins={"shop": "p@ss"}) as server:
        host = server.url.removeprefix("smtp://")
        async with sender_to(f"smtp://shop:p%40ss@{host}", trusting) as sender:
            assert Sent(SENT_MS) == await send(sender)
        connections = server.connections
        async with sender_to(f"smtp://shop:wrong@{host}", trusting) as sender:
            outcome = await send(sender)
    assert isinstance(outcome, Refused)
    assert not outcome.permanent
    assert "wrong" not in outcome.reason
    assert connections + 1 == server.connections


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("smtp://mail", SmtpUrl("mail", 25, None, None, tls=False, starttls=StartTls.IF_OFFERED)),
        ("smtp://mail:2525/", SmtpUrl("mail", 2525, None, None, tls=False, starttls=StartTls.IF_OFFERED)),
        ("smtp://u:p%40@mail", SmtpUrl("mail", 587, "u", "p@", tls=False, starttls=StartTls.REQUIRED)),
        ("smtp://u:p@mail?starttls=off", SmtpUrl("mail", 587, "u", "p", tls=False, starttls=StartTls.OFF)),
        ("smtp://mail?starttls=required", SmtpUrl("mail", 25, None, None, tls=False, starttls=StartTls.REQUIRED)),
        ("smtps://u:p@mail", SmtpUrl("mail", 465, "u", "p", tls=True, starttls=StartTls.OFF)),
        ("smtp://[::1]:25", SmtpUrl("::1", 25, None, None, tls=False, starttls=StartTls.IF_OFFERED)),
    ],
)
def test_url(text: str, expected: SmtpUrl) -> None:
    """Usual ports, and a password is never sent in the clear unless that is asked for."""
    assert expected == parse_smtp_url(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "mail",
        "http://u:secret@mail",
        "smtp://",
        "smtp://mail:port",
        "smtp://u:secret@mail/path",
        "smtp://mail?starttls=perhaps",
        "smtp://mail?tls=yes",
        "smtps://mail?starttls=required",
    ],
)
def test_bad_url_is_a_configuration_error(text: str) -> None:
    """At start, with what is allowed, and without the password."""
    with pytest.raises(ConfigurationError, match=r"REJOINDER_SMTP_URL.*allowed") as raised:
        parse_smtp_url(text)
    assert "secret" not in str(raised.value)
