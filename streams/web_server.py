"""
Faust's web server ``rejoinder://``: its pages are ours alone, and nobody can hold it up.

One request a connection, read and answered within `LIFE_S`, whatever the other side does: so a client that sends a byte
a minute, or reads none, costs a place for as long and no longer. There are few places, and fewer for one address. No
body is read, nothing but GET and HEAD is answered (and POST by one page, see `SKIP`), and what is wrong is said as JSON
without what was asked for. Only a `Stream` goes on for longer, there are few of them, and one that isn't read ends.

None of Faust's own pages is served: ``/table`` shows every row of every table.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from http import HTTPStatus
from typing import Any, ClassVar, Final

import structlog
from aiohttp import web
from aiohttp.web_protocol import RequestHandler
from faust.web.drivers.aiohttp import Web as AiohttpWeb

LIFE_S: Final = 15.0
"""From the connection to the answer's last byte."""
ANSWER_S: Final = 12.0
"""For the page itself, so that one that takes too long is still answered."""
CONNECTIONS_MAX: Final = 128
CONNECTIONS_OF_ONE_MAX: Final = 32
"""Of one address, so that one client leaves the health pages to the others."""
REQUEST_BYTES_MAX: Final = 32_768
"""All of a request: it has no body."""
LINE_BYTES_MAX: Final = 8_190
HEADERS_MAX: Final = 64

STREAM_S: Final = 600.0
"""The longest that a stream goes on; whoever still looks asks again."""
STREAMS_MAX: Final = 16
STREAM_WRITE_S: Final = 10.0
"""In which the other side has to take what is written."""

METHODS: Final = ("GET", "HEAD")
SKIP: Final = "/skip/"
"""What the one page's path begins with that is asked by POST."""
HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Server": "rejoinder",
}
"""Of every answer that doesn't set them itself."""

log = structlog.get_logger(__name__)

_STREAMS: Final = web.AppKey("streams", set["Stream"])

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Web(AiohttpWeb):
    """Faust finds this through the entry point ``faust.web.drivers``."""

    default_blueprints: ClassVar[Any] = ()
    production_blueprints: ClassVar[Any] = ()
    debug_blueprints: ClassVar[Any] = ()
    optional_blueprints: ClassVar[Any] = ()

    def __init__(self, app: Any, **kwargs: Any) -> None:
        super().__init__(app, **kwargs)
        self.web_app = web.Application(middlewares=[_guard])
        self.web_app[_STREAMS] = set()
        self._runner = web.AppRunner(self.web_app, access_log=None)
        self._server: asyncio.Server | None = None
        self.connections: Counter[str] = Counter()
        """Open connections by the other side's address."""

    async def start_server(self) -> None:
        """Listen."""
        await self._runner.setup()
        loop = asyncio.get_running_loop()
        conf = self.app.conf
        self._server = await loop.create_server(lambda: Connection(self, loop), conf.web_bind, conf.web_port)

    async def stop_server(self) -> None:
        """Take no more connections, and end those that there are."""
        if self._server is not None:
            self._server.close()
        # The runner would wait for them.
        for stream in self.web_app[_STREAMS]:
            stream.end()
        await self._runner.cleanup()


class Connection(RequestHandler):
    """One connection, which is one request."""

    def __init__(self, server: Web, loop: asyncio.AbstractEventLoop) -> None:
        manager = server._runner.server
        assert manager is not None, "connections come after start_server"
        super().__init__(
            manager,
            loop=loop,
            access_log=None,  # type: ignore[arg-type]  # What AppRunner passes as well.
            max_line_size=LINE_BYTES_MAX,
            max_field_size=LINE_BYTES_MAX,
            max_headers=HEADERS_MAX,
            lingering_time=0,
        )
        self._open = server.connections
        self._peer = ""
        self._left = REQUEST_BYTES_MAX
        self._end: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, unless there are too many."""
        assert isinstance(transport, asyncio.Transport)
        peer = str((transport.get_extra_info("peername") or ("",))[0])
        if self._open.total() >= CONNECTIONS_MAX or self._open[peer] >= CONNECTIONS_OF_ONE_MAX:
            # Before aiohttp knows of it.
            transport.abort()
            return
        self._peer = peer
        self._open[peer] += 1
        self._end = asyncio.get_running_loop().call_later(LIFE_S, transport.abort)
        super().connection_made(transport)

    def live(self, life_s: float) -> None:
        """Last for *life_s* more seconds at most."""
        if self._end is not None and self.transport is not None:
            self._end.cancel()
            self._end = asyncio.get_running_loop().call_later(life_s, self.transport.abort)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Give the place back."""
        if self._end is None:
            return
        self._end.cancel()
        self._end = None
        self._open[self._peer] -= 1
        self._open += Counter()  # Drops the zeros: there are many addresses.
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read, up to a request's size."""
        self._left -= len(data)
        if self._left < 0 and self.transport is not None:
            self.transport.abort()
        elif self._end is not None:
            super().data_received(data)

    def handle_error(
        self,
        request: web.BaseRequest,  # noqa: ARG002 - aiohttp's interface.
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - it quotes the request.
    ) -> web.StreamResponse:
        """Answer what is no request, without repeating any of it."""
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            log.error("a page failed", exc_info=exc)
        answer = problem(status, HTTPStatus(status).phrase)
        answer.force_close()
        return answer


class Stream(web.StreamResponse):
    """
    An answer that goes on for up to `STREAM_S`; *open_parts* begins what it consists of.

    A page returns it; it is sent outside of `ANSWER_S`. Of `STREAMS_MAX` at a time, those beyond are answered with 503.
    """

    def __init__(self, content_type: str, open_parts: Callable[[], AsyncGenerator[bytes, None]]) -> None:
        super().__init__(headers={"Content-Type": content_type})
        self._open_parts = open_parts
        self._until: asyncio.Timeout | None = None
        self._ended = False

    def end(self) -> None:
        """Let it end now, or as soon as it begins."""
        self._ended = True
        if self._until is not None:
            self._until.reschedule(asyncio.get_running_loop().time())

    async def send(self, request: web.Request) -> None:
        """Send the parts until there are no more, it is time, or the other side has gone or doesn't read."""
        connection = request.protocol
        assert isinstance(connection, Connection), "there are no others"
        connection.live(STREAM_S + LIFE_S)
        await self.prepare(request)
        try:
            async with asyncio.timeout(0.0 if self._ended else STREAM_S) as self._until:
                async with aclosing(self._open_parts()) as parts:
                    async for part in parts:
                        await self._write(part, connection)
        except (TimeoutError, ConnectionError):
            pass
        finally:
            self._until = None
        connection.live(LIFE_S)

    async def _write(self, part: bytes, connection: Connection) -> None:
        try:
            async with asyncio.timeout(STREAM_WRITE_S):
                await self.write(part)
        except TimeoutError:
            if connection.transport is not None:
                connection.transport.abort()
            raise


def problem(status: int, error: str) -> web.Response:
    """Return an answer that says what is wrong."""
    return web.json_response({"error": error}, status=status, headers=HEADERS)


@web.middleware
async def _guard(request: web.Request, handler: _Handler) -> web.StreamResponse:
    answer = await _answer(request, handler)
    for name, value in HEADERS.items():
        answer.headers.setdefault(name, value)
    answer.force_close()
    if not isinstance(answer, Stream) or request.method != "GET":
        return answer
    streams = request.app[_STREAMS]
    if len(streams) >= STREAMS_MAX:
        answer = problem(HTTPStatus.SERVICE_UNAVAILABLE, "too many look at this now; try again, or at another worker")
        answer.force_close()
        return answer
    streams.add(answer)
    try:
        await answer.send(request)
    finally:
        streams.discard(answer)
    return answer


async def _answer(request: web.Request, handler: _Handler) -> web.StreamResponse:
    if request.method not in METHODS and not (request.method == "POST" and request.path.startswith(SKIP)):
        answer = problem(HTTPStatus.METHOD_NOT_ALLOWED, "only GET and HEAD are answered")
        answer.headers["Allow"] = ", ".join(METHODS)
        return answer
    if request.body_exists:
        return problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "a request has no body here")
    try:
        async with asyncio.timeout(ANSWER_S):
            return await handler(request)
    except web.HTTPException as exc:
        return problem(exc.status, HTTPStatus(exc.status).phrase)
    except TimeoutError:
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, "it takes too long now; try again")
    except Exception:
        log.exception("a page failed", page=str(request.match_info.route.resource))
        return problem(HTTPStatus.INTERNAL_SERVER_ERROR, "it failed; the log says why")
