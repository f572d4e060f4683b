"""A web site in a thread for the tests of fetching: its pages are set by the test, and it notes what was asked."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple


class Reply(NamedTuple):
    """What the site answers; `slowly` drips header bytes or body bytes until the site is closed."""

    body: bytes = b""
    kind: str = "text/html"
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    slowly: str = ""


class Site:
    """The running site. `pages` maps paths to replies; a page with an ETag header answers conditional requests."""

    def __init__(self) -> None:
        self.pages: dict[str, Reply] = {}
        self.asked: list[tuple[str, Mapping[str, str]]] = []
        self.closed = threading.Event()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"site": self}))

    @property
    def port(self) -> int:
        return int(self.server.server_address[1])

    def at(self, path: str, host: str = "127.0.0.1") -> str:
        """Address of a page."""
        return f"http://{host}:{self.port}{path}"

    @property
    def paths(self) -> list[str]:
        """Paths that were asked for, without robots.txt."""
        return [path for path, _ in self.asked if path != "/robots.txt"]


class _Handler(BaseHTTPRequestHandler):
    """Answers as the site of its server says."""

    site: Site

    def do_GET(self) -> None:
        self.site.asked.append((self.path, dict(self.headers)))
        page = self.site.pages.get(self.path, Reply(status=404))
        known = dict(page.headers)
        if "ETag" in known and self.headers.get("If-None-Match") == known["ETag"]:
            page = page._replace(status=304, body=b"")
        if page.slowly == "headers":
            self.wfile.write(b"HTTP/1.0 200 OK\r\nX-Slow: ")
        else:
            self._send(page, known)
        if page.slowly:
            self._drip()

    def _send(self, page: Reply, headers: Mapping[str, str]) -> None:
        self.send_response(page.status)
        self.send_header("Content-Type", page.kind)
        for name, value in headers.items():
            self.send_header(name, value)
        if not page.slowly and "Content-Length" not in headers and page.status != 304:
            self.send_header("Content-Length", str(len(page.body)))
        self.end_headers()
        self.wfile.write(page.body)

    def _drip(self) -> None:
        try:
            while not self.site.closed.wait(0.05):
                self.wfile.write(b"x")
        except OSError:  # the reader has given up, as it should
            return

    def log_message(self, *_: object) -> None:
        return


@contextmanager
def running() -> Iterator[Site]:
    """A site that answers while the block runs."""
    site = Site()
    site.pages["/robots.txt"] = Reply(status=404)
    thread = threading.Thread(target=site.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        site.closed.set()
        site.server.shutdown()
        site.server.server_close()
        thread.join()
