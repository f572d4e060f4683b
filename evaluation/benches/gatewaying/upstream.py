"""An instant upstream: OpenAI's chat protocol, streamed and whole, without a model; and a sink for OTLP.

What a gateway adds is all that is left. As a process: `python -m evaluation.benches.gatewaying.upstream --port 5300`.
"""

import argparse
import asyncio
from typing import Any, cast

import httptools
import orjson

WORDS = "The appeal period is fourteen days from the date on the bill , so write to us soon .".split()  # noqa: SIM905
USAGE = {"prompt_tokens": 24, "completion_tokens": len(WORDS), "total_tokens": 24 + len(WORDS)}
HEAD = {"id": "chatcmpl-0123456789abcdef", "created": 1, "model": "instant"}


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps({**HEAD, "object": "chat.completion.chunk", **value}) + b"\n\n"


def _choice(delta: dict[str, str], finish: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]}


def _streamed() -> bytes:
    events = [_event(_choice({"role": "assistant", "content": ""}))]
    events += [_event(_choice({"content": word if at == 0 else f" {word}"})) for at, word in enumerate(WORDS)]
    events += [_event(_choice({}, "stop")), _event({"choices": [], "usage": USAGE}), b"data: [DONE]\n\n"]
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%s\r\n" % (len(event), event) for event in events) + b"0\r\n\r\n"


def _whole(value: Any) -> bytes:
    body = orjson.dumps(value)
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)


STREAM = _streamed()
ANSWER = _whole(
    {
        **HEAD,
        "object": "chat.completion",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": " ".join(WORDS)}, "finish_reason": "stop"},
        ],
        "usage": USAGE,
    }
)
MODELS = _whole({"object": "list", "data": [{"id": "instant", "object": "model", "created": 1, "owned_by": "bench"}]})
EMPTY = _whole({})


class Connection(asyncio.Protocol):
    """One kept-alive connection of a client that waits for each answer."""

    def __init__(self) -> None:
        self._parser: Any = httptools.HttpRequestParser(self)
        self._body = b""
        self._url = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.abort()

    def on_url(self, url: bytes) -> None:
        self._url, self._body = url, b""

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        if self._url.endswith(b"/chat/completions"):
            self._transport.write(STREAM if orjson.loads(self._body).get("stream") else ANSWER)
        else:
            self._transport.write(MODELS if self._url.endswith(b"/models") else EMPTY)


async def serve(port: int) -> None:
    """Serve for ever."""
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", port)
    await server.serve_forever()


def main() -> None:
    """Command line of the process."""
    import uvloop

    parser = argparse.ArgumentParser(description="An instant upstream")
    parser.add_argument("--port", type=int, required=True)
    uvloop.run(serve(parser.parse_args().port))


if __name__ == "__main__":
    main()
