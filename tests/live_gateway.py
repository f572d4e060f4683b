"""A gateway over fake parts for tests, in this process or behind a real socket."""

import asyncio
import socket
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Never

import httpx
import uvicorn
from fastapi import FastAPI

from infra.records import Placement, Records
from models.answering.fake import POLICY, chunk, fake_pipeline
from models.answering.guards.guardrails import personal_data
from models.answering.pipeline import Pipeline
from models.serving.answerer import GatewaySpec
from models.serving.fake import FakeEngine
from models.serving.gateway import create_app
from models.serving.protocol import HttpSpec, limited
from models.serving.runtime import Runtime
from models.types import Engine, Piece

RELEASE = "a" * 64
USER = {"authorization": "Bearer user-key"}
QUESTION = {"question": "What is the appeal period?"}
CHUNKS = [chunk(1, "The appeal period is 14 days."), chunk(2, "The private phone of Anna is 555-0134.")]
SPEC = GatewaySpec(
    max_in_flight=4, max_queued=4, retry_after_s=3, request_timeout_s=30,
    max_body_bytes=4096, routing_max_age_s=0.05, trace_queue=100,
)  # fmt: skip


class WaitingEngine(FakeEngine):
    """Never answers; says when it was asked and when its work was called off."""

    def __init__(self) -> None:
        super().__init__("14 days [1]")
        self.asked_now, self.called_off = asyncio.Event(), asyncio.Event()

    async def pieces(self, *_: Any, **__: Any) -> AsyncGenerator[Piece]:
        """See Engine."""
        yield await self._waits()

    async def _waits(self) -> Never:
        self.asked_now.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.called_off.set()
            raise
        raise AssertionError("waits for ever")


def open_records(folder: Path) -> Records:
    """Records with one live release and the key `user-key`."""
    opened = Records.open(f"sqlite:///{folder / 'records.sqlite'}")
    opened.add_key("user-key", "user", "user", ["public"])
    opened.place(RELEASE, "http://127.0.0.1:1", "m")
    opened.promote(RELEASE, None)
    return opened


def make_app(records: Records, engine: Engine | None = None, spec: GatewaySpec = SPEC, **more: Any) -> FastAPI:
    """The gateway over an engine; `more` goes to create_app."""
    served = engine or FakeEngine("14 days [1]")

    def build(release: str, placement: Placement) -> Pipeline:
        return fake_pipeline(served, CHUNKS, release=release)

    return create_app(records, Runtime(build), spec, personal_data(POLICY).redact, **more)


@asynccontextmanager
async def in_process(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A client that calls the gateway without a socket."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://g") as client:
        yield client


async def until_ready(client: httpx.AsyncClient, release: str = "") -> None:
    """Return when the live release can answer."""
    for _ in range(6000):
        if (await client.get("/ready", params={"release": release})).status_code == httpx.codes.OK:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("never ready")


@asynccontextmanager
async def behind_socket(app: FastAPI, http: HttpSpec) -> AsyncIterator[int]:
    """The port of the gateway on a server as `serve` runs it."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, http=limited(http), log_config=None, access_log=False, timeout_graceful_shutdown=5)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        await serving
