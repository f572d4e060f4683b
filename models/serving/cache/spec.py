"""How answers are kept and given again; section `cache` of the policy file."""

from typing import Annotated

from pydantic import Field, StringConstraints

from infra.settings import Spec


class SemanticSpec(Spec):
    """When an answer serves another wording of its question. The values come from `sluice calibrate-cache`."""

    threshold: float = Field(gt=0, le=1)
    """Least cosine similarity of two questions."""
    max_false_hit_rate: float = Field(gt=0, lt=1)
    """Largest share of wrong answers among hits that the calibration has shown."""
    calibrated_for: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
    """Version of the encoder and of the vetoes that the threshold was found with; with another there is no hit."""


class CacheSpec(Spec):
    """What is kept, how long and how much of it."""

    exact: bool = False
    """Whether the same question by a caller with the same rights gets the same answer again."""
    semantic: SemanticSpec | None = None
    """Whether another wording of it does; null: it does not. Needs `exact`."""
    ttl_s: float = Field(3600, gt=0, le=30 * 86400)
    """How long an answer is given again, in seconds."""
    stale_s: float = Field(0, ge=0, le=30 * 86400)
    """How much longer it is kept for the case that no engine answers."""
    max_entries: int = Field(10_000, ge=1, le=1_000_000)
    """Answers kept in a process; the one that was used longest ago goes first."""
    max_mib: float = Field(64, gt=0, le=65536)
    """Memory for them, in MiB."""
