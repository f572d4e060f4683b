"""What a request must pass before the gateway looks at it: a known key, limits, a body within bounds, a free place."""

import asyncio
import json
import math
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from infra.errors import SluiceError
from infra.records import ApiKey
from models.serving.event_stream import ClientGoneError
from models.serving.meter import Meter, Spending
from models.serving.wire import ApiError

WORKED_ON = ("/v1/answers", "/v1/chat/completions", "/v1/embeddings")
"""Paths whose requests an engine or the encoder works on: their tokens count."""
_JSON_MARKS = re.compile(rb'"(?:[^"\\]|\\.)*+"?|[\[\]{}]', re.DOTALL)
"""Strings, whose brackets are text, and brackets."""

FindCaller = Callable[[str], Awaitable[ApiKey | None]]
"""Authorization header → caller."""


class Entrance:
    """ASGI middleware: paths under /v1/ need a key with something left of its limits; every body has a limit.

    The caller and what the request uses go into the state as `caller` and `usage`.
    """

    def __init__(
        self,
        app: ASGIApp,
        find_caller: FindCaller,
        meter: Meter,
        max_body_bytes: int,
        max_depth: int | None = None,
        refused: Callable[[str], None] = lambda code: None,
        is_stopping: Callable[[], bool] = lambda: False,
        retry_after_s: int = 1,
    ) -> None:
        """`refused` is told the code of every request that is sent away here; all are while `is_stopping`."""
        self._app = app
        self._find_caller = find_caller
        self._meter = meter
        self._max_body_bytes = max_body_bytes
        self._max_depth = max_depth
        self._refused = refused
        self._is_stopping = is_stopping
        self._retry_after_s = retry_after_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            body, spending = await self._admit(scope, receive)
        except ApiError as error:
            self._refused(error.code)
            await _refuse(error, send)
            return
        except ClientGoneError:
            return
        try:
            await self._app(scope, _replay(body, receive), _with_headers(send, spending.headers))
        finally:
            await self._meter.end(spending)

    async def _admit(self, scope: Scope, receive: Receive) -> tuple[bytes, Spending]:
        headers, path = Headers(scope=scope), scope["path"]
        if path.startswith("/v1/") and self._is_stopping():
            message = "This gateway is being stopped; try again."
            raise ApiError(503, "stopping", message, retry_after=self._retry_after_s)
        caller = await self._caller(headers) if path.startswith("/v1/") else None
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self._max_body_bytes:
            raise self._too_large()
        body = await self._body(receive)
        if self._max_depth is not None and deeper_than(body, self._max_depth):
            raise ApiError(400, "nested_too_deeply", f"The body is nested more than {self._max_depth} levels deep.")
        spending = Spending()
        if caller is not None:
            try:
                spending = await self._meter.begin(caller, len(body) if path in WORKED_ON else 0)
            except SluiceError as error:
                raise _unavailable() from error
            scope.setdefault("state", {}).update(caller=caller, usage=spending.usage)
        return body, spending

    async def _caller(self, headers: Headers) -> ApiKey:
        try:
            found = await self._find_caller(headers.get("authorization", ""))
        except SluiceError as error:
            raise _unavailable() from error
        if found is None:
            raise ApiError(401, "invalid_api_key", "A valid key is needed: Authorization: Bearer <key>.")
        return found

    def _too_large(self) -> ApiError:
        return ApiError(413, "request_too_large", f"The body is larger than {self._max_body_bytes} bytes.")

    async def _body(self, receive: Receive) -> bytes:
        parts, size = [], 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            part: bytes = message.get("body", b"")
            size += len(part)
            if size > self._max_body_bytes:
                raise self._too_large()
            parts.append(part)
            if not message.get("more_body", False):
                return b"".join(parts)


def _unavailable() -> ApiError:
    return ApiError(503, "unavailable", "The records are not readable now; try again.", retry_after=1)


def deeper_than(body: bytes, levels: int) -> bool:
    """Whether a JSON text is nested more than `levels` deep: told without parsing it, which such a text could break."""
    if body.count(b"[") + body.count(b"{") <= levels:
        return False
    depth = 0
    for mark in _JSON_MARKS.finditer(body):
        opened = mark.group()[0]
        if opened in b"[{":
            depth += 1
            if depth > levels:
                return True
        elif opened in b"]}":
            depth -= 1
    return False


def _with_headers(send: Send, headers: Mapping[str, str]) -> Send:
    """A send that puts these headers on the response."""
    if not headers:
        return send
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *raw]}
        await send(message)

    return sent


def _replay(body: bytes, receive: Receive) -> Receive:
    """A receive that gives the body once, then what the server has to say (the client's leaving)."""
    given = False

    async def replayed() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed


async def _refuse(error: ApiError, send: Send) -> None:
    content = json.dumps(error.body).encode()
    headers = {"content-type": "application/json", "content-length": str(len(content)), **error.headers}
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": raw})
    await send({"type": "http.response.body", "body": content})


def too_late() -> ApiError:
    """What a client reads whose time is over."""
    return ApiError(504, "timeout", "The answer took too long; try again.")


class Admission:
    """At most `running` requests at work and `queued` waiting; more are sent away at once."""

    def __init__(self, running: int, queued: int, retry_after_s: int) -> None:
        self._places = asyncio.Semaphore(running)
        self._limit = running + queued
        self._retry_after_s = retry_after_s
        self.inside = 0

    @asynccontextmanager
    async def place(self, wait_s: float = math.inf) -> AsyncIterator[None]:
        """A place to work in. Raises ApiError 429 when all are taken and the queue is full, 504 after `wait_s`."""
        if self.inside >= self._limit:
            raise ApiError(429, "overloaded", "Too many requests at once; try again.", retry_after=self._retry_after_s)
        self.inside += 1
        try:
            await self._acquire(wait_s)
            try:
                yield
            finally:
                self._places.release()
        finally:
            self.inside -= 1

    async def _acquire(self, wait_s: float) -> None:
        if not self._places.locked():  # no clock where nothing is waited for
            await self._places.acquire()
            return
        try:
            async with asyncio.timeout(None if math.isinf(wait_s) else wait_s):
                await self._places.acquire()
        except TimeoutError as error:
            raise too_late() from error


class KeyedLocks:
    """One lock a name, for requests that must not be done twice at the same moment."""

    def __init__(self) -> None:
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def hold(self, name: str) -> AsyncIterator[None]:
        """Alone among all holders of this name."""
        lock, holders = self._locks.get(name, (asyncio.Lock(), 0))
        self._locks[name] = (lock, holders + 1)
        try:
            async with lock:
                yield
        finally:
            lock, holders = self._locks[name]
            if holders == 1:
                del self._locks[name]
            else:
                self._locks[name] = (lock, holders - 1)
