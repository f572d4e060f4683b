"""What a canary sees and is decided by: outcomes of two arms, their pairs and harms, policy, state, decision."""

from collections.abc import Sequence
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from infra.settings import Spec

Arm = Literal["baseline", "canary"]
Action = Literal["CONTINUE", "ADVANCE", "PROMOTE", "ROLLBACK", "HOLD", "INCONCLUSIVE"]


class Outcome(BaseModel):
    """What one arm gave to one request. `key` pairs the arms when both answered the same request."""

    model_config = ConfigDict(frozen=True)

    key: str
    arm: Arm
    error: bool
    unsafe: bool
    latency_ms: float
    rating: Literal[-1, 0, 1] = 0
    """Thumb down, none, thumb up."""
    refused: bool = False
    trip: str = ""
    """A hard trip: canary-token leak, cross-tenant cache hit, tool outside the allowlist. One is enough."""


class CanaryMetric(Spec):
    """One metric of the canary."""

    metric: Literal["error", "unsafe", "slow", "refused", "rating"]
    """`slow` is latency above the SLO; `rating` counts half a point for every thumb that is lost."""
    tolerated: float | None = Field(ge=0, lt=1)
    """Growth of harm that does not roll back; null = this metric never rolls back."""
    margin: float = Field(gt=0, lt=1)
    """Growth of harm that promotion must rule out."""


class Step(Spec):
    """One share of traffic and the least number of pairs seen at it."""

    share: float = Field(gt=0, le=1)
    """Share of traffic that the canary gets."""
    minimum: int = Field(ge=1)
    """Pairs to see at this share before it may be left."""


class CanaryPolicy(Spec):
    """Section `canary` of the policy file."""

    alpha: float = Field(gt=0, lt=0.5)
    """Bound on false rollback and, separately, on false promotion, over the whole course."""
    slo_ms: float = Field(gt=0)
    """A request slower than this counts as slow."""
    pairing: Literal["key", "order"]
    """`key`: both arms answered the same request (shadow replay); `order`: k-th canary with k-th baseline outcome."""
    maximum: int = Field(ge=1)
    """Pairs after which a person decides."""
    srm_p: float = Field(gt=0, lt=0.5)
    """Sample-ratio check: a p-value below it halts."""
    steps: tuple[Step, ...] = Field(min_length=1)
    """Shares in rising order; after the last the canary is promoted to 100 %."""
    metrics: tuple[CanaryMetric, ...] = Field(min_length=1)
    """What is watched."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        shares = [step.share for step in self.steps]
        names = [metric.metric for metric in self.metrics]
        if shares != sorted(set(shares)):
            raise ValueError("steps: shares must rise")
        if len(set(names)) != len(names):
            raise ValueError("metrics: a metric stands twice")
        if self.maximum < sum(step.minimum for step in self.steps):
            raise ValueError("maximum: smaller than the minima of the steps together, so nothing could be promoted")
        return self


class CanaryState(BaseModel):
    """What the deciding task knows beside the outcomes: the share it has applied, and whether traffic has ended."""

    model_config = ConfigDict(frozen=True)

    step: int = 0
    """Index into `steps` of the share that is live now."""
    closed: bool = False
    """No more outcomes will come."""


class Evidence(BaseModel):
    """The two tests of one metric at the last pair looked at. `e` values are E, `p` anytime-valid."""

    model_config = ConfigDict(frozen=True)

    metric: str
    difference: float
    """Mean growth of harm, canary − baseline."""
    rollback_e: float | None
    rollback_p: float | None
    promote_e: float
    promote_p: float


class CoursePoint(BaseModel):
    """One look, for plotting: pairs seen, share, and E of every test by metric."""

    model_config = ConfigDict(frozen=True)

    pairs: int
    share: float
    rollback: dict[str, float]
    promote: dict[str, float]


class CanaryDecision(BaseModel):
    """What to do now, and why."""

    model_config = ConfigDict(frozen=True)

    action: Action
    step: int
    """Index of the step to be on; `len(steps)` when promoted."""
    share: float
    """Share of traffic the canary should have now."""
    pairs: int
    """Pairs looked at; later ones are ignored once the course has ended."""
    outcomes: dict[Arm, int]
    evidence: tuple[Evidence, ...]
    course: tuple[CoursePoint, ...]
    rollback_threshold: float
    promote_threshold: float
    reasons: tuple[str, ...]


def paired(outcomes: Sequence[Outcome], pairing: Literal["key", "order"]) -> list[tuple[int, Outcome, Outcome]]:
    """(index of the later outcome, baseline, canary) in the order in which pairs became complete.

    A key seen twice in one arm counts once: the first outcome stays.
    """
    waiting: dict[Arm, dict[str, Outcome]] = {"baseline": {}, "canary": {}}
    counted: dict[Arm, int] = {"baseline": 0, "canary": 0}
    seen: set[tuple[Arm, str]] = set()
    pairs: list[tuple[int, Outcome, Outcome]] = []
    for index, outcome in enumerate(outcomes):
        key = outcome.key if pairing == "key" else str(counted[outcome.arm])
        counted[outcome.arm] += 1
        if (outcome.arm, key) in seen:
            continue
        seen.add((outcome.arm, key))
        other: Arm = "canary" if outcome.arm == "baseline" else "baseline"
        partner = waiting[other].pop(key, None)
        if partner is None:
            waiting[outcome.arm][key] = outcome
        else:
            pairs.append((index, partner, outcome) if other == "baseline" else (index, outcome, partner))
    return pairs


def harm(outcome: Outcome, metric: str, slo_ms: float) -> float:
    """Harm of one outcome in [0, 1]."""
    if metric == "slow":
        return float(outcome.latency_ms > slo_ms)
    if metric == "rating":
        return (1 - outcome.rating) / 2
    return float({"error": outcome.error, "unsafe": outcome.unsafe, "refused": outcome.refused}[metric])
