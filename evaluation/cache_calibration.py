"""From labelled pairs of questions to the threshold of the semantic cache, with an exact bound on its false hits."""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict
from scipy import stats

GRID = (0.80, 0.84, 0.88, 0.90, 0.92, 0.94, 0.96, 0.98)
"""Thresholds that are tried: fixed before the pairs are seen, so that Bonferroni's correction holds."""
KEPT = 0.95
"""Share of the most hits that a higher threshold may keep: where that costs so little, caution is nearly free."""


class QuestionPair(BaseModel):
    """Two questions, and whether the answer to one answers the other."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    a: str
    b: str
    same: bool
    kind: str = ""
    """How they differ: wording, number, unit, polarity, entity, word, question."""
    group: int = 0
    """Pairs of one group are made of one question."""
    split: str = ""


class JudgedPair(BaseModel):
    """A pair as the cache sees it: cosine similarity, and the veto that keeps it apart (empty: none)."""

    model_config = ConfigDict(frozen=True)

    pair: QuestionPair
    similarity: float
    veto: str

    def hits(self, threshold: float) -> bool:
        """Whether the one question would get the other's answer."""
        return not self.veto and self.similarity >= threshold


class Hits(BaseModel):
    """What a threshold does to labelled pairs."""

    model_config = ConfigDict(frozen=True)

    threshold: float
    pairs: int
    same: int
    """Pairs that mean the same."""
    hits: int
    false: int
    """Hits that mean something else."""
    low: float
    """Exact interval (Clopper-Pearson) of the share of false hits among hits."""
    high: float

    @property
    def rate(self) -> float:
        """Share of false hits among hits; 0 where nothing hits."""
        return self.false / self.hits if self.hits else 0.0

    @property
    def hit_rate(self) -> float:
        """Share of the pairs that mean the same and hit."""
        return (self.hits - self.false) / self.same if self.same else 0.0


class Calibration(BaseModel):
    """The threshold that was found, and every one that was tried. `chosen` None: the bound cannot be shown."""

    model_config = ConfigDict(frozen=True)

    max_false_hit_rate: float
    confidence: float
    tried: tuple[Hits, ...]
    chosen: Hits | None


def exact_interval(events: int, n: int, alpha: float) -> tuple[float, float]:
    """Clopper and Pearson's interval of a proportion: each end errs with probability alpha / 2 at most."""
    if n == 0:
        return 0.0, 1.0
    low = 0.0 if events == 0 else float(stats.beta.ppf(alpha / 2, events, n - events + 1))
    high = 1.0 if events == n else float(stats.beta.ppf(1 - alpha / 2, events + 1, n - events))
    return low, high


def hits_at(judged: Sequence[JudgedPair], threshold: float, alpha: float) -> Hits:
    """What hits at a threshold, with the interval at level `alpha` (two-sided)."""
    hits = [one for one in judged if one.hits(threshold)]
    false = sum(not one.pair.same for one in hits)
    low, high = exact_interval(false, len(hits), alpha)
    same = sum(one.pair.same for one in judged)
    return Hits(
        threshold=threshold, pairs=len(judged), same=same, hits=len(hits), false=false, low=low, high=high
    )  # fmt: skip


def calibrate(judged: Sequence[JudgedPair], max_false_hit_rate: float, confidence: float = 0.95) -> Calibration:
    """The highest threshold of the grid that keeps KEPT of the most hits, among those whose bound holds.

    The bound is one-sided and Bonferroni's over the grid: it holds for the threshold that is chosen. Pairs count as
    independent draws of the traffic they stand for.
    """
    alpha = (1 - confidence) / len(GRID)
    tried = tuple(hits_at(judged, threshold, 2 * alpha) for threshold in GRID)
    proper = [one for one in tried if one.hits and one.high <= max_false_hit_rate]
    most = max((one.hits for one in proper), default=0)
    chosen = max((one for one in proper if one.hits >= KEPT * most), key=lambda one: one.threshold, default=None)
    return Calibration(max_false_hit_rate=max_false_hit_rate, confidence=confidence, tried=tried, chosen=chosen)
