"""Numbers of a load run and of its cost, from raw timings that are known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.benches.engine import case_prompts, rows, throughput_ratio
from evaluation.load import LoadSpec, RequestTiming, arrivals, measure_load, percentiles, summarize
from infra.cost import CostSpec, cost, request_cost
from infra.errors import InputError
from models.types import Case


def timing(total: float, tokens: int = 5, first: float = 0.1) -> RequestTiming:
    return RequestTiming(first_token_s=first, total_s=total, prompt_tokens=10, completion_tokens=tokens)


def test_percentiles_are_those_of_the_values() -> None:
    summary = percentiles([number / 1000 for number in range(1, 101)])
    assert summary is not None
    assert summary.n == 100
    assert summary.p50 == pytest.approx(50.5)
    assert summary.mean == pytest.approx(50.5)
    assert summary.p95 == pytest.approx(95.05)
    assert summary.p99 == pytest.approx(99.01)
    assert percentiles([]) is None


@given(st.lists(st.floats(0.001, 100), min_size=1, max_size=50))
def test_percentiles_are_ordered_and_within_the_values(values: list[float]) -> None:
    summary = percentiles(values)
    assert summary is not None
    slack = 1e-6
    assert min(values) * 1000 - slack <= summary.p50 <= summary.p95 + slack
    assert summary.p95 <= summary.p99 + slack <= max(values) * 1000 + 2 * slack


def test_time_per_token_leaves_the_first_token_out() -> None:
    assert timing(0.9, tokens=5, first=0.1).per_token_s == pytest.approx(0.2)
    assert timing(0.9, tokens=1).per_token_s is None


def test_errors_are_counted_and_left_out_of_the_times() -> None:
    failed = RequestTiming(total_s=99, error="503 full")
    report = summarize(LoadSpec(), "m", [timing(1.0), failed, timing(3.0), failed], 4.0, 8)
    assert report.errors == {"503 full": 2}
    assert report.e2e_ms is not None
    assert report.e2e_ms.mean == pytest.approx(2000)
    assert report.output_tokens_per_s == pytest.approx(2.5)
    assert report.requests_per_s == pytest.approx(0.5)
    assert (report.requests, report.warmup_excluded) == (4, 8)
    metrics = report.metrics()
    assert metrics["errors"] == 2
    assert metrics["ttft_p50_ms"] == pytest.approx(100)


def test_arrivals_are_a_seeded_poisson_process() -> None:
    times = arrivals(20_000, 5.0, seed=3)
    gaps = np.diff(times)
    assert times == arrivals(20_000, 5.0, seed=3)
    assert times != arrivals(20_000, 5.0, seed=4)
    assert times[0] == 0
    assert gaps.mean() == pytest.approx(0.2, rel=0.03)
    assert gaps.std() == pytest.approx(0.2, rel=0.05)
    assert gaps.min() >= 0


async def test_load_without_prompts_is_refused() -> None:
    with pytest.raises(InputError, match="no prompts"):
        await measure_load("http://127.0.0.1:9", "m", [], LoadSpec())


def test_throughput_ratio_holds_the_true_ratio() -> None:
    source = np.random.default_rng(1)
    fast = [timing(float(value)) for value in source.uniform(0.5, 1.5, 40)]
    slow = [timing(one.total_s * 4) for one in fast]
    low, high = throughput_ratio(fast, slow)
    assert low == pytest.approx(4)
    assert high == pytest.approx(4)
    noisy = [timing(float(value)) for value in source.uniform(2, 6, 40)]
    low, high = throughput_ratio(fast, noisy)
    assert low < 4 < high


def test_bench_rows_compare_the_two_reports() -> None:
    fast = summarize(LoadSpec(), "m", [timing(1.0)] * 4, 2.0, 0)
    slow = summarize(LoadSpec(), "m", [timing(2.0)] * 4, 4.0, 0)
    first, *times = rows(fast, slow)
    assert (first.value, first.peer_value, first.ratio) == (10, 5, 2)
    assert {row.name.split(": ")[1] for row in times} >= {"time to first token, P50", "whole answer, P95"}


def test_bench_prompts_show_the_evidence_and_ask_the_question() -> None:
    cases = [
        Case(id=str(number), question=f"q{number}?", documents=("d",), evidence=(f"fact {number}.",))
        for number in range(4)
    ]
    prompts = case_prompts([*cases, Case(id="x", question="no evidence")])
    assert len(prompts) == 4
    assert "[1] fact 3." in prompts[3][-1].content
    assert "[2] fact 0." in prompts[3][-1].content
    assert "q3?" in prompts[3][-1].content
    with pytest.raises(InputError):
        case_prompts([])


def test_cost_is_shared_among_requests_and_good_answers() -> None:
    spec = CostSpec(price_per_machine_hour=3.6)
    result = cost(spec, machine_seconds=1000, requests=10, good_answers=4)
    assert (result.total, result.per_request, result.per_good_answer) == (1.0, 0.1, 0.25)
    assert request_cost(1000, spec) == pytest.approx(0.001)
    assert cost(spec, 10, 5, 0).per_good_answer is None
    assert cost(spec, 10, 0, 0).per_request is None


@pytest.mark.parametrize(("seconds", "requests", "good"), [(-1, 1, 1), (1, -1, 0), (1, 1, 2), (1, 1, -1)])
def test_impossible_costs_are_refused(seconds: float, requests: int, good: int) -> None:
    with pytest.raises(InputError):
        cost(CostSpec(price_per_machine_hour=1), seconds, requests, good)
