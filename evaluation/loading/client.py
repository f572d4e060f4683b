"""A lean streaming client of the OpenAI chat protocol for load: one parse a read, no task switch an event.

The general client (`models/serving/engine.py`, httpx) costs about 115 µs of CPU an event, which at 64 streams of 40
tokens a second is a quarter of a core and shows in what is measured. Here a connection is an asyncio Protocol with
httptools' parser, and an event costs about 12 µs: see docs/decisions/load-benchmark.md.
"""

import asyncio
import ssl
import time
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import urlsplit

import httptools
import orjson

from infra.errors import InputError
from infra.replies import error_message

DONE = b"[DONE]"
TEXT = ("content", "reasoning_content", "reasoning")
"""Fields of a delta that hold new text."""


@dataclass(slots=True)
class Reply:
    """One answer as it came. Times are `perf_counter` values."""

    status: int = 0
    tokens_at: list[float] = field(default_factory=list)
    """When each event with new tokens was read."""
    ended_at: float = 0.0
    """When the last event was read."""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int | None = None
    """None where the server does not tell it."""
    body: bytes = b""
    """Of an answer that is no stream of events."""
    is_done: bool = False
    error: str = ""
    """`kind: detail`, kind one of connect, http, lost, stream and timeout."""


def _is_token(choice: dict[str, Any]) -> bool:
    """Whether an event's choice stands for new tokens; the opening role and a bare end do not."""
    delta = choice.get("delta") or {}
    if any(delta.get(name) for name in TEXT) or delta.get("tool_calls"):
        return True
    return "content" in delta and "role" not in delta and not choice.get("finish_reason")


class _Connection(asyncio.Protocol):
    """One kept-alive connection, one request at a time."""

    def __init__(self, needs_done: bool = True) -> None:
        self.is_open = False
        self._needs_done = needs_done
        self.answered = 0
        self.reply = Reply()
        self.heard = False
        """Whether a byte of the current answer has come."""
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._parser: Any = httptools.HttpResponseParser(self)
        self._rest = b""
        self._now = 0.0
        self._is_stream = True

    async def ask(self, request: bytes, is_stream: bool = True) -> Reply:
        """Send a request and wait for the whole answer; what goes wrong stands in its `error`."""
        assert self._transport is not None, "asked before the connection was made"
        self.reply, self._rest, self.heard, self._is_stream = Reply(), b"", False, is_stream
        self._waiter = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        await self._waiter
        return self.reply

    def abort(self) -> None:
        """Drop the connection at once."""
        self.is_open = False
        if self._transport is not None:
            self._transport.abort()

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        self._now, self.heard = time.perf_counter(), True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._end(f"stream: no HTTP: {error}")
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        self._end("" if self.reply.is_done else "lost: the connection broke before the answer was whole")

    # What httptools calls

    def on_headers_complete(self) -> None:
        self.reply.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        if self.reply.status >= 400 or not self._is_stream:
            self.reply.body += body
            return
        *lines, self._rest = (self._rest + body).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                self._event(line[5:].strip())

    def on_message_complete(self) -> None:
        status = self.reply.status
        if status < 200:  # 100 Continue and its like: the answer is still to come
            return
        if not self._parser.should_keep_alive():
            self.is_open = False
        if status >= 400:
            self._end(f"http: {status} {error_message(self.reply.body)}")
        elif not self._is_stream:
            self.reply.ended_at, self.reply.is_done = self._now, True
            self._end("")
        else:
            self.reply.is_done = self.reply.is_done or not self._needs_done
            self._end("" if self.reply.is_done else "stream: it ended without [DONE]")

    def _event(self, data: bytes) -> None:
        reply = self.reply
        reply.ended_at = self._now
        if data == DONE:
            reply.is_done = True
            return
        try:
            event = orjson.loads(data)
        except orjson.JSONDecodeError:
            reply.error = reply.error or f"stream: no JSON: {data[:60]!r}"
            return
        if "error" in event:
            reply.error = reply.error or f"stream: {error_message(data)}"
        if (choices := event.get("choices")) and _is_token(choices[0]):
            reply.tokens_at.append(self._now)
        if usage := event.get("usage"):
            reply.prompt_tokens = usage.get("prompt_tokens") or 0
            reply.completion_tokens = usage.get("completion_tokens")
            reply.cached_tokens = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0

    def _end(self, error: str) -> None:
        if self._waiter is not None and not self._waiter.done():
            self.answered += 1
            self.reply.error = self.reply.error or error
            self._waiter.set_result(None)


class LoadClient:
    """Keeps as many connections to one server as there are requests in flight. `base_url` with or without `/v1`."""

    def __init__(self, base_url: str, api_key: str = "", *, needs_done: bool = True) -> None:
        """`needs_done`: a stream that ends without `[DONE]` is an error. Raises: InputError for a wrong address."""
        self._needs_done = needs_done
        parts = urlsplit(base_url.rstrip("/").removesuffix("/v1"))
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError(f"{base_url!r}: not an address of a server; write http://host:port or https://host")
        self._host = parts.hostname
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._idle: list[_Connection] = []
        key = f"Authorization: Bearer {api_key}\r\n" if api_key else ""
        self._head = (
            f"POST {parts.path}/v1/chat/completions HTTP/1.1\r\nHost: {parts.netloc.rpartition('@')[2]}\r\n{key}"
            "Content-Type: application/json\r\nAccept: text/event-stream\r\nContent-Length: "
        ).encode()

    async def chat(self, payload: bytes, timeout_s: float, *, is_stream: bool = True) -> Reply:
        """The answer to a request body, a stream unless that asks for a whole one (its bytes are the reply's `body`).

        Every failure is told in the reply's `error`, none is raised.
        """
        request = self._head + str(len(payload)).encode() + b"\r\n\r\n" + payload
        connection: _Connection | None = None
        is_kept = False
        try:
            async with asyncio.timeout(timeout_s):
                connection = await self._connection()
                reply = await connection.ask(request, is_stream)
                if reply.error.startswith("lost") and connection.answered > 1 and not connection.heard:
                    connection = await self._connect()  # the server had closed it while nobody asked
                    reply = await connection.ask(request, is_stream)
        except TimeoutError:
            return Reply(error=f"timeout: no whole answer within {timeout_s:g} s")
        except OSError as error:
            return Reply(error=f"connect: {error.strerror or error}")
        else:
            is_kept = connection.is_open and not reply.error.startswith(("lost", "stream"))
            if is_kept:
                self._idle.append(connection)
            return reply
        finally:
            if connection is not None and not is_kept:
                connection.abort()

    def close(self) -> None:
        """Drop every connection."""
        while self._idle:
            self._idle.pop().abort()

    async def _connection(self) -> _Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open:
                return connection
        return await self._connect()

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(
            lambda: _Connection(self._needs_done), self._host, self._port, ssl=self._tls
        )
        return connection
