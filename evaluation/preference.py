"""Whether preference optimization moved what it was given: figures of validation pairs before and after."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from evaluation.intervals import difference_interval, mean_interval
from models.training.preferences import Margin


def preference_figures(margins: Sequence[Margin], beta: float) -> list[dict[str, Any]]:
    """A row each for: the margin of log-probabilities, pairs whose chosen answer is likelier, and implied rewards.

    Implied reward margin: β (after − before) of Rafailov et al. 2023; its accuracy is the share of pairs above zero.
    `low` and `high` bound the change at 95 %; for implied rewards, which are changes themselves, the value.
    """
    if not margins:
        return []
    before = np.array([margin.before for margin in margins])
    after = np.array([margin.after for margin in margins])
    clusters, reward = np.arange(len(margins)), beta * (after - before)
    likelier = (after > 0).astype(np.float64) - (before > 0).astype(np.float64)
    rows = [
        ("log-probability margin, nats", before.mean(), after.mean(), mean_interval(after - before, clusters)),
        ("chosen is likelier", (before > 0).mean(), (after > 0).mean(), difference_interval(likelier, clusters)),
        ("implied reward margin", 0.0, reward.mean(), mean_interval(reward, clusters)),
        ("implied reward accuracy", None, (reward > 0).mean(), mean_interval((reward > 0).astype(float), clusters)),
    ]
    return [
        {
            "figure": name,
            "before": None if old is None else float(old),
            "after": float(new),
            "low": interval.low,
            "high": interval.high,
            "pairs": len(margins),
        }
        for name, old, new, interval in rows
    ]
