"""The canary decision: ordered outcomes of two concurrent arms → continue, advance, promote, roll back or hold.

Every metric is a paired difference D = canary − baseline in [−1, 1]. Harm (error, unsafe, slow, refused: 0/1; bad
rating) is tested twice by a betting e-process that may be looked at after every pair:

- rollback: H0 "harm grew by no more than `tolerated`"; ROLLBACK when any E reaches K/alpha (K such tests);
- promotion: H0 "harm grew by more than `margin`"; a step is left only while every E is at least 1/alpha.

So a release that is no worse than tolerated is rolled back with probability ≤ alpha, and one that is worse than the
margin on any metric is promoted with probability ≤ alpha, however often one looks. E carries across steps; a new pair
of releases starts anew. Nothing is promoted on silence: no pair is INCONCLUSIVE, `maximum` pairs are HOLD.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

from evaluation.arms import (
    Action,
    Arm,
    CanaryDecision,
    CanaryMetric,
    CanaryPolicy,
    CanaryState,
    CoursePoint,
    Evidence,
    Outcome,
    Step,
    harm,
    paired,
)
from evaluation.eprocess import Floats, log_evidence

__all__ = [
    "CanaryDecision",
    "CanaryMetric",
    "CanaryPolicy",
    "CanaryState",
    "Evidence",
    "Outcome",
    "Step",
    "both_tests",
    "decide",
    "thresholds",
    "walk",
]

_ARMS: tuple[Arm, ...] = ("baseline", "canary")

Differences = Mapping[str, Floats]
"""Metric → growth of harm, canary − baseline, in [−1, 1], shape (..., pairs)."""


def both_tests(differences: Differences, policy: CanaryPolicy) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """Log E of the rollback and of the promotion test by metric, each of the shape of its differences."""
    rollback: dict[str, Floats] = {}
    promote: dict[str, Floats] = {}
    for metric in policy.metrics:
        grown = differences[metric.metric]
        promote[metric.metric] = log_evidence(-grown, -metric.margin)
        if metric.tolerated is not None:
            rollback[metric.metric] = log_evidence(grown, metric.tolerated)
    return rollback, promote


def thresholds(policy: CanaryPolicy) -> tuple[float, float]:
    """E that rolls back (K/alpha) and E that lets a step be left (1/alpha)."""
    harms = sum(metric.tolerated is not None for metric in policy.metrics)
    return max(1, harms) / policy.alpha, 1 / policy.alpha


def walk(
    rollback: Mapping[str, Floats], promote: Mapping[str, Floats], policy: CanaryPolicy
) -> tuple[Action, int, list[int]]:
    """One canary's course from its log E: (end or CONTINUE, pairs looked at, pairs at which each step was left)."""
    to_rollback, to_promote = (float(np.log(value)) for value in thresholds(policy))
    n = min(len(next(iter(promote.values()))), policy.maximum)
    ready = np.all([values[:n] >= to_promote for values in promote.values()], axis=0)
    bad = np.any([values[:n] >= to_rollback for values in rollback.values()] or [np.zeros(n, bool)], axis=0)
    stop = int(np.argmax(bad)) + 1 if bad.any() else n + 1
    positions = np.flatnonzero(ready) + 1
    left: list[int] = []
    for step in policy.steps:
        earliest = (left[-1] if left else 0) + step.minimum
        later = positions[np.searchsorted(positions, earliest) :]
        if not len(later) or later[0] >= stop:
            break
        left.append(int(later[0]))
    if len(left) == len(policy.steps):
        return "PROMOTE", left[-1], left
    if stop <= n:
        return "ROLLBACK", stop, left
    return ("HOLD" if n == policy.maximum else "CONTINUE"), n, left


def sample_ratio_p(baseline: int, canary: int) -> float:
    """χ² p-value of two arms that should be of equal size; 1 without traffic."""
    return float(stats.chisquare([baseline, canary]).pvalue) if baseline + canary else 1.0


def _looks(n: int) -> list[int]:
    """Outcome counts at which the sample ratio is checked: 100, 200, 400, … so that few looks spend little error."""
    looks = []
    look = 100
    while look <= n:
        looks.append(look)
        look *= 2
    return looks


def _trip(outcomes: Sequence[Outcome]) -> tuple[int, str] | None:
    """First hard trip of the canary: (outcomes seen, reason)."""
    for seen, outcome in enumerate(outcomes, 1):
        if outcome.trip and outcome.arm == "canary":
            return seen, f"hard trip on request {outcome.key}: {outcome.trip}"
    return None


def _mismatch(outcomes: Sequence[Outcome], policy: CanaryPolicy, looks: Sequence[int]) -> tuple[int, str] | None:
    """First look at which the arms' sizes cannot be those of an even split: (outcomes seen, reason)."""
    canary = np.cumsum([outcome.arm == "canary" for outcome in outcomes])
    for look in looks:
        ours = int(canary[look - 1])
        p = sample_ratio_p(look - ours, ours)
        if p < policy.srm_p:
            return (
                look,
                f"sample ratio: {look - ours} baseline, {ours} canary outcomes (p {p:.2g}); mend the split first",
            )
    return None


def _halt(
    outcomes: Sequence[Outcome], policy: CanaryPolicy, action: Action, end: int, looks: Sequence[int]
) -> tuple[int, Action, str] | None:
    """What ends the course before `action` does at outcome `end`: (outcomes seen, action, reason).

    A hard trip rolls back unless the course was promoted or rolled back before it, also out of a HOLD.
    """
    trip, mismatch = _trip(outcomes), _mismatch(outcomes, policy, looks)
    if trip and (action in ("CONTINUE", "HOLD") or trip[0] <= end):
        return trip[0], "ROLLBACK", trip[1]
    if mismatch and (action == "CONTINUE" or mismatch[0] <= end):
        return mismatch[0], "HOLD", mismatch[1]
    return None


def _differences(pairs: Sequence[tuple[int, Outcome, Outcome]], policy: CanaryPolicy) -> dict[str, Floats]:
    """Metric → growth of harm of every pair."""
    found: dict[str, Floats] = {}
    for metric in policy.metrics:
        name = metric.metric
        grown = [harm(canary, name, policy.slo_ms) - harm(base, name, policy.slo_ms) for _, base, canary in pairs]
        found[name] = np.array(grown, dtype=np.float64)
    return found


def decide(outcomes: Sequence[Outcome], policy: CanaryPolicy, state: CanaryState) -> CanaryDecision:
    """The decision after these outcomes, in arrival order; the same however often it is asked on the way there.

    Once a prefix has ended the course (PROMOTE, ROLLBACK, HOLD), more outcomes do not change it, but for a hard trip
    after a HOLD. ADVANCE means that the step to be on is beyond `state.step`.
    """
    pairs = paired(outcomes, policy.pairing)
    differences = _differences(pairs, policy)
    rollback, promote = both_tests(differences, policy)
    action, seen, left = walk(rollback, promote, policy)
    ends = [index + 1 for index, _, _ in pairs]
    looks = sorted({*_looks(len(outcomes)), *(ends[pair - 1] for pair in left)})
    halt = _halt(outcomes, policy, action, ends[seen - 1] if seen else 0, looks)
    if halt:
        action = halt[1]
        seen = min(seen, int(np.searchsorted(ends, halt[0], side="right")))
        left = [pair for pair in left if ends[pair - 1] < halt[0]]
    elif action == "CONTINUE":
        action = _unfinished(seen, len(left), state)
    evidence = _evidence(policy, differences, rollback, promote, seen)
    to_rollback, to_promote = thresholds(policy)
    return CanaryDecision(
        action=action,
        step=len(left),
        share=_share(action, policy, len(left)),
        pairs=seen,
        outcomes={arm: sum(outcome.arm == arm for outcome in outcomes) for arm in _ARMS},
        evidence=evidence,
        course=_course(policy, rollback, promote, seen, left),
        rollback_threshold=to_rollback,
        promote_threshold=to_promote,
        reasons=(halt[2],) if halt else tuple(_why(action, policy, evidence, seen, len(left))),
    )


def _share(action: Action, policy: CanaryPolicy, step: int) -> float:
    """Share of traffic the canary should have after `action`."""
    if action == "ROLLBACK":
        return 0.0
    return policy.steps[step].share if step < len(policy.steps) else 1.0


def _unfinished(seen: int, step: int, state: CanaryState) -> Action:
    """CONTINUE's finer names: INCONCLUSIVE without a pair, HOLD when traffic ended, ADVANCE when a step was left."""
    if seen == 0:
        return "INCONCLUSIVE"
    if state.closed:
        return "HOLD"
    return "ADVANCE" if step > state.step else "CONTINUE"


def _e(log_value: float) -> float:
    """E from its logarithm, finite so that it can be stored as JSON."""
    return float(np.exp(min(log_value, 690.0)))


def _evidence(
    policy: CanaryPolicy, differences: Differences, rollback: Differences, promote: Differences, seen: int
) -> tuple[Evidence, ...]:
    """Both tests of every metric after `seen` pairs."""

    def at(values: Floats | None) -> tuple[float, float] | None:
        if values is None:
            return None
        course = values[:seen]
        return (1.0, 1.0) if not seen else (_e(course[-1]), min(1.0, float(np.exp(-course.max()))))

    found = []
    for metric in policy.metrics:
        name = metric.metric
        back, forth = at(rollback.get(name)), at(promote[name]) or (1.0, 1.0)
        found.append(
            Evidence(
                metric=name,
                difference=float(differences[name][:seen].mean()) if seen else 0.0,
                rollback_e=back[0] if back else None,
                rollback_p=back[1] if back else None,
                promote_e=forth[0],
                promote_p=forth[1],
            )
        )
    return tuple(found)


def _course(
    policy: CanaryPolicy, rollback: Differences, promote: Differences, seen: int, left: Sequence[int], points: int = 400
) -> tuple[CoursePoint, ...]:
    """At most about `points` looks, with every change of step among them."""
    spaced = np.linspace(1, seen, min(seen, points)).round().astype(int).tolist() if seen else []
    shown = sorted({*spaced, *left})
    shares = [*(step.share for step in policy.steps), 1.0]
    return tuple(
        CoursePoint(
            pairs=pair,
            share=shares[int(np.searchsorted(left, pair, side="right"))],
            rollback={name: _e(values[pair - 1]) for name, values in rollback.items()},
            promote={name: _e(values[pair - 1]) for name, values in promote.items()},
        )
        for pair in shown
    )


def _why(action: Action, policy: CanaryPolicy, evidence: Sequence[Evidence], seen: int, step: int) -> list[str]:
    """Reasons in words."""
    to_rollback, to_promote = thresholds(policy)
    if action == "ROLLBACK":
        return [
            f"{one.metric}: harm grew by {one.difference:+.1%}, E {one.rollback_e:.3g} ≥ {to_rollback:.3g}"
            for one in evidence
            if one.rollback_e is not None and one.rollback_e >= to_rollback
        ]
    if action == "PROMOTE":
        return [f"{one.metric}: within the margin, E {one.promote_e:.3g} ≥ {to_promote:.3g}" for one in evidence]
    if action == "INCONCLUSIVE":
        return ["no pair of outcomes: no traffic, no decision"]
    missing = [one.metric for one in evidence if one.promote_e < to_promote]
    wait = f"not yet within the margin: {', '.join(missing)}" if missing else "every metric is within its margin"
    if action == "HOLD":
        return [f"{seen} pairs and no decision: a person decides", wait]
    return [f"step {step + 1} of {len(policy.steps)}, {seen} pairs", wait]
