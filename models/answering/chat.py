"""The release's own model behind the guards, without passages: a conversation in, text or a call of a tool out."""

import re
import time
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import orjson

from infra.errors import InputError, SluiceError, TryAgainError
from models.answering.guards.policy import Verdict
from models.answering.guards.stream import StreamGuard
from models.answering.pipeline import Pipeline, new_trace_id
from models.answering.schemas import calls_schema, how_to_decline, violation, written_call
from models.answering.spent import Spent
from models.answering.structured import corrected
from models.answering.trail import Trail
from models.answering.writing import broken, checked, finish_reason, guarded
from models.types import Answer, Message, Sampling, ToolCall

ORDERS = frozenset({"injection", "jailbreak", "classifier"})
"""Input guards that find orders to the model."""


@dataclass(frozen=True, slots=True)
class ClientTool:
    """A tool that the client runs itself. `parameters` is the JSON schema of its arguments."""

    name: str
    description: str
    parameters: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Talk:
    """A conversation as a client sent it, and how it wants the next message."""

    messages: tuple[Message, ...]
    question: str
    """The last message of the user: what the records call the question."""
    max_tokens: int | None = None
    temperature: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further sampling fields of the OpenAI protocol."""
    schema: dict[str, Any] | None = None
    """The message has to be JSON of this schema."""
    tools: tuple[ClientTool, ...] = ()
    must_call: bool = False
    """One of the tools has to be called."""


def call_schema(tools: Sequence[ClientTool], must_call: bool) -> dict[str, Any]:
    """What a model may write that decides about a call: one of the tools with its arguments, or that none fits."""
    return calls_schema([(tool.name, tool.parameters) for tool in tools], not must_call)


def call_prompt(tools: Sequence[ClientTool], must_call: bool) -> Message:
    """Shows the tools and asks for the one call."""
    lines = [
        f"{tool.name}: {tool.description} Arguments: {orjson.dumps(tool.parameters).decode()}".replace("\n", " ")
        for tool in tools
    ]
    otherwise = "" if must_call else how_to_decline()
    text = f'Write the call that the last message asks for: {{"name":…,"arguments":…}}.{otherwise}'
    return Message(role="system", content="\n".join(["Tools:", *lines, text]))


def read_call(text: str, tools: Sequence[ClientTool]) -> ToolCall | None:
    """The call in a model's text; None where it names no tool.

    Raises: TryAgainError where the text is no call, or its arguments do not meet the tool's schema.
    """
    name, written = written_call(text)
    tool = next((one for one in tools if one.name == name), None)
    if tool is None:
        return None
    arguments = written.get("arguments")
    if not isinstance(arguments, dict):
        raise TryAgainError(f"tool call: the model wrote no arguments of {name}")
    if wrong := violation(arguments, tool.parameters):
        raise TryAgainError(f"tool call: arguments of {name}: {wrong}")
    return ToolCall(id=f"call_{uuid.uuid4().hex[:24]}", name=name, arguments=arguments, outcome="returned")


class Chat:
    """Conversations with the model of one release, whose pipeline has engine, guards and limits."""

    __slots__ = ("_engine", "_guards", "_limits", "_pipeline", "_temperature")

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._engine = pipeline.engine
        self._guards = pipeline.guards
        self._limits = pipeline.spec.chat_limits
        self._temperature = pipeline.spec.generation.temperature

    async def stream(
        self, talk: Talk, access: frozenset[str], trace_id: str | None = None, *, whole: bool = False
    ) -> AsyncGenerator[str | Answer]:
        """Text that the guards have let go, then the whole answer (see Pipeline.stream). Closing it ends the work.

        Nothing is retrieved; `access` says which documents count for what is spoken of.

        An engine that fails before any text has left gives the policy's fallback text with `error` set. Raises:
        InputError for a conversation that is empty or too long, or that the engine says is wrong.
        """
        begin, trail, spent = time.perf_counter(), Trail(), Spent()
        messages, allowed = self._screen(trail, talk)
        refusal = self._pipeline.prompt.refusal
        verdict = Verdict(answer=refusal, cited=(), refused=True, blocked=True)
        call, sent = None, ""
        try:
            allowed = allowed and await self._pipeline.speaks_of(trail, _last_question(messages), access)
            if allowed and talk.tools:
                call = await self._decide(trail, talk, messages, spent)
            if call is not None:
                verdict = Verdict(answer="", cited=(), refused=False)
            elif allowed and talk.schema is not None:
                verdict = await self._hold_to(talk.schema, trail, talk, messages, spent, refusal)
            elif allowed:
                guard = self._guards.output.plain(refusal, system=_system(messages), whole=whole)
                async with aclosing(self._write(trail, talk, messages, spent, guard)) as texts:
                    async for text in texts:
                        sent += text
                        yield text
                verdict = checked(guard, trail)
        except InputError as error:
            raise InputError(f"messages: the engine does not take them: {_without_address(error)}") from error
        except SluiceError:
            verdict = broken(sent, self._guards.policy.fallback)
        if not whole and not trail.error and len(verdict.answer) > len(sent):
            yield verdict.answer[len(sent) :]
        yield Answer(
            question=talk.question,
            answer=verdict.answer,
            citations=(),
            refused=verdict.refused,
            release=self._pipeline.release,
            trace_id=trace_id or new_trace_id(),
            latency_ms=(time.perf_counter() - begin) * 1000,
            guards=tuple(trail.events),
            prompt_tokens=spent.prompt,
            completion_tokens=spent.completion,
            cached_tokens=spent.cached,
            spans=tuple(trail.spans),
            error=trail.error,
            path="chat",
            engine=spent.engine,
            tools=(call,) if call else (),
            finish_reason="tool_calls" if call else finish_reason(verdict, spent),
        )

    def _screen(self, trail: Trail, talk: Talk) -> tuple[list[Message], bool]:
        """The messages as the model may read them, and whether they may be answered. Users' texts are all checked."""
        size = sum(len(message.content) for message in talk.messages)
        if size > self._limits.max_chars:
            raise InputError(f"messages: {size} characters; at most {self._limits.max_chars} are read")
        messages, allowed = [], True
        with trail.step("guard_input") as note:
            for message in talk.messages:
                if message.role != "user":
                    messages.append(message)
                    continue
                text, fine, events = self._guards.question(message.content)
                messages.append(message if text == message.content else Message(role="user", content=text))
                orders = self._limits.question_injection == "refuse" and any(one.guard in ORDERS for one in events)
                allowed = allowed and fine and not orders
                trail.events += events
            note["events"] = len(trail.events)
        return messages, allowed

    async def _decide(self, trail: Trail, talk: Talk, messages: Sequence[Message], spent: Spent) -> ToolCall | None:
        """Which of the client's tools is called, if any: decoding is held to their schemas."""
        with trail.step("choose_tool") as note:
            done = await self._engine.complete(
                self._pipeline.model,
                [call_prompt(talk.tools, talk.must_call), *messages],
                Sampling(self._limits.max_tokens, schema=call_schema(talk.tools, talk.must_call)),
            )
            spent.add(done)
            call = read_call(done.text, talk.tools)
            note["tool"] = call.name if call else ""
            return call

    async def _hold_to(
        self, schema: dict[str, Any], trail: Trail, talk: Talk, messages: list[Message], spent: Spent, refusal: str
    ) -> Verdict:
        """A message that is JSON of the schema: it is whole before any of it leaves."""

        async def write(asked: Sequence[Message]) -> tuple[str, Verdict]:
            guard = self._guards.output.plain(refusal, system=_system(messages), whole=True)
            async with aclosing(self._write(trail, talk, asked, spent, guard)) as texts:
                async for _ in texts:
                    raise AssertionError("nothing leaves a whole answer")
            return guard.text, checked(guard, trail)

        retries = self._guards.policy.output.schema_retries
        return await corrected(write, messages, schema, retries, refusal, trail)

    def _write(
        self, trail: Trail, talk: Talk, messages: Sequence[Message], spent: Spent, guard: StreamGuard
    ) -> AsyncGenerator[str]:
        """The model's text as the guard lets it go."""
        sampling = Sampling(
            min(talk.max_tokens or self._limits.max_tokens, self._limits.max_tokens),
            self._temperature if talk.temperature is None else talk.temperature,
            talk.schema,
            talk.options,
        )
        pieces = self._engine.pieces(self._pipeline.model, messages, sampling)
        return guarded(
            pieces, guard, trail=trail, spent=spent, model=self._pipeline.model, messages=messages,
            count_tokens=self._pipeline.count_tokens, timeout_s=self._pipeline.spec.generation.timeout_s,
        )  # fmt: skip


def _last_question(messages: Sequence[Message]) -> str:
    return next(message.content for message in reversed(messages) if message.role == "user")


def _system(messages: Sequence[Message]) -> str:
    """What the client told the model about its task: it is not repeated."""
    return "\n".join(message.content for message in messages if message.role == "system")


def _without_address(error: InputError) -> str:
    """What an engine said, without where it runs."""
    return re.sub(r"^https?://\S+:\s*", "", str(error))
