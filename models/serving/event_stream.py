"""Work that ends when its client leaves, and a response of server-sent events that is made that way."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager, suppress

from starlette.responses import Response
from starlette.types import Receive, Scope, Send


class ClientGoneError(Exception):
    """Nobody waits for the response any more."""


class EventStream(Response):
    """Sends what `body` yields. It is read in the task that began it, so time limits inside it hold.

    A client that goes away cancels the reading: closing the generator ends what works for it.
    """

    media_type = "text/event-stream"

    def __init__(self, body: AsyncGenerator[str], headers: Mapping[str, str]) -> None:
        self._body = body
        self.status_code = 200
        self.background = None
        self.init_headers({"cache-control": "no-cache", **headers})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        with suppress(ClientGoneError):
            async with while_connected(receive), aclosing(self._body) as events:
                await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                async for event in events:
                    await send({"type": "http.response.body", "body": event.encode(), "more_body": True})
                await send({"type": "http.response.body", "body": b""})


@asynccontextmanager
async def while_connected(receive: Receive) -> AsyncIterator[None]:
    """Work for a client: it is cancelled when the client leaves, and ClientGoneError raised in its place."""
    serving = asyncio.current_task()
    assert serving is not None, "a request is served by a task"
    works = True

    def leave(task: asyncio.Task[None]) -> None:
        if works and not task.cancelled():
            serving.cancel()

    gone = asyncio.create_task(_gone(receive))
    gone.add_done_callback(leave)
    try:
        yield
    except asyncio.CancelledError as error:
        if not gone.done() or gone.cancelled() or serving.uncancel():
            raise
        raise ClientGoneError from error
    finally:
        works = False
        gone.cancel()


async def _gone(receive: Receive) -> None:
    """Return when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass
