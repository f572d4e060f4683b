"""Pure statistics of paired, clustered scores: clusters, design effect, McNemar, sample sizes, Holm."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from models.types import Case

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]


def clusters_of(cases: Sequence[Case]) -> dict[str, str]:
    """Case id → cluster name: cases that share a source document, directly or through a third, are one cluster.

    A case without documents (most unanswerable ones) is a cluster of its own.
    """
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        parent.setdefault(name, name)
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for case in cases:
        names = sorted(case.documents) or [f"case {case.id}"]
        for other in names[1:]:
            parent[root(other)] = root(names[0])
    return {case.id: root(min(case.documents, default=f"case {case.id}")) for case in cases}


def cluster_codes(cases: Sequence[str], clusters: Mapping[str, str]) -> Codes:
    """Integer cluster codes 0..G-1 of the case ids; a case that `clusters` does not know stands alone."""
    names = [clusters.get(case, f"case {case}") for case in cases]
    codes = {name: code for code, name in enumerate(sorted(set(names)))}
    return np.array([codes[name] for name in names], dtype=np.int64)


def cluster_totals(values: Floats, clusters: Codes) -> tuple[Floats, Floats]:
    """Sum and number of values of each cluster, both of shape (G,), empty clusters left out."""
    sizes = np.bincount(clusters).astype(np.float64)
    sums = np.bincount(clusters, weights=values).astype(np.float64)
    return sums[sizes > 0], sizes[sizes > 0]


def cluster_error(values: Floats, clusters: Codes) -> float:
    """Standard error of the mean when clusters, not values, are independent.

    The mean is the ratio Σ sums / Σ sizes; linearised variance G/(G−1) · Σ (s_g − m_g ȳ)² / N²
    (Cochran, Sampling Techniques, 3rd ed., 6.3). Infinite with fewer than two clusters.
    """
    sums, sizes = cluster_totals(values, clusters)
    groups = len(sums)
    if groups < 2:
        return math.inf
    residuals = sums - sizes * (sums.sum() / sizes.sum())
    return float(np.sqrt(groups / (groups - 1) * (residuals**2).sum()) / sizes.sum())


def design_effect(values: Floats, clusters: Codes, assumed_icc: float) -> float:
    """How many times larger the variance of the mean is than for independent values; never below 1.

    Where the values do not vary the data say nothing, and 1 + (m − 1)·assumed_icc is taken (m: mean cluster size
    weighted by size).
    """
    spread = float(np.std(values))
    _, sizes = cluster_totals(values, clusters)
    if spread == 0 or len(sizes) < 2:
        weighted = float((sizes**2).sum() / sizes.sum())
        return 1 + (weighted - 1) * assumed_icc
    return max(1.0, (cluster_error(values, clusters) / spread) ** 2 * len(values))


def intraclass_correlation(values: Floats, clusters: Codes) -> float:
    """One-way ANOVA estimate of the intra-class correlation, clipped to [0, 1]; 0 where it cannot be estimated."""
    sums, sizes = cluster_totals(values, clusters)
    groups, total = len(sums), len(values)
    if groups < 2 or total <= groups:
        return 0.0
    between = float((sizes * (sums / sizes - values.mean()) ** 2).sum()) / (groups - 1)
    within = (float(((values - values.mean()) ** 2).sum()) - between * (groups - 1)) / (total - groups)
    typical = (total - float((sizes**2).sum()) / total) / (groups - 1)
    denominator = between + (typical - 1) * within
    return min(1.0, max(0.0, (between - within) / denominator)) if denominator > 0 else 0.0


def effective_size(values: Floats, clusters: Codes) -> float:
    """n_eff = N / (1 + (m − 1)·ICC), with m the mean cluster size weighted by size."""
    _, sizes = cluster_totals(values, clusters)
    weighted = float((sizes**2).sum() / sizes.sum())
    return len(values) / (1 + (weighted - 1) * intraclass_correlation(values, clusters))


def mcnemar(wins: int, losses: int) -> float:
    """Exact two-sided McNemar p = min(1, 2·P(Bin(b+c, ½) ≤ min(b, c))); 1 without a discordant pair."""
    if wins + losses == 0:
        return 1.0
    return float(stats.binomtest(wins, wins + losses, 0.5).pvalue)


def questions_needed(
    variance: float, margin: float, difference: float = 0.0, *, alpha: float, power: float, effect: float = 1.0
) -> int:
    """Questions for a one-sided test to see `difference` above −margin.

    N = (z_{1−α} + z_power)² · variance · design effect / (difference + margin)². For a binary metric `variance` is
    discordance − difference². Raises ValueError where difference ≤ −margin: no number is enough.
    """
    if difference + margin <= 0:
        raise ValueError(f"a difference of {difference} is beyond the margin {margin}: no sample size shows otherwise")
    z = float(stats.norm.ppf(1 - alpha) + stats.norm.ppf(power))
    return max(1, math.ceil(z**2 * variance * effect / (difference + margin) ** 2))


def detectable_effect(error: float, *, alpha: float, power: float) -> float:
    """Smallest margin that a one-sided test with this standard error sees with `power` when nothing differs."""
    return float((stats.norm.ppf(1 - alpha) + stats.norm.ppf(power)) * error)


def zero_failures_bound(n: float, alpha: float = 0.05) -> float:
    """Upper bound on a failure rate after `n` trials without one: 1 − α^(1/n) (the rule of three at α = 0.05)."""
    return 1.0 if n <= 0 else float(1 - alpha ** (1 / n))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm-adjusted p-values in the order given (statsmodels)."""
    from statsmodels.stats.multitest import multipletests

    return [float(p) for p in multipletests(p_values, method="holm")[1]] if p_values else []
