"""A request on its way through the cache: guards first, then what is kept, then the engine, alone for one question."""

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from dataclasses import replace

from infra.errors import InputError
from models.answering.pipeline import Pipeline, Screened, new_trace_id
from models.answering.trail import Trail
from models.serving.asks import Ask, Begun, Outcome
from models.serving.cache.answers import AnswerCache, Hit
from models.serving.cache.entries import Place, place_of
from models.serving.cache.flights import Turn
from models.serving.entrance import too_late
from models.serving.traffic import Assignment
from models.types import Answer

Events = AsyncGenerator[Begun | str | Outcome]
Run = Callable[[Screened | None], Events]
"""Asks the engine; None: the guards could not read the question, and it says so."""


class CachedPath:
    """One request of one release. `note` takes the answers that come from the cache; `run` notes its own."""

    def __init__(
        self, cache: AnswerCache, pipeline: Pipeline, asked: Ask, assignment: Assignment, note: Callable[[Answer], None]
    ) -> None:
        self._cache = cache
        self._pipeline = pipeline
        self._asked = asked
        self._assignment = assignment
        self._note = note
        self._begin = time.perf_counter()

    async def stream(self, run: Run) -> Events:
        """See Answerer.stream. A question that the guards note anything of is answered, but neither found nor kept."""
        screened = self._screened()
        is_kept = screened is not None and not screened.events
        events = self._looked_up(run, screened) if screened is not None and is_kept else run(screened)
        async with aclosing(events):
            async for event in events:
                yield event

    async def _looked_up(self, run: Run, screened: Screened) -> Events:
        trail = Trail()
        trail.spans.append(screened.span)
        place = place_of(self._asked, self._assignment, screened.question)
        hit = await self._exact(trail, place)
        turn = Turn.LOOK if hit else await self._turn(place)
        if turn is Turn.LOOK and hit is None:
            hit = await self._exact(trail, place)
        leads = turn is Turn.LEAD
        try:
            if hit is None and leads:
                hit = await self._semantic(trail, place, screened.question)
            self._cache.given(hit)
            if hit is not None:
                for given in self._from_cache(hit, screened, trail):
                    yield given
                return
            async with aclosing(run(screened)) as events:
                async for event in events:
                    if leads and isinstance(event, Outcome):
                        self._cache.keep(place, event.answer, self._pipeline.embedder)
                        leads = False
                    if isinstance(event, str):
                        yield event
                    else:
                        is_stale = isinstance(event, Outcome) and event.answer.cache == "stale"
                        yield replace(event, cache="stale" if is_stale else "miss")
        finally:
            if leads:
                self._cache.flights.land(place, None)

    async def _turn(self, place: Place) -> Turn:
        left_s = self._asked.left_s
        try:
            async with asyncio.timeout(left_s if left_s < math.inf else None):
                return await self._cache.flights.turn(place)
        except TimeoutError as error:
            raise too_late() from error

    def _screened(self) -> Screened | None:
        try:
            return self._pipeline.screen(self._asked.question)
        except InputError:
            return None

    def _from_cache(self, hit: Hit, screened: Screened, trail: Trail) -> Iterator[Begun | Outcome]:
        trace_id, latency_ms = new_trace_id(), (time.perf_counter() - self._begin) * 1000
        answer = hit.answer(screened.question, trace_id, latency_ms, tuple(trail.spans))
        self._note(answer)
        yield Begun(self._assignment, trace_id, f"hit-{hit.kind}")
        yield Outcome(answer, self._assignment, f"hit-{hit.kind}")

    async def _exact(self, trail: Trail, place: Place) -> Hit | None:
        with trail.step("cache_exact") as note:
            hit = await self._cache.exact(place)
            note.update(hit.note if hit else {})
            return hit

    async def _semantic(self, trail: Trail, place: Place, question: str) -> Hit | None:
        with trail.step("cache_semantic") as note:
            hit = await self._cache.semantic(place, question, self._pipeline.embedder)
            note.update(hit.note if hit else {})
            return hit
