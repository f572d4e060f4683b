"""A web site in a thread for the tests of fetching: its pages are set by the test, and it notes what was asked."""

import threading
from collections.abc import Callable, Iterator, Mapping
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
        self.pages: dict[str, Reply | Callable[[], Reply]] = {}
        self.asked: list[tuple[str, Mapping[str, str]]] = []
        self.closed = threading.Event()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))

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


def _handler(site: Site) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.asked.append((self.path, dict(self.headers)))
            page = site.pages.get(self.path, Reply(status=404))
            reply = page() if callable(page) else page
            known = dict(reply.headers)
            if "ETag" in known and self.headers.get("If-None-Match") == known["ETag"]:
                reply = reply._replace(status=304, body=b"")
            self._send(reply)

        def _send(self, reply: Reply) -> None:
            self.send_response(reply.status)
            if reply.slowly == "headers":
                self.wfile.write(b"HTTP/1.0 200 OK\r\nX-Slow: ")
                self._drip()
                return
            self.send_header("Content-Type", reply.kind)
            for name, value in reply.headers:
                self.send_header(name, value)
            if reply.slowly != "body" and "Content-Length" not in dict(reply.headers) and reply.status != 304:
                self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body)
            if reply.slowly:
                self._drip()

        def _drip(self) -> None:
            try:
                while not site.closed.wait(0.05):
                    self.wfile.write(b"x")
            except OSError:  # the reader has given up, as it should
                return

        def log_message(self, *_: object) -> None:
            return

    return Handler


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
