"""Tables: Faust's manager without changelog channels and without its recovery."""

from __future__ import annotations

from typing import Any

from faust.tables.manager import TableManager as FaustTableManager


class TableManager(FaustTableManager):
    """The session restores stores before a record of theirs is decided, so Faust has nothing to recover."""

    async def on_start(self) -> None:
        self._tables_finalized.set()
        for table in self.values():
            await table.maybe_start()
        self._tables_registered.set()

    def on_partitions_revoked(self, revoked: set[Any]) -> None:
        """Nothing: the session has closed the stores already."""

    async def wait_until_recovery_completed(self) -> bool:
        return False
