"""The machine's own Chromium, driven by Playwright: none is downloaded."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from playwright.sync_api import Browser, sync_playwright

NAMES: Final = ("chromium", "chromium-browser", "google-chrome")


class NoBrowserError(Exception):
    """There is none; the message says what to do."""


@contextmanager
def chromium() -> Iterator[Browser]:
    """
    Run a browser.

    Raises:
        NoBrowserError: this machine has none.
    """
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        raise NoBrowserError(f"no {', '.join(NAMES)} on PATH; install one (apt-get install chromium) and try again")
    # Chromium's sandbox doesn't run as root; what is looked at is our own.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=arguments)
        try:
            yield browser
        finally:
            browser.close()
