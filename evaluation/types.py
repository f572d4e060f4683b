"""Observations, scores, intervals and verdicts."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from models.types import Answer, Case

Decision = Literal["PASS", "FAIL", "UNDECIDED"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class Observation(_Frozen):
    """What one release answered to one case: stored raw, scored at will."""

    case: Case
    answer: Answer


class Score(_Frozen):
    """One metric of one observation.

    `value` None with an `error`: the scorer crashed, which is never a zero. `value` None without one: the metric does
    not apply to this observation (the faithfulness of a refusal), which leaves it out of means and pairs.
    """

    case: str
    metric: str
    value: float | None
    reason: str
    scorer: str
    """Name and version of the scorer."""
    error: str = ""


class Interval(_Frozen):
    """An estimate with its two-sided confidence interval from `n` values."""

    mean: float
    low: float
    high: float
    n: int
    confidence: float = 0.95


class Reason(_Frozen):
    """One line of a verdict: a rule, what was measured, and whether it held."""

    rule: str
    decision: Decision
    detail: str
    value: float | None = None
    bound: float | None = None
    threshold: float | None = None


class Verdict(_Frozen):
    """The gate's decision with every rule it looked at."""

    decision: Decision
    reasons: tuple[Reason, ...]
    candidate: str
    production: str | None
    first_release: bool = False
    policy: str = ""
    """Digest of the gate policy."""
