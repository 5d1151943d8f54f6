"""The cases of the answers of the orders and e-mail services."""

from __future__ import annotations

from typing import Final

from tests.topology.case import (
    DEFAULT,
    DETAILS,
    EARLY,
    EMAIL,
    FAILED,
    FINISHED_TTL_MS,
    RETRY,
    SEND_EMAIL,
    SENT,
    TO_DETAILS,
    TO_EMAIL,
    TO_UNKNOWN,
    WAYS,
    Case,
    at,
    confirmed,
    unconfirmed,
)
from tests.topology.world import (
    COMMAND,
    details,
    not_found,
    refused,
    sent,
)
from topology import events
from topology.messages import (
    FailureReason,
)
from topology.policy import DAY_MS, MINUTE_MS, SECOND_MS, Policy

ANSWERS: Final = (
    Case(
        name="details awaited",
        history=TO_DETAILS,
        now_ms=SECOND_MS,
        message=details(version=7),
        step=DETAILS,
        branch=0,
        to=EMAIL,
        recorded=(
            events.OrderDetailsRetrieved(SECOND_MS, at("order-details", 1), 7),
            events.EmailRequested(SECOND_MS, at("order-details", 1), 1),
        ),
        owed=(SEND_EMAIL,),
        bodies=(True, True),
        due_ms=SECOND_MS + DAY_MS,
    ),
    Case(
        name="last missing",
        history=TO_DETAILS,
        now_ms=SECOND_MS,
        message=not_found(),
        step=DETAILS,
        branch=0,
        to=FAILED,
        recorded=(
            events.OrderDetailsMissing(SECOND_MS, at("order-details", 1), 1),
            events.ConfirmationFailed(SECOND_MS, at("order-details", 1), FailureReason.ORDER_NOT_FOUND),
        ),
        owed=(
            unconfirmed(FailureReason.ORDER_NOT_FOUND, "the orders service knows no such order; queries: 1", SECOND_MS),
        ),
        bodies=(False, False),
        due_ms=SECOND_MS + FINISHED_TTL_MS,
        policy=Policy(not_found_attempts=1),
    ),
    Case(
        name="missing",
        history=TO_DETAILS,
        now_ms=SECOND_MS,
        message=not_found(),
        step=DETAILS,
        branch=1,
        to=DETAILS,
        recorded=(events.OrderDetailsMissing(SECOND_MS, at("order-details", 1), 1),),
        owed=(),
        bodies=(True, False),
        due_ms=SECOND_MS + DEFAULT.backoff_ms(COMMAND, 1),
    ),
    *(
        Case(
            name=f"sent while {step.title}",
            history=WAYS[step],
            now_ms=MINUTE_MS,
            message=sent(),
            step=step,
            branch=0,
            to=SENT,
            recorded=(events.EmailSent(MINUTE_MS, at("email", len(WAYS[step]))),),
            owed=(confirmed(MINUTE_MS),),
            bodies=(False, False),
            due_ms=MINUTE_MS + FINISHED_TTL_MS,
        )
        for step in (EARLY, DETAILS, EMAIL, RETRY)
    ),
    Case(
        name="sent after its outcome was unknown",
        history=TO_UNKNOWN,
        now_ms=2 * DAY_MS,
        message=sent(),
        step=FAILED,
        branch=0,
        to=SENT,
        recorded=(events.EmailSent(2 * DAY_MS, at("email", 3)),),
        owed=(confirmed(2 * DAY_MS),),
        bodies=(False, False),
        due_ms=2 * DAY_MS + FINISHED_TTL_MS,
    ),
    Case(
        name="refused for ever",
        history=TO_EMAIL,
        now_ms=MINUTE_MS,
        message=refused("no such mailbox", permanent=True),
        step=EMAIL,
        branch=0,
        to=FAILED,
        recorded=(
            events.EmailFailed(MINUTE_MS, at("email", 2), permanent=True, reason="no such mailbox"),
            events.ConfirmationFailed(MINUTE_MS, at("email", 2), FailureReason.EMAIL_REJECTED),
        ),
        owed=(
            unconfirmed(
                FailureReason.EMAIL_REJECTED, "not accepted; tries: 1, last answer: no such mailbox", MINUTE_MS
            ),
        ),
        bodies=(False, False),
        due_ms=MINUTE_MS + FINISHED_TTL_MS,
    ),
    Case(
        name="refused for now",
        history=TO_EMAIL,
        now_ms=MINUTE_MS,
        message=refused(),
        step=EMAIL,
        branch=1,
        to=RETRY,
        recorded=(events.EmailFailed(MINUTE_MS, at("email", 2), permanent=False, reason="mailbox full"),),
        owed=(),
        bodies=(True, True),
        due_ms=MINUTE_MS + DEFAULT.backoff_ms(COMMAND, 1),
    ),
    Case(
        name="refused for now, for the last time",
        history=TO_EMAIL,
        now_ms=MINUTE_MS,
        message=refused(),
        step=EMAIL,
        branch=1,
        to=RETRY,
        recorded=(events.EmailFailed(MINUTE_MS, at("email", 2), permanent=False, reason="mailbox full"),),
        owed=(),
        bodies=(True, True),
        due_ms=MINUTE_MS,
        policy=Policy(email_attempts=1),
    ),
    Case(
        name="refused for now, shortly before it is given up",
        history=TO_EMAIL,
        now_ms=DAY_MS - 1,
        message=refused(),
        step=EMAIL,
        branch=1,
        to=RETRY,
        recorded=(events.EmailFailed(DAY_MS - 1, at("email", 2), permanent=False, reason="mailbox full"),),
        owed=(),
        bodies=(True, True),
        due_ms=DAY_MS,
    ),
)
