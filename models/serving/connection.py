"""Kept-alive HTTP connections to engines that answer in server-sent events: one parse a read, no task an event.

A request of 20 events costs 0.6 ms of CPU, with aiohttp 1.0, with httpx 2.5: docs/decisions/routing-and-fallback.md.
"""

import asyncio
import ssl
from typing import Any, cast
from urllib.parse import urlsplit

import httptools

from infra.errors import InputError, TryAgainError

CONNECT_TIMEOUT_S = 5.0
MAX_LINE = 16 * 2**20
"""Bytes of one event; a longer one breaks the stream."""
MAX_ERROR_BODY = 64 * 2**10
"""Bytes that are read of an error's body."""


class Connection(asyncio.Protocol):
    """One connection, one request at a time: `ask`, then `lines` until it gives none, then `status` and `error`."""

    def __init__(self) -> None:
        self.is_open = False
        self.is_whole = True
        """Whether the answer has been read to its end, so that the next request may be sent."""
        self.was_heard = False
        """Whether a byte of the current answer has come."""
        self.asked = 0
        self.status = 0
        self.error = ""
        """What broke the current answer; empty for one that came whole."""
        self.body = b""
        """Of an answer that is an error."""
        self.loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser: Any = httptools.HttpResponseParser(self)
        self._lines: list[bytes] = []
        self._rest = b""
        self._is_over = True
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._heard_at = 0.0
        self._timeout_s = 0.0

    def ask(self, request: bytes, timeout_s: float) -> None:
        """Send a request whose answer may be silent for at most `timeout_s` at a time."""
        assert self._transport is not None, "asked before the connection was made"
        assert self.is_whole, "asked while an answer is being read"
        self.is_whole = self.was_heard = self._is_over = False
        self.asked += 1
        self.status, self.error, self.body = 0, "", b""
        self._lines, self._rest = [], b""
        self._heard_at, self._timeout_s = self.loop.time(), timeout_s
        self._timer = self.loop.call_later(timeout_s, self._look)
        self._transport.write(request)

    async def lines(self) -> list[bytes]:
        """What follows `data:` on the lines that have come since the last call, at least one; none at the end."""
        if not self._lines and not self._is_over:
            self._waiter = self.loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        lines, self._lines = self._lines, []
        return lines

    def hurry(self, timeout_s: float) -> None:
        """Wait no longer than this for what is left of the answer: all that matters of it has come."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = self.loop.call_later(timeout_s, self._break, "the answer had no end")

    def abort(self) -> None:
        """Drop the connection at once; the server sees that its work is not wanted any more."""
        self.is_open = False
        self._finish("")
        if self._transport is not None:
            self._transport.abort()

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        if self._is_over:  # nobody asked
            self.abort()
            return
        self._heard_at, self.was_heard = self.loop.time(), True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._break(f"no HTTP: {error}")
        else:
            self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        # Without a length or chunks the end of the connection is the end of the answer.
        self._finish("" if self.status else "the connection broke before an answer")

    # What httptools calls

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        if self.status >= 400:
            self.body = (self.body + body)[:MAX_ERROR_BODY]
            return
        *lines, self._rest = (self._rest + body).split(b"\n")
        self._lines += [line[5:].strip() for line in lines if line.startswith(b"data:")]
        if len(self._rest) > MAX_LINE:
            raise httptools.HttpParserError("an event without end")

    def on_message_complete(self) -> None:
        if self.status < 200:  # 100 Continue and its like: the answer is still to come
            self.status = 0
            return
        if not self._parser.should_keep_alive():
            self.is_open = False
        self._finish("")

    def _look(self) -> None:
        """The time is up, unless something came meanwhile."""
        left = self._heard_at + self._timeout_s - self.loop.time()
        if left <= 0:
            self._break(f"nothing came for {self._timeout_s:g} s")
        else:
            self._timer = self.loop.call_later(left, self._look)

    def _break(self, error: str) -> None:
        self._finish(error)
        self.abort()

    def _finish(self, error: str) -> None:
        if self._is_over:
            return
        self._is_over = self.is_whole = True
        self.error = error
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and (self._lines or self._is_over) and not self._waiter.done():
            self._waiter.set_result(None)


class Connections:
    """A pool of connections to one server. `base_url` is its root; at most `limit` requests are sent at once."""

    def __init__(self, base_url: str, headers: dict[str, str], limit: int) -> None:
        """Raises: InputError for an address that is none, or a header of several lines."""
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError(f"{base_url!r}: not an address of a server; write http://host:port or https://host")
        if any(set("\r\n") & set(value) for value in headers.values()):
            raise InputError(f"{base_url}: a header or key must be one line")
        self._url = base_url
        self._host = parts.hostname
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._path = parts.path
        named = {"Host": parts.netloc.rpartition("@")[2], **headers}
        self._head = "".join(f"{name}: {value}\r\n" for name, value in named.items())
        self._idle: list[Connection] = []
        self._places = asyncio.Semaphore(limit)

    def post(self, path: str) -> bytes:
        """The head of a request with a JSON body, up to the length of it: see `request`."""
        kind = "Content-Type: application/json\r\nAccept: text/event-stream\r\n"
        return f"POST {self._path}{path} HTTP/1.1\r\n{self._head}{kind}Content-Length: ".encode()

    def get(self, path: str) -> bytes:
        """A request without a body."""
        return f"GET {self._path}{path} HTTP/1.1\r\n{self._head}\r\n".encode()

    async def ask(self, request: bytes, timeout_s: float) -> Connection:
        """Send a request; hand the connection to `give_back` afterwards, however it went.

        Raises: TryAgainError when nobody answers at the address in time.
        """
        try:
            connection = await self._taken(timeout_s)
        except TimeoutError as error:
            raise TryAgainError(f"{self._url}: no connection within {timeout_s:g} s") from error
        except OSError as error:
            raise TryAgainError(f"{self._url}: {error.strerror or error}") from error
        connection.ask(request, timeout_s)
        return connection

    async def ask_anew(self, stale: Connection, request: bytes, timeout_s: float) -> Connection:
        """The same request on a new connection, in place of `stale`: the server had closed it while nobody asked."""
        self._drop_idle()  # what was idle as long is closed as well
        fresh = await self.ask(request, timeout_s)
        self.give_back(stale)
        return fresh

    def give_back(self, connection: Connection) -> None:
        """Keep a connection whose answer came whole for the next request, and drop any other."""
        self._places.release()
        if connection.is_open and connection.is_whole and not connection.error:
            self._idle.append(connection)
        else:
            connection.abort()

    def close(self) -> None:
        """Drop the connections that nobody uses; the others are dropped when they are given back."""
        self._drop_idle()

    def _drop_idle(self) -> None:
        while self._idle:
            self._idle.pop().abort()

    async def _taken(self, timeout_s: float) -> Connection:
        if self._places.locked():
            async with asyncio.timeout(timeout_s):
                await self._places.acquire()
        else:
            await self._places.acquire()
        loop = asyncio.get_running_loop()
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open and connection.loop is loop:
                return connection
        try:
            async with asyncio.timeout(min(CONNECT_TIMEOUT_S, timeout_s)):
                _, connection = await loop.create_connection(Connection, self._host, self._port, ssl=self._tls)
        except BaseException:
            self._places.release()
            raise
        return connection
