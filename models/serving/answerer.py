"""From a question at the gateway to its answer: assignment, admission, pipeline, trace; a request key only once."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from functools import lru_cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from pydantic import Field

from infra.cost import TokenPrices
from infra.errors import InputError, SluiceError, TryAgainError
from infra.records import Records, Trace
from infra.settings import Spec
from infra.spool import Spool
from models.answering.pipeline import Pipeline, Screened, new_trace_id
from models.answering.tools.port import ToolCaller
from models.answering.tools.toolbox import Toolbox
from models.answering.work import worked_on
from models.serving.anomaly import AnomalySpec, TokenWatch
from models.serving.asks import Ask, Begun, Outcome
from models.serving.breaker import BreakerSpec
from models.serving.cache.answers import AnswerCache
from models.serving.cache.path import CachedPath
from models.serving.cache.spec import CacheSpec
from models.serving.cache.store import CacheStore, MemoryStore
from models.serving.entrance import Admission, KeyedLocks, too_late
from models.serving.fallback import DEADLINE
from models.serving.limits import Limits
from models.serving.protocol import HttpSpec
from models.serving.routes import HostedSpec
from models.serving.runtime import Runtime
from models.serving.traffic import Assignment, Routing, RoutingCache, assign, forced
from models.serving.wire import ApiError
from models.serving.writer import Redact, Row, TraceWriter, to_row
from models.types import Answer, Citation, GuardEvent, ToolCall

LOG = logging.getLogger("sluice.gateway")
LATENCY_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class GatewaySpec(Spec):
    """Limits of the gateway."""

    max_in_flight: int = Field(ge=1, le=1000)
    """Requests that are worked on at once."""
    max_queued: int = Field(ge=0, le=10_000)
    """Requests that wait; more get 429 at once."""
    retry_after_s: int = Field(ge=1, le=600)
    """What a client that got 429 is told to wait, in seconds."""
    request_timeout_s: float = Field(gt=0, le=3600)
    """Longest time from question to answer, the wait for a place included; after it the client gets 504. A caller may
    ask for less with the header X-Sluice-Deadline-Ms."""
    max_body_bytes: int = Field(ge=1024, le=16 * 1024 * 1024)
    """Largest request body."""
    routing_max_age_s: float = Field(gt=0, le=0.5)
    """How old the split between releases may be."""
    trace_queue: int = Field(ge=1)
    """Traces that may wait to be written; more are counted as lost."""
    trace_spool_mib: float | None = Field(None, gt=0)
    """Disk for traces while the database is away; what comes beyond it is counted as lost. None: no limit."""
    limits: Limits = Limits()
    """What every key may use, unless it has figures of its own."""
    reserve_tokens: int = Field(0, ge=0)
    """Tokens that are counted for a request, beside those of its body, until its true figure is known."""
    max_embedding_inputs: int = Field(2048, ge=1, le=2048)
    """Texts in one request for embeddings; 2,048 is OpenAI's own bound."""
    anomaly: AnomalySpec | None = None
    """When the token use of a key is reported as unlike its past; None: never."""
    http: HttpSpec = HttpSpec()
    """What a connection may do."""
    stop_notice_s: float = Field(0, ge=0, le=600)
    """How long a gateway that is told to stop still answers that it is not ready, for load balancers to see it."""
    breaker: BreakerSpec | None = None
    """When a failing engine is left alone; null: never."""
    hosted: HostedSpec | None = None
    """The model that is asked when no own engine answers; null: none, and the policy's fallback text is given."""


class Metrics:
    """Prometheus metrics in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own = self.registry
        self.answers = Counter("sluice_answers", "Answers by arm and outcome", ["arm", "outcome"], registry=own)
        self.errors = Counter("sluice_request_errors", "Requests that got an error", ["code"], registry=own)
        self.latency = Histogram(
            "sluice_answer_seconds", "Pipeline time of an answer", ["arm"], buckets=LATENCY_BUCKETS, registry=own
        )
        self.guards = Counter("sluice_guard_events", "Guards that acted", ["stage", "guard", "action"], registry=own)
        self.tools = Counter("sluice_tool_calls", "Calls of the release's tools", ["tool", "outcome"], registry=own)
        self.tokens = Counter("sluice_tokens", "Tokens by direction", ["direction"], registry=own)
        self.away = Counter("sluice_limits_counted_alone", "Requests counted while Redis was away", registry=own)
        self.embedded = Counter("sluice_embedded_texts", "Texts embedded for callers", registry=own)
        self.feedback = Counter("sluice_feedback", "Ratings", ["rating", "simulated"], registry=own)
        self.lost = Counter("sluice_traces_lost", "Traces that could not be written", registry=own)
        self.inside = Gauge("sluice_requests_inside", "Requests running or waiting", registry=own)
        self.backlog = Gauge("sluice_trace_backlog", "Traces not written yet", registry=own)

    def answered(self, answer: Answer, arm: str) -> None:
        """Count one answer."""
        outcome = "error" if answer.error else "refused" if answer.refused else "answered"
        if answer.finish_reason == "content_filter":
            outcome = "blocked"
        self.answers.labels(arm, outcome).inc()
        self.latency.labels(arm).observe(answer.latency_ms / 1000)
        self.tokens.labels("prompt").inc(answer.prompt_tokens)
        self.tokens.labels("prompt_cached").inc(answer.cached_tokens)
        self.tokens.labels("completion").inc(answer.completion_tokens)
        for event in answer.guards:
            self.guards.labels(event.stage, event.guard, event.action).inc()
        for call in answer.tools:
            if call.outcome != "returned":  # names of clients' tools are not ours to count by
                self.tools.labels(call.name, call.outcome).inc()


def stored_answer(row: Trace) -> Outcome:
    """The answer as the records keep it (redacted)."""
    passages = tuple(Citation.model_validate(passage) for passage in row.passages)
    answer = Answer(
        question=row.question,
        answer=row.answer,
        citations=tuple(passages[number - 1] for number in row.citations),
        refused=row.refused,
        release=row.release,
        trace_id=row.trace_id,
        latency_ms=row.latency_ms,
        passages=passages,
        retrieved=tuple(row.retrieved),
        guards=tuple(GuardEvent.model_validate(event) for event in row.guards),
        prompt_tokens=row.prompt_tokens,
        completion_tokens=row.completion_tokens,
        cached_tokens=row.cached_tokens,
        error=row.error,
        path="chat" if row.path == "chat" else "answers",
        tools=tuple(ToolCall.model_validate(call) for call in row.tools),
        finish_reason=row.finish_reason,
    )
    return Outcome(answer, Assignment(row.release, row.arm, row.rollout))


class Answerer:
    """Answers questions for callers, each by the release that the split or an operator names."""

    def __init__(
        self,
        records: Records,
        runtime: Runtime,
        spec: GatewaySpec,
        redact: Redact,
        prices: TokenPrices = TokenPrices(),  # noqa: B008  # frozen
        spool: Spool | None = None,
        tools: Toolbox | None = None,
        cache: CacheSpec | None = None,
        store: CacheStore | None = None,
    ) -> None:
        self.records = records
        self.runtime = runtime
        self.spec = spec
        self.redact = lru_cache(maxsize=4096)(redact)  # the same passages come again and again
        self.prices = prices
        self.tools = tools
        self.draining = False
        """Set when the gateway is told to stop: it is not ready any more, and finishes what it has begun."""
        self.metrics = Metrics()
        self.routing = RoutingCache(records, spec.routing_max_age_s)
        self.writer = TraceWriter(records, self.redact, spec.trace_queue, spool, self.metrics.lost.inc)
        self.admission = Admission(spec.max_in_flight, spec.max_queued, spec.retry_after_s)
        self.watch = TokenWatch(spec.anomaly) if spec.anomaly else None
        kept = cache or CacheSpec()
        self.cache = AnswerCache(kept, store or MemoryStore(kept), self.redact, self.metrics.registry)
        self._locks = KeyedLocks()

    def drain(self) -> None:
        """Begin nothing any more; what has begun goes on."""
        LOG.info("told to stop: %d requests are in flight", self.admission.inside)
        self.draining = True

    async def ask(self, asked: Ask) -> Outcome:
        """The answer to a request. Raises: ApiError as the client shall read it."""
        async for event in self.stream(asked):
            if isinstance(event, Outcome):
                return event
        raise AssertionError("a stream ends with its outcome")

    async def stream(self, asked: Ask) -> AsyncGenerator[Begun | str | Outcome]:
        """The same as it comes: who answers, text that the guards have let go, then the outcome.

        Raises: ApiError as the client shall read it. Closing it ends the engine's work.
        """
        routing = await self.routing.get()
        assignment = self.assigned(asked, routing)
        if not asked.request_key:
            async with aclosing(self._through_cache(asked, routing, assignment)) as events:
                async for event in events:
                    yield event
            return
        release = "" if asked.body_digest else assignment.release
        async with self._locks.hold(f"{asked.request_key}\0{release}"):
            yield await self._once(asked, routing, assignment, release)

    @staticmethod
    def assigned(asked: Ask, routing: Routing, *, split: bool = True) -> Assignment:
        """Which release answers; without `split` never the canary. Raises: ApiError where none can."""
        seen = routing if split else replace(routing, rollout=None)
        assignment = forced(seen, asked.release) if asked.release else assign(seen, asked.unit)
        if assignment is None:
            raise ApiError(503, "no_release", "No release is live yet.")
        if assignment.release not in routing.placements:
            if asked.release:
                raise ApiError(404, "release_not_served", f"No engine serves release {asked.release[:64]}.")
            raise ApiError(503, "no_engine", "The release is not served at the moment; try again.")
        return assignment

    async def _once(self, asked: Ask, routing: Routing, assignment: Assignment, release: str) -> Outcome:
        """The stored answer to this request (of `release`, or any), made and stored first when there is none."""
        stored = await asyncio.to_thread(self.records.answered, asked.request_key, release)
        if stored is None:
            made = [event async for event in self._run(asked, routing, assignment)][-1]
            assert isinstance(made, Outcome), "a run ends with its outcome"
            await self.wait_stored(made.answer.trace_id)
            stored = await asyncio.to_thread(self.records.answered, asked.request_key, release)
            if stored is None or stored.trace_id == made.answer.trace_id:
                return made
        if (stored.tenant, stored.body_digest) != (asked.caller.tenant, asked.body_digest):
            raise ApiError(422, "idempotency_key_reused", "This key of a request was used with another request.")
        return stored_answer(stored)

    def _through_cache(
        self, asked: Ask, routing: Routing, assignment: Assignment
    ) -> AsyncGenerator[Begun | str | Outcome]:
        """From the cache where it has the answer and may give it, else by asking the engine."""
        pipeline = self.runtime.ready(assignment.release, routing.placements[assignment.release])
        if pipeline is None or not self.cache.takes_part(asked) or self._fits_tools(pipeline, asked):
            return self._run(asked, routing, assignment)
        created = time.time()

        def note(answer: Answer) -> None:
            asked.usage.add(answer)
            self._note(answer, to_row(answer, assignment, asked, created))

        path = CachedPath(self.cache, pipeline, asked, assignment, note)
        return path.stream(lambda screened: self._run(asked, routing, assignment, screened))

    def _fits_tools(self, pipeline: Pipeline, asked: Ask) -> bool:
        return self.tools is not None and self.tools.fits(asked.question, pipeline.spec.tools)

    async def _run(
        self, asked: Ask, routing: Routing, assignment: Assignment, screened: Screened | None = None
    ) -> AsyncGenerator[Begun | str | Outcome]:
        """Answer now and hand the trace to the writer; a request that breaks counts as an error of its arm."""
        trace_id, created, begin = new_trace_id(), time.time(), time.perf_counter()
        failure, answer, sent = "unexpected failure", None, ""
        async with self.admission.place(asked.left_s):
            yield Begun(assignment, trace_id)
            DEADLINE.set(asked.deadline)
            try:
                async with asyncio.timeout(min(asked.left_s, self.spec.request_timeout_s)):
                    pipeline = await self.runtime.pipeline(assignment.release, routing.placements[assignment.release])
                    asked.usage.begun = True
                    async with aclosing(self._worked_on(pipeline, asked, trace_id, screened)) as events:
                        async for event in events:
                            if isinstance(event, str):
                                sent += event
                                yield event
                            else:
                                answer = await self._ended(event, asked, assignment, bool(sent))
            except InputError as error:
                failure, asked.usage.begun = "", False
                field = "question" if asked.talk is None else "messages"
                raise ApiError(422, "invalid_question", str(error), param=field) from error
            except TimeoutError as error:
                failure = "timeout"
                raise too_late() from error
            except TryAgainError as error:
                failure = str(error)
                raise
            except (asyncio.CancelledError, GeneratorExit):
                failure = "the client left"
                raise
            finally:
                if answer is not None:
                    asked.usage.add(answer)
                elif failure:
                    latency_ms = (time.perf_counter() - begin) * 1000
                    answer = self._failed(asked, sent, assignment, trace_id, latency_ms, failure)
                if answer is not None:
                    self._note(answer, to_row(answer, assignment, asked, created))
        assert answer is not None, "answered or raised"
        yield Outcome(answer, assignment)

    def _worked_on(
        self, pipeline: Pipeline, asked: Ask, trace_id: str, screened: Screened | None
    ) -> AsyncGenerator[str | Answer]:
        """Text and answer."""
        caller = ToolCaller(asked.caller.digest, asked.caller.tenant, frozenset(asked.caller.access))
        tools = self._tools_for(asked)
        whole = not asked.stream or bool(asked.request_key)
        return worked_on(
            pipeline, asked.question, caller, trace_id, talk=asked.talk, tools=tools, screened=screened, whole=whole
        )

    def _tools_for(self, asked: Ask) -> Toolbox | None:
        """The tools that a request may call. A canary's replay calls none."""
        is_replay = bool(asked.request_key) and not asked.body_digest
        return None if is_replay else self.tools

    async def _ended(self, answer: Answer, asked: Ask, assignment: Assignment, sent: bool) -> Answer:
        """The answer with its cost; where a part failed and nothing was sent, with what the cache still has."""
        priced = self._reckoned(answer, asked)
        return await self.cache.instead(asked, assignment, priced) if answer.error and not sent else priced

    def _reckoned(self, answer: Answer, asked: Ask) -> Answer:
        """The answer with its cost, and with an event where it showed that its key is used unlike before."""
        cost = self.prices.of(answer.prompt_tokens, answer.cached_tokens, answer.completion_tokens)
        events = self.unlike_before(asked, answer.prompt_tokens + answer.completion_tokens)
        if not cost and not events:
            return answer
        return answer.model_copy(update={"cost": cost, "guards": (*answer.guards, *events)})

    def unlike_before(self, asked: Ask, tokens: int) -> tuple[GuardEvent, ...]:
        """Count the tokens of a request; an event when its key's use has become unlike its past."""
        if self.watch is None or not self.watch.used(asked.caller.digest, tokens, time.time()):
            return ()
        LOG.warning("token use of the key %s is unlike its past", asked.caller.digest[:12])
        return (GuardEvent(stage="input", guard="token_use", action="flag", detail="unlike this key's past"),)

    @staticmethod
    def _failed(asked: Ask, sent: str, assignment: Assignment, trace_id: str, latency_ms: float, error: str) -> Answer:
        return Answer(
            question=asked.question, answer=sent, citations=(), refused=False, release=assignment.release,
            trace_id=trace_id, latency_ms=latency_ms, error=error, path="answers" if asked.talk is None else "chat",
            finish_reason="error" if sent else "stop",
        )  # fmt: skip

    def _note(self, answer: Answer, trace: Row) -> None:
        self.metrics.answered(answer, trace["arm"])
        self.record(trace)

    def record(self, trace: Row) -> None:
        """Hand a trace to the writer; one that it has no room for is counted as lost."""
        if not self.writer.submit(trace):
            self.metrics.lost.inc()

    async def wait_stored(self, trace_id: str) -> None:
        """Return when the trace is in the database, or was never on its way.

        Raises: ApiError when it could not be stored.
        """
        future = self.writer.stored(trace_id)
        if future is None:
            return
        try:
            await asyncio.shield(asyncio.wrap_future(future))
        except SluiceError as error:
            raise ApiError(503, "records_unavailable", "The trace could not be stored; try again.") from error

    def not_found(self, message: str) -> ApiError:
        """What is told of a trace that the records do not have; while some are on their way, to ask again."""
        if self.writer.is_behind:
            return ApiError(503, "records_unavailable", "Traces are still being stored; try again.", retry_after=1)
        return ApiError(404, "trace_not_found", message)
