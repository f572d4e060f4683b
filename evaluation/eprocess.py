"""Betting e-processes: evidence against "the mean is at most this" that may be looked at after every observation.

Waudby-Smith & Ramdas, Estimating means of bounded random variables by betting (2010.09686), one-sided. The library
`confseq` has the same test but its C++ build fails under plain pip, so it is written out here.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def log_evidence(differences: Floats, tolerance: float) -> Floats:
    """Log of E_t against H0: E[D] ≤ tolerance, for every t, along the last axis.

    differences: D in [−1, 1], shape (..., n). With y = (1 + D)/2 and m0 = (1 + tolerance)/2,
    E_t = Π (1 + λ_i (y_i − m0)) and λ_i = clip((μ̂ − m0)/(σ̂² + (μ̂ − m0)²), 0, 1/(2 m0)), where μ̂ and σ̂² are those of
    the first i − 1 values, shrunk by a pseudo-value of mean ½ and variance ¼. Under H0, P(any E_t ≥ 1/α) ≤ α (Ville).
    """
    if not -1 < tolerance < 1:
        raise ValueError(f"tolerance {tolerance}: must lie strictly between -1 and 1")
    y, null = (1 + differences) / 2, (1 + tolerance) / 2
    count = np.arange(1, differences.shape[-1] + 1)
    means = (0.5 + np.cumsum(y, axis=-1)) / (count + 1)
    variances = (0.25 + np.cumsum((y - means) ** 2, axis=-1)) / (count + 1)
    edge = means - null
    kelly = edge / (variances + edge**2)
    first = np.full((*differences.shape[:-1], 1), (0.5 - null) / (0.25 + (0.5 - null) ** 2))
    bets = np.clip(np.concatenate([first, kelly[..., :-1]], axis=-1), 0, 1 / (2 * null))
    evidence: Floats = np.cumsum(np.log1p(bets * (y - null)), axis=-1)
    return evidence


def anytime_p(log_values: Floats) -> Floats:
    """Always-valid p_t = min over s ≤ t of 1/E_s, at most 1."""
    smallest: Floats = np.minimum(1.0, np.exp(-np.maximum.accumulate(log_values, axis=-1)))
    return smallest
