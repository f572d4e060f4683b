"""How one gate rule is decided: numbers in, a reason out. The gate (`gate.py`) says which rules are asked of what."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from evaluation.intervals import difference_interval, mean_interval, quantile_interval, ratio_interval, superiority_p
from evaluation.statistics import (
    Codes,
    Floats,
    cluster_codes,
    cluster_error,
    design_effect,
    detectable_effect,
    holm,
    mcnemar,
    questions_needed,
    zero_failures_bound,
)
from evaluation.types import Decision, Interval, Reason


@dataclass(frozen=True)
class Measured:
    """The values one rule looks at and the numbers it is decided by.

    `values`: case → value, or case → difference turned so that more is better for paired rules. `good`: case → 0/1,
    for the statistic `per_good` only.
    """

    label: str
    values: Mapping[str, float]
    clusters: Mapping[str, str]
    value: float
    alpha: float
    power: float
    assumed_icc: float
    higher: bool = True
    statistic: Literal["mean", "p95", "per_good"] = "mean"
    test: Literal["mean", "bound"] = "bound"
    good: Mapping[str, float] | None = None

    @property
    def array(self) -> Floats:
        """Values in the mapping's order, shape (n,)."""
        return np.array(list(self.values.values()), dtype=np.float64)

    @property
    def codes(self) -> Codes:
        """Cluster codes in the same order."""
        return cluster_codes(list(self.values), self.clusters)

    @property
    def confidence(self) -> float:
        """Two-sided confidence whose ends are the one-sided bounds."""
        return 1 - 2 * self.alpha

    def interval(self) -> Interval:
        """The statistic with its interval at `confidence`."""
        if self.statistic == "p95":
            return quantile_interval(self.array, 0.95, self.confidence)
        if self.statistic == "per_good":
            good = np.array(list((self.good or {}).values()), dtype=np.float64)
            return ratio_interval(self.array, good, self.codes, self.confidence)
        return mean_interval(self.array, self.codes, self.confidence, self.assumed_icc)

    def spread(self) -> tuple[float, float]:
        """Variance of one value and design effect."""
        return float(np.var(self.array)), design_effect(self.array, self.codes, self.assumed_icc)

    def more(self, gap: float) -> str:
        """Sentence saying how many more questions show a `gap` of this size."""
        variance, effect = self.spread()
        if variance == 0:
            p = max(gap, 1e-9)  # no variation yet: as many as make the zero-failure bound smaller than the gap
            needed = math.ceil(math.log(self.alpha) / math.log1p(-min(p, 0.999)) * effect)
        else:
            needed = questions_needed(variance, gap, alpha=self.alpha, power=self.power, effect=effect)
        missing = max(1, needed - len(self.values))
        return f"about {missing:,} more questions like these needed ({needed:,} in all at {self.power:.0%} power)"


def _number(value: float) -> str:
    """Four significant digits, thousands grouped, no trailing zeros."""
    return f"{value:,.4g}" if abs(value) < 10_000 else f"{value:,.0f}"


def decide_absolute(measured: Measured) -> Reason:
    """`absolute`: see the gate's documentation."""
    interval = measured.interval()
    sign = 1.0 if measured.higher else -1.0
    bound = interval.low if measured.higher else interval.high
    good, sure = sign * (interval.mean - measured.value) >= 0, sign * (bound - measured.value) >= 0
    asked = "at least" if measured.higher else "at most"
    told = f"{_number(interval.mean)} on {interval.n} cases, bound {_number(bound)}; {asked} {_number(measured.value)}"
    decision: Decision = "FAIL" if not good else "PASS" if sure or measured.test == "mean" else "UNDECIDED"
    tested = f"{told} asked of the {'estimate' if measured.test == 'mean' else 'bound'}"
    if decision == "UNDECIDED":
        tested += f": {_more_for(measured, interval)}"
    return _reason(measured, decision, tested, interval.mean, bound, measured.value)


def _more_for(measured: Measured, interval: Interval) -> str:
    """How many more cases bring the bound of an absolute rule to the right side."""
    width, gap = abs(interval.high - interval.mean), abs(interval.mean - measured.value)
    if measured.statistic == "mean" and gap:
        return measured.more(gap)
    if measured.statistic == "p95":
        least = math.ceil(math.log(measured.alpha) / math.log(0.95))
        if interval.n < least:
            return f"a bound on a 95th percentile takes {least} cases: {least - interval.n} more questions needed"
    if not math.isfinite(width) or gap == 0:
        return f"at least {interval.n} more questions needed"
    needed = math.ceil(interval.n * (width / gap) ** 2)
    return f"about {max(1, needed - interval.n):,} more questions needed"


def decide_zero(measured: Measured) -> Reason:
    """`zero`: a failure is a value above 0 (`lower` is better) or below 1 (`higher` is better)."""
    array = measured.array
    if not len(array):
        return Reason(rule=measured.label, decision="PASS", detail="no such case yet: nothing was tested", threshold=0)
    failed = array < 1 if measured.higher else array > 0
    failures, size = int(failed.sum()), len(array) / measured.spread()[1]
    if failures:
        names = [case for case, bad in zip(measured.values, failed, strict=True) if bad]
        shown = ", ".join(names[:5]) + (", …" if failures > 5 else "")
        told = f"{failures} of {len(array)} cases failed, none may: {shown}"
        return _reason(measured, "FAIL", told, float(failures), None, 0.0)
    bound = zero_failures_bound(len(array), measured.alpha)
    clustered = zero_failures_bound(size, measured.alpha)
    told = (
        f"none of {len(array)} cases failed, which rules out rates above {bound:.1%} "
        f"({clustered:.1%} counting {size:.0f} independent ones)"
    )
    return _reason(measured, "PASS", told, 0.0, clustered, 0.0)


def _discordance(array: Floats) -> str:
    """Wins, losses and exact McNemar p where the differences are −1, 0 or 1; else empty."""
    if not set(np.unique(array).tolist()) <= {-1.0, 0.0, 1.0}:
        return ""
    wins, losses = int((array > 0).sum()), int((array < 0).sum())
    return f", {wins} better, {losses} worse, McNemar p {mcnemar(wins, losses):.3g}"


def decide_paired(measured: Measured) -> Reason:
    """`non_inferior`: see the gate's documentation."""
    array, codes, margin = measured.array, measured.codes, measured.value
    interval = difference_interval(array, codes, measured.confidence, measured.assumed_icc)
    told = (
        f"difference {interval.mean:+.4g} on {interval.n} pairs{_discordance(array)}; "
        f"lower bound {interval.low:+.4g} against a margin of −{_number(margin)}"
    )
    if interval.low > -margin:
        return _reason(measured, "PASS", told, interval.mean, interval.low, -margin)
    if interval.mean <= -margin:
        return _reason(measured, "FAIL", f"{told}: worse than allowed", interval.mean, interval.low, -margin)
    error = cluster_error(array, codes) if np.std(array) else 0.0
    visible = detectable_effect(error, alpha=measured.alpha, power=measured.power)
    if error and visible <= margin:
        told += f": the test could see {visible:.4g} and did not clear the margin"
        return _reason(measured, "FAIL", told, interval.mean, interval.low, -margin)
    more = measured.more(margin + min(0.0, interval.mean))
    seen = f"{told}: the test can only see differences of {visible:.4g}, {more}" if error else f"{told}: {more}"
    return _reason(measured, "UNDECIDED", seen, interval.mean, interval.low, -margin)


def decide_success(successes: Sequence[Measured]) -> list[Reason]:
    """`success` rules together, Holm-corrected: see the gate's documentation."""
    shifted = [measured.array - measured.value for measured in successes]
    raw = [superiority_p(array, one.codes, one.assumed_icc) for array, one in zip(shifted, successes, strict=True)]
    return [_success(one, adjusted) for one, adjusted in zip(successes, holm(raw), strict=True)]


def _success(measured: Measured, p: float) -> Reason:
    """One success rule with its Holm-adjusted p."""
    array, least = measured.array, measured.value
    interval = difference_interval(array, measured.codes, measured.confidence, measured.assumed_icc)
    told = (
        f"gain {interval.mean:+.4g} on {interval.n} pairs{_discordance(array)}; lower bound {interval.low:+.4g}, "
        f"more than {_number(least)} asked, Holm p {p:.3g}"
    )
    if p <= measured.alpha and interval.low > least:
        return _reason(measured, "PASS", told, interval.mean, interval.low, least)
    if interval.mean <= least:
        return _reason(measured, "FAIL", f"{told}: no gain", interval.mean, interval.low, least)
    more = measured.more(interval.mean - least)
    return _reason(measured, "UNDECIDED", f"{told}: {more}", interval.mean, interval.low, least)


def _reason(
    measured: Measured, decision: Decision, detail: str, value: float, bound: float | None, threshold: float
) -> Reason:
    finite = None if bound is None or not math.isfinite(bound) else bound
    shown = value if math.isfinite(value) else None
    return Reason(rule=measured.label, decision=decision, detail=detail, value=shown, bound=finite, threshold=threshold)
