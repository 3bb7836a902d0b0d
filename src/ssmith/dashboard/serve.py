"""The same site over HTTP on this machine only: read-only, and as new as the logs are."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ssmith.core.errors import InputError
from ssmith.dashboard.reading import read_story
from ssmith.dashboard.site import render
from ssmith.release.change import LOG

HOST = "127.0.0.1"
_REFRESH = 30
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Refresh": str(_REFRESH),
}
# What a browser of this machine calls it; any other name was led here by somebody else.
_OWN = ("127.0.0.1", "localhost")


def make_server(lines: Sequence[Path], port: int, language: str = "en") -> ThreadingHTTPServer:
    """Return a server of the site that listens already; it serves until ``shutdown``.

    On this machine, at any free port if it is 0. Raises `InputError` if a line cannot be read, or
    the port is out of range or taken.
    """
    if not 0 <= port <= 65535:
        raise InputError(f"port {port}", allowed="0 to 65535")
    pages = _Pages(lines, language)
    pages()
    try:
        return ThreadingHTTPServer((HOST, port), _handler(pages))
    except OSError as error:
        raise InputError(
            f"port {port} cannot be used: {error.strerror or error}",
            next_step="choose another one",
        ) from error


class _Pages:
    """Pages by address, made anew when a log has grown."""

    def __init__(self, lines: Sequence[Path], language: str) -> None:
        self.lines, self.language = lines, language
        self._lock = threading.Lock()
        self._made: tuple[object, dict[str, bytes]] = (None, {})

    def __call__(self) -> dict[str, bytes]:
        with self._lock:
            state = [self._state(line) for line in self.lines]
            if self._made[0] != state:
                found = render([read_story(line) for line in self.lines], self.language)
                self._made = (state, {page.path: page.html.encode("utf-8") for page in found})
            return self._made[1]

    @staticmethod
    def _state(line: Path) -> tuple[int, int, int]:
        found = (line / LOG).stat()
        return found.st_ino, found.st_size, found.st_mtime_ns


def _handler(pages: Callable[[], dict[str, bytes]]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """Answers GET and HEAD of a page, and nothing else."""

        server_version = "ssmith"
        sys_version = ""

        def do_GET(self) -> None:
            """Send a page."""
            self._answer(body=True)

        def do_HEAD(self) -> None:
            """Send what would come before a page."""
            self._answer(body=False)

        def log_message(self, format: str, *_: object) -> None:
            """Say nothing of requests."""

        def _answer(self, *, body: bool) -> None:
            host = self.headers.get("Host", "").rpartition(":")
            if (host[0] or host[2]) not in _OWN:
                self.send_error(HTTPStatus.FORBIDDEN)
                return
            path = unquote(urlsplit(self.path).path).lstrip("/")
            if not path or path.endswith("/"):
                path += "index.html"
            try:
                content = pages().get(path)
            except Exception:
                self.send_error(HTTPStatus.SERVICE_UNAVAILABLE, "a line cannot be read")
                return
            if content is None:
                self.send_error(HTTPStatus.NOT_FOUND)
                return
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            for name, value in _HEADERS.items():
                self.send_header(name, value)
            self.end_headers()
            if body:
                self.wfile.write(content)

    return Handler
