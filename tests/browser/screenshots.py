"""``./dev screenshots``: the pictures of the page in docs/images/, taken anew of a system that runs."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Final

from playwright.sync_api import Browser, Page, expect

from streams.local.kafka import LocalKafka
from tests.browser.chromium import NoBrowserError, chromium
from tests.browser.scene import Scene, scene, sign_in

IMAGES: Final = Path(__file__).parents[2] / "docs" / "images"
WIDTH: Final = 1200
BOARD_HEIGHT: Final = 1010
SETTLED_MS: Final = 15_000
"""In which rates are those of the flow, and statuses are known."""


def main() -> None:
    """Take them all."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name, chromium() as browser:
        directory = Path(name)
        with LocalKafka(directory / "kafka") as kafka, scene(kafka, directory, "shop") as running:
            order_id = running.deliver(20)[0]
            running.fail(2)
            with running.flowing():
                for colours in ("light", "dark"):
                    _take(browser, running, colours, order_id)


def _take(browser: Browser, running: Scene, colours: str, order_id: str) -> None:
    context = browser.new_context(
        viewport={"width": WIDTH, "height": BOARD_HEIGHT},
        color_scheme="light" if colours == "light" else "dark",
        reduced_motion="reduce",
    )
    page = context.new_page()
    page.goto(running.url)
    sign_in(page)
    page.wait_for_timeout(SETTLED_MS)
    _save(page, f"page-{colours}.png")
    page.goto(f"{running.url}/#/orders/{order_id}")
    order = page.locator("#order")
    expect(order.locator(".timeline li").last).to_contain_text("EmailSent")
    box = order.bounding_box()
    assert box is not None, "it is there"
    page.set_viewport_size({"width": WIDTH, "height": int(box["y"] + box["height"]) + 20})
    page.evaluate("() => scrollTo({ top: 0, behavior: 'instant' })")
    _save(page, f"order-{colours}.png")
    context.close()


def _save(page: Page, name: str) -> None:
    path = IMAGES / name
    page.screenshot(path=path)
    sys.stdout.write(f"{path} {path.stat().st_size // 1024} KiB\n")


if __name__ == "__main__":
    try:
        main()
    except NoBrowserError as exc:
        sys.exit(f"./dev screenshots: {exc}")
