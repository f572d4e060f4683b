"""The search for the largest load within the SLO, over a queue that is simulated, and over one that runs."""

import asyncio
import heapq

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.load import LoadReport, LoadSpec, RequestTiming, Slo, summarize
from evaluation.loading.fake import FakeEngine
from evaluation.loading.generator import arrivals, measure_load
from evaluation.loading.prompts import plain
from evaluation.loading.search import Mode, SearchSpec, Tried, judge, next_level, search_load, step_spec
from evaluation.loading.stopping import Look, is_hopeless, is_over_saturated, stop_reason
from infra.errors import PolicyError
from models.types import Message

SLO = Slo(e2e_ms=3000, share=0.95)
SPEC = LoadSpec(slo=SLO, warmup=0)
SEARCH = SearchSpec(requests=400, seconds=100, rounds=40, precision=0.05, steps=30)
SERVERS, SERVICE_S = 10, 1.0
"""A queue with room for ten at once, a second each: ten requests a second, thirty in flight within three seconds."""


def queue(spec: LoadSpec) -> list[RequestTiming]:
    """Timings of requests in a queue with several servers and a fixed time of service."""
    free = [0.0] * SERVERS
    rows = []
    if spec.mode == "open":
        for at in arrivals(spec.requests, spec.rate_per_s, spec.seed):
            end = max(at, heapq.heappop(free)) + SERVICE_S
            heapq.heappush(free, end)
            rows.append((at, end))
    else:
        sources = [0.0] * spec.concurrency
        for _ in range(spec.requests):
            at = heapq.heappop(sources)
            end = max(at, heapq.heappop(free)) + SERVICE_S
            heapq.heappush(free, end)
            heapq.heappush(sources, end)
            rows.append((at, end))
    return [
        RequestTiming(sent_s=at, first_token_s=0.1, total_s=end - at, prompt_tokens=10, completion_tokens=10)
        for at, end in rows
    ]


def looks_of(rows: list[RequestTiming], until: float) -> list[Look]:
    """One look a second."""
    starts = np.sort([row.sent_s for row in rows])
    ends = np.sort([row.sent_s + row.total_s for row in rows])
    seconds = np.arange(1, int(until) + 1)
    sent, ended = (np.searchsorted(values, seconds, side="right") for values in (starts, ends))
    return [Look(float(at), int(one), int(two)) for at, one, two in zip(seconds, sent, ended, strict=True)]


def measured(spec: LoadSpec, first: int = 0) -> LoadReport:
    """The report of a simulated load, stopped as a real one would be."""
    rows = sorted(queue(spec), key=lambda row: row.sent_s + row.total_s)
    last = rows[-1].sent_s + rows[-1].total_s
    looks = looks_of(rows, last)
    for count in range(5, len(looks) + 1, 5):
        ended = rows[: looks[count - 1].ended]
        if reason := stop_reason(looks[:count], ended, spec):
            return summarize(spec, "m", ended, looks[count - 1].at_s, 0, stopped=reason)
    return summarize(spec, "m", rows, last, 0)


def test_the_largest_concurrency_within_the_slo() -> None:
    result = search_load(SPEC, SEARCH, "closed", measured)
    assert result.best == 30, "three rounds of ten"
    levels = [step.level for step in result.steps]
    assert levels[:6] == [1, 2, 4, 8, 16, 32], "doubling until a step misses the SLO"
    assert all(16 < level < 32 for level in levels[6:])
    assert result.best_step is not None and result.best_step.is_within
    assert "31, is out of the SLO" in result.ended
    assert [step.report and step.report.timings for step in result.steps] == [()] * len(levels)
    assert result.best_step.report is not None and result.best_step.report.requests == 1200


def test_the_largest_rate_within_the_slo() -> None:
    result = search_load(SPEC, SEARCH, "open", measured)
    assert result.best is not None
    assert 9 <= result.best <= 10.5, "ten a second is what the queue can do"
    out = {step.level: step.why for step in result.steps if not step.is_within}
    assert out[16.0].startswith("over-saturated: after ")
    failed = next(step for step in result.steps if step.level == 16)
    assert failed.report is not None and failed.report.seconds < 60, "not waited out: 1,600 requests would take 160 s"
    assert min(out) <= result.best * 1.05


def test_a_slo_that_nothing_meets_and_one_that_everything_meets() -> None:
    never = search_load(SPEC.model_copy(update={"slo": Slo(e2e_ms=500, share=0.9)}), SEARCH, "closed", measured)
    assert (never.best, never.best_step, len(never.steps)) == (None, None, 1)
    assert never.ended == "1 is out of the SLO already"
    assert never.told.startswith("closed loop: no load that was tried within the SLO after 1 steps")
    always = SPEC.model_copy(update={"slo": Slo(e2e_ms=1e9, share=0.9)})
    most = search_load(always, SEARCH.model_copy(update={"most_concurrency": 48}), "closed", measured)
    assert [step.level for step in most.steps] == [1, 2, 4, 8, 16, 32, 48]
    assert most.ended == "the limit of 48 was reached and is within the SLO"
    few = search_load(SPEC, SEARCH.model_copy(update={"steps": 3}), "closed", measured)
    assert (few.best, few.ended) == (4, "the limit of 3 steps was reached")
    with pytest.raises(PolicyError, match=r"needs benchmark\.slo"):
        search_load(LoadSpec(), SEARCH, "open", measured)


@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from(["closed", "open"]))
def test_the_search_ends_at_the_true_limit(limit: int, first: int, mode: Mode) -> None:
    """Against a rule that is exact: within the SLO up to `limit`."""
    search = SearchSpec(first_concurrency=first, first_rate_per_s=first, most_concurrency=400, precision=0.05, steps=40)
    tried: list[Tried] = []
    while (level := next_level(tried, search, mode)[0]) is not None:
        assert level not in {step.level for step in tried}
        tried.append(Tried(level=level, is_within=level <= limit, why=""))
    best = max((step.level for step in tried if step.is_within), default=0)
    if mode == "closed":
        assert limit / 1.05 - 1 <= best <= limit
    else:
        assert limit / 1.05 <= best <= limit
    assert len(tried) <= 22


def test_a_queue_that_keeps_up_is_not_called_over_saturated() -> None:
    """No false alarm in 60 runs at 90 % of what the queue can do, with a look at every second; always one at 130 %."""
    for seed in range(60):
        spec = SPEC.model_copy(update={"mode": "open", "rate_per_s": 9.0, "requests": 900, "seed": seed})
        rows = queue(spec)
        looks = looks_of(rows, spec.requests / 9)
        assert not any(is_over_saturated(looks[:count], 1.2) for count in range(1, len(looks)))
    for seed in range(20):
        spec = SPEC.model_copy(update={"mode": "open", "rate_per_s": 13.0, "requests": 1300, "seed": seed})
        looks = looks_of(queue(spec), 100)
        alarms = [count for count in range(1, len(looks)) if is_over_saturated(looks[:count], 4.0)]
        assert alarms and alarms[0] < 60


def test_a_step_that_cannot_meet_the_slo_any_more_ends() -> None:
    spec = LoadSpec(requests=100, slo=SLO)
    good, bad = RequestTiming(total_s=1), RequestTiming(total_s=9)
    assert not is_hopeless([bad] * 6, spec), "too few to say anything"
    assert not is_hopeless([good] * 20 + [bad] * 5, spec)
    assert is_hopeless([good] * 20 + [bad] * 6, spec)
    assert "too many of the first 26" in stop_reason([], [good] * 20 + [bad] * 6, spec)
    tried = judge(4, summarize(spec, "m", [good] * 94 + [bad] * 6, 1.0, 0))
    assert (tried.is_within, tried.why) == (False, "94.0% of 100 requests were good, 95.0% asked for")


def test_a_step_is_long_enough() -> None:
    search = SearchSpec(requests=40, seconds=10, rounds=4)
    closed = step_spec(LoadSpec(warmup=8), search, "closed", 32)
    assert (closed.mode, closed.concurrency, closed.requests, closed.warmup) == ("closed", 32, 128, 8)
    assert step_spec(LoadSpec(warmup=8), search, "closed", 2).warmup == 2
    opened = step_spec(LoadSpec(), search, "open", 12.5)
    assert (opened.mode, opened.rate_per_s, opened.requests) == ("open", 12.5, 125)


def test_the_search_over_an_engine_that_runs() -> None:
    """Four slots of 20 ms an answer: 200 requests a second; at 1,600 the queue grows and the step is cut short."""
    prompts = plain([[Message(role="user", content="a b c")]])
    spec = LoadSpec(warmup=0, max_tokens=4, sample_s=0.05, slo=Slo(e2e_ms=400, share=0.9))
    search = SearchSpec(requests=20, seconds=1.0, first_rate_per_s=25, most_rate_per_s=1600, precision=1.0)
    starts = []

    async def step(load: LoadSpec, first: int) -> LoadReport:
        async with FakeEngine(token_s=0.005, slots=4).serving() as url:
            return await measure_load(url, "base", prompts, load, first=first, stop_when=stop_reason)

    def measure(load: LoadSpec, first: int) -> LoadReport:
        starts.append(first)
        return asyncio.run(step(load, first))

    result = search_load(spec, search, "open", measure)
    assert result.best is not None and result.best < 800
    assert starts[:2] == [0, 25]
    last = max(result.steps, key=lambda one: one.level)
    assert not last.is_within and last.report is not None
    assert last.report.stopped and last.report.requests < last.report.spec.requests
