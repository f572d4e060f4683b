"""The engine port over HTTP: any server that speaks the OpenAI chat protocol."""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

import aiohttp
import orjson

from infra.errors import TryAgainError
from infra.replies import error_message, raise_for_status
from models.types import Completion, Message, Piece

CONNECT_TIMEOUT_S = 5.0
DONE = b"[DONE]"


def parse_event(data: bytes, where: str) -> Piece:
    """One `data:` line of a stream as a Piece. Raises TryAgainError for an error event or a line that is not JSON."""
    try:
        event: dict[str, Any] = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise TryAgainError(f"{where}: broken stream: {data[:80]!r}") from error
    if "error" in event:
        raise TryAgainError(f"{where}: {error_message(data)}")
    usage = event.get("usage") or {}
    details = usage.get("prompt_tokens_details") or {}
    choice = (event.get("choices") or [{}])[0]
    return Piece(
        text=(choice.get("delta") or {}).get("content") or "",
        finish_reason=choice.get("finish_reason") or "",
        prompt_tokens=usage.get("prompt_tokens") or 0,
        completion_tokens=usage.get("completion_tokens") or 0,
        cached_tokens=details.get("cached_tokens") or 0,
    )


class _Reader:
    """Server-sent events out of the bytes of a stream, cut anywhere."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._rest = b""
        self.is_done = False

    def pieces(self, data: bytes) -> Iterator[Piece]:
        """What the events that end in `data` say."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if not line.startswith(b"data:") or self.is_done:
                continue
            event = line[5:].strip()
            if event == DONE:
                self.is_done = True
            else:
                yield parse_event(event, self._where)


class OpenAIEngine:
    """Engine adapter over one connection pool. `base_url` is the server's root, without `/v1`.

    Errors: TryAgainError when the server is unreachable, slow, overloaded or fails; InputError when it says that the
    request is wrong (unknown model, prompt too long).
    """

    def __init__(self, base_url: str, timeout_s: float, api_key: str = "", *, connections: int = 64) -> None:
        self.base_url = base_url.rstrip("/")
        self.timeout_s = timeout_s
        self._headers = {"Content-Type": "application/json"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._connections = connections
        self._opened: tuple[asyncio.AbstractEventLoop, aiohttp.ClientSession] | None = None

    def _client(self) -> aiohttp.ClientSession:
        """The connections of the running loop: an engine is made in a thread before there is one."""
        loop = asyncio.get_running_loop()
        if self._opened is None or self._opened[0] is not loop:
            connect_s = min(CONNECT_TIMEOUT_S, self.timeout_s)
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect_s, sock_read=self.timeout_s)
            connector = aiohttp.TCPConnector(limit=self._connections)
            session = aiohttp.ClientSession(
                connector=connector, timeout=timeout, headers=self._headers, cookie_jar=aiohttp.DummyCookieJar()
            )
            self._opened = loop, session
        return self._opened[1]

    async def pieces(
        self,
        model: str,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        temperature: float = 0.0,
        schema: dict[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> AsyncGenerator[Piece]:
        """See Engine. Events that arrive together each make a piece."""
        request: dict[str, Any] = {
            **(options or {}),
            "model": model,
            "messages": [message.model_dump() for message in messages],
            "max_tokens": max_tokens,
            "temperature": temperature,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if schema is not None:
            request["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
        reader = _Reader(self.base_url)
        address = f"{self.base_url}/v1/chat/completions"
        try:
            async with self._client().post(address, data=orjson.dumps(request)) as response:
                if response.status >= 400:
                    raise_for_status(response.status, await response.read(), self.base_url)
                async for data in response.content.iter_any():  # to its end: only then is the connection used again
                    for piece in reader.pieces(data):
                        yield piece
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if not reader.is_done:
                raise TryAgainError(f"{self.base_url}: {type(error).__name__} {error}".rstrip()) from error
        if not reader.is_done:
            raise TryAgainError(f"{self.base_url}: the stream ended early")

    async def complete(
        self,
        model: str,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        temperature: float = 0.0,
        schema: dict[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Completion:
        """The whole answer, streamed underneath so that `first_token_s` is measured. Bounded by `timeout_s` in all."""
        begin = time.perf_counter()
        first = 0.0
        parts: list[str] = []
        finish, usage = "", Piece()
        stream = self.pieces(
            model, messages, max_tokens=max_tokens, temperature=temperature, schema=schema, options=options
        )
        try:
            async with asyncio.timeout(self.timeout_s), aclosing(stream):
                async for piece in stream:
                    if piece.text:
                        first = first or time.perf_counter() - begin
                        parts.append(piece.text)
                    finish = piece.finish_reason or finish
                    usage = piece if piece.prompt_tokens else usage
        except TimeoutError as error:
            raise TryAgainError(f"{self.base_url}: no complete answer within {self.timeout_s:g} s") from error
        total = time.perf_counter() - begin
        return Completion(
            text="".join(parts),
            finish_reason=finish,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            cached_tokens=usage.cached_tokens,
            first_token_s=first or total,
            total_s=total,
        )

    async def ready(self) -> bool:
        """Whether `/health` answers 200 now."""
        try:
            timeout = aiohttp.ClientTimeout(total=CONNECT_TIMEOUT_S)
            async with self._client().get(f"{self.base_url}/health", timeout=timeout) as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False

    async def close(self) -> None:
        """Close the connection pool."""
        if self._opened is not None:
            await self._opened[1].close()
            self._opened = None
