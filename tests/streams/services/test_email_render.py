"""Mails: what they say in each language, and what no name or address can make of them."""

from __future__ import annotations

import email
import email.policy
import re
from email.headerregistry import Address
from email.message import EmailMessage
from typing import Any

import pytest
from babel import Locale
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streams.errors import ConfigurationError
from streams.services.email.render import (
    Mail,
    Unsendable,
    choose_language,
    message_id,
    money,
    one_line,
    render,
    sender_of,
)

SENDER = Address("Tea Shop", addr_spec="orders@example.com")
DATE_MS = 1_767_601_861_000
HEADERS = [
    "From",
    "To",
    "Date",
    "Message-ID",
    "Auto-Submitted",
    "Subject",
    "MIME-Version",
    "Content-Type",
    "Content-Language",
]


def rendered(send_email: dict[str, Any]) -> Mail:
    """Render as the service does."""
    return render(send_email, SENDER, message_id(send_email["email_id"], "example.com"), DATE_MS)


def parsed(mail: Mail) -> EmailMessage:
    """Read a mail as a mail program would."""
    message = email.message_from_bytes(mail.data, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    return message


def part(mail: Mail, kind: str) -> str:
    """Return the text or HTML of a mail."""
    body = parsed(mail).get_body((kind,))
    assert body is not None
    return str(body.get_content())


def test_headers_of_a_confirmation(send_email: dict[str, Any]) -> None:
    """The Message-ID is the e-mail's id, the Date the one that was given."""
    message = parsed(rendered(send_email))
    expected = {
        "From": "Tea Shop <orders@example.com>",
        "To": "Jürgen Müller <juergen@example.com>",
        "Date": "Mon, 05 Jan 2026 08:31:01 +0000",
        "Message-ID": "<5f0c7e9e-1111-5222-8333-444455556666@example.com>",
        "Auto-Submitted": "auto-generated",
        "Subject": "Your order order-7 is confirmed",
    }
    assert expected == {name: str(message[name]) for name in expected}
    assert HEADERS == message.keys()


def test_text_in_english(send_email: dict[str, Any]) -> None:
    """All of the order is in it."""
    expected = """\
Hello Jürgen Müller,

thank you for your order order-7 of January 5, 2026, 8:31:01\u202fAM UTC.

2 × Tea & <biscuits> (TEA-1)
    €12.95 each, €25.90 together

Total: €25.90

We deliver to:
    Jürgen Müller
    Königstraße 1
    70173 Stuttgart

If something isn’t right, simply answer this e-mail.
"""
    assert expected == part(rendered(send_email), "plain").replace("\r\n", "\n")


def test_text_in_german(send_email: dict[str, Any]) -> None:
    """Numbers and dates as well."""
    send_email["command"]["locale"] = "de"
    mail = rendered(send_email)
    text = part(mail, "plain").replace("\r\n", "\n")
    assert "Ihre Bestellung order-7 ist bestätigt" == str(parsed(mail)["Subject"])
    assert text.startswith("Guten Tag Jürgen Müller,\n\nvielen Dank für Ihre Bestellung order-7 vom 5. Januar 2026")
    assert "    je 12,95\u00a0€, zusammen 25,90\u00a0€\n" in text


def test_html_is_escaped(send_email: dict[str, Any]) -> None:
    """What a shop or customer typed is text, never markup."""
    send_email["order"]["customer"]["name"] = "<script>alert(1)</script>"
    html = part(rendered(send_email), "html")
    assert "Tea &amp; &lt;biscuits&gt;" in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "<script>" not in html


def test_template_text_in_a_name_is_only_text(send_email: dict[str, Any]) -> None:
    """Values aren't rendered again."""
    send_email["order"]["customer"]["name"] = "{{ 7 * 7 }}"
    assert "Hello {{ 7 * 7 }}," in part(rendered(send_email), "plain")


def test_same_mail_twice_is_the_same_bytes(send_email: dict[str, Any]) -> None:
    """A mail that is sent again is the same mail: no random boundary, no other date."""
    assert rendered(send_email) == rendered(send_email)


def test_mail_is_ascii_with_short_lines(send_email: dict[str, Any]) -> None:
    """Any mail server takes it: no 8BITMIME, no line over 998 bytes (RFC 5322)."""
    send_email["order"]["lines"][0]["name"] = "ü" * 5_000
    data = rendered(send_email).data
    assert data.isascii()
    assert max(map(len, data.split(b"\r\n"))) <= 998
    assert b"\n" not in data.replace(b"\r\n", b"")


@pytest.mark.parametrize(
    ("wanted", "language", "locale"),
    [
        ("en", "en", "en"),
        ("de-AT", "de", "de_AT"),
        ("de_CH", "de", "de_CH"),
        ("DE", "de", "de"),
        ("de-XX-nonsense-", "de", "de"),
        ("fr-FR", "en", "en"),
        ("", "en", "en"),
        ("../../../etc", "en", "en"),
    ],
)
def test_language_falls_back(wanted: str, language: str, locale: str) -> None:
    """From the region to the language to English; never to a file."""
    assert (language, Locale.parse(locale)) == choose_language(wanted, frozenset({"de", "en"}))


@pytest.mark.parametrize(
    ("amount", "currency", "locale", "expected"),
    [
        (1_295, "EUR", "en", "€12.95"),
        (1_295, "EUR", "de", "12,95\u00a0€"),
        (123_456_789, "USD", "en", "$1,234,567.89"),
        (5, "EUR", "en", "€0.05"),
        (-1_295, "EUR", "en", "-€12.95"),
        (1_295, "JPY", "en", "¥1,295"),
        (1_295, "KWD", "en", "KWD\u00a01.295"),
        (1_295, "KWD", "de", "1,295\u00a0KWD"),
        # Babel shows neither dinar's minor units, and would be wrong by a factor of 100 and 1,000.
        (1_295, "RSD", "en", "RSD\u00a012.95"),
        (1_295, "IQD", "en", "IQD\u00a01.295"),
        (0, "CHF", "de_CH", "CHF\u00a00.00"),
        # The schema's largest quantity times its largest price: 29 digits, one more than Python's decimals have.
        ((2**31 - 1) * (2**63 - 1), "EUR", "en", "€198,070,406,193,427,123,593,837,281.29"),
    ],
)
def test_money_is_in_iso_minor_units(amount: int, currency: str, locale: str, expected: str) -> None:
    """However many digits the locale would show."""
    assert expected == money(amount, currency, Locale.parse(locale))


@pytest.mark.parametrize("currency", ["XYZ", "", "eur", "XAU", "€"])
def test_unknown_currency_is_unsendable(send_email: dict[str, Any], currency: str) -> None:
    """A guess might be wrong by a factor."""
    send_email["order"]["currency"] = currency
    with pytest.raises(Unsendable, match="unknown currency"):
        rendered(send_email)


def test_unknown_template_is_unsendable(send_email: dict[str, Any]) -> None:
    """Names what there is, and reads no file that isn't."""
    send_email["template"] = "../email"
    with pytest.raises(Unsendable, match=r"unknown template '\.\./email'; there are: order-confirmation"):
        rendered(send_email)


@pytest.mark.parametrize("placed_at", [2**62, -(2**62)])
def test_instant_out_of_range_is_unsendable(send_email: dict[str, Any], placed_at: int) -> None:
    """It is a long in the contract, and no date in any calendar."""
    send_email["order"]["placed_at"] = placed_at
    with pytest.raises(Unsendable, match="placed_at"):
        rendered(send_email)


@pytest.mark.parametrize(
    "address",
    [
        "ann@example.com\r\nRCPT TO:<eve@example.net>",
        "ann@example.com\nBcc: eve@example.net",
        "ann\x00@example.com",
        "ann@exam\x7fple.com",
        "ann@example.com, eve@example.net",
        "<ann@example.com>",
        "Ann <ann@example.com>",
        "ann@example.com>",
        "@example.com",
        "ann@",
        "ann",
        "",
        "jürgen@example.com",
        "ann@[127.0.0.1]",
        f"ann@{'a' * 64}.example",
        # What email_validator takes and Python's header parser doesn't.
        "=?utf-8?q?a?=@example.com",
    ],
)
def test_what_is_no_address_is_unsendable(send_email: dict[str, Any], address: str) -> None:
    """Nothing of it reaches a header or the mail server."""
    send_email["order"]["customer"]["email"] = address
    with pytest.raises(Unsendable, match="address can't be used") as caught:
        rendered(send_email)
    # Nor an event or a log: the reason says what is wrong without it.
    assert not re.search(r"\bann\b|jürgen", str(caught.value))


def test_domain_goes_out_in_ascii(send_email: dict[str, Any]) -> None:
    """So that no mail server needs SMTPUTF8."""
    send_email["order"]["customer"]["email"] = "ann@bücher.example"
    mail = rendered(send_email)
    assert "ann@xn--bcher-kva.example" == mail.recipient
    assert "ann@xn--bcher-kva.example" == parsed(mail)["To"].addresses[0].addr_spec


NASTY = [
    "Ann\r\nBcc: eve@example.net",
    "Ann\nBcc: eve@example.net\n\nHello",
    "=?utf-8?q?Ann=0D=0ABcc:_eve@example.net?=",
    "=?utf-8?b?DQpCY2M6IGV2ZUBleGFtcGxlLm5ldA==?= ü",
    "=?utf-8?q?=0D=0A=0D=0AHello?=" * 5,
    'Ann" <eve@example.net>, "',
    "Ann <eve@example.net>, Bob",
    "Ann (comment) ; group: eve@example.net;",
    "Ann\x00\x07\x1b[31m",
    "Ann\u2028Bcc: eve@example.net",
    "Ann\x85Bcc: eve@example.net",
    "\\",
    '"',
    "ü, eve@example.net, " * 20,
    "",
    "x" * 10_000,
]


def check_harmless(send_email: dict[str, Any]) -> None:
    """Assert that one mail goes to one address, with our headers and no others."""
    message = parsed(rendered(send_email))
    assert HEADERS == message.keys()
    assert ["juergen@example.com"] == [address.addr_spec for address in message["To"].addresses]
    assert ["text/plain", "text/html"] == [some.get_content_type() for some in message.iter_parts()]


@pytest.mark.parametrize("name", NASTY)
def test_name_adds_no_header_and_no_recipient(send_email: dict[str, Any], name: str) -> None:
    """Neither by line feeds nor hidden in an encoded word, nor by quotes and commas."""
    send_email["order"]["customer"]["name"] = name
    check_harmless(send_email)


@pytest.mark.parametrize("order_id", NASTY)
def test_order_id_in_the_subject_adds_no_header(send_email: dict[str, Any], order_id: str) -> None:
    """The subject is the other header that somebody else's text goes into."""
    send_email["order"]["order_id"] = order_id
    check_harmless(send_email)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.text(st.sampled_from('aü=?_qb ,;:<>()@"\\\r\n\x00.') | st.characters(codec="utf-8"), max_size=120))
def test_no_text_at_all_adds_a_header(send_email: dict[str, Any], text: str) -> None:
    """Whatever is typed is harmless."""
    send_email["order"]["customer"]["name"] = send_email["order"]["order_id"] = text
    check_harmless(send_email)


def test_name_stays_readable(send_email: dict[str, Any]) -> None:
    """Accents, quotes and commas arrive."""
    send_email["order"]["customer"]["name"] = 'Zoë "Zo" O’Brien, Dr.'
    assert 'Zoë "Zo" O’Brien, Dr.' == parsed(rendered(send_email))["To"].addresses[0].display_name


def test_line_breaks_in_a_line_of_the_order_write_no_other_lines(send_email: dict[str, Any]) -> None:
    """Nobody writes our text."""
    send_email["order"]["lines"][0]["name"] = "Tea\r\n\r\nTotal: €0.00"
    assert "2 × Tea Total: €0.00 (TEA-1)" in part(rendered(send_email), "plain")


def test_one_line_has_single_spaces() -> None:
    """Control characters and line separators are spaces."""
    assert "a b c d" == one_line(" a\r\n\tb\x00c\u2028\u2029 \x85d ")


@pytest.mark.parametrize(
    ("text", "name", "address"),
    [
        ("orders@example.com", "", "orders@example.com"),
        ("Tea Shop <orders@example.com>", "Tea Shop", "orders@example.com"),
        ("Müllers Läden <orders@example.com>", "Müllers Läden", "orders@example.com"),
    ],
)
def test_sender_is_read(text: str, name: str, address: str) -> None:
    """With a name or without."""
    sender = sender_of(text)
    assert (name, address) == (sender.display_name, sender.addr_spec)


@pytest.mark.parametrize("text", ["", "Tea Shop", "Tea Shop <orders>", "=?utf-8?q?a?=@example.com"])
def test_sender_without_an_address_is_a_configuration_error(text: str) -> None:
    """At start, not at the first mail."""
    with pytest.raises(ConfigurationError, match="REJOINDER_EMAIL_FROM"):
        sender_of(text)
