"""The engine port over HTTP: any server that speaks the OpenAI chat protocol."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx

from infra.errors import TryAgainError
from infra.replies import error_message, raise_for_status
from models.types import Completion, Message, Piece

CONNECT_TIMEOUT_S = 5.0


def parse_event(data: str, where: str) -> Piece:
    """One `data:` line of a stream as a Piece. Raises TryAgainError for an error event or a line that is not JSON."""
    try:
        event: dict[str, Any] = json.loads(data)
    except json.JSONDecodeError as error:
        raise TryAgainError(f"{where}: broken stream: {data[:80]!r}") from error
    if "error" in event:
        raise TryAgainError(f"{where}: {error_message(data.encode())}")
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


class OpenAIEngine:
    """Engine adapter over one connection pool. `base_url` is the server's root, without `/v1`.

    Errors: TryAgainError when the server is unreachable, slow, overloaded or fails; InputError when it says that the
    request is wrong (unknown model, prompt too long).
    """

    def __init__(self, base_url: str, timeout_s: float, api_key: str = "", *, connections: int = 64) -> None:
        self.base_url = base_url.rstrip("/")
        self.timeout_s = timeout_s
        self._client = httpx.AsyncClient(
            base_url=self.base_url,
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=httpx.Timeout(timeout_s, connect=min(CONNECT_TIMEOUT_S, timeout_s)),
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
            trust_env=False,
        )

    async def pieces(
        self,
        model: str,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        temperature: float = 0.0,
        schema: dict[str, Any] | None = None,
    ) -> AsyncIterator[Piece]:
        """See Engine."""
        request: dict[str, Any] = {
            "model": model,
            "messages": [message.model_dump() for message in messages],
            "max_tokens": max_tokens,
            "temperature": temperature,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if schema is not None:
            request["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
        done = False
        try:
            async with self._client.stream("POST", "/v1/chat/completions", json=request) as response:
                if response.is_error:
                    raise_for_status(response.status_code, await response.aread(), self.base_url)
                async for line in response.aiter_lines():
                    if not line.startswith("data:"):
                        continue
                    data = line[5:].strip()
                    if data == "[DONE]":
                        done = True
                        break
                    yield parse_event(data, self.base_url)
        except httpx.TransportError as error:
            raise TryAgainError(f"{self.base_url}: {type(error).__name__} {error}".rstrip()) from error
        if not done:
            raise TryAgainError(f"{self.base_url}: the stream ended early")

    async def complete(
        self,
        model: str,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        temperature: float = 0.0,
        schema: dict[str, Any] | None = None,
    ) -> Completion:
        """The whole answer, streamed underneath so that `first_token_s` is measured. Bounded by `timeout_s` in all."""
        begin = time.perf_counter()
        first = 0.0
        parts: list[str] = []
        finish, usage = "", Piece()
        try:
            async with asyncio.timeout(self.timeout_s):
                pieces = self.pieces(model, messages, max_tokens=max_tokens, temperature=temperature, schema=schema)
                async for piece in pieces:
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
            response = await self._client.get("/health", timeout=CONNECT_TIMEOUT_S)
        except httpx.TransportError:
            return False
        return response.status_code == httpx.codes.OK

    async def close(self) -> None:
        """Close the connection pool."""
        await self._client.aclose()
