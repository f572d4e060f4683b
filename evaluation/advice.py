"""Advice as plain values: what the policy asks beyond the gate, recommendations with their reasons, what is missing."""

from pydantic import BaseModel, ConfigDict, Field

from evaluation.remedies import Kind
from infra.settings import Spec


class AdvicePolicy(Spec):
    """Section `advice`: what the decision path asks beyond the gate, whose rules it reads as they are."""

    unsafe: tuple[str, ...] = ("pii_leak", "forbidden_shown")
    """Metrics of the gate that are about safety."""
    unsupported: tuple[str, ...] = ("faithfulness", "citation_valid")
    """Metrics that are about answers without support."""
    unfound: tuple[str, ...] = ("context_precision", "context_recall")
    """Metrics that are about what the search brings."""
    failing: tuple[str, ...] = ("error",)
    """Metrics that are about parts that fail."""
    slow: tuple[str, ...] = ("latency_ms",)
    """Metrics that are about time."""
    costly: tuple[str, ...] = ("cost",)
    """Metrics that are about money. What none of these lists names is about the quality of answers."""
    evidence_shown: float = Field(0.9, ge=0, le=1)
    """Share of the evidences that must stand before the model; below it retrieval comes before the model."""
    unseen_share: float = Field(0.5, ge=0, le=1)
    """Share of unsupported answers without their evidence from which retrieval is to blame for them."""
    pattern_wrong: int = Field(5, ge=1)
    """Least wrong answers of a group that may be a pattern."""
    pattern_share: float = Field(0.2, ge=0, le=1)
    """Least share of all wrong answers that a pattern must hold to be worth training for."""
    training_rows: int = Field(100, ge=1)
    """Rows from which supervised fine-tuning by an adapter is worth trying."""
    preference_pairs: int = Field(100, ge=1)
    """Pairs from which preference optimization is worth trying."""
    style_share: float = Field(0.1, ge=0, le=1)
    """Share of right answers that may be disliked."""
    generation_share: float = Field(0.5, ge=0, le=1)
    """Share of an answer's time from which the model is what makes it slow."""
    routing_saved: float = Field(0.05, ge=0, le=1)
    """Least share of the cost that routing must save to be worth its upkeep."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class Because(_Frozen):
    """One reason: a figure and what it was held against."""

    figure: str
    value: float | None
    threshold: float | None
    source: str
    """Where the threshold stands in the policy file."""
    told: str
    """The reason as a sentence."""


class Recommendation(_Frozen):
    """One thing to do."""

    kind: Kind
    do: str
    because: tuple[Because, ...]
    how: tuple[str, ...]
    changes: str


class Missing(_Frozen):
    """A fact that was not there, and how it is had."""

    fact: str
    matters: str
    measure: str


class Advice(_Frozen):
    """What to do, in order. There is always one recommendation at least."""

    release: str
    recommendations: tuple[Recommendation, ...]
    holds: tuple[str, ...]
    """What was looked at and is as the policy asks."""
    missing: tuple[Missing, ...]

    @property
    def first(self) -> Recommendation:
        """What to do now."""
        return self.recommendations[0]
