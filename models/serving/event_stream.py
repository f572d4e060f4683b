"""A response of server-sent events that ends its work when the client leaves."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

from starlette.responses import Response
from starlette.types import Receive, Scope, Send


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
        serving = asyncio.current_task()
        assert serving is not None, "a response is sent by a task"
        gone = asyncio.create_task(_gone(receive))
        gone.add_done_callback(lambda task: None if task.cancelled() else serving.cancel())
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            async with aclosing(self._body) as events:
                async for event in events:
                    await send({"type": "http.response.body", "body": event.encode(), "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        except asyncio.CancelledError:
            if not gone.done() or serving.uncancel():
                raise
        finally:
            gone.cancel()


async def _gone(receive: Receive) -> None:
    """Return when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass
