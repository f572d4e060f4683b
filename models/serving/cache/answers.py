"""What the answer cache holds for a question, and what it takes in of an answer afterwards."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Literal, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from indexes.types import Embedder
from models.serving.asks import Ask
from models.serving.cache.entries import Entry, Place, entry_of, place_of
from models.serving.cache.flights import Flights
from models.serving.cache.questions import packed
from models.serving.cache.rules import Redact, is_personal, kept_out
from models.serving.cache.semantic import calibration_of
from models.serving.cache.spec import CacheSpec, SemanticSpec
from models.serving.cache.store import CacheStore
from models.serving.cache.vetoes import veto
from models.serving.traffic import Assignment
from models.types import Answer, Span

LOG = logging.getLogger("sluice.gateway")
AGES = (1, 10, 60, 600, 3600, 21600, 86400, 604800)
Kind = Literal["exact", "semantic", "stale"]


class Hit(NamedTuple):
    """A kept answer that serves a question."""

    entry: Entry
    kind: Kind
    age_s: float
    similarity: float = 1.0

    def answer(self, question: str, trace_id: str, latency_ms: float, spans: tuple[Span, ...]) -> Answer:
        """The answer for the request that asks now: a trace of its own, no tokens, no cost."""
        entry = self.entry
        return Answer(
            question=question,
            answer=entry.answer,
            citations=tuple(entry.passages[number - 1] for number in entry.cited),
            refused=entry.refused,
            release=entry.release,
            trace_id=trace_id,
            latency_ms=latency_ms,
            passages=entry.passages,
            retrieved=entry.retrieved,
            spans=spans,
            path=entry.path,
            engine=entry.engine,
            cache=self.kind,
        )

    @property
    def note(self) -> dict[str, object]:
        """Attributes of the look-up's span."""
        return {
            "hit": self.kind,
            "age_s": round(self.age_s, 3),
            "similarity": round(self.similarity, 4),
            "origin": self.entry.origin,
        }


class CacheMetrics:
    """What is counted, in the gateway's registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.lookups = Counter("sluice_cache_lookups", "Look-ups by result", ["result"], registry=registry)
        self.left_out = Counter("sluice_cache_left_out", "Answers that were not kept", ["reason"], registry=registry)
        self.vetoed = Counter(
            "sluice_cache_vetoed", "Similar questions that a veto kept apart", ["veto"], registry=registry
        )
        self.age = Histogram("sluice_cache_age_seconds", "Age of the answers given", buckets=AGES, registry=registry)
        self.evicted = Gauge("sluice_cache_evicted", "Answers that went for want of room", registry=registry)
        self.faults = Gauge("sluice_cache_faults", "Calls of the cache's store that failed", registry=registry)


class AnswerCache:
    """The cache over its store. Its look-ups never raise, and count themselves."""

    def __init__(
        self,
        spec: CacheSpec,
        store: CacheStore,
        redact: Redact,
        registry: CollectorRegistry,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.spec = spec
        self.store = store
        self.flights = Flights()
        self.metrics = CacheMetrics(registry)
        self.metrics.evicted.set_function(lambda: store.evicted)
        self.metrics.faults.set_function(lambda: store.faults)
        self._redact = redact
        self._clock = clock
        self._keeping: set[asyncio.Task[None]] = set()
        self._told: set[str] = set()

    def takes_part(self, asked: Ask) -> bool:
        """Whether a request may be answered from the cache and fill it.

        What an operator forces, or repeats by a request key, is asked of the release itself: a shadow replay compares
        releases, not caches. A conversation is its caller's own.
        """
        return self.spec.exact and not asked.release and not asked.request_key and asked.talk is None

    async def exact(self, place: Place) -> Hit | None:
        """The answer to the same question."""
        entry = await self.store.get(place)
        return self._hit(entry, "exact")

    async def semantic(self, place: Place, question: str, embedder: Embedder | None) -> Hit | None:
        """The answer to another wording of the question, where one is as similar as calibrated and nothing speaks
        against it."""
        spec = self._semantic(embedder)
        if spec is None or embedder is None:
            return None
        vector = await asyncio.to_thread(embedder.query, question)
        for near in await self.store.near(place.scope, vector, spec.threshold):
            against = veto(question, near.question)
            if against:
                self.metrics.vetoed.labels(against).inc()
                continue
            hit = self._hit(await self.store.get(near.place), "semantic", near.similarity)
            if hit is not None:
                return hit
        return None

    async def stale(self, place: Place) -> Hit | None:
        """The last answer to the same question, however old: for when no engine answers."""
        entry = await self.store.get(place)
        return Hit(entry, "stale", self._clock() - entry.created) if entry is not None else None

    async def instead(self, asked: Ask, assignment: Assignment, failed: Answer) -> Answer:
        """The last answer to the same question in place of the apology; it stays a failure of the release."""
        if not self.takes_part(asked) or not self.spec.stale_s:
            return failed
        hit = await self.stale(place_of(asked, assignment, failed.question))
        if hit is None:
            return failed
        self.metrics.lookups.labels("stale").inc()
        kept = hit.answer(failed.question, failed.trace_id, failed.latency_ms, failed.spans)
        shown = ("answer", "citations", "refused", "passages", "retrieved", "cache")
        return failed.model_copy(update={name: getattr(kept, name) for name in shown})

    def given(self, hit: Hit | None) -> None:
        """Count the result of a request's look-ups."""
        self.metrics.lookups.labels(f"hit-{hit.kind}" if hit else "miss").inc()
        if hit is not None:
            self.metrics.age.observe(hit.age_s)

    def keep(self, place: Place, answer: Answer, embedder: Embedder | None) -> None:
        """End the lead of `place`, once its answer is kept or known to be for nobody else; the caller need not wait."""
        if reason := kept_out(answer):
            self._leave_out(place, reason)
            return
        task = asyncio.create_task(self._keep(place, answer, embedder))
        self._keeping.add(task)
        task.add_done_callback(self._keeping.discard)

    async def close(self) -> None:
        """Wait for what is being kept, and close the store."""
        await asyncio.gather(*self._keeping)
        await self.store.close()

    async def _keep(self, place: Place, answer: Answer, embedder: Embedder | None) -> None:
        kept: bool | None = None
        try:
            kept = not await asyncio.to_thread(is_personal, answer, self._redact)
            if kept:
                vector = ""
                if embedder is not None and self._semantic(embedder) is not None:
                    vector = packed(await asyncio.to_thread(embedder.query, answer.question))
                await self.store.put(place, entry_of(answer, place, self._clock(), vector))
        finally:
            if kept is False:
                self._leave_out(place, "personal")
            else:
                self.flights.land(place, kept)

    def _leave_out(self, place: Place, reason: str) -> None:
        self.metrics.left_out.labels(reason).inc()
        self.flights.land(place, False)

    def _hit(self, entry: Entry | None, kind: Kind, similarity: float = 1.0) -> Hit | None:
        if entry is None:
            return None
        age_s = max(0.0, self._clock() - entry.created)
        return Hit(entry, kind, age_s, similarity) if age_s <= self.spec.ttl_s else None

    def _semantic(self, embedder: Embedder | None) -> SemanticSpec | None:
        """The semantic part, where it is on and calibrated for this encoder."""
        spec = self.spec.semantic
        if spec is None or embedder is None:
            return None
        if spec.calibrated_for == calibration_of(embedder.version):
            return spec
        if embedder.version not in self._told:
            self._told.add(embedder.version)
            LOG.error(
                "cache.semantic.calibrated_for: %s is not what encoder and vetoes are now (%s): no semantic hits; "
                "run sluice calibrate-cache",
                spec.calibrated_for,
                calibration_of(embedder.version),
            )
        return None
