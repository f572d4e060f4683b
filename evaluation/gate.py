"""The release gate: scores of candidate and production on the same cases → PASS, FAIL or UNDECIDED, a reason a rule.

Rules (all numbers come from the policy file):

absolute       the metric is on the right side of the threshold: its estimate (`test: mean`) or its one-sided bound
               (`test: bound`). FAIL when the estimate is on the wrong side; UNDECIDED when only the bound is.
zero           no case failed; the reason states the failure rate that so few cases cannot rule out.
non_inferior   the one-sided lower bound of candidate − production (turned so that more is better) is above −margin.
               FAIL when the estimate is beyond the margin, or when it is not but the test was strong enough to show it;
               UNDECIDED when the smallest effect the test could see is larger than the margin.
success        the same difference is above `value` with Holm's correction over all success rules. At least one success
               rule must pass. FAIL when the estimate is not above it, UNDECIDED when only the bound is not.

Every guardrail (all but success) must pass. A rule with a failed scorer or fewer cases than its minimum is UNDECIDED.
An UNDECIDED rule names how many more questions would decide it. UNDECIDED never ships. Without a production release,
paired rules are not asked and absolute rules use their `first_release` floor where they name one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Self

from pydantic import Field, model_validator

from evaluation.metrics import case_values
from evaluation.rules import Measured, decide_absolute, decide_paired, decide_success, decide_zero
from evaluation.statistics import clusters_of
from evaluation.types import Decision, Reason, Score, Verdict
from infra.errors import InputError, PolicyError
from infra.settings import Spec
from infra.store import value_digest
from models.types import Case

Profile = Literal["sample", "production"]


class Rule(Spec):
    """One line of the gate policy."""

    metric: str
    """Name of the scorer's metric."""
    kind: Literal["absolute", "non_inferior", "zero", "success"]
    """What is asked; see the gate's documentation."""
    direction: Literal["higher", "lower"] = "higher"
    """Which way is better."""
    production: float = Field(ge=0)
    """Value for real models: threshold of an absolute rule, margin of a non-inferior one, least gain of a success."""
    floor: float | None = Field(default=None, ge=0)
    """The value that profile `sample` applies in its place; null = the production value."""
    first_release: float | None = Field(default=None, ge=0)
    """Threshold of an absolute rule while no production release exists; null = the profile's value."""
    test: Literal["mean", "bound"] = "bound"
    """Absolute rules: test the estimate or its one-sided bound. (Not named `on`: YAML reads that key as true.)"""
    statistic: Literal["mean", "p95", "per_good"] = "mean"
    """What is taken over cases; `per_good` is the sum over the number of correct answers. Absolute rules only."""
    tags: tuple[str, ...] = ()
    """Ask only cases that have one of these tags; empty = all."""
    minimum: int | None = Field(default=None, ge=0)
    """Least number of cases; null = the policy's."""

    @model_validator(mode="after")
    def _statistic_fits(self) -> Self:
        if self.statistic != "mean" and self.kind != "absolute":
            raise ValueError(f"statistic {self.statistic} needs kind absolute, not {self.kind}")
        if self.kind == "zero" and (self.production or self.floor):
            raise ValueError("a zero rule tolerates nothing: production and floor must be 0 or absent")
        if self.kind == "non_inferior" and 0 in (self.production, self.floor):
            raise ValueError("a margin of 0 can never be shown: use a success rule to ask for a gain")
        return self

    @property
    def label(self) -> str:
        """Name of the rule in reasons and reports, unique in a policy."""
        name = self.metric if self.statistic == "mean" else f"{self.metric} {self.statistic}"
        tags = f" [{', '.join(self.tags)}]" if self.tags else ""
        return f"{name}{tags}: {self.kind}".replace("_", " ")

    def value(self, profile: Profile, first_release: bool = False) -> float:
        """The number that applies."""
        if first_release and self.first_release is not None:
            return self.first_release
        return self.floor if profile == "sample" and self.floor is not None else self.production


class GatePolicy(Spec):
    """Section `gate` of the policy file."""

    profile: Profile
    """`production` applies each rule's production value; `sample` its floor, for the tiny built-in model."""
    alpha: float = Field(gt=0, lt=0.5)
    """Error rate of each one-sided test."""
    power: float = Field(gt=0.5, lt=1)
    """Power that `how many more questions` is computed for."""
    minimum: int = Field(ge=1)
    """Least number of cases of a rule."""
    assumed_icc: float = Field(ge=0, le=1)
    """Correlation inside a document, assumed where scores do not vary and so cannot show it."""
    rules: tuple[Rule, ...] = Field(min_length=1)
    """What is asked, in this order."""

    @model_validator(mode="after")
    def _labels_differ(self) -> Self:
        labels = [rule.label for rule in self.rules]
        twice = next((label for label in labels if labels.count(label) > 1), None)
        if twice:
            raise ValueError(f"rules: {twice!r} stands twice")
        return self

    @property
    def digest(self) -> str:
        """sha256 of the policy."""
        return value_digest(self.model_dump(mode="json"))


@dataclass(frozen=True)
class ReleaseScores:
    """A release's digest and all its scores on the gate cases."""

    release: str
    scores: Sequence[Score]


@dataclass(frozen=True)
class _Evidence:
    """Everything the rules look at."""

    candidate: ReleaseScores
    production: ReleaseScores | None
    policy: GatePolicy
    cases: Mapping[str, Case]
    clusters: Mapping[str, str]

    def asked(self, rule: Rule) -> set[str]:
        """Case ids that the rule's tags select."""
        wanted = set(rule.tags)
        return {case.id for case in self.cases.values() if not wanted or wanted & set(case.tags)}

    def values(self, side: ReleaseScores, rule: Rule, metric: str = "") -> dict[str, float]:
        """Values of the rule's metric (or `metric`) on the cases asked."""
        asked = self.asked(rule)
        found = case_values(side.scores, metric or rule.metric)
        return {case: value for case, value in found.items() if case in asked}

    def failures(self, rule: Rule) -> int:
        """Scorers that crashed on the rule's metric, on either side where both are asked."""
        sides = [self.candidate] + ([self.production] if self.production and rule.kind in _PAIRED else [])
        return sum(bool(score.error) and score.metric == rule.metric for side in sides for score in side.scores)


_PAIRED = ("non_inferior", "success")


def _check_metrics(candidate: ReleaseScores, policy: GatePolicy) -> None:
    """Raises PolicyError where a rule asks for a metric that no scorer gave: a misspelt rule must not pass unasked."""
    known = {score.metric for score in candidate.scores}
    for rule in policy.rules:
        missing = {rule.metric, *(("answer_correct",) if rule.statistic == "per_good" else ())} - known
        if missing:
            raise PolicyError(f"gate: rule {rule.label!r}: no scorer gave {min(missing)}; there are {sorted(known)}")


def _check(candidate: ReleaseScores, production: ReleaseScores | None, cases: Mapping[str, Case]) -> None:
    """Raises InputError where the two sides cannot be compared."""
    unknown = sorted({score.case for score in candidate.scores} - set(cases))
    if unknown:
        raise InputError(f"gate: score of unknown case {unknown[0]}; pass the cases that were evaluated")
    if production is None:
        return
    ours, theirs = ({score.case for score in side.scores} for side in (candidate, production))
    if ours != theirs:
        raise InputError(f"gate: case {min(ours ^ theirs)} was answered by one release only; evaluate both on the same")
    judges = [{score.metric: score.scorer for score in side.scores} for side in (candidate, production)]
    for metric in judges[0].keys() & judges[1].keys():
        if judges[0][metric] != judges[1][metric]:
            raise InputError(
                f"gate: {metric} was scored by {judges[0][metric]} and {judges[1][metric]}; score both sides' "
                "stored observations again with one version"
            )


def _measure(rule: Rule, evidence: _Evidence) -> Measured:
    """Values, clusters and numbers of one rule."""
    policy, production = evidence.policy, evidence.production
    values = evidence.values(evidence.candidate, rule)
    good: dict[str, float] = {}
    if rule.kind in _PAIRED and production is not None:
        before = evidence.values(production, rule)
        sign = 1.0 if rule.direction == "higher" else -1.0
        values = {case: sign * (value - before[case]) for case, value in values.items() if case in before}
    if rule.statistic == "per_good":
        good = evidence.values(evidence.candidate, rule, "answer_correct")
        values = {case: value for case, value in values.items() if case in good}
    return Measured(
        label=rule.label,
        values=values,
        good={case: good[case] for case in values} if good else {},
        clusters=evidence.clusters,
        higher=rule.direction == "higher",
        statistic=rule.statistic,
        test=rule.test,
        value=rule.value(policy.profile, evidence.production is None),
        alpha=policy.alpha,
        power=policy.power,
        assumed_icc=policy.assumed_icc,
    )


def _guardrail(rule: Rule, evidence: _Evidence) -> Reason:
    """The reason of one rule that is not a success rule."""
    early = _not_measurable(rule, evidence)
    if early is not None:
        return early
    measured = _measure(rule, evidence)
    deciders = {"absolute": decide_absolute, "zero": decide_zero, "non_inferior": decide_paired}
    return deciders[rule.kind](measured)


def _not_measurable(rule: Rule, evidence: _Evidence) -> Reason | None:
    """UNDECIDED where scorers failed or cases are too few, else None."""
    failures = evidence.failures(rule)
    if failures:
        detail = f"the scorer failed {failures} times; mend it and score the stored observations again"
        return Reason(rule=rule.label, decision="UNDECIDED", detail=detail)
    minimum = evidence.policy.minimum if rule.minimum is None else rule.minimum
    minimum = minimum if rule.kind == "zero" else max(1, minimum)
    n = len(_measure(rule, evidence).values)
    if n < minimum:
        detail = f"{n} cases, at least {minimum} are asked for: {minimum - n} more questions needed"
        return Reason(rule=rule.label, decision="UNDECIDED", detail=detail)
    return None


def _successes(rules: Sequence[Rule], evidence: _Evidence) -> list[Reason]:
    """The reasons of all success rules, Holm-corrected together."""
    early = {index: reason for index, rule in enumerate(rules) if (reason := _not_measurable(rule, evidence))}
    asked = [index for index in range(len(rules)) if index not in early]
    decided = dict(zip(asked, decide_success([_measure(rules[index], evidence) for index in asked]), strict=True))
    return [(early | decided)[index] for index in range(len(rules))]


def _best(reasons: Sequence[Reason]) -> Decision:
    """PASS before UNDECIDED before FAIL: one success is enough. PASS where none was asked."""
    decisions = {reason.decision for reason in reasons}
    return "PASS" if "PASS" in decisions or not decisions else "UNDECIDED" if "UNDECIDED" in decisions else "FAIL"


def decide(
    candidate: ReleaseScores, production: ReleaseScores | None, policy: GatePolicy, cases: Sequence[Case]
) -> Verdict:
    """The verdict on `candidate`; a pure function of its arguments. `production` None: a first release.

    `cases` are those that both releases answered; they give tags, and clusters by shared documents.
    Raises InputError where cases or scorer versions of the two sides differ, PolicyError for an unknown metric.
    """
    _check_metrics(candidate, policy)
    by_id = {case.id: case for case in cases}
    _check(candidate, production, by_id)
    evidence = _Evidence(candidate, production, policy, by_id, clusters_of(cases))
    asked = [rule for rule in policy.rules if production is not None or rule.kind not in _PAIRED]
    success = [rule for rule in asked if rule.kind == "success"]
    guardrails = [_guardrail(rule, evidence) for rule in asked if rule.kind != "success"]
    successes = _successes(success, evidence)
    decisions = {guardrail.decision for guardrail in guardrails} | {_best(successes)}
    overall: Decision = "FAIL" if "FAIL" in decisions else "UNDECIDED" if "UNDECIDED" in decisions else "PASS"
    return Verdict(
        decision=overall,
        reasons=(*guardrails, *successes),
        candidate=candidate.release,
        production=production.release if production else None,
        first_release=production is None,
        policy=policy.digest,
    )
