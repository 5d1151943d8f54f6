"""
Answers to heartbeats that were lost, and with them what the group's coordinator had to say.

The coordinator says once what is to change (KIP-848): in the answer to a heartbeat. When that answer is late,
librdkafka 2.16 goes on with heartbeats that don't say what it has, and neither side repeats itself. What the member was
to hand over stays with it until the coordinator's rebalance time-out (max.poll.interval.ms, five minutes), and what it
was given is worked on by nobody, while the group looks well. Who leaves and joins again is told everything.

The coordinator isn't asked what it thinks of us: describing a group while its connection comes and goes may take the
process down (confluentinc/librdkafka#5397).
"""

from __future__ import annotations

import logging
import time
from typing import Final

import structlog

from streams.transport.transaction import SessionOver

log = structlog.get_logger(__name__)

TIMED_OUT: Final = "Timed out ConsumerGroupHeartbeat"
"""What librdkafka's log has of it; a broken connection is told otherwise, and mended by librdkafka itself."""
FIRST_S: Final = 30.0
"""So long after it joined, a member without a partition says what that may come of."""
QUIET_S: Final = 5.0
"""So long after the last answer that didn't come it is seen to, if no rebalance has come meanwhile."""

_librdkafka = logging.getLogger("librdkafka")


class Heartbeats:
    """The log of a member's client, which is written while it is polled, and passed on."""

    def __init__(self) -> None:
        self._joined_s: float | None = time.monotonic()
        self._lost_s: float | None = None

    def log(self, level: int, message: str, *args: object) -> None:
        """Take a line."""
        _librdkafka.log(level, message, *args)
        if any(TIMED_OUT in str(arg) for arg in args):
            self._lost_s = time.monotonic()

    def heard(self) -> None:
        """The coordinator's word has come, by a rebalance."""
        self._joined_s = self._lost_s = None

    def check(self) -> None:
        """
        Look whether a word may be missing.

        Raises:
            SessionOver: it may.
        """
        if self._joined_s is not None and time.monotonic() - self._joined_s > FIRST_S:
            # librdkafka 2.16 says nothing when the brokers don't know the protocol, and tries for ever.
            self._joined_s = None
            log.info(
                "no partition yet: the others have all there are, or the group's coordinator doesn't answer; brokers "
                "before Kafka 4.0 (and those whose group.coordinator.rebalance.protocols leaves consumer out) need "
                "REJOINDER_GROUP_PROTOCOL=classic",
                seconds=FIRST_S,
            )
        if self._lost_s is not None and time.monotonic() - self._lost_s > QUIET_S:
            raise SessionOver("an answer to a heartbeat didn't come; what it said to change nobody says again")
