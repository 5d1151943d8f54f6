"""What is written: the process manager's outcomes and queries, and whole records of services and tools."""

from __future__ import annotations

from typing import Any, Final

import pytest

from schemas.catalog import Catalog, releases
from schemas.codec import Codec, frame
from topology.messages import FailureReason, GetOrderDetails, OrderConfirmationFailed, OrderConfirmationSent

ORDER: Final = "order-ä"
ID: Final = "84cb5261-7fa3-5e40-bcde-776adb8b06ba"
OTHER_ID: Final = "8fdfd854-c805-5c5f-ac1e-70b901ae72df"
NOW_MS: Final = 1_764_000_000_000
IDS: Final = {release.record: release.id for release in releases()}
COMMAND: Final = "communications.SendOrderConfirmationEmail"
COMMAND_FIELDS: Final[dict[str, Any]] = {
    "command_id": ID,
    "order_id": ORDER,
    "requested_at": NOW_MS,
    "requested_by": "shop",
    "locale": "de",
}


@pytest.fixture
def codec() -> Codec:
    """Return the codec of the committed schemas."""
    return Codec(Catalog.from_files())


@pytest.mark.parametrize(
    ("action", "record", "fields"),
    [
        (
            GetOrderDetails(ORDER, ID, 2, NOW_MS),
            "orders.GetOrderDetails",
            {"query_id": ID, "order_id": ORDER, "attempt": 2, "asked_at": NOW_MS},
        ),
        (
            OrderConfirmationSent(ORDER, ID, OTHER_ID, NOW_MS),
            "communications.OrderConfirmationSent",
            {"command_id": ID, "order_id": ORDER, "email_id": OTHER_ID, "ended_at": NOW_MS},
        ),
        *(
            (
                OrderConfirmationFailed(ORDER, ID, reason, "détail", NOW_MS),
                "communications.OrderConfirmationFailed",
                {"command_id": ID, "order_id": ORDER, "reason": reason.value, "detail": "détail", "ended_at": NOW_MS},
            )
            for reason in FailureReason
        ),
    ],
)
def test_action_becomes_its_record(
    codec: Codec,
    action: GetOrderDetails | OrderConfirmationSent | OrderConfirmationFailed,
    record: str,
    fields: dict[str, Any],
) -> None:
    """All that the process manager produces besides e-mails, every failure reason among it."""
    value = codec.encode(action)

    assert frame(IDS[record]) == value[:5]
    assert (record, fields) == codec.decode_record(value)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"command_id": "no uuid"}, "is no UUID in canonical form"),
        ({"requested_at": "now"}, COMMAND),
        ({"requested_at": 1 << 70}, COMMAND),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_record_that_couldnt_be_read_isnt_written(codec: Codec, fields: dict[str, Any], why: str) -> None:
    """Whoever makes a wrong record is told, instead of whoever reads it."""
    with pytest.raises(ValueError, match=why):
        codec.encode_record(COMMAND, COMMAND_FIELDS | fields)


def test_left_out_field_gets_its_default(codec: Codec) -> None:
    """The contract's default, not ours."""
    fields = {name: value for name, value in COMMAND_FIELDS.items() if name != "locale"}

    assert (COMMAND, fields | {"locale": "en"}) == codec.decode_record(codec.encode_record(COMMAND, fields))
