"""Small model or large: quality and cost of every threshold of a difficulty classifier, and which one a policy takes.

A question whose probability (that the small model is good enough) reaches the threshold goes to the small model. The
threshold is chosen on one set of cases and proved on another. The shares that are tried stand in the policy, so the
order of the tests is fixed before anything is seen: each is made at the full level, from the most careful on, and the
first that fails ends the search (fixed-sequence testing, Maurer, Hothorn, Lehmacher 1995; for thresholds: Angelopoulos
et al., Learn then Test, 2021). The chance to take a threshold that is worse than the margin is then at most alpha.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

from evaluation.calibration import Calibration, calibrated
from evaluation.intervals import difference_interval, mean_interval, resample_counts
from evaluation.rules import Measured, decide_paired
from evaluation.statistics import Codes, Floats, cluster_codes
from evaluation.types import Decision, Interval, Reason
from infra.errors import InputError
from infra.settings import Spec


class RoutingPolicy(Spec):
    """Section `routing`: when a question may go to the small model. Level and power of the tests are the gate's."""

    use: bool = False
    """Whether the next candidate routes, by what `sluice run difficulty` found of its model and the small one."""
    metric: str = Field("answer_correct", min_length=1)
    """Quality, a 0/1 metric."""
    margin: float = Field(0.05, gt=0, lt=1)
    """Largest loss of quality against always asking the large model that counts as none."""
    shares: tuple[float, ...] = Field((0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0), min_length=1)
    """Shares of the questions to the small model that are tried, in rising order."""
    bins: int = Field(5, ge=2, le=50)
    """Bins of the reliability table."""
    small_price: float | None = Field(None, ge=0)
    """Cost of a request to the small model, as a share of the large one's: where prices are known better than they can
    be measured, as with an API or on a machine that others use too. None: both as they were measured."""

    @field_validator("shares")
    @classmethod
    def _rise(cls, shares: tuple[float, ...]) -> tuple[float, ...]:
        if any(not 0 < share <= 1 for share in shares) or list(shares) != sorted(set(shares)):
            raise ValueError("shares lie above 0, at most at 1, and rise")
        return shares


class Level(BaseModel):
    """How a test decides, from the gate's policy."""

    model_config = ConfigDict(frozen=True)

    alpha: float
    power: float
    assumed_icc: float


@dataclass(frozen=True)
class Both:
    """What both models did on the same cases, and what was foretold: arrays (n,) in the order of `cases`."""

    cases: tuple[str, ...]
    clusters: Mapping[str, str]
    foretold: Floats
    """P(the small model is good enough)."""
    small: Floats
    """Quality, 0 or 1."""
    large: Floats
    small_cost: Floats
    large_cost: Floats

    @property
    def codes(self) -> Codes:
        """Cluster codes."""
        return cluster_codes(self.cases, self.clusters)

    @property
    def good_enough(self) -> Floats:
        """1 where the small model did no worse than the large one: what the classifier foretells."""
        return (self.small >= self.large).astype(np.float64)


class Point(BaseModel):
    """One threshold: what it sends to the small model, at which quality and price."""

    model_config = ConfigDict(frozen=True)

    threshold: float | None
    """Lowest probability that goes to the small model; None: nothing does."""
    share: float
    """Share of the questions that it sends there."""
    quality: Interval
    difference: Interval
    """Paired, to always asking the large model."""
    random: float
    """Quality when as many questions go there by lot."""
    cost: float
    """Mean cost of a request."""
    saved: float
    """Share of the cost of always asking the large model that is saved; below 0: it costs more."""


class Proof(BaseModel):
    """The chosen threshold on cases that had no part in the choice."""

    model_config = ConfigDict(frozen=True)

    decision: Decision
    detail: str
    point: Point


class RoutingReport(BaseModel):
    """What a difficulty classifier is worth."""

    model_config = ConfigDict(frozen=True)

    small: str
    """Digest of the small model's release."""
    large: str
    metric: str
    margin: float
    calibration: Calibration
    """On the cases of the proof."""
    curve: tuple[Point, ...]
    """On the cases of the proof: always large, each share, always small."""
    tried: tuple[Point, ...]
    """The same on the cases of the choice."""
    gained: Interval
    """Area between the curve and random routing, on the cases of the proof. Above 0: the order is of use."""
    threshold: float | None
    """Lowest probability that may go to the small model; None: always ask the large one."""
    proof: Proof | None
    """Of the threshold that was chosen; None where none was."""
    reasons: tuple[str, ...]

    @property
    def chosen(self) -> Point:
        """The point of the report's advice on the cases of the proof; the first one where nothing is routed."""
        return self.proof.point if self.proof and self.threshold is not None else self.curve[0]

    def table(self) -> list[dict[str, Any]]:
        """The curve as rows: shares and qualities with three digits, the cost of a request as it is."""
        rows = []
        for point in self.curve:
            told = {
                "small": point.share,
                "quality": point.quality.mean,
                "by lot": point.random,
                "difference": point.difference.mean,
                "low": point.difference.low,
                "high": point.difference.high,
                "saved": point.saved,
            }
            rows.append({name: round(value, 3) for name, value in told.items()} | {"cost": point.cost})
        return rows


def point(both: Both, threshold: float | None) -> Point:
    """Quality and cost of one threshold."""
    routed = np.zeros(len(both.cases), bool) if threshold is None else both.foretold >= threshold
    quality = np.where(routed, both.small, both.large)
    share, spent = float(routed.mean()), float(np.where(routed, both.small_cost, both.large_cost).mean())
    large = float(both.large_cost.mean())
    return Point(
        threshold=threshold,
        share=share,
        quality=mean_interval(quality, both.codes),
        difference=difference_interval(quality - both.large, both.codes),
        random=float(both.large.mean() + share * (both.small - both.large).mean()),
        cost=spent,
        saved=1 - spent / large if large else 0.0,
    )


def thresholds(both: Both, shares: Sequence[float]) -> list[float]:
    """The probability that each share of the questions reaches, rising shares first; equal ones once."""
    ranked = np.sort(both.foretold)[::-1]
    found = [float(ranked[max(1, round(share * len(ranked))) - 1]) for share in shares]
    return list(dict.fromkeys(found))


def curve(both: Both, shares: Sequence[float]) -> list[Point]:
    """Always large, the thresholds of these shares, always small."""
    points = [point(both, threshold) for threshold in (None, *thresholds(both, shares))]
    return points if points[-1].share == 1 else [*points, point(both, 0.0)]


def gained(both: Both, confidence: float = 0.95) -> Interval:
    """∫ over the share to the small model of (quality by foretold order − quality by lot), by a cluster bootstrap.

    Cases of one probability move together, so that equal probabilities are the random line itself: an area of 0.
    """
    order = np.argsort(-both.foretold, kind="stable")
    ranked = both.foretold[order]
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
    gains, codes = (both.small - both.large)[order], np.unique(both.codes, return_inverse=True)[1][order]
    counts = resample_counts(int(codes.max()) + 1)[:, codes]
    estimate = float(_areas(np.ones((1, len(order))), gains, starts)[0])
    ends = [
        float(end) for end in np.quantile(_areas(counts, gains, starts), [(1 - confidence) / 2, (1 + confidence) / 2])
    ]
    low, high = min(ends[0], estimate), max(ends[1], estimate)
    return Interval(mean=estimate, low=low, high=high, n=len(order), confidence=confidence)


def _areas(weights: Floats, gains: Floats, starts: Codes) -> Floats:
    """Area above the random line of each row of case weights (resamples, n); ranked, ties begin at `starts`."""
    total = weights.sum(axis=1, keepdims=True)
    first = np.zeros_like(total)
    ends = np.r_[starts[1:], weights.shape[1]] - 1
    shares = np.hstack([first, weights.cumsum(axis=1)[:, ends] / total])
    heights = np.hstack([first, (weights * gains).cumsum(axis=1)[:, ends] / total])
    area: Floats = ((heights[:, 1:] + heights[:, :-1]) / 2 * np.diff(shares, axis=1)).sum(axis=1) - heights[:, -1] / 2
    return area


def non_inferior(both: Both, threshold: float, margin: float, level: Level) -> Reason:
    """Whether the threshold is no worse than always asking the large model by more than the margin."""
    routed = both.foretold >= threshold
    differences = np.where(routed, both.small - both.large, 0.0)
    return decide_paired(
        Measured(
            label="routing: non inferior",
            values=dict(zip(both.cases, differences.tolist(), strict=True)),
            clusters=both.clusters,
            value=margin,
            alpha=level.alpha,
            power=level.power,
            assumed_icc=level.assumed_icc,
        )
    )


def choose_threshold(both: Both, policy: RoutingPolicy, level: Level) -> tuple[float | None, list[str]]:
    """The threshold of the largest share that is cheaper and non-inferior, as every smaller one is; and why."""
    chosen: Point | None = None
    for threshold in thresholds(both, policy.shares):
        here, reason = point(both, threshold), non_inferior(both, threshold, policy.margin, level)
        told = f"{here.share:.0%} to the small model"
        if here.saved <= 0:
            return _chosen(chosen, f"{told}: costs no less ({here.saved:+.1%} saved)")
        if reason.decision != "PASS":
            return _chosen(chosen, f"{told}: {reason.decision}, {reason.detail}")
        chosen = here
    return _chosen(chosen, "every share of the policy holds")


def _chosen(last: Point | None, ended: str) -> tuple[float | None, list[str]]:
    if last is None:
        return None, ["chosen: always the large model", ended]
    told = f"P ≥ {last.threshold:.3f}, {last.share:.0%} to the small model, {last.saved:.1%} of the cost saved"
    return last.threshold, [f"chosen: {told}", ended]


def allowed_threshold(report: RoutingReport, policy: RoutingPolicy) -> float:
    """The threshold of a report that was made as the policy asks.

    Raises: InputError where the report asked less, or says that every question goes to the large model.
    """
    if report.metric != policy.metric or report.margin > policy.margin:
        raise InputError(
            f"routing.use: routing was measured by {report.metric} with margin {report.margin:g}, the policy asks "
            f"{policy.metric} and {policy.margin:g}; run `sluice run difficulty` again"
        )
    if report.threshold is None:
        raise InputError(
            f"routing.use: `sluice run difficulty` says always the large model ({'; '.join(report.reasons)}); set it "
            "to false, or run that again with another small model"
        )
    return report.threshold


def report_routing(
    chosen_on: Both, proved_on: Both, policy: RoutingPolicy, level: Level, small: str, large: str
) -> RoutingReport:
    """Choose on one set of cases, prove on the other. What the proof does not confirm is not routed.

    Raises InputError where the two share a case or a set is empty.
    """
    if not chosen_on.cases or not proved_on.cases or set(chosen_on.cases) & set(proved_on.cases):
        raise InputError("routing: choice and proof need cases of their own; check `cases` in the policy")
    threshold, reasons = choose_threshold(chosen_on, policy, level)
    proof = None
    if threshold is not None:
        reason = non_inferior(proved_on, threshold, policy.margin, level)
        proof = Proof(decision=reason.decision, detail=reason.detail, point=point(proved_on, threshold))
        reasons.append(f"proof on {len(proved_on.cases)} other cases: {reason.decision}, {reason.detail}")
        if reason.decision != "PASS" or proof.point.saved <= 0:
            threshold = None
            reasons.append("not confirmed: always the large model")
    area = gained(proved_on)
    if area.low <= 0:
        reasons.append("the order is not shown to be better than chance: as many questions by lot would do as well")
    return RoutingReport(
        small=small,
        large=large,
        metric=policy.metric,
        margin=policy.margin,
        calibration=calibrated(proved_on.foretold, proved_on.good_enough, proved_on.codes, policy.bins),
        curve=tuple(curve(proved_on, policy.shares)),
        tried=tuple(curve(chosen_on, policy.shares)),
        gained=area,
        threshold=threshold,
        proof=proof,
        reasons=tuple(reasons),
    )
