"""The waits and attempts of a process. Durations are milliseconds."""

from __future__ import annotations

from typing import Final, NamedTuple

from topology.ids import fraction

SECOND_MS: Final = 1_000
MINUTE_MS: Final = 60 * SECOND_MS
HOUR_MS: Final = 60 * MINUTE_MS
DAY_MS: Final = 24 * HOUR_MS

NEVER_ASK: Final = -1


class Policy(NamedTuple):
    """What may be set of a process's rules; the defaults are production's."""

    ask_after_ms: int = 0
    """When a command without known details asks for them: 0 at once, `NEVER_ASK` never (a plain join)."""
    details_max_age_ms: int = HOUR_MS
    """Known details younger than this are used without asking; not looked at when nothing is ever asked."""
    details_ttl_ms: int = 7 * DAY_MS
    retry_first_ms: int = 30 * SECOND_MS
    retry_most_ms: int = HOUR_MS
    not_found_attempts: int = 3
    give_up_after_ms: int = DAY_MS
    """From the command's arrival: no query and no repeated e-mail after it."""
    email_attempts: int = 10
    email_outcome_wait_ms: int = DAY_MS
    finished_ttl_ms: int = 35 * DAY_MS
    """Longer than any topic or dead letter is kept, so that no duplicate finds its process forgotten."""
    processes_max: int = 100
    """Processes of one order; one more command is refused."""

    def backoff_ms(self, command_id: str, attempt: int) -> int:
        """
        Return the wait after the *attempt*-th try (from 1): exponential, between half and all of it by jitter.

        Source: Brooker, "Exponential Backoff and Jitter", AWS, 2015 ("equal jitter").
        """
        # The shift is bounded, so that a large attempt makes no large number.
        wait_ms = min(self.retry_first_ms << min(attempt - 1, 32), self.retry_most_ms)
        return int(wait_ms * (0.5 + 0.5 * fraction(command_id, attempt)))
