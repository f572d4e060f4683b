"""HTTP connections of the gateway with limits that the server itself does not have: time, header size, number."""

import asyncio
import http
import json
from typing import ClassVar

from pydantic import Field
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from infra.settings import Spec
from models.serving.wire import ApiError


class HttpSpec(Spec):
    """What a connection may do; None: no limit."""

    header_timeout_s: float | None = Field(None, gt=0, le=3600)
    """Time for a request's headers, and for the first request of a connection to begin."""
    body_timeout_s: float | None = Field(None, gt=0, le=3600)
    """Time for a request's body."""
    max_header_bytes: int | None = Field(None, ge=1024, le=1_048_576)
    """Size of a request's headers."""
    max_connections: int | None = Field(None, ge=1)
    """Connections at once; where one more comes, the one that has been idle for longest is closed."""
    max_json_depth: int | None = Field(None, ge=4, le=500)
    """Levels of a body's JSON."""


class LimitedProtocol(HttpToolsProtocol):
    """uvicorn's protocol within the limits of `spec`. A kind of its own for each server: see limited."""

    spec: ClassVar[HttpSpec]
    idle: ClassVar[dict["LimitedProtocol", None]]
    """Connections on which no request is worked on, the one that has waited for longest first."""

    _timer: asyncio.TimerHandle | None = None
    _unread = 0
    """Bytes that came and are not yet whole headers."""
    _reads_headers = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """See asyncio.Protocol."""
        super().connection_made(transport)
        self.idle[self] = None
        most = self.spec.max_connections
        if most is not None and len(self.connections) > most:
            oldest = next(iter(self.idle))
            del self.idle[oldest]
            oldest.transport.abort()
        self._time(self.spec.header_timeout_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._time(None)
        self.idle.pop(self, None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        self._unread += len(data)
        super().data_received(data)
        most = self.spec.max_header_bytes
        if not self._reads_headers:
            self._unread = 0
        elif most is not None and self._unread > most and not self.transport.is_closing():
            self._refuse(431, "headers_too_large", f"The headers are larger than {most} bytes.")
        elif self in self.idle and self._timer is None:  # line ends before a request keep nothing open
            self._time(self.spec.header_timeout_s)

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._reads_headers = True
        self._time(self.spec.header_timeout_s)

    def on_headers_complete(self) -> None:
        """Its body follows; work begins."""
        self._reads_headers = False
        self.idle.pop(self, None)
        self._time(self.spec.body_timeout_s)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """It is here as a whole."""
        self._reads_headers, self._unread = True, 0
        self._time(None)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """It was answered."""
        super().on_response_complete()
        if not self.transport.is_closing() and not self.pipeline and self.cycle.response_complete:
            self.idle[self] = None

    def send_400_response(self, msg: str) -> None:
        """What is not HTTP gets an error in our form."""
        self._refuse(400, "invalid_http", msg)

    def _time(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if seconds is not None:
            self._timer = self.loop.call_later(seconds, self._late, seconds)

    def _late(self, seconds: float) -> None:
        if self.flow.read_paused:  # the server itself does not read on yet
            self._time(seconds)
        elif self._unread == 0 and self._reads_headers:
            self.transport.close()
        else:
            self._refuse(408, "request_timeout", "The request did not come within the time for it.")

    def _refuse(self, status: int, code: str, message: str) -> None:
        """Answer in the server's stead, unless an answer is under way, and close the connection."""
        self._time(None)
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            content = json.dumps(ApiError(status, code, message).body).encode()
            head = (
                f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}\r\ncontent-type: application/json\r\n"
                f"content-length: {len(content)}\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + content)
        self.transport.close()


def limited(spec: HttpSpec) -> type[LimitedProtocol]:
    """The protocol of one server, to be given to uvicorn as `http`."""
    return type("LimitedProtocol", (LimitedProtocol,), {"spec": spec, "idle": {}})
