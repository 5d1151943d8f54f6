"""
The page's routes: the page itself for everybody, what is on it for those who may look.

Its files are small, are read once, and hold nothing of anybody. All that they load comes from here: the policy allows
no other place, no inline script or style, and nothing that text could be turned into markup with.
"""

from __future__ import annotations

from http import HTTPStatus
from importlib.resources import files
from typing import Any, Final

from faust.web import Request, Response, View

from streams.access import Access
from streams.frame import App
from streams.page.collector import Collector
from streams.page.pictures import Pictures
from streams.web import denial
from streams.web_server import HEADERS, Stream

INDEX: Final = "index.html"
EVENTS: Final = "/page/events"
TYPES: Final = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)


def static_files() -> dict[str, tuple[bytes, str]]:
    """Return the page's files by name: what is in each, and its content type."""
    found = {}
    for file in files("streams.page").joinpath("static").iterdir():
        suffix = file.name[file.name.rfind(".") :]
        if suffix in TYPES:
            found[file.name] = file.read_bytes(), TYPES[suffix]
    return found


def add_page(app: App) -> None:
    """Add the page to *app*'s web server, and what collects for it beside the records."""
    access = Access(app.settings)
    contents = static_files()
    collector = Collector(lambda: Pictures(app.settings))
    app.beside(collector)

    def served(view: View, name: str) -> Response:
        if name not in contents:
            return view.json({"error": "no such file"}, status=HTTPStatus.NOT_FOUND)
        body, content_type = contents[name]
        headers = HEADERS | {"Content-Security-Policy": POLICY, "Cross-Origin-Opener-Policy": "same-origin"}
        return view.bytes(body, content_type=content_type, headers=headers)

    @app.page("/", name="page")
    async def index(view: View, request: Request) -> Response:
        """Answer with the page."""
        return served(view, INDEX)

    @app.page(EVENTS, name="page-events")
    async def events(view: View, request: Request) -> Any:
        """Answer with what is on it, as it changes."""
        if denied := access.deny_look(request.headers):
            return denial(view, denied)
        return Stream("text/event-stream", collector.stream)

    @app.page("/page/{name}", name="page-file")
    async def static(view: View, request: Request, name: str) -> Response:
        """Answer with one of its files."""
        return served(view, name)
