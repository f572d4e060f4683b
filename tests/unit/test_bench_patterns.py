"""Rows of the bench of patterns: each arm beside the naive search on the same questions."""

from typing import get_args

import numpy as np
import pytest

from evaluation.benches.patterns import ARMS, COSTS, SHARES, Measured, rows
from indexes.hybrid import PatternName

CLUSTERS = np.arange(8)


def measured(good: int, searches: float, tokens: float) -> Measured:
    """Eight questions, the first `good` of which found all."""
    shares = {name: (np.arange(8) < good).astype(np.float64) for name in SHARES}
    costs = {"searches": searches, "tokens": tokens, "ms": 2 * searches}
    return shares | {name: np.full(8, costs[name]) for name in COSTS}


def test_an_arm_stands_beside_the_naive_search() -> None:
    found = {row.name: row for row in rows({"naive": measured(4, 1, 0), "agentic": measured(6, 3, 70)}, CLUSTERS)}
    assert len(found) == 2 * (len(SHARES) + len(COSTS))
    gain = found["agentic: R@1"]
    assert (gain.value, gain.peer, gain.peer_value, gain.ratio, gain.unit) == (0.75, "naive", 0.5, 1.5, "share")
    assert gain.low is not None and gain.high is not None and gain.low < 1.5 < gain.high
    assert (found["agentic: ms"].ratio, found["agentic: searches"].unit) == (3.0, "searches/question")
    tokens = found["agentic: tokens"]
    assert (tokens.value, tokens.peer, tokens.ratio) == (70, "", None)
    assert (found["naive: R@1"].peer, found["naive: R@1"].ratio) == ("", None)


def test_a_ratio_that_nothing_bounds_has_no_interval() -> None:
    found = {row.name: row for row in rows({"naive": measured(1, 1, 0), "hyde": measured(8, 1, 9)}, CLUSTERS)}
    assert (found["hyde: R@5"].low, found["hyde: R@5"].high) == (None, None)
    assert found["hyde: R@5"].ratio == pytest.approx(8)


def test_every_pattern_is_measured() -> None:
    assert {arm.pattern for arm in ARMS} == set(get_args(PatternName))
    assert len({arm.name for arm in ARMS}) == len(ARMS)
