"""Confidence intervals of means, differences, quantiles and ratios of clustered values.

Which method, by measured coverage (docs/decisions/gate-intervals.md): 0/1 values take Wilson's interval and −1/0/1
differences Tango's score interval, both on the design-effect-corrected sample and with Student's quantile; anything
else takes the studentised cluster bootstrap. BCa was tried and missed its level about twice as often.
"""

import math
from functools import lru_cache

import numpy as np
from scipy import stats

from evaluation.statistics import Codes, Floats, cluster_error, cluster_totals, design_effect
from evaluation.types import Interval

RESAMPLES = 1999
SEED = 20261120
ASSUMED_ICC = 0.2
"""Correlation inside a document that is assumed where the scores do not vary at all and so cannot show it."""


def student_quantile(confidence: float, groups: int) -> float:
    """Two-sided Student quantile with groups − 1 degrees of freedom."""
    return float(stats.t.ppf((1 + confidence) / 2, max(1, groups - 1)))


def wilson(successes: float, n: float, z: float) -> tuple[float, float]:
    """Wilson's score interval of a proportion. Successes and n may be fractional (effective counts)."""
    share, spread = successes / n, z * z / n
    centre = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(share * (1 - share) / n + spread / (4 * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def _tango_statistic(difference: float, wins: float, losses: float, n: float) -> float:
    """Tango's score statistic of H0: true mean difference = `difference` (Statistics in Medicine 17, 1998, eq. 16)."""
    linear = -wins - losses + (2 * n - wins + losses) * difference
    constant = -losses * difference * (1 - difference)
    losing = (math.sqrt(max(0.0, linear**2 - 8 * n * constant)) - linear) / (4 * n)
    variance = n * (2 * losing + difference * (1 - difference))
    excess = wins - losses - n * difference
    return excess / math.sqrt(variance) if variance > 1e-12 else math.copysign(math.inf, excess) if excess else 0.0


def tango(wins: float, losses: float, n: float, z: float) -> tuple[float, float]:
    """Score interval of the mean of −1/0/1 differences: wins + losses of `n` pairs differ. Counts may be fractional."""
    estimate = (wins - losses) / n

    def edge(inner: float, outer: float, sign: float) -> float:
        for _ in range(60):
            middle = (inner + outer) / 2
            if sign * _tango_statistic(middle, wins, losses, n) > z:
                outer = middle
            else:
                inner = middle
        return (inner + outer) / 2

    return edge(estimate, -1.0, 1.0), edge(estimate, 1.0, -1.0)


@lru_cache(maxsize=8)
def resample_counts(groups: int, resamples: int = RESAMPLES, seed: int = SEED) -> Floats:
    """How often each resample drew each cluster, shape (resamples, groups)."""
    drawn = np.random.default_rng(seed).multinomial(groups, np.full(groups, 1 / groups), size=resamples)
    return drawn.astype(np.float64)


def bootstrap_t(values: Floats, clusters: Codes, resamples: int = RESAMPLES, seed: int = SEED) -> Floats:
    """Studentised deviations (ȳ* − ȳ)/se* of a cluster bootstrap, shape (resamples,), ascending.

    A resample without variance counts as zero where it hits the mean and as ±infinity otherwise.
    """
    sums, sizes = cluster_totals(values, clusters)
    groups = len(sums)
    weights = resample_counts(groups, resamples, seed)
    counts = weights @ sizes
    means = (weights @ sums) / counts
    squares = weights @ sums**2 - 2 * means * (weights @ (sums * sizes)) + means**2 * (weights @ sizes**2)
    errors = np.sqrt(np.maximum(squares, 0) * groups / (groups - 1)) / counts
    shift = means - sums.sum() / sizes.sum()
    shift[np.abs(shift) < 1e-12] = 0.0
    flat = errors < 1e-12
    ratios = np.where(flat, np.sign(shift), shift) / np.where(flat, 1.0, errors)
    ratios[flat & (shift != 0)] *= np.inf
    return np.sort(ratios)


def _studentised(values: Floats, clusters: Codes, confidence: float) -> tuple[float, float]:
    """Bootstrap-t interval; where its tail is infinite, Student's with the cluster error."""
    error, mean = cluster_error(values, clusters), float(values.mean())
    ratios = bootstrap_t(values, clusters)
    tail = (1 - confidence) / 2
    upper, lower = (float(np.quantile(ratios, q, method="nearest")) for q in (1 - tail, tail))
    fallback = student_quantile(confidence, len(np.unique(clusters)))
    upper = upper if math.isfinite(upper) else max(fallback, float(ratios[np.isfinite(ratios)].max(initial=0)))
    lower = lower if math.isfinite(lower) else min(-fallback, float(ratios[np.isfinite(ratios)].min(initial=0)))
    return mean - upper * error, mean - lower * error


def mean_interval(
    values: Floats, clusters: Codes, confidence: float = 0.95, assumed_icc: float = ASSUMED_ICC
) -> Interval:
    """Mean of `values` (n,) with a two-sided interval that respects `clusters` (n,).

    One-sided bounds at level α are the ends at confidence 1 − 2α. Raises ValueError without a value.
    """
    n = len(values)
    if n == 0:
        raise ValueError("no values: an interval needs at least one")
    mean, kinds = float(values.mean()), set(np.unique(values).tolist())
    groups = len(np.unique(clusters))
    size = n / design_effect(values, clusters, assumed_icc)
    z = student_quantile(confidence, groups)
    if kinds <= {0.0, 1.0}:
        low, high = wilson(mean * size, size, z)
    elif kinds <= {-1.0, 0.0, 1.0}:
        low, high = tango(float((values > 0).mean()) * size, float((values < 0).mean()) * size, size, z)
    elif groups < 2:  # one document shows nothing about others: the range of the values, which no bound passes lightly
        low, high = float(values.min()), float(values.max())
    elif len(kinds) == 1:
        low = high = mean
    else:
        low, high = _studentised(values, clusters, confidence)
    return Interval(mean=mean, low=low, high=high, n=n, confidence=confidence)


def difference_interval(
    values: Floats, clusters: Codes, confidence: float = 0.95, assumed_icc: float = ASSUMED_ICC
) -> Interval:
    """`mean_interval` of paired differences: 0/1 differences may also be −1, so Tango's interval is taken for them."""
    if len(values) and set(np.unique(values).tolist()) <= {-1.0, 0.0, 1.0}:
        size = len(values) / design_effect(values, clusters, assumed_icc)
        z = student_quantile(confidence, len(np.unique(clusters)))
        wins, losses = float((values > 0).mean()) * size, float((values < 0).mean()) * size
        low, high = tango(wins, losses, size, z)
        return Interval(mean=float(values.mean()), low=low, high=high, n=len(values), confidence=confidence)
    return mean_interval(values, clusters, confidence, assumed_icc)


def superiority_p(values: Floats, clusters: Codes, assumed_icc: float = ASSUMED_ICC) -> float:
    """One-sided p of H0: mean difference ≤ 0, by inverting `difference_interval`: the α whose lower bound is 0."""
    low, high = 1e-6, 0.5
    if difference_interval(values, clusters, 1 - 2 * low, assumed_icc).low > 0:
        return low
    if float(values.mean()) <= 0:
        return 1.0
    for _ in range(30):
        middle = math.sqrt(low * high)
        if difference_interval(values, clusters, 1 - 2 * middle, assumed_icc).low > 0:
            high = middle
        else:
            low = middle
    return high


def quantile_interval(values: Floats, share: float, confidence: float = 0.95) -> Interval:
    """Quantile with a distribution-free order-statistic interval (SciPy); infinite where n is too small for one.

    Values count as independent: meant for latencies, which belong to requests and not to documents.
    """
    found = stats.quantile_test(values, p=share).confidence_interval(confidence)
    low, high = (-math.inf if math.isnan(found.low) else found.low, math.inf if math.isnan(found.high) else found.high)
    estimate = float(np.quantile(values, share))
    low, high = float(min(low, estimate)), float(max(high, estimate))
    return Interval(mean=estimate, low=low, high=high, n=len(values), confidence=confidence)


def ratio_interval(tops: Floats, bottoms: Floats, clusters: Codes, confidence: float = 0.95) -> Interval:
    """Σ tops / Σ bottoms (cost per good answer) by Fieller's theorem over clusters; infinite where Σ bottoms may be 0.

    Fieller (J. R. Stat. Soc. B 16, 1954) with the cluster covariance of the two totals and Student's quantile.
    """
    (top, _), (bottom, _) = cluster_totals(tops, clusters), cluster_totals(bottoms, clusters)
    groups, total_top, total_bottom = len(top), float(top.sum()), float(bottom.sum())
    estimate = total_top / total_bottom if total_bottom else math.inf
    infinite = Interval(mean=estimate, low=-math.inf, high=math.inf, n=len(tops), confidence=confidence)
    if groups < 2 or not total_bottom:
        return infinite
    covariance = np.cov(np.stack([top, bottom])) * groups
    square = student_quantile(confidence, groups) ** 2
    a = total_bottom**2 - square * covariance[1, 1]
    b = total_top * total_bottom - square * covariance[0, 1]
    c = total_top**2 - square * covariance[0, 0]
    if a <= 0:
        return infinite
    half = math.sqrt(max(0.0, b * b - a * c)) / a
    return Interval(mean=estimate, low=b / a - half, high=b / a + half, n=len(tops), confidence=confidence)
