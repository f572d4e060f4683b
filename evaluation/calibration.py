"""Are foretold probabilities right: a reliability table, the Brier score and the expected calibration error."""

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict

from evaluation.intervals import RESAMPLES, SEED, mean_interval, resample_counts
from evaluation.statistics import Codes, Floats
from evaluation.types import Interval


class Bin(BaseModel):
    """Cases of similar probability: what was foretold of them, and what came."""

    model_config = ConfigDict(frozen=True)

    foretold: float
    """Mean probability."""
    observed: Interval
    """Share of cases that it came true for, with its interval over source documents."""


class Calibration(BaseModel):
    """How far probabilities can be believed, from cases that no fit had seen."""

    model_config = ConfigDict(frozen=True)

    cases: int
    brier: Interval
    """Mean of (probability − outcome)²; lower is better."""
    brier_of_share: float
    """The same of the outcomes' own share foretold for every case: what a useful classifier stays below."""
    ece: Interval
    """Expected calibration error over the bins: Σ share of cases · |foretold − observed|. Its bootstrap interval."""
    ece_by_chance: float
    """95th percentile of that error for exact probabilities: chance alone gives it to so few cases."""
    bins: tuple[Bin, ...]

    @property
    def is_calibrated(self) -> bool:
        """Whether the error is no larger than chance gives to exact probabilities."""
        return self.ece.mean <= self.ece_by_chance


def calibrated(foretold: Floats, outcomes: Floats, clusters: Codes, bins: int) -> Calibration:
    """Calibration of probabilities (n,) against outcomes (n,), 0 or 1; `clusters` (n,) are source documents.

    Bins hold equally many cases, and cases of one probability stay together. Raises ValueError without a case.
    """
    if not len(foretold):
        raise ValueError("no cases: calibration needs at least one")
    places = _bins(foretold, bins)
    groups = np.unique(clusters, return_inverse=True)[1]
    counts = resample_counts(int(groups.max()) + 1)[:, groups]
    gaps = foretold - outcomes
    errors = _errors(counts * gaps, counts.sum(axis=1), places)
    estimate = float(_errors(gaps[None, :], np.array([len(gaps)]), places)[0])
    low, high = (float(np.quantile(errors, end)) for end in (0.025, 0.975))
    drawn = np.random.default_rng(SEED).random((RESAMPLES, len(foretold))) < foretold
    chance = _errors(foretold - drawn, np.array([len(gaps)]), places)
    share = float(outcomes.mean())
    return Calibration(
        cases=len(foretold),
        brier=mean_interval((foretold - outcomes) ** 2, clusters),
        brier_of_share=share * (1 - share),
        ece=Interval(mean=estimate, low=min(low, estimate), high=max(high, estimate), n=len(foretold)),
        ece_by_chance=float(np.quantile(chance, 0.95)),
        bins=tuple(_described(foretold, outcomes, clusters, places)),
    )


def _bins(foretold: Floats, bins: int) -> Codes:
    """Bin of each case, from 0."""
    edges = np.unique(np.quantile(foretold, np.linspace(0, 1, bins + 1)[1:-1]))
    return np.unique(np.searchsorted(edges, foretold, side="right"), return_inverse=True)[1].astype(np.int64)


def _errors(gaps: Floats, weights: Floats, places: Codes) -> Floats:
    """Expected calibration error of each row of weighted gaps (resamples, n); `weights` (resamples,) are their sums."""
    error: Floats = np.abs(gaps @ np.eye(int(places.max()) + 1)[places]).sum(axis=1) / weights
    return error


def _described(foretold: Floats, outcomes: Floats, clusters: Codes, places: Codes) -> Sequence[Bin]:
    return [
        Bin(
            foretold=float(foretold[places == place].mean()),
            observed=mean_interval(outcomes[places == place], clusters[places == place]),
        )
        for place in range(int(places.max()) + 1)
    ]
