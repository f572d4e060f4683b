"""The engine port over HTTP: any server that speaks the OpenAI chat protocol."""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from itertools import takewhile
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import orjson

from infra.errors import InputError, TryAgainError
from infra.replies import error_message, raise_for_status
from models.types import Completion, Engine, Message, Piece, Sampling

CONNECT_TIMEOUT_S = 5.0
MAX_LINE = 16 * 2**20
"""Bytes of one event; a longer one breaks the stream."""
MAX_ERROR_BODY = 64 * 2**10
"""Bytes that are read of an error's body."""
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


class OpenAIEngine(Engine):
    """Engine adapter over one pool of connections. `base_url` is the server's root, without `/v1`.

    What it writes says that it comes from `pool:model`.

    Errors: TryAgainError when the server is unreachable, slow, overloaded or fails; InputError when it says that the
    request is wrong (unknown model, prompt too long).
    """

    def __init__(
        self, base_url: str, timeout_s: float, api_key: str = "", *, connections: int = 256, pool: str = "main"
    ) -> None:
        """Raises: InputError for an address that is none, or a key of several lines."""
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError(f"{base_url!r}: not an address of a server; write http://host:port or https://host")
        if set("\r\n") & set(api_key):
            raise InputError(f"{base_url}: a key must be one line")
        self.base_url = base_url.rstrip("/")
        self.timeout_s = timeout_s
        self.pool = pool
        self._headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._connections = connections
        self._opened: tuple[asyncio.AbstractEventLoop, aiohttp.ClientSession] | None = None

    async def pieces(self, model: str, messages: Sequence[Message], sampling: Sampling) -> AsyncGenerator[Piece]:
        """See Engine. The server may be silent for at most `timeout_s` at a time."""
        request: dict[str, Any] = {
            **sampling.options,
            "model": model,
            "messages": [message.model_dump() for message in messages],
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if sampling.schema is not None:
            named = {"name": "answer", "schema": sampling.schema}
            request["response_format"] = {"type": "json_schema", "json_schema": named}
        name, rest, done = f"{self.pool}:{model}", b"", False
        try:
            async with await self._asked(orjson.dumps(request)) as response:
                if response.status >= 400:
                    raise_for_status(response.status, await response.content.read(MAX_ERROR_BODY), self.base_url)
                async for data in response.content.iter_any():
                    *lines, rest = (rest + data).split(b"\n")
                    events = [line[5:].strip() for line in lines if line.startswith(b"data:")]
                    for piece in self._parsed(events, name):
                        yield piece
                    if DONE in events:
                        done = True
                        if not response.content.at_eof():
                            await _drained(response)
                        break
                    if len(rest) > MAX_LINE:
                        raise TryAgainError(f"{self.base_url}: broken stream: an event without end")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._translated(error) from error
        if not done:
            raise TryAgainError(f"{self.base_url}: the stream ended early")

    async def _asked(self, body: bytes) -> aiohttp.ClientResponse:
        """The response to a request. A kept connection that turns out to be closed is replaced, once."""
        context = SimpleNamespace(reused=False)
        for is_last in (False, True):
            try:
                return await self._client().post(f"{self.base_url}{CHAT}", data=body, trace_request_ctx=context)
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                if is_last or not context.reused:
                    raise
        raise AssertionError("returned or raised")

    def _client(self) -> aiohttp.ClientSession:
        """The connections of the running loop: an engine is made in a thread before there is one."""
        loop = asyncio.get_running_loop()
        if self._opened is None or self._opened[0] is not loop:
            watch = aiohttp.TraceConfig()
            watch.on_connection_reuseconn.append(_note_reuse)
            connect_s = min(CONNECT_TIMEOUT_S, self.timeout_s)
            session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._connections),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_s, sock_read=self.timeout_s),
                headers=self._headers,
                cookie_jar=aiohttp.DummyCookieJar(),
                trace_configs=[watch],
            )
            self._opened = loop, session
        return self._opened[1]

    def _translated(self, error: Exception) -> TryAgainError:
        """What went wrong on the way, for the log and the trace."""
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            said = f"no connection within {min(CONNECT_TIMEOUT_S, self.timeout_s):g} s"
        elif isinstance(error, TimeoutError):
            said = f"nothing came for {self.timeout_s:g} s"
        elif isinstance(error, aiohttp.ServerDisconnectedError):
            said = "the connection broke before an answer"
        elif isinstance(error, aiohttp.ClientPayloadError):
            said = "the stream ended early"
        elif isinstance(error, aiohttp.ClientResponseError):
            said = f"no HTTP: {error.message}"
        else:
            said = f"{type(error).__name__} {error}".rstrip()
        return TryAgainError(f"{self.base_url}: {said}")

    def _parsed(self, lines: Sequence[bytes], name: str) -> Iterator[Piece]:
        """What came in one read, up to the end of the answer. Texts beside each other are one piece: guards, wire and
        network do as much for a word as for a line.
        """
        text = ""
        try:
            for line in takewhile(lambda line: line != DONE, lines):
                piece = parse_event(line, self.base_url, name)
                if piece.is_text:
                    text += piece.text
                    continue
                if text:
                    yield Piece(text, engine=name)
                    text = ""
                yield piece
        except TryAgainError:
            if text:
                yield Piece(text, engine=name)
            raise
        if text:
            yield Piece(text, engine=name)

    async def complete(self, model: str, messages: Sequence[Message], sampling: Sampling) -> Completion:
        """The whole answer, streamed underneath so that `first_token_s` is measured. Bounded by `timeout_s` in all."""
        try:
            async with asyncio.timeout(self.timeout_s):
                return await super().complete(model, messages, sampling)
        except TimeoutError as error:
            raise TryAgainError(f"{self.base_url}: no complete answer within {self.timeout_s:g} s") from error

    async def ready(self) -> bool:
        """Whether `/health` answers 200 now."""
        try:
            timeout = aiohttp.ClientTimeout(total=CONNECT_TIMEOUT_S)
            async with self._client().get(f"{self.base_url}/health", timeout=timeout) as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False

    async def close(self) -> None:
        """Close the connections."""
        if self._opened is not None:
            await self._opened[1].close()
            self._opened = None


async def _note_reuse(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
    if context.trace_request_ctx is not None:  # a question about health is asked without one
        context.trace_request_ctx.reused = True


async def _drained(response: aiohttp.ClientResponse) -> None:
    """Read what is left behind the last event, so that the connection can be kept; not for long."""
    try:
        async with asyncio.timeout(LINGER_S):
            while await response.content.readany():
                continue
    except (aiohttp.ClientError, TimeoutError):
        response.close()
