"""The comparison's input, and how its output is judged."""

from bench.dataset import SEND_EMAIL, Check, Expected, Templates, command_id, number_of, order_id, pairs
from schemas.catalog import Catalog
from schemas.codec import Codec
from topology.ids import email_id
from topology.messages import OrderDetailsRetrieved, SendEmail, SendOrderConfirmationEmail
from topology.topics import COMMANDS, DETAILS

TEMPLATES = Templates()
CODEC = Codec(Catalog.from_files())


def test_the_halves_are_valid_and_make_the_email_that_is_expected() -> None:
    """The halves are valid and make the email that is expected."""
    for number in (0, 7, 123_456_789):
        details, command = TEMPLATES.details(number), TEMPLATES.command(number)
        first = CODEC.decode(DETAILS.records, details.key, details.value)
        second = CODEC.decode(COMMANDS.records, command.key, command.value)
        assert isinstance(first, OrderDetailsRetrieved)
        assert isinstance(second, SendOrderConfirmationEmail)
        assert second.command_id == command_id(number)
        made_id = email_id(order_id(number), command_id(number))
        made = CODEC.encode(SendEmail(order_id(number), made_id, second.body, first.body))
        assert made == TEMPLATES.email(number)
        name, fields = CODEC.decode_record(made)
        assert name == SEND_EMAIL
        assert fields["order"]["order_id"] == fields["command"]["order_id"] == order_id(number)


def test_answers_and_outcomes_are_valid() -> None:
    """Answers and outcomes are valid."""
    asked = b"0b5e7a4c-9a55-4f0e-8d0a-3c1f6d2b9e01"
    _, answer = CODEC.decode_record(TEMPLATES.answer(b"order-000000042", asked))
    assert str(answer["query_id"]) == asked.decode()
    assert answer["order"]["order_id"] == "order-000000042"
    _, sent = CODEC.decode_record(TEMPLATES.email_sent(b"order-000000042", asked))
    assert str(sent["email_id"]) == asked.decode()
    assert sent["order_id"] == "order-000000042"


def test_a_command_comes_so_many_records_after_its_details() -> None:
    """A command comes so many records after its details."""
    made = [(half.topic, number_of(half.key)) for half in pairs(TEMPLATES, 3, 2)]
    assert made == [
        (DETAILS.name, 0),
        (DETAILS.name, 1),
        (DETAILS.name, 2),
        (COMMANDS.name, 0),
        (COMMANDS.name, 1),
        (COMMANDS.name, 2),
    ]
    assert [number_of(half.key) for half in pairs(TEMPLATES, 2, 0, first=5)] == [5, 5, 6, 6]


def test_a_check_finds_what_is_missing_repeated_or_wrong() -> None:
    """A check finds what is missing repeated or wrong."""
    expected = Expected(TEMPLATES, 4)
    check = expected.new_check()
    for number in (0, 1, 1):
        check.see(order_id(number).encode(), TEMPLATES.email(number))
    check.see(order_id(2).encode(), TEMPLATES.email(3))
    check.see(order_id(9).encode(), TEMPLATES.email(9))
    assert (check.seen, check.missing, check.repeated, check.wrong) == (5, 2, 1, 2)
    other = expected.new_check()
    assert (other.seen, other.missing) == (0, 4)


def test_a_check_without_sums_counts_only() -> None:
    """A check without sums counts only."""
    check = Check(2)
    check.see(order_id(1).encode(), b"anything")
    assert (check.missing, check.repeated, check.wrong) == (1, 0, 0)
