"""The cases of deadlines."""

from __future__ import annotations

from typing import Final

from tests.topology.case import (
    ABSENT,
    ASK_LATER,
    DEFAULT,
    DETAILS,
    EARLY,
    EMAIL,
    FAILED,
    FINISHED_TTL_MS,
    PLAIN_JOIN,
    RETRY,
    SEND_EMAIL,
    SENT,
    TO_DETAILS,
    TO_EMAIL,
    TO_RETRY,
    WAYS,
    Case,
    get_order_details,
    unconfirmed,
)
from tests.topology.world import (
    COMMAND,
    DEADLINE_PASSED,
)
from topology import events
from topology.events import DEADLINE
from topology.messages import (
    FailureReason,
)
from topology.policy import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, Policy

DEADLINES: Final = (
    *(
        Case(
            name=f"forgotten when {step.title}",
            history=WAYS[step],
            now_ms=40 * DAY_MS,
            message=DEADLINE_PASSED,
            step=step,
            branch=0,
            to=ABSENT,
            recorded=(),
            owed=(),
            bodies=(False, False),
            due_ms=None,
            policy=Policy(details_ttl_ms=400 * DAY_MS),
        )
        for step in (EARLY, SENT, FAILED)
    ),
    *(
        Case(
            name=f"no details until given up, {name}",
            history=TO_DETAILS,
            now_ms=DAY_MS,
            message=DEADLINE_PASSED,
            step=DETAILS,
            branch=0,
            to=FAILED,
            recorded=(events.ConfirmationFailed(DAY_MS, DEADLINE, FailureReason.ORDER_DETAILS_TIMED_OUT),),
            owed=(
                unconfirmed(
                    FailureReason.ORDER_DETAILS_TIMED_OUT, f"no order details came in time; queries: {queries}", DAY_MS
                ),
            ),
            bodies=(False, False),
            due_ms=DAY_MS + FINISHED_TTL_MS,
            policy=policy,
            history_policy=policy,
        )
        for name, policy, queries in (("asked", DEFAULT, 1), ("never asked", PLAIN_JOIN, 0))
    ),
    Case(
        name="no answer yet",
        history=TO_DETAILS,
        now_ms=MINUTE_MS,
        message=DEADLINE_PASSED,
        step=DETAILS,
        branch=1,
        to=DETAILS,
        recorded=(events.OrderDetailsQueried(MINUTE_MS, DEADLINE, 2),),
        owed=(get_order_details(2, MINUTE_MS),),
        bodies=(True, False),
        due_ms=MINUTE_MS + DEFAULT.backoff_ms(COMMAND, 2),
    ),
    Case(
        name="not published unasked in time",
        history=TO_DETAILS,
        now_ms=MINUTE_MS,
        message=DEADLINE_PASSED,
        step=DETAILS,
        branch=1,
        to=DETAILS,
        recorded=(events.OrderDetailsQueried(MINUTE_MS, DEADLINE, 1),),
        owed=(get_order_details(1, MINUTE_MS),),
        bodies=(True, False),
        due_ms=MINUTE_MS + ASK_LATER.backoff_ms(COMMAND, 1),
        policy=ASK_LATER,
        history_policy=ASK_LATER,
    ),
    Case(
        name="no answer yet, asking switched off",
        history=TO_DETAILS,
        now_ms=MINUTE_MS,
        message=DEADLINE_PASSED,
        step=DETAILS,
        branch=2,
        to=DETAILS,
        recorded=(),
        owed=(),
        bodies=(True, False),
        due_ms=DAY_MS,
        policy=PLAIN_JOIN,
    ),
    Case(
        name="no outcome",
        history=TO_EMAIL,
        now_ms=SECOND_MS + DAY_MS,
        message=DEADLINE_PASSED,
        step=EMAIL,
        branch=0,
        to=FAILED,
        recorded=(events.ConfirmationFailed(SECOND_MS + DAY_MS, DEADLINE, FailureReason.EMAIL_OUTCOME_UNKNOWN),),
        owed=(
            unconfirmed(
                FailureReason.EMAIL_OUTCOME_UNKNOWN,
                "the e-mail was requested, but what became of it wasn't reported",
                SECOND_MS + DAY_MS,
            ),
        ),
        bodies=(False, False),
        due_ms=SECOND_MS + DAY_MS + FINISHED_TTL_MS,
    ),
    Case(
        name="retried",
        history=TO_RETRY,
        now_ms=HOUR_MS,
        message=DEADLINE_PASSED,
        step=RETRY,
        branch=0,
        to=EMAIL,
        recorded=(events.EmailRequested(HOUR_MS, DEADLINE, 2),),
        owed=(SEND_EMAIL,),
        bodies=(True, True),
        due_ms=HOUR_MS + DAY_MS,
    ),
    *(
        Case(
            name=f"retried no more: {name}",
            history=TO_RETRY,
            now_ms=now_ms,
            message=DEADLINE_PASSED,
            step=RETRY,
            branch=1,
            to=FAILED,
            recorded=(events.ConfirmationFailed(now_ms, DEADLINE, FailureReason.EMAIL_REJECTED),),
            owed=(
                unconfirmed(FailureReason.EMAIL_REJECTED, "not accepted; tries: 1, last answer: mailbox full", now_ms),
            ),
            bodies=(False, False),
            due_ms=now_ms + FINISHED_TTL_MS,
            policy=policy,
        )
        for name, now_ms, policy in (
            ("too many tries", HOUR_MS, Policy(email_attempts=1)),
            ("too late", DAY_MS, DEFAULT),
        )
    ),
)
