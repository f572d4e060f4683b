"""Statistics: textbook values, and error rates measured by simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import optimize, stats

from evaluation.intervals import (
    bootstrap_t,
    difference_interval,
    mean_interval,
    quantile_interval,
    ratio_interval,
    superiority_p,
    tango,
    wilson,
)
from evaluation.statistics import (
    cluster_codes,
    cluster_error,
    clusters_of,
    design_effect,
    detectable_effect,
    effective_size,
    holm,
    intraclass_correlation,
    mcnemar,
    questions_needed,
    zero_failures_bound,
)
from models.types import Case

Floats = NDArray[np.float64]
CLUSTERS = np.repeat(np.arange(30), 5)


def correlated(random: np.random.Generator, worse: float, better: float, icc: float) -> Floats:
    """150 differences −1/0/+1 in 30 clusters; a value is its cluster's common draw with probability √icc."""
    own, common = random.random(len(CLUSTERS)), random.random(30)[CLUSTERS]
    drawn = np.where(random.random(len(CLUSTERS)) < math.sqrt(icc), common, own)
    return np.where(drawn < worse, -1.0, np.where(drawn > 1 - better, 1.0, 0.0))


def test_clusters_join_through_shared_documents() -> None:
    cases = [
        Case(id="1", question="", documents=("a",)),
        Case(id="2", question="", documents=("b", "a")),
        Case(id="3", question="", documents=("c", "b")),
        Case(id="4", question="", documents=("d",)),
        Case(id="5", question=""),
        Case(id="6", question=""),
    ]
    found = clusters_of(cases)
    assert found["1"] == found["2"] == found["3"]
    assert len(set(found.values())) == 4
    assert len(set(cluster_codes([case.id for case in cases], found).tolist())) == 4


def test_sample_sizes_of_the_design_page() -> None:
    assert [questions_needed(0.1, margin, alpha=0.05, power=0.8) for margin in (0.05, 0.03, 0.02)] == [248, 687, 1546]
    with pytest.raises(ValueError, match="beyond the margin"):
        questions_needed(0.1, 0.03, -0.03, alpha=0.05, power=0.8)


def test_detectable_effect_and_questions_needed_agree() -> None:
    n = questions_needed(0.2, 0.05, alpha=0.05, power=0.8)
    assert detectable_effect(math.sqrt(0.2 / n), alpha=0.05, power=0.8) == pytest.approx(0.05, rel=0.01)


def test_rule_of_three() -> None:
    assert zero_failures_bound(100) == pytest.approx(0.030, abs=5e-4)
    assert zero_failures_bound(300) == pytest.approx(0.010, abs=5e-4)
    assert zero_failures_bound(0) == 1


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_the_exact_binomial(wins: int, losses: int) -> None:
    expected = min(1.0, 2 * stats.binom.cdf(min(wins, losses), wins + losses, 0.5))
    assert mcnemar(wins, losses) == pytest.approx(expected)


def test_holm_multiplies_by_rank_and_keeps_order() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []


@given(st.integers(0, 40), st.integers(1, 40))
def test_wilson_is_scipys(successes: int, extra: int) -> None:
    n = successes + extra
    expected = stats.binomtest(successes, n).proportion_ci(0.95, method="wilson")
    assert wilson(successes, n, float(stats.norm.ppf(0.975))) == pytest.approx((expected.low, expected.high), abs=1e-9)


@pytest.mark.parametrize(("wins", "losses", "n"), [(9, 3, 50), (0, 4, 60), (12, 12, 80), (1, 0, 30)])
def test_tango_inverts_the_score_test_of_its_constrained_likelihood(wins: int, losses: int, n: int) -> None:
    z = 1.96

    def statistic(difference: float) -> float:
        """Independent of the closed form: the constrained maximum is found numerically."""

        def minus_likelihood(losing: float) -> float:
            cells = np.array([losing + difference, losing, 1 - 2 * losing - difference])
            return -float(np.array([wins, losses, n - wins - losses]) @ np.log(np.maximum(cells, 1e-300)))

        least, most = max(0.0, -difference), (1 - difference) / 2
        best = optimize.minimize_scalar(
            minus_likelihood, bounds=(least, most), method="bounded", options={"xatol": 1e-12}
        )
        return (wins - losses - n * difference) / math.sqrt(n * (2 * best.x + difference * (1 - difference)))

    low, high = tango(wins, losses, n, z)
    assert statistic(low) == pytest.approx(z, abs=1e-3)
    assert statistic(high) == pytest.approx(-z, abs=1e-3)


def test_independent_clusters_of_one_need_no_correction() -> None:
    values = np.random.default_rng(0).normal(size=200)
    own = np.arange(200)
    assert cluster_error(values, own) == pytest.approx(float(np.std(values, ddof=1) / math.sqrt(200)))
    assert intraclass_correlation(values, own) == 0
    assert effective_size(values, own) == 200


def test_copies_inside_a_cluster_count_once() -> None:
    random = np.random.default_rng(0)
    values = random.normal(size=30)[CLUSTERS]
    assert intraclass_correlation(values, CLUSTERS) == pytest.approx(1)
    assert effective_size(values, CLUSTERS) == pytest.approx(30)
    assert design_effect(values, CLUSTERS, 0.2) == pytest.approx(5, rel=0.1)


def test_scores_that_do_not_vary_take_the_assumed_correlation() -> None:
    flat = np.ones(150)
    assert design_effect(flat, CLUSTERS, 0.2) == pytest.approx(1.8)
    none = mean_interval(flat, CLUSTERS, assumed_icc=0.0)
    some = mean_interval(flat, CLUSTERS, assumed_icc=0.5)
    assert some.low < none.low < 1 and none.high == 1


def rejection_rates(worse: float, better: float, icc: float, runs: int = 600) -> tuple[float, float]:
    """How often the one-sided 95 % lower bound lies above the truth: (clustered, naive z)."""
    random, truth = np.random.default_rng(11), better - worse
    clustered = naive = 0
    for _ in range(runs):
        values = correlated(random, worse, better, icc)
        clustered += difference_interval(values, CLUSTERS, 0.9).low > truth + 1e-12
        naive += float(values.mean() - 1.645 * values.std(ddof=1) / math.sqrt(len(values))) > truth
    return clustered / runs, naive / runs


@pytest.mark.parametrize(("worse", "better", "icc"), [(0.15, 0.05, 0.0), (0.15, 0.05, 0.3), (0.1, 0.1, 0.71)])
def test_lower_bound_of_a_paired_difference_keeps_its_level(worse: float, better: float, icc: float) -> None:
    clustered, naive = rejection_rates(worse, better, icc)
    assert clustered <= 0.08, "nominal 5 %, 600 runs: two standard errors are 1.8 points"
    if icc > 0.5:
        assert naive > 0.12, "the naive bound is what this corrects"


def test_few_discordant_pairs_do_not_fool_the_bound() -> None:
    clustered, _ = rejection_rates(0.02, 0.0, 0.2)
    assert clustered <= 0.08


def test_bootstrap_t_covers_skewed_clustered_means() -> None:
    random, misses, runs = np.random.default_rng(5), 0, 400
    for _ in range(runs):
        values = random.exponential(size=150) + random.exponential(size=30)[CLUSTERS]
        interval = mean_interval(values, CLUSTERS, 0.9)
        misses += not interval.low <= 2.0 <= interval.high
    assert misses / runs <= 0.14, "nominal 10 %"


def test_intervals_are_the_same_every_time_and_in_any_order() -> None:
    values = np.random.default_rng(2).random(150)
    again = np.random.default_rng(9).permutation(150)
    one, two = mean_interval(values, CLUSTERS), mean_interval(values[again], CLUSTERS[again])
    assert (one.low, one.high) == pytest.approx((two.low, two.high))
    assert np.array_equal(bootstrap_t(values, CLUSTERS), bootstrap_t(values, CLUSTERS))


def test_one_document_alone_shows_little() -> None:
    alone = np.zeros(40, dtype=np.int64)
    values = np.random.default_rng(0).random(40)
    found = mean_interval(values, alone)
    assert (found.low, found.high) == (values.min(), values.max())
    assert mean_interval(np.ones(40), alone).low < 0.5


def test_superiority_p_agrees_with_the_interval() -> None:
    random = np.random.default_rng(4)
    for _ in range(5):
        values = correlated(random, 0.05, 0.2, 0.2)
        p = superiority_p(values, CLUSTERS)
        assert (p <= 0.05) == (difference_interval(values, CLUSTERS, 0.9).low > 0)
    assert superiority_p(np.zeros(150), CLUSTERS) == 1


def test_quantile_bound_needs_enough_values() -> None:
    values = np.arange(1.0, 201.0)
    found = quantile_interval(values, 0.95, 0.9)
    assert found.low < 190 < found.high <= 200
    assert quantile_interval(values[:20], 0.95, 0.9).high == math.inf


def test_ratio_interval_covers_and_admits_when_it_cannot() -> None:
    random, misses, runs = np.random.default_rng(8), 0, 400
    for _ in range(runs):
        good = (random.random(150) < 0.6).astype(np.float64)
        interval = ratio_interval(random.exponential(2.0, size=150), good, CLUSTERS, 0.9)
        misses += not interval.low <= 2.0 / 0.6 <= interval.high
    assert misses / runs <= 0.15, "nominal 10 %"
    assert ratio_interval(np.ones(150), np.zeros(150), CLUSTERS).high == math.inf
