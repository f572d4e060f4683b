"""One request of one release: guards, retrieval, routing, context, prompt, generation, guards; each step a span."""

import secrets
import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from pydantic import Field, ValidationError

from indexes.build import load_index
from indexes.embedder import EmbedSpec
from indexes.hybrid import RetrievalSpec
from indexes.retriever import Retriever
from indexes.types import Chunk, Embedder, Passage
from infra.errors import PolicyError, SetupError, SluiceError
from infra.settings import Spec
from infra.store import ArtifactStore
from models.answering.context import ContextSpec, TokenCount, build_context, token_counter
from models.answering.difficulty import load_difficulty
from models.answering.guards.guardrails import Guards
from models.answering.guards.policy import GuardPolicy, Verdict
from models.answering.guards.stream import StreamGuard
from models.answering.guards.topics import open_topics
from models.answering.patterns.choose import pattern_for
from models.answering.patterns.lookup import Writer
from models.answering.patterns.port import Retrieved
from models.answering.patterns.spec import PatternSpec
from models.answering.routing import ModelAt, Router
from models.answering.spent import Spent
from models.answering.trail import Trail
from models.answering.writing import broken, checked, finish_reason, guarded
from models.marks import mark_of
from models.prompts import Prompt, load_prompt, planted, render
from models.release import Release
from models.serving.engine import OpenAIEngine
from models.types import Answer, Citation, Engine, GuardEvent, Sampling, Span


class GenerationSpec(Spec):
    """How the model writes."""

    max_tokens: int = Field(ge=1, le=4096)
    """Most tokens of an answer."""
    temperature: float = Field(0.0, ge=0, le=2)
    """0 takes the likeliest token each time: the same question gets the same answer."""
    timeout_s: float = Field(gt=0, le=3600)
    """Longest time the engine may take for one answer; after it the fallback is given."""


class ChatSpec(Spec):
    """Conversations with the model of a release, without passages."""

    max_tokens: int = Field(ge=1, le=32_768)
    """Most tokens of a message, whatever the client asks for."""
    max_chars: int = Field(ge=1, le=1_000_000)
    """Longest conversation, in characters of all messages."""
    question_injection: Literal["flag", "refuse"] = "flag"
    """A user's message that gives the model orders: note it, or refuse, whatever `guards.question_injection` says of
    answers from passages. Nothing else holds what a model repeats where there are no passages to hold it against."""


class AnswerSpec(Spec):
    """The request path of a release from question to answer (`Release.retrieval` holds it)."""

    search: RetrievalSpec
    """How passages are found; its `k` are ranked before the cut."""
    embedding: EmbedSpec | None = None
    """The encoder that the index was built with; set when a release is put together, so that two releases with
    different encoders can be served beside each other. None = section `embedding` of the policy file."""
    patterns: PatternSpec = PatternSpec()
    """What the model may do for the search, in the patterns that ask it."""
    context: ContextSpec
    """What of it the model reads."""
    generation: GenerationSpec
    """How the model writes."""
    chat: ChatSpec | None = None
    """What conversations may take; null = answers of `generation.max_tokens` to conversations of 16,000 characters."""

    tools: tuple[str, ...] = ()
    """Tools that the release may call, by name; the gateway has them (section `tools` of the policy file)."""

    @property
    def chat_limits(self) -> ChatSpec:
        """What conversations may take."""
        return self.chat or ChatSpec(max_tokens=self.generation.max_tokens, max_chars=16_000)


def new_trace_id() -> str:
    """32 hexadecimal digits, as OTLP wants them."""
    return uuid.uuid4().hex


@dataclass(frozen=True, slots=True)
class Screened:
    """What the input guards say of a question: as it is used from now on, whether it may be answered, and why."""

    question: str
    allowed: bool
    events: tuple[GuardEvent, ...]
    span: Span


class Pipeline:
    """Answers questions as one release does. `model` is the release's name on the engine.

    With a `router` the questions that it picks are written by the small model; conversations and the patterns that ask
    a model for the search keep to the large one.
    """

    def __init__(
        self,
        *,
        release: str,
        retriever: Retriever,
        engine: Engine,
        model: str,
        prompt: Prompt,
        guards: Guards,
        spec: AnswerSpec,
        count_tokens: TokenCount,
        embedder: Embedder | None = None,
        router: Router | None = None,
    ) -> None:
        self.release = release
        self.retriever = retriever
        self.engine = engine
        self.model = model
        canary = secrets.token_hex(8)
        self.prompt = planted(prompt, canary)
        self.planted: tuple[str, ...] = (canary,) if self.prompt is not prompt else ()
        """Tokens in the prompt that must not leave."""
        self.guards = guards
        self.spec = spec
        self.count_tokens = count_tokens
        self.embedder = embedder
        self.router = router
        self._topics = open_topics(guards.policy.topics, embedder, retriever)
        self._pattern = pattern_for(
            spec.search, retriever, spec.patterns, Writer(engine, model, self.prompt, count_tokens)
        )

    async def answer(self, question: str, access: frozenset[str], trace_id: str | None = None) -> Answer:
        """Answer from what a caller with these access labels may see.

        A part that fails gives the policy's fallback text with `error` set. Raises: InputError for an empty or too
        long question.
        """
        async for event in self.stream(question, access, trace_id, whole=True):
            if isinstance(event, Answer):
                return event
        raise AssertionError("a stream ends with its answer")

    async def stream(
        self,
        question: str,
        access: frozenset[str],
        trace_id: str | None = None,
        screened: Screened | None = None,
        *,
        whole: bool = False,
    ) -> AsyncGenerator[str | Answer]:
        """The same as it comes: text that the guards have let go, then the whole answer. Closing it ends the work.

        The texts together are the answer's. An answer that a guard stopped, or that broke, behind some text is what was
        yielded, with `finish_reason` and `error` set; the fallback for one that failed before any text is not yielded.
        With `whole` no text is yielded. `screened` is what `screen` said of the question, where it was asked already.
        """
        begin, trail, spent, trace = time.perf_counter(), Trail(), Spent(), trace_id or new_trace_id()
        screened = screened or self.screen(question)
        asked, allowed = screened.question, screened.allowed
        trail.spans.append(screened.span)
        trail.events += screened.events
        verdict = Verdict(answer=self.prompt.refusal, cited=(), refused=True, blocked=True)
        found = Retrieved([])
        ranked: list[Chunk] = []
        shown: list[Chunk] = []
        sent = ""
        try:
            if allowed and await self.speaks_of(trail, asked, access):
                found = await self._retrieve(trail, asked, access)
                ranked = [passage.chunk for passage in found.passages]
                writer = await self._route(trail, asked, found.passages)
                shown = self._choose(trail, asked, ranked)
                guard = self._guard(asked, shown, trace, whole=whole)
                async with aclosing(self._write(trail, spent, guard, writer, asked, shown, trace)) as texts:
                    async for text in texts:
                        sent += text
                        yield text
                verdict = checked(guard, trail)
        except SluiceError:
            verdict = broken(sent, self.guards.policy.fallback)
        if not whole and not trail.error and len(verdict.answer) > len(sent):
            yield verdict.answer[len(sent) :]
        passages = self._numbered(shown)
        yield Answer(
            question=asked,
            answer=verdict.answer,
            citations=tuple(passages[number - 1] for number in verdict.cited),
            refused=verdict.refused,
            release=self.release,
            trace_id=trace,
            latency_ms=(time.perf_counter() - begin) * 1000,
            passages=passages,
            retrieved=tuple(chunk.document for chunk in ranked),
            guards=tuple(trail.events),
            prompt_tokens=found.prompt_tokens + spent.prompt,
            completion_tokens=found.completion_tokens + spent.completion,
            cached_tokens=spent.cached,
            spans=tuple(trail.spans),
            error=trail.error,
            finish_reason=finish_reason(verdict, spent),
            engine=spent.engine,
        )

    def screen(self, question: str) -> Screened:
        """What the input guards say of a question. Raises InputError for an empty or too long one."""
        trail = Trail()
        with trail.step("guard_input") as note:
            asked, allowed, events = self.guards.question(question)
            note["events"] = len(events)
        return Screened(asked, allowed, tuple(events), trail.spans[0])

    async def speaks_of(self, trail: Trail, question: str, access: frozenset[str]) -> bool:
        """Whether a question is about nothing that the release does not speak of."""
        return self._topics is None or await self._topics.allow(trail, question, access)

    async def close(self) -> None:
        """Close the engines' clients."""
        for engine in self.engines:
            await engine.close()

    @property
    def engines(self) -> list[Engine]:
        """Every engine that it asks."""
        return [self.engine, *([self.router.small.engine] if self.router else [])]

    async def _retrieve(self, trail: Trail, question: str, access: frozenset[str]) -> Retrieved:
        with trail.step("retrieve") as note:
            found = await self._pattern.retrieve(question, access)
            note.update(pattern=self.spec.search.pattern, found=len(found.passages), searches=found.searches)
            if found.steps:
                note.update(steps=list(found.steps), prompt_tokens=found.prompt_tokens)
            return found

    async def _route(self, trail: Trail, question: str, found: Sequence[Passage]) -> ModelAt:
        """The model that writes the answer."""
        large = ModelAt(self.engine, self.model)
        if self.router is None:
            return large
        with trail.step("route") as note:
            probability = await self.router.probability(question, found)
            is_small = probability >= self.router.threshold
            note.update(to="small" if is_small else "large", probability=round(probability, 4))
            return self.router.small if is_small else large

    def _choose(self, trail: Trail, question: str, ranked: Sequence[Chunk]) -> list[Chunk]:
        with trail.step("guard_passages") as note:
            # Only what can come into the prompt is scanned; near-duplicates may take out as many again.
            safe, events = self.guards.passages(ranked[: 4 * self.spec.context.passages])
            trail.events += events
            note["events"] = len(events)
        with trail.step("context") as note:
            shown = build_context(safe, question, self.spec.context, self.count_tokens)
            note["passages"] = len(shown)
        return shown

    def _guard(self, question: str, shown: Sequence[Chunk], trace: str, *, whole: bool) -> StreamGuard:
        planted = (*self.planted, mark_of(trace))
        return self.guards.output.grounded(
            shown, question, self.prompt.refusal, system=self.prompt.system, secrets=planted, whole=whole
        )

    def _write(
        self,
        trail: Trail,
        spent: Spent,
        guard: StreamGuard,
        writer: ModelAt,
        question: str,
        shown: Sequence[Chunk],
        trace: str,
    ) -> AsyncGenerator[str]:
        with trail.step("prompt") as note:
            messages = render(self.prompt, shown, question, trace)
            note["prompt"] = f"{self.prompt.id}:{self.prompt.version}"
        spec = self.spec.generation
        pieces = writer.engine.pieces(writer.name, messages, Sampling(spec.max_tokens, spec.temperature))
        return guarded(
            pieces, guard, trail=trail, spent=spent, model=writer.name, messages=messages,
            count_tokens=self.count_tokens, timeout_s=spec.timeout_s,
        )  # fmt: skip

    def _numbered(self, chunks: Sequence[Chunk]) -> tuple[Citation, ...]:
        """The passages as they go out: without planted tokens."""
        return tuple(
            Citation(
                number=number, document=chunk.document, chunk=chunk.id, title=chunk.title,
                text=self.guards.output.without_tokens(chunk.text),
            )
            for number, chunk in enumerate(chunks, 1)
        )  # fmt: skip


AnySpec = TypeVar("AnySpec", bound=Spec)


def _part(release: Release, name: str, spec: type[AnySpec], value: dict[str, object]) -> AnySpec:
    try:
        return spec.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise PolicyError(f"release {release.digest[:12]}: {name}.{field}: {first['msg']}") from error


def spec_of(release: Release) -> AnswerSpec:
    """The request path that a release holds. Raises PolicyError for a spec of another version."""
    return _part(release, "retrieval", AnswerSpec, release.retrieval)


class Placed(Protocol):
    """Where a release's model answers: server root and model name."""

    @property
    def base_url(self) -> str: ...

    @property
    def model(self) -> str: ...


def build_pipeline(
    release: Release,
    store: ArtifactStore,
    embedder: Embedder,
    placement: Placed,
    *,
    retriever: Retriever | None = None,
    engine: Engine | None = None,
    small: ModelAt | None = None,
) -> Pipeline:
    """The pipeline of a release, its parts loaded from the store by digest; `close` it when done.

    A retriever over the same index and an engine at the same address can be shared between pipelines. `small` is where
    the small model of a release that routes answers.

    Raises: IntegrityError for a part that is missing or changed, PolicyError for a spec of another version, SetupError
    when the embedder is not the one of the index or a release routes and `small` is missing, InputError for a
    classifier that does not fit.
    """
    spec = spec_of(release)
    count_tokens = token_counter(store.open(release.model.base))
    guards = Guards(_part(release, "guards", GuardPolicy, release.guards), count_tokens)
    guards.personal.warm()
    return Pipeline(
        release=release.digest,
        retriever=retriever or load_index(store.open(release.index), embedder, spec.search),
        engine=engine or OpenAIEngine(placement.base_url, spec.generation.timeout_s),
        model=placement.model,
        prompt=load_prompt(release.prompt, store),
        guards=guards,
        spec=spec,
        count_tokens=count_tokens,
        embedder=embedder,
        router=_router(release, store, embedder, small),
    )


def _router(release: Release, store: ArtifactStore, embedder: Embedder, small: ModelAt | None) -> Router | None:
    if release.routing is None:
        return None
    if small is None:
        raise SetupError(f"release {release.digest[:12]} routes to a small model, and no engine was given for that")
    difficulty = load_difficulty(store.open(release.routing.difficulty), embedder.version)
    return Router(small, difficulty, embedder, release.routing.threshold)
