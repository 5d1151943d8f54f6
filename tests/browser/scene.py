"""What a browser looks at: a whole running system, through which orders flow, some of which fail."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

from playwright.sync_api import Page, expect

from streams.demo.system import System
from streams.local.kafka import LocalKafka
from tests.broker.harness import PARTITIONS, produce
from tests.broker.test_system import World
from topology.topics import COMMANDS

TOKEN: Final = "look-0123456789abcdef"  # noqa: S105 - nobody's.
ORDERS: Final = 4_000
UNKNOWN: Final = "order-of-nobody"
"""Begins the ids of orders that the orders service doesn't know."""


class Scene:
    """A running system whose workers serve the page, to those who have `TOKEN`."""

    def __init__(self, world: World, system: System) -> None:
        self.world = world
        self.system = system

    @property
    def url(self) -> str:
        """The first worker's."""
        return self.system.workers[0].url

    def deliver(self, count: int) -> list[str]:
        """Have *count* orders confirmed; return their ids."""
        order_ids = self.world.orders(count)
        self.world.wait_for_mails(self.world.command(order_ids))
        return order_ids

    def fail(self, count: int) -> list[str]:
        """Command e-mails for *count* orders that there are none of; return their ids."""
        order_ids = [f"{UNKNOWN}-{number}" for number in range(count)]
        self.world.command(order_ids)
        return order_ids

    def refuse(self, count: int) -> None:
        """Send *count* records that nobody can read."""
        produce(self.world.settings, COMMANDS.name, {f"odd-{number}": b"no record" for number in range(count)})

    def flowing(self, records: int = 5, every_s: float = 0.25) -> Flow:
        """Return a context in which *records* commands come every *every_s*."""
        return Flow(self.world, records, every_s)


class Flow:
    """Commands that go on coming, from a thread."""

    def __init__(self, world: World, records: int, every_s: float) -> None:
        self._world = world
        self._records = records
        self._every_s = every_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(self._every_s):
            self._world.command(self._world.orders(self._records))


def sign_in(page: Page) -> None:
    """Give the token, and wait for the first picture."""
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("#connection")).to_have_text("Live")


@contextmanager
def scene(kafka: LocalKafka, directory: Path, name: str, orders: int = ORDERS) -> Iterator[Scene]:
    """Run a system on *kafka*: two workers and the services."""
    world = World(kafka, directory / "world", name)
    world.environment |= {
        "REJOINDER_WEB_PAGE": "on",
        "REJOINDER_WEB_TOKEN": TOKEN,
        "REJOINDER_NOT_FOUND_ATTEMPTS": "2",
    }
    world.seed(orders)
    system = System(world.directory, world.environment, 2, PARTITIONS)
    try:
        system.start()
        yield Scene(world, system)
    finally:
        system.stop()
        world.smtp.stop()
