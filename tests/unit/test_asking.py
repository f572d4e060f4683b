"""Cases asked through a pipeline: order, how many at once, progress, and a release that fails."""

import asyncio
from collections.abc import AsyncGenerator, Sequence

import pytest

from evaluation.asking import ask_cases
from infra.errors import TryAgainError
from models.answering.fake import chunk, fake_pipeline
from models.serving.fake import FakeEngine
from models.types import Case, Message, Piece, Sampling

CHUNKS = [chunk(1, "The appeal period is 14 days."), chunk(2, "The secret number is 99.", access=("staff",))]
CASES = [Case(id=f"c-{number}", question="What is the appeal period?", answer="14 days") for number in range(7)]
PUBLIC = frozenset({"public"})


class CountingEngine(FakeEngine):
    """Answers once `expected` requests are in flight, the first one last; knows the most that were."""

    def __init__(self, expected: int) -> None:
        super().__init__("14 days [1]")
        self.expected, self.full = expected, asyncio.Event()
        self.now = self.most = self.begun = 0

    async def pieces(self, model: str, messages: Sequence[Message], sampling: Sampling) -> AsyncGenerator[Piece]:
        self.begun += 1
        first = self.begun == 1
        self.now += 1
        self.most = max(self.most, self.now)
        if self.now == self.expected:
            self.full.set()
        await asyncio.wait_for(self.full.wait(), 20)
        for _ in range(20 if first else 0):
            await asyncio.sleep(0)
        self.now -= 1
        async for piece in super().pieces(model, messages, sampling):
            yield piece


@pytest.mark.parametrize("at_once", [1, 3, 50])
async def test_answers_in_the_order_of_the_cases(at_once: int) -> None:
    engine, seen = CountingEngine(min(at_once, len(CASES))), list[tuple[int, int]]()
    found = await ask_cases(
        fake_pipeline(engine, CHUNKS), CASES, PUBLIC, at_once, lambda done, total: seen.append((done, total))
    )
    assert [row.case.id for row in found] == [case.id for case in CASES]
    assert {row.answer.answer for row in found} == {"14 days"}
    assert len({row.answer.trace_id for row in found}) == len(CASES)
    assert engine.most == engine.expected
    assert seen == [(number, 7) for number in range(1, 8)]


async def test_what_may_be_seen_is_passed_on() -> None:
    engine = FakeEngine("99 [1]")
    case = Case(id="c", question="What is the secret number?", answer="99")
    (public,) = await ask_cases(fake_pipeline(engine, CHUNKS), [case], PUBLIC, 1, lambda *_: None)
    (staff,) = await ask_cases(fake_pipeline(engine, CHUNKS), [case], PUBLIC | {"staff"}, 1, lambda *_: None)
    assert {item.document for item in public.answer.passages} == {"doc-1"}
    assert "doc-2" in {item.document for item in staff.answer.passages}


async def test_an_engine_that_fails_is_an_observation_with_an_error() -> None:
    engine = FakeEngine("14 days [1]", failures=[None, TryAgainError("engine went away"), None])
    found = await ask_cases(fake_pipeline(engine, CHUNKS), CASES[:3], PUBLIC, 1, lambda *_: None)
    assert [bool(row.answer.error) for row in found] == [False, True, False]
