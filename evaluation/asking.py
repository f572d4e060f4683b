"""Asks every case of a set through one release's pipeline and keeps the raw observations."""

import asyncio
from collections.abc import Callable, Sequence

from evaluation.types import Observation
from infra.store import text_digest
from models.answering.pipeline import Pipeline
from models.types import Case


async def ask_cases(
    pipeline: Pipeline,
    cases: Sequence[Case],
    access: frozenset[str],
    at_once: int,
    progress: Callable[[int, int], None],
) -> list[Observation]:
    """Observations in the order of `cases`, at most `at_once` questions in flight.

    A case has the same trace id every time, so the mark below its passages is the same for every release.
    """
    slots = asyncio.Semaphore(at_once)
    done = 0

    async def ask(case: Case) -> Observation:
        nonlocal done
        async with slots:
            answer = await pipeline.answer(case.question, access, text_digest(case.id)[:32])
        done += 1
        progress(done, len(cases))
        return Observation(case=case, answer=answer)

    return list(await asyncio.gather(*(ask(case) for case in cases)))
