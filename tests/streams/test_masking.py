"""No log line and no reason has a customer's address or one of our secrets."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import structlog

from streams import logs
from streams.masking import Masker, mask_addresses
from streams.settings import load

SECRET = 'p"ä\\s\n0-word'  # noqa: S105 - nobody's.


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("550 5.1.1 <ann@example.com>: unknown", "550 5.1.1 <***@example.com>: unknown"),
        ("ann.b+c@example.com refused, bob@x", "***@example.com refused, ***@x"),
        ("to='zoë@müller.example'", "to='***@müller.example'"),
        ('<"ann b"@example.com>', "<***@example.com>"),
        ("mailto:ann@[10.1.2.3]", "mailto:***@[10.1.2.3]"),
        ("ann%relay@example.com,bob@example.com", "***@example.com,***@example.com"),
        ("a@b@example.com", "***@***@example.com"),
        ("smtp://127.0.0.1:25: refused: 451 later @ noon", "smtp://127.0.0.1:25: refused: 451 later @ noon"),
        ("x" * 100 + "@example.com", "x" * 36 + "***@example.com"),
        ("", ""),
    ],
)
def test_address_is_masked_up_to_its_domain(text: str, expected: str) -> None:
    """Which tells whose mail server it is; what is none stays."""
    assert expected == mask_addresses(text)


def test_known_texts_are_masked_without_an_at() -> None:
    """Where a library quotes a part of an address."""
    assert "after *** comes ***" == mask_addresses("after ann comes annabel", "ann", "annabel", "", "e")


def test_secret_is_masked_however_it_is_written() -> None:
    """As it is, in JSON, in a repr; the longest first; a short one would mask everything."""
    masker = Masker([SECRET, "0-word", "abc", ""])
    forms = [SECRET, json.dumps(SECRET), json.dumps(SECRET, ensure_ascii=False), repr(SECRET)]
    assert ["***", '"***"', '"***"', "'***'"] == [masker(form) for form in forms]
    assert "abc ***" == masker("abc 0-word")
    assert "nothing" == Masker([])("nothing")


@pytest.mark.usefixtures("restored_logging")
@pytest.mark.parametrize("log_format", ["console", "json"])
def test_no_line_has_a_secret_or_an_address(
    log_format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ours, the standard library's, and tracebacks, whatever they quote."""
    (tmp_path / "kafka").write_text("kafka-canary")
    login = {"SECURITY_PROTOCOL": "SASL_PLAINTEXT", "SASL_MECHANISM": "PLAIN", "SASL_USERNAME": "u"}
    for name, value in login.items():
        monkeypatch.setenv(f"REJOINDER_KAFKA_{name}", value)
    monkeypatch.setenv("REJOINDER_KAFKA_SASL_PASSWORD_FILE", str(tmp_path / "kafka"))
    settings = load(
        log_format=log_format, log_level="DEBUG", web_token="token-canary-0123",  # noqa: S106 - nobody's.
        smtp_url="smtp://u:url%2Dcanary@mail", database_url="postgresql://u:data@canary@db/x",
        schema_registry_password=SECRET,
    )  # fmt: skip
    capsys.readouterr()
    logs.configure(settings)
    said = ("kafka-canary", "token-canary-0123", "url%2Dcanary", "url-canary", "data@canary", SECRET, "ann@example.com")
    for text in said:
        logging.getLogger("library").debug("it said %r", text)
        logging.getLogger("library").info("%s", {"headers": [text]})
        structlog.get_logger("ours").warning("event", detail=text)
        try:
            int(text)
        except ValueError:
            logging.getLogger("library").exception("failed")
    lines = capsys.readouterr().err
    assert lines.count("it said") == len(said)
    assert [] == [text for text in (*said, "canary", "0-word", "ann@") if text in lines]
