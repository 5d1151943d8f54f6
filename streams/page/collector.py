"""One thread that takes pictures as long as somebody looks, and tells all who look, however many they are."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, Callable
from typing import Any, Final, Protocol

import structlog

log = structlog.get_logger(__name__)

EVERY_S: Final = 2.0
"""From one picture to the next."""
LINGER_S: Final = 15.0
"""After the last one has gone: a page that is loaded again finds rates and statuses."""
BEAT_S: Final = 10.0
"""Without a picture for so long, a sign of life is sent."""
BEAT: Final = b": still here\n\n"


class Camera(Protocol):
    """`pictures.Pictures`' face."""

    def take(self) -> dict[str, Any]:
        """Return what there is now."""

    def close(self) -> None:
        """Let go of everything."""


class Collector:
    """
    Lives beside the records; *open_camera* is called in its thread.

    `stream` is called in the event loop, always the same one.
    """

    def __init__(self, open_camera: Callable[[], Camera], every_s: float = EVERY_S, linger_s: float = LINGER_S) -> None:
        self._open_camera = open_camera
        self._every_s = every_s
        self._linger_s = linger_s
        self._lock = threading.Lock()
        self._lookers = 0
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._stopped = False
        self._loop: asyncio.AbstractEventLoop | None = None
        # The event loop's own.
        self._last: bytes | None = None
        self._changed = asyncio.Event()

    def start(self) -> None:
        """Do nothing before somebody looks."""

    def stop(self) -> None:
        """Take no more pictures."""
        with self._lock:
            self._stopped = True
            self._wake.set()

    @property
    def alive(self) -> bool:
        """Whether pictures are taken."""
        return self._thread is not None and self._thread.is_alive()

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """Yield server-sent events, for ever: the last picture, then each new one; comments while there is none."""
        self._enter()
        try:
            sent: bytes | None = None
            while True:
                # Whoever is slow misses pictures, and gets the newest next.
                if self._last is not None and self._last is not sent:
                    sent = self._last
                    yield sent
                    continue
                try:
                    async with asyncio.timeout(BEAT_S):
                        await self._changed.wait()
                except TimeoutError:
                    yield BEAT
        finally:
            self._leave()

    def _enter(self) -> None:
        self._loop = asyncio.get_running_loop()
        with self._lock:
            self._lookers += 1
            if self._thread is None and not self._stopped:
                self._last = None
                self._wake.clear()
                self._thread = threading.Thread(target=self._run, name="rejoinder-page", daemon=True)
                self._thread.start()

    def _leave(self) -> None:
        with self._lock:
            self._lookers -= 1

    # The thread.

    def _run(self) -> None:
        camera = self._open_camera()
        left_s = 0.0
        while True:
            self._tell(json.dumps(camera.take(), separators=(",", ":")))
            self._wake.wait(self._every_s)
            with self._lock:
                left_s = 0.0 if self._lookers else left_s + self._every_s
                if self._stopped or left_s > self._linger_s:
                    self._thread = None
                    break
        camera.close()

    def _tell(self, text: str) -> None:
        loop = self._loop
        assert loop is not None, "somebody looks"
        try:
            loop.call_soon_threadsafe(self._publish, f"event: picture\ndata: {text}\n\n".encode())
        except RuntimeError:  # The loop is closed: the process ends.
            log.debug("nobody looks any more")

    def _publish(self, event: bytes) -> None:
        self._last = event
        self._changed.set()
        self._changed = asyncio.Event()
