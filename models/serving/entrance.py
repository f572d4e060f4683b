"""What a request must pass before the gateway looks at it: a known key, a body that is not too large, a free place."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from infra.errors import SluiceError
from infra.records import ApiKey
from models.serving.wire import ApiError

FindCaller = Callable[[str], Awaitable[ApiKey | None]]
"""Authorization header → caller."""


class Entrance:
    """ASGI middleware: paths under /v1/ need a key, every body has a limit; the caller goes into the state."""

    def __init__(self, app: ASGIApp, find_caller: FindCaller, max_body_bytes: int) -> None:
        self._app = app
        self._find_caller = find_caller
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            body = await self._admit(scope, receive)
        except ApiError as error:
            await _refuse(error, send)
            return
        await self._app(scope, _replay(body, receive), send)

    async def _admit(self, scope: Scope, receive: Receive) -> bytes:
        headers = Headers(scope=scope)
        if scope["path"].startswith("/v1/"):
            try:
                found = await self._find_caller(headers.get("authorization", ""))
            except SluiceError as error:
                raise ApiError(503, "unavailable", "The records are not readable now; try again.") from error
            if found is None:
                raise ApiError(401, "invalid_api_key", "A valid key is needed: Authorization: Bearer <key>.")
            scope.setdefault("state", {})["caller"] = found
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > self._max_body_bytes:
            raise self._too_large()
        return await self._body(receive)

    def _too_large(self) -> ApiError:
        return ApiError(413, "request_too_large", f"The body is larger than {self._max_body_bytes} bytes.")

    async def _body(self, receive: Receive) -> bytes:
        parts, size = [], 0
        while True:
            message = await receive()
            part: bytes = message.get("body", b"")
            size += len(part)
            if size > self._max_body_bytes:
                raise self._too_large()
            parts.append(part)
            if not message.get("more_body", False):
                return b"".join(parts)


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


class Admission:
    """At most `running` requests at work and `queued` waiting; more are sent away at once."""

    def __init__(self, running: int, queued: int, retry_after_s: int) -> None:
        self._places = asyncio.Semaphore(running)
        self._limit = running + queued
        self._retry_after_s = retry_after_s
        self.inside = 0

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """A place to work in. Raises ApiError 429 when all are taken and the queue is full."""
        if self.inside >= self._limit:
            raise ApiError(429, "overloaded", "Too many requests at once; try again.", retry_after=self._retry_after_s)
        self.inside += 1
        try:
            async with self._places:
                yield
        finally:
            self.inside -= 1


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
