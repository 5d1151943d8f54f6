"""
Rendering: from a SendEmail to the mail that goes out, text and HTML, in the customer's language.

A template is a directory of languages: ``templates/order-confirmation/de/{subject.txt,body.txt,body.html}``. The same
SendEmail with the same Date is the same mail, byte for byte.

What a customer or a shop typed is never trusted in a header: control characters become spaces, and ``=?`` is taken
apart. The latter is no pedantry: Python's e-mail package before 3.11.10 and 3.12.5 decodes an encoded word in a name
and writes the line feed and the header that were hidden in it (CVE-2024-6923).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal, localcontext
from email.errors import HeaderParseError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, parseaddr
from pathlib import Path
from typing import Any, Final, NamedTuple

from babel import Locale, UnknownLocaleError
from babel.dates import format_datetime as format_local_datetime
from babel.numbers import NumberPattern, format_decimal
from email_validator import validate_email
from iso4217 import Currency
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from streams.errors import ConfigurationError
from streams.masking import mask_addresses

_TEMPLATES: Final = Path(__file__).with_name("templates")
_LANGUAGES: Final = {
    template.name: frozenset(language.name for language in template.iterdir())
    for template in _TEMPLATES.iterdir()
    if template.is_dir()
}
LANGUAGE_DEFAULT: Final = "en"

# Seven bits, so that no mail server needs an extension for it.
_POLICY: Final = SMTP.clone(cte_type="7bit")
_CODE_AT_NUMBER: Final = re.compile(r"(?<=[^\W\d_])(?=\d)|(?<=\d)(?=[^\W\d_])")
_HEADER_NAME: Final = re.compile(rb"^([!-9;-~]+):", re.MULTILINE)
_DISPLAY_NAME_CHARS_MAX: Final = 200
_DIGITS_MAX: Final = 50  # An int times a long has 29 at most; Python's own 28 would be one too few.
_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")

_ENVIRONMENT: Final = Environment(
    loader=FileSystemLoader(_TEMPLATES),
    autoescape=select_autoescape(["html"], default=False),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
)


class Unsendable(Exception):
    """This SendEmail can never become a mail; says why."""


class Mail(NamedTuple):
    """A mail as SMTP wants it: the envelope's addresses, and the message (RFC 5322, CRLF line ends, ASCII)."""

    sender: str
    recipient: str
    data: bytes


def message_id(email_id: str, domain: str) -> str:
    """Return the Message-ID of a mail."""
    return f"<{email_id}@{domain}>"


def sender_of(text: str) -> Address:
    """
    Return the From that *text*, "Name <address>" or an address, stands for.

    Raises:
        ConfigurationError: it is none.
    """
    name, address = parseaddr(text)
    try:
        return Address(display_name=_for_header(name), addr_spec=_ascii_address(address))
    except (ValueError, HeaderParseError) as exc:
        raise ConfigurationError(f"REJOINDER_EMAIL_FROM={text!r}: {exc}; allowed: Name <address>") from exc


def render(send_email: dict[str, Any], sender: Address, message_id: str, date_ms: int) -> Mail:
    """
    Return the mail that a SendEmail record asks for.

    Args:
        send_email: The record.
        sender: From; also the envelope's.
        message_id: The Message-ID, with its angle brackets.
        date_ms: The Date, Unix milliseconds.

    Raises:
        Unsendable: an unknown template or currency, an instant out of range, or an address that is none.
    """
    order = send_email["order"]
    recipient = _recipient(order["customer"]["name"], order["customer"]["email"])
    mail = EmailMessage(policy=_POLICY)
    mail["From"] = sender
    mail["To"] = recipient
    mail["Date"] = format_datetime(datetime.fromtimestamp(date_ms // 1_000, UTC))
    mail["Message-ID"] = message_id
    # Out-of-office replies would reach nobody who wants them (RFC 3834).
    mail["Auto-Submitted"] = "auto-generated"
    _fill(mail, send_email)
    return Mail(sender.addr_spec, recipient.addr_spec, _serialised(mail))


def choose_language(wanted: str, available: frozenset[str]) -> tuple[str, Locale]:
    """
    Return the language to write in and the locale for numbers and dates: de-AT is written in de, as in Austria.

    A language that isn't *available* becomes the default one.
    """
    parts = wanted.replace("_", "-").split("-")
    if (language := parts[0].lower()) not in available:
        return LANGUAGE_DEFAULT, Locale.parse(LANGUAGE_DEFAULT)
    try:
        return language, Locale.parse("_".join(parts))
    except (ValueError, UnknownLocaleError):
        return language, Locale.parse(language)


def money(amount: int, currency: str, locale: Locale) -> str:
    """
    Return *amount*, in minor units of *currency*, as *locale* writes it: 1 295 is €12.95, ¥1,295 or KWD 1.295.

    Raises:
        Unsendable: *currency* is no ISO 4217 code of money.
    """
    try:
        exponent = Currency(currency).exponent
    except ValueError:
        exponent = None
    if exponent is None:
        raise Unsendable(f"unknown currency {currency!r}; an ISO 4217 code is expected")
    standard = locale.currency_formats["standard"]
    # The locale's pattern, but with ISO's minor units: a locale hides those that nobody uses, and with them a factor.
    pattern = NumberPattern(
        standard.pattern,
        standard.prefix,
        standard.suffix,
        standard.grouping,
        standard.int_prec,
        (exponent, exponent),
        standard.exp_prec,
        standard.exp_plus,
        standard.number_pattern,
    )
    with localcontext(prec=_DIGITS_MAX):
        text = pattern.apply(Decimal(amount).scaleb(-exponent), locale, currency=currency, currency_digits=False)
    # As CLDR has it ("currency spacing"), and babel leaves to us: a code is kept apart from its number.
    return _CODE_AT_NUMBER.sub("\u00a0", str(text))


def one_line(text: str) -> str:
    """Return *text* without control characters and line breaks, and with single spaces."""
    return " ".join(_CONTROLS.sub(" ", text).split())


def _fill(mail: EmailMessage, send_email: dict[str, Any]) -> None:
    """Put subject, text and HTML in."""
    template = send_email["template"]
    if template not in _LANGUAGES:
        raise Unsendable(f"unknown template {template!r}; there are: {', '.join(sorted(_LANGUAGES))}")
    language, locale = choose_language(send_email["command"]["locale"], _LANGUAGES[template])
    folder = f"{template}/{language}"
    values = _values(send_email["order"], locale)
    subject = one_line(_rendered(f"{folder}/subject.txt", values))
    values |= {"subject": subject, "language": language}
    mail["Subject"] = _for_header(subject)
    mail.set_content(_rendered(f"{folder}/body.txt", values), cte="quoted-printable")
    mail.add_alternative(_rendered(f"{folder}/body.html", values), subtype="html", cte="quoted-printable")
    # "=_" can't occur in quoted-printable text, so the boundary needs no luck (RFC 2045, section 6.7).
    mail.set_boundary(f"=_{send_email['email_id']}")
    mail["Content-Language"] = language


def _serialised(mail: EmailMessage) -> bytes:
    """Return the message's bytes, and make sure that they hold the headers that were set and no other."""
    try:
        data = mail.as_bytes()
    except (ValueError, IndexError, TypeError, HeaderParseError) as exc:
        # Not the error's text, which may quote the name.
        raise Unsendable(f"the name or the order id can't be written in a header: {type(exc).__name__}") from exc
    written = [name.decode() for name in _HEADER_NAME.findall(data.partition(b"\r\n\r\n")[0])]
    if written != mail.keys():
        raise Unsendable(f"the name or the order id would write other headers: {', '.join(written)}")
    return data


def _values(order: dict[str, Any], locale: Locale) -> dict[str, Any]:
    currency = order["currency"]
    return {
        "order_id": one_line(order["order_id"]),
        "customer": one_line(order["customer"]["name"]),
        "placed_at": _placed_at(order["placed_at"], locale),
        "lines": [
            {
                "sku": one_line(line["sku"]),
                "name": one_line(line["name"]),
                "quantity": format_decimal(line["quantity"], locale=locale),
                "unit_price": money(line["unit_price"], currency, locale),
                "amount": money(line["quantity"] * line["unit_price"], currency, locale),
            }
            for line in order["lines"]
        ],
        "total": money(order["total"], currency, locale),
        "shipping_address": [part for line in order["shipping_address"].splitlines() if (part := one_line(line))],
    }


def _rendered(path: str, values: dict[str, Any]) -> str:
    return _ENVIRONMENT.get_template(path).render(values)


def _placed_at(at_ms: int, locale: Locale) -> str:
    try:
        at = datetime.fromtimestamp(at_ms // 1_000, UTC)
    except (ValueError, OverflowError, OSError) as exc:
        raise Unsendable(f"placed_at is no instant: {at_ms}: {exc}") from exc
    return format_local_datetime(at, "long", locale=locale)


def _recipient(name: str, address: str) -> Address:
    """Return the To; refuse what is no address, and what needs a mail server with SMTPUTF8."""
    try:
        ascii_address = _ascii_address(address)
        return Address(display_name=_for_header(name)[:_DISPLAY_NAME_CHARS_MAX], addr_spec=ascii_address)
    except (ValueError, HeaderParseError) as exc:
        # A ValueError is what email_validator raises, and what Python's header parser finds beyond it.
        why = mask_addresses(str(exc), address, *address.split("@"))
        raise Unsendable(f"the customer's address can't be used: {why}") from exc


def _ascii_address(address: str) -> str:
    """Return *address* with its domain in ASCII; whether it exists is for the mail server to find out."""
    valid = validate_email(address, allow_smtputf8=False, check_deliverability=False, globally_deliverable=False)
    assert valid.ascii_email is not None  # Without SMTPUTF8 there is always one.
    return valid.ascii_email


def _for_header(text: str) -> str:
    return one_line(text).replace("=?", "= ?")
