"""An engine without a model: streams words at the pace of a batched engine, with a queue and vLLM's metrics.

What a load generator costs, and what its search finds, is known beside it: `slots` answers at once, each a token every
`token_s` seconds. As a process: `python -m evaluation.loading.fake --port 5200 --token-s 0.025 --slots 64`.
"""

import argparse
import asyncio
import contextlib
import json
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from evaluation.loading import engine_metrics as names

CHUNK = {"id": "chatcmpl-0123456789abcdef0123456789abcdef", "object": "chat.completion.chunk", "created": 1}
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
MODEL = "base"


def _event(value: dict[str, Any] | str) -> bytes:
    """One event as a chunk of an HTTP body."""
    text = value if isinstance(value, str) else json.dumps(CHUNK | {"model": MODEL} | value)
    data = f"data: {text}\n\n".encode()
    return b"%x\r\n%s\r\n" % (len(data), data)


def _choice(delta: dict[str, str]) -> bytes:
    return _event({"choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}]})


ROLE, TOKEN = _choice({"role": "assistant", "content": ""}), _choice({"content": " word"})


@dataclass(eq=False)
class _Stream:
    """An answer that is being given."""

    writer: asyncio.StreamWriter
    left: int
    since: float = field(default_factory=time.perf_counter)
    done: asyncio.Event = field(default_factory=asyncio.Event)
    begun: bool = False

    def step(self) -> bool:
        """Write one token; whether it was the last, or nobody reads any more."""
        if self.writer.is_closing():
            return True
        if not self.begun:
            self.begun = True
            self.writer.write(STREAM + ROLE)
        self.writer.write(TOKEN)
        self.left -= 1
        return self.left == 0


class FakeEngine:
    """The server. Every `token_s` seconds each of at most `slots` answers gets a token; the others wait."""

    def __init__(self, token_s: float = 0.025, slots: int = 64) -> None:
        self.token_s = token_s
        self.slots = slots
        self.active: list[_Stream] = []
        self.waiting: deque[_Stream] = deque()
        self.queued_s = 0.0
        self.admitted = 0
        self._looked_for: list[tuple[int, asyncio.Event]] = []

    @contextlib.asynccontextmanager
    async def serving(self, port: int = 0, host: str = "127.0.0.1") -> AsyncIterator[str]:
        """Serve inside the block; its address."""
        server = await asyncio.start_server(self._connected, host, port)
        ticking = asyncio.create_task(self._tick())
        try:
            yield f"http://{host}:{server.sockets[0].getsockname()[1]}"
        finally:
            ticking.cancel()
            server.close()

    async def reached(self, admitted: int) -> None:
        """Wait until this many answers were begun."""
        event = asyncio.Event()
        self._looked_for.append((admitted, event))
        await event.wait()

    async def _tick(self) -> None:
        while True:
            now = time.perf_counter()
            await asyncio.sleep(self.token_s - now % self.token_s)
            while self.waiting and len(self.active) < self.slots:
                stream = self.waiting.popleft()
                self.queued_s += time.perf_counter() - stream.since
                self.admitted += 1
                self.active.append(stream)
            for admitted, event in self._looked_for:
                if self.admitted >= admitted:
                    event.set()
            ended = [stream for stream in self.active if stream.step()]
            self.active = [stream for stream in self.active if stream not in ended]
            for stream in ended:
                stream.done.set()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                sizes = [line.split(":")[1] for line in head.splitlines() if line.lower().startswith("content-length")]
                body = await reader.readexactly(int(sizes[0]) if sizes else 0)
                await self._answer(head, body, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the caller has gone, as callers do
        finally:
            writer.close()

    async def _answer(self, head: str, body: bytes, writer: asyncio.StreamWriter) -> None:
        if not head.startswith("POST"):
            _whole(writer, 200, self._metrics() if " /metrics " in head else "{}")
            return
        asked = json.loads(body)
        if asked["model"] != MODEL:
            error = {"message": f"The model `{asked['model']}` does not exist.", "code": 404}
            _whole(writer, 404, json.dumps({"error": error}))
            return
        stream = _Stream(writer, asked["max_tokens"])
        self.waiting.append(stream)
        await stream.done.wait()
        words = sum(len(message["content"].split()) for message in asked["messages"])
        usage = {"prompt_tokens": words, "completion_tokens": asked["max_tokens"]}
        writer.write(_event({"choices": [], "usage": usage}) + _event("[DONE]") + b"0\r\n\r\n")

    def _metrics(self) -> str:
        values = {
            names.RUNNING: len(self.active),
            names.WAITING: len(self.waiting),
            names.KV_USE: len(self.active) / self.slots,
            names.QUEUE_SUM: self.queued_s,
            names.QUEUE_COUNT: self.admitted,
        }
        return "".join(f'{name}{{engine="0",model_name="{MODEL}"}} {value}\n' for name, value in values.items())


def _whole(writer: asyncio.StreamWriter, status: int, text: str) -> None:
    data = text.encode()
    writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)


async def _serve(port: int, engine: FakeEngine) -> None:
    async with engine.serving(port):
        await asyncio.Event().wait()


def main() -> None:
    """Command line of the process."""
    import uvloop

    parser = argparse.ArgumentParser(description="An engine without a model")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--token-s", type=float, default=0.025)
    parser.add_argument("--slots", type=int, default=64)
    options = parser.parse_args()
    uvloop.run(_serve(options.port, FakeEngine(options.token_s, options.slots)))


if __name__ == "__main__":
    main()
