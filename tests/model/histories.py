"""All that was told of all commands together, numbered; what a kind of decision adds is worked out once."""

from __future__ import annotations

from collections.abc import Sequence

from tests.model.described import email_id
from tests.model.history import NOTHING, Told, told_after
from tests.model.rows import Rows
from topology.messages import CancelOrderConfirmation, Message, SendOrderConfirmationEmail


class Histories:
    """All that was told of all commands, numbered (`history.Told`, in the order of *command_ids*)."""

    def __init__(self, rows: Rows, command_ids: Sequence[str]) -> None:
        self.of: list[tuple[Told, ...]] = []
        self._rows = rows
        self._command_ids = list(command_ids)
        self._ids = [(command_id, frozenset({command_id, email_id(command_id)})) for command_id in command_ids]
        self._number_of: dict[tuple[Told, ...], int] = {}
        self._after: dict[tuple[int, int], int] = {}
        self.first = self._number((NOTHING,) * len(command_ids))

    def after(self, history: int, kind: int) -> int:
        """
        Return the history after a decision of this kind.

        Raises:
            Violation: a promise about a command is broken.
        """
        after = self._after.get((history, kind))
        if after is None:
            after = self._after[history, kind] = self._number(self._tell(self.of[history], kind))
        return after

    def may_be_said(self, history: int, message: Message) -> bool:
        """Return whether *message* is no command, and no cancel, of which everything was forgotten."""
        if not isinstance(message, SendOrderConfirmationEmail | CancelOrderConfirmation):
            return True
        return not self.of[history][self._command_ids.index(message.command_id)].gone

    def _tell(self, history: tuple[Told, ...], kind: int) -> tuple[Told, ...]:
        message, owed, forgotten, known, refused = self._rows.kinds[kind]
        if refused:
            return history
        return tuple(
            told_after(
                told,
                command_id,
                message,
                tuple(action for owner, action in owed if owner == command_id),
                forgotten=bool(forgotten & ids) and not known & ids,
            )
            for told, (command_id, ids) in zip(history, self._ids, strict=True)
        )

    def _number(self, history: tuple[Told, ...]) -> int:
        number = self._number_of.setdefault(history, len(self.of))
        if number == len(self.of):
            self.of.append(history)
        return number
