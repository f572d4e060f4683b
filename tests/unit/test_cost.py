"""What answers cost, and the rows of the engine bench, from raw timings that are known."""

import numpy as np
import pytest

from evaluation.benches.engine import case_prompts, rows
from evaluation.load import LoadSpec, RequestTiming, summarize
from evaluation.loading.comparing import throughput_ratio
from infra.cost import CostSpec, cost, request_cost
from infra.errors import InputError
from models.types import Case


def timing(total: float, tokens: int = 5, first: float = 0.1) -> RequestTiming:
    return RequestTiming(first_token_s=first, total_s=total, prompt_tokens=10, completion_tokens=tokens)


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
    assert "[1] fact 3." in prompts[3].messages[-1].content
    assert "[2] fact 0." in prompts[3].messages[-1].content
    assert "q3?" in prompts[3].messages[-1].content
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
