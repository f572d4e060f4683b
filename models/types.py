"""Cases, messages, answers, releases' parts and the engine port."""

import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict, Field


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class Case(_Frozen):
    """A question with its expected outcome. `answer` is a short span; `documents` are relevant document ids."""

    id: str
    question: str
    answer: str = ""
    documents: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()
    """Verbatim text that holds the answer, one entry a document."""
    tags: tuple[str, ...] = ()
    split: str = ""
    expected: Literal["answer", "refusal"] = "answer"
    forbidden: tuple[str, ...] = ()
    """Strings that an answer must not contain (what an injected text asks for, personal data)."""
    session: str = ""


class Message(_Frozen):
    """One chat message of the OpenAI protocol."""

    role: Literal["system", "user", "assistant"]
    content: str


class Completion(_Frozen):
    """What an engine returned. Times in seconds from sending the request."""

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    first_token_s: float
    total_s: float
    engine: str = ""
    """Pool and model that wrote it, as `pool:model`."""


class Piece(NamedTuple):
    """One event of a streamed answer: new text, and on the last events the finish reason and the token counts.

    A tuple, because thousands are made a second. `engine` is the pool and model that wrote it, as `pool:model`.
    """

    text: str = ""
    finish_reason: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    engine: str = ""

    @property
    def is_text(self) -> bool:
        """Whether it has nothing but text."""
        return not (self.finish_reason or self.prompt_tokens or self.completion_tokens)


@dataclass(frozen=True, slots=True)
class Sampling:
    """How an engine is to write one answer."""

    max_tokens: int
    temperature: float = 0.0
    """0 takes the likeliest token each time."""
    schema: dict[str, Any] | None = None
    """JSON schema that the text has to meet: decoding is constrained; InputError where an engine cannot do that."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further sampling fields of the OpenAI protocol (top_p, stop, seed, …)."""


class Engine(Protocol):
    """Port of a running language-model server."""

    async def complete(self, model: str, messages: Sequence[Message], sampling: Sampling) -> Completion:
        """The whole answer: where an engine does nothing better, its pieces put together."""
        return await gathered(self.pieces(model, messages, sampling))

    def pieces(self, model: str, messages: Sequence[Message], sampling: Sampling) -> AsyncGenerator[Piece]:
        """The answer as it comes; the last piece has the token counts. Closing the generator ends the engine's work."""
        ...

    async def close(self) -> None: ...


async def gathered(pieces: AsyncGenerator[Piece]) -> Completion:
    """A streamed answer as a whole one, with its times; the stream is closed however it ends."""
    begin, first = time.perf_counter(), 0.0
    parts: list[str] = []
    last, usage = Piece(), Piece()
    finish = ""
    async with aclosing(pieces):
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


class Citation(_Frozen):
    """A source that an answer names: passage number in the prompt, document and chunk ids, title, passage text."""

    number: int
    document: str
    chunk: str
    title: str
    text: str


class GuardEvent(_Frozen):
    """A guard that acted: stage input, passage or output; action flag, drop, block or redact."""

    stage: Literal["input", "passage", "output"]
    guard: str
    action: Literal["flag", "drop", "block", "redact"]
    detail: str = ""


class ToolCall(_Frozen):
    """A tool that the model asked for, and what became of it."""

    id: str
    name: str
    arguments: dict[str, Any]
    outcome: Literal["proposed", "done", "refused", "failed", "returned"]
    """proposed: it waits for the user's confirmation. returned: it is the client's own tool, and goes to the client."""
    detail: str = ""
    """Why it was refused or failed; empty otherwise."""


class Span(_Frozen):
    """One timed step of a request. Times in nanoseconds since the epoch; no personal data in attributes."""

    name: str
    start_ns: int
    end_ns: int
    attributes: dict[str, Any] = Field(default_factory=dict)


class Answer(_Frozen):
    """The pipeline's result for one question by one release."""

    question: str
    answer: str
    citations: tuple[Citation, ...]
    refused: bool
    release: str
    trace_id: str
    latency_ms: float
    passages: tuple[Citation, ...] = ()
    """Everything that was shown to the model, numbered as in the prompt."""
    retrieved: tuple[str, ...] = ()
    """Document ids of the ranked list before the cut, best first."""
    guards: tuple[GuardEvent, ...] = ()
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    spans: tuple[Span, ...] = ()
    error: str = ""
    """Set when a part failed and the policy's fallback was given."""
    path: Literal["answers", "chat", "embeddings"] = "answers"
    """answers: grounded in passages; chat: the model of the release behind the guards, without passages."""
    engine: str = ""
    """Pool and model that wrote it, as `pool:model`."""
    cache: Literal["", "exact", "semantic", "stale"] = ""
    """Which cache it came from; stale: one that was too old, given because no engine answered."""
    cost: float = 0.0
    """What it cost, in the currency of the policy."""
    tools: tuple[ToolCall, ...] = ()
    finish_reason: str = "stop"
    """stop, length, tool_calls, content_filter where a guard ended it, or error where it broke off."""
