"""The engine port over HTTP: any server that speaks the OpenAI chat protocol."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing
from itertools import takewhile
from typing import Any

import orjson

from infra.errors import TryAgainError
from infra.replies import error_message, raise_for_status
from models.serving.connection import CONNECT_TIMEOUT_S, Connections
from models.types import Completion, Message, Piece

CHAT = "/v1/chat/completions"
DONE = b"[DONE]"
LINGER_S = 1.0
"""How long after its last event the end of an answer is waited for, so that the connection can be kept."""


def parse_event(data: bytes, where: str, engine: str = "") -> Piece:
    """One `data:` line of a stream as a Piece of `engine`.

    Raises: TryAgainError for an error event or a line that is not JSON.
    """
    try:
        event: dict[str, Any] = orjson.loads(data)
        if "error" in event:
            raise TryAgainError(f"{where}: {error_message(data)}")
        choice: dict[str, Any] = (event.get("choices") or ({},))[0]
        usage = event.get("usage")
        text, finish = (choice.get("delta") or {}).get("content") or "", choice.get("finish_reason") or ""
        if not usage:
            return Piece(text, finish, engine=engine)
        details = usage.get("prompt_tokens_details") or {}
        return Piece(
            text=text,
            finish_reason=finish,
            prompt_tokens=usage.get("prompt_tokens") or 0,
            completion_tokens=usage.get("completion_tokens") or 0,
            cached_tokens=details.get("cached_tokens") or 0,
            engine=engine,
        )
    except (orjson.JSONDecodeError, AttributeError, TypeError) as error:
        raise TryAgainError(f"{where}: broken stream: {data[:80].decode(errors='replace')!r}") from error


class OpenAIEngine:
    """Engine adapter over one pool of connections. `base_url` is the server's root, without `/v1`.

    What it writes says that it comes from `pool:model`.

    Errors: TryAgainError when the server is unreachable, slow, overloaded or fails; InputError when it says that the
    request is wrong (unknown model, prompt too long).
    """

    def __init__(
        self, base_url: str, timeout_s: float, api_key: str = "", *, connections: int = 256, pool: str = "main"
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self.timeout_s = timeout_s
        self.pool = pool
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._connections = Connections(self.base_url, headers, connections)
        self._post = self._connections.post(CHAT)

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
        """See Engine. The server may be silent for at most `timeout_s` at a time."""
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
        body = orjson.dumps(request)
        asked = b"%b%d\r\n\r\n%b" % (self._post, len(body), body)
        name, done = f"{self.pool}:{model}", False
        connection = await self._connections.ask(asked, self.timeout_s)
        try:
            lines = await connection.lines()
            if not lines and connection.asked > 1 and not connection.was_heard and not connection.is_open:
                connection = await self._connections.ask_anew(connection, asked, self.timeout_s)
                lines = await connection.lines()
            while lines:
                if not done:
                    for piece in self._parsed(lines, name):
                        yield piece
                    if DONE in lines:
                        done = True
                        connection.hurry(LINGER_S)
                lines = await connection.lines()
            raise_for_status(connection.status, connection.body, self.base_url)
            if not done:
                raise TryAgainError(f"{self.base_url}: {connection.error or 'the stream ended early'}")
        finally:
            self._connections.give_back(connection)

    def _parsed(self, lines: Sequence[bytes], name: str) -> Iterator[Piece]:
        """What came in one read, up to the end of the answer. Texts beside each other are one piece: guards, wire and
        network do as much for a word as for a line.
        """
        last: Piece | None = None
        try:
            for line in takewhile(lambda line: line != DONE, lines):
                piece = parse_event(line, self.base_url, name)
                if last is not None and last.is_text and piece.is_text:
                    piece = Piece(last.text + piece.text, engine=name)
                elif last is not None:
                    yield last
                last = piece
        except TryAgainError:
            if last is not None:
                yield last
            raise
        if last is not None:
            yield last

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
        stream = self.pieces(
            model, messages, max_tokens=max_tokens, temperature=temperature, schema=schema, options=options
        )
        try:
            async with asyncio.timeout(self.timeout_s), aclosing(stream):
                return await gathered(stream)
        except TimeoutError as error:
            raise TryAgainError(f"{self.base_url}: no complete answer within {self.timeout_s:g} s") from error

    async def ready(self) -> bool:
        """Whether `/health` answers 200 now."""
        try:
            connection = await self._connections.ask(self._connections.get("/health"), CONNECT_TIMEOUT_S)
        except TryAgainError:
            return False
        try:
            while await connection.lines():
                continue
            return connection.status == 200 and not connection.error
        finally:
            self._connections.give_back(connection)

    async def close(self) -> None:
        """Close the connections."""
        self._connections.close()


async def gathered(pieces: AsyncIterator[Piece]) -> Completion:
    """A streamed answer as a whole one, with its times."""
    begin, first = time.perf_counter(), 0.0
    parts: list[str] = []
    last, usage = Piece(), Piece()
    finish = ""
    async for last in pieces:
        if last.text:
            first = first or time.perf_counter() - begin
            parts.append(last.text)
        finish = last.finish_reason or finish
        usage = last if last.prompt_tokens else usage
    total = time.perf_counter() - begin
    return Completion(
        text="".join(parts),
        finish_reason=finish,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        cached_tokens=usage.cached_tokens,
        first_token_s=first or total,
        total_s=total,
        engine=last.engine,
    )
