"""A browser, and what it looks at; of the tier ``browser``, in an environment of its own: ``./dev browser``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from playwright.sync_api import Browser, Page, expect

from streams.local.kafka import LocalKafka
from tests.browser.chromium import chromium
from tests.browser.scene import TOKEN, Scene, scene, sign_in

_HERE = Path(__file__).parent
PATIENCE_MS: Final = 60_000.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all tests below this directory, and only those: the hook is given every test of the session."""
    for item in items:
        if item.path.is_relative_to(_HERE):
            item.add_marker(pytest.mark.broker)
            item.add_marker(pytest.mark.system)
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.timeout(300))


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Return the system that the tests share."""
    directory = tmp_path_factory.mktemp("browser")
    with LocalKafka(directory / "kafka") as kafka, scene(kafka, directory, "look") as one:
        yield one


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Return the browser that the tests share."""
    expect.set_options(timeout=PATIENCE_MS)
    with chromium() as one:
        yield one


class Visit:
    """A page in the browser, and all that went wrong on it; *asked*: every URL that it loaded."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.wrong: list[str] = []
        self.asked: list[str] = []
        page.set_default_timeout(PATIENCE_MS)
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("console", lambda line: self.wrong.append(line.text) if line.type in ("error", "warning") else None)
        page.on("request", lambda request: self.asked.append(request.url))

    def open(self, path: str = "/") -> Page:
        """Open the page and sign in."""
        self.page.goto(self.url + path)
        sign_in(self.page)
        # What the browser itself says of the first answer, which asked for the token.
        self.wrong = [line for line in self.wrong if "401" not in line]
        return self.page


@pytest.fixture(params=["light"])
def visit(request: pytest.FixtureRequest, browser: Browser, running: Scene) -> Iterator[Visit]:
    """Return a visit in the colours that the test asks for; nothing may go wrong, or be loaded from elsewhere."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme=request.param)
    one = Visit(context.new_page(), running.url)
    yield one
    context.close()
    assert [] == one.wrong
    assert [] == [url for url in one.asked if not url.startswith(f"{running.url}/")]
    assert [] == [url for url in one.asked if TOKEN in url]
