"""Rows of the load generator's bench, from measured rounds that are known."""

import pytest

from evaluation.benches.modelling.loading import Told, rows, told
from evaluation.load import LoadSpec, RequestTiming, summarize
from infra.errors import SetupError


def one(tokens: float, p95: float, cpu: float = 0.05) -> Told:
    return Told(tokens_per_s=tokens, ttft_p95_ms=p95 / 4, e2e_p95_ms=p95, cpu_share=cpu)


def test_ratios_are_those_of_the_rounds_with_their_spread() -> None:
    rounds = [(one(990, 100), one(1000, 100)), (one(404, 306), one(400, 300)), (one(700, 200), one(700, 200))]
    tokens, p95, first, cpu = rows(rounds, (one(1000, 100, 0.04), one(1000, 100, 0.4)))
    assert (tokens.name, p95.name, first.name) == ("load_tokens_ratio", "load_p95_ratio", "load_ttft_p95_ratio")
    assert (tokens.value, tokens.peer_value) == (700, 700)
    assert [tokens.ratio, tokens.low, tokens.high] == pytest.approx([1.0, 0.99, 1.01]), "three rounds: all of them"
    assert p95.ratio == first.ratio == pytest.approx(1.0)
    assert p95.high == first.high == pytest.approx(1.02)
    many = [(one(100 + number, 100), one(100, 100)) for number in range(20)]
    row, *_ = rows(many, (one(1, 1), one(1, 1)))
    assert [row.ratio, row.low, row.high] == pytest.approx([1.095, 1.05, 1.14]), "ranks 6 and 15 of 20"
    assert [cpu.value, cpu.peer_value, cpu.ratio] == pytest.approx([0.04, 0.4, 0.1])


def test_figures_beside_failures_are_no_figures() -> None:
    fine = RequestTiming(first_token_s=0.1, total_s=1.0, prompt_tokens=9, completion_tokens=10)
    assert told(summarize(LoadSpec(), "m", [fine] * 4, 2.0, 0, cpu_s=0.1)) == Told(20, 100, 1000, 0.05)
    failed = fine.model_copy(update={"error": "http: 500"})
    with pytest.raises(SetupError, match=r"requests of the load failed: .*http: 500"):
        told(summarize(LoadSpec(), "m", [fine, failed], 2.0, 0, cpu_s=0.1))
