"""Routing by foretold difficulty: curves and areas where the truth is known, intervals that cover, a careful choice."""

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from evaluation.calibration import calibrated
from evaluation.routing import (
    Both,
    Level,
    RoutingPolicy,
    allowed_threshold,
    choose_threshold,
    curve,
    gained,
    point,
    report_routing,
    thresholds,
)
from evaluation.routing_plots import curve_picture, reliability_picture
from evaluation.statistics import Floats
from infra.errors import InputError

LEVEL = Level(alpha=0.05, power=0.8, assumed_icc=0.2)
POLICY = RoutingPolicy()


def both(foretold: Floats, small: Floats, large: Floats, name: str = "c", per_document: int = 3) -> Both:
    cases = tuple(f"{name}{number}" for number in range(len(foretold)))
    clusters = {case: f"{name}-d{number // per_document}" for number, case in enumerate(cases)}
    prices = np.full(len(foretold), 0.25), np.ones(len(foretold))
    return Both(cases, clusters, foretold, small, large, *prices)


def drawn(seed: int, n: int = 300, sharp: float = 1.0, name: str = "c") -> Both:
    """Every question has a P of its own (shared a little inside a document) that the small model suffices; the large
    one is right in 90 of 100 cases. `sharp` 1: that P is foretold; 0: one that knows nothing of it."""
    random = np.random.default_rng(seed)
    documents = np.repeat(random.normal(0, 0.5, -(-n // 3)), 3)[:n]
    truth = 1 / (1 + np.exp(-(1 + 1.5 * random.normal(size=n) + documents)))
    large = (random.random(n) < 0.9).astype(float)
    small = np.where(large > 0, (random.random(n) < truth).astype(float), 0.0)
    told = truth if sharp else random.permutation(truth)
    return both(told, small, large, name)


def test_one_threshold_by_hand() -> None:
    pair = both(np.array([0.9, 0.8, 0.3, 0.1]), np.array([1.0, 0, 1, 0]), np.array([1.0, 1, 0, 1]))
    here = point(pair, 0.8)
    assert (here.share, here.quality.mean, here.difference.mean) == (0.5, 0.5, -0.25)
    assert here.cost == pytest.approx(0.625)
    assert here.saved == pytest.approx(0.375)
    assert here.random == pytest.approx(0.75 + 0.5 * (0.5 - 0.75))
    assert (point(pair, None).share, point(pair, None).difference.mean, point(pair, None).saved) == (0, 0, 0)


def test_the_curve_goes_from_always_large_to_always_small() -> None:
    pair = drawn(1)
    points = curve(pair, POLICY.shares)
    assert [points[0].share, points[-1].share] == [0, 1]
    assert points[0].quality.mean == pair.large.mean()
    assert points[-1].quality.mean == pair.small.mean()
    shares = [one.share for one in points]
    assert shares == sorted(shares)
    assert all(one.quality.low <= one.quality.mean <= one.quality.high for one in points)


def test_a_classifier_of_noise_gives_the_random_line() -> None:
    constant = drawn(2)
    flat = both(np.full(300, 0.6), constant.small, constant.large)
    assert gained(flat).mean == pytest.approx(0, abs=1e-12)
    assert [one.share for one in curve(flat, POLICY.shares)] == [0, 1]
    areas = [gained(drawn(seed, sharp=0)).mean for seed in range(40)]
    assert abs(np.mean(areas)) < 3 * np.std(areas) / np.sqrt(40)


def test_the_area_of_a_perfect_order_is_its_formula() -> None:
    """A share f of the questions costs one each when sent: best order loses nothing until 1 − f, lot loses f·share."""
    small = np.r_[np.ones(80), np.zeros(20)]
    perfect = both(np.linspace(1, 0, 100), small, np.ones(100))
    assert gained(perfect).mean == pytest.approx(0.2 / 2 - 0.2**2 / 2)


def test_the_interval_of_the_area_covers() -> None:
    truth = float(np.mean([gained(drawn(seed, n=1200)).mean for seed in range(1000, 1012)]))
    inside = [(found := gained(drawn(seed, n=300))).low <= truth <= found.high for seed in range(60)]
    assert np.mean(inside) >= 0.87
    assert gained(drawn(3, n=300)).low > 0


def test_exact_probabilities_are_calibrated_and_shifted_ones_are_not() -> None:
    shares = []
    for seed in range(20):
        pair = drawn(seed, n=450)
        told = np.where(pair.large > 0, pair.foretold, 1.0)  # where the large one is wrong, the small one suffices
        found = calibrated(told, pair.good_enough, pair.codes, 5)
        shares.append(found.is_calibrated)
        assert found.brier.mean < found.brier_of_share
    assert np.mean(shares) >= 0.85
    wrong = calibrated(np.clip(told - 0.3, 0.01, 1), pair.good_enough, pair.codes, 5)
    assert not wrong.is_calibrated
    assert wrong.ece.low > found.ece.mean
    assert all(one.observed.mean > one.foretold for one in wrong.bins[:3])


def test_the_reliability_table_holds_every_case_once() -> None:
    found = calibrated(np.r_[np.full(50, 0.5), np.linspace(0, 1, 50)], np.tile([0.0, 1.0], 50), np.arange(100), 5)
    assert sum(one.observed.n for one in found.bins) == found.cases == 100
    assert [one.foretold for one in found.bins] == sorted(one.foretold for one in found.bins)
    assert "<svg" in reliability_picture(found)


def test_the_chosen_threshold_is_seldom_worse_than_the_margin() -> None:
    """A small model that fails 12 of 100 times at random, margin 5 points: up to 5/12 of the share is truly allowed."""
    random, wrong, sent = np.random.default_rng(7), 0, []
    for _ in range(120):
        small = (random.random(240) < 0.88).astype(float)
        threshold, _ = choose_threshold(both(random.random(240), small, np.ones(240), per_document=1), POLICY, LEVEL)
        share = 0.0 if threshold is None else 1 - threshold
        sent.append(share)
        wrong += 0.12 * share > POLICY.margin
    assert wrong <= 12, "at most 5 % of 120, and what chance adds to 6 in 99 of 100 runs"
    assert max(sent) > 0.1


def test_the_search_ends_at_the_first_share_that_fails() -> None:
    small = np.r_[np.ones(150), np.zeros(150)]
    threshold, reasons = choose_threshold(both(np.linspace(1, 0, 300), small, np.ones(300)), POLICY, LEVEL)
    assert threshold == pytest.approx(np.linspace(1, 0, 300)[149])
    assert reasons[0].startswith("chosen: P ≥ 0.502, 50% to the small model, 37.5% of the cost saved")
    assert reasons[1].startswith("60% to the small model: FAIL, difference -0.1")


def test_a_small_model_that_costs_no_less_is_not_asked() -> None:
    pair = drawn(4)
    dear = Both(
        pair.cases, pair.clusters, pair.foretold, pair.large, pair.large, pair.large_cost * 1.1, pair.large_cost
    )
    threshold, reasons = choose_threshold(dear, POLICY, LEVEL)
    assert threshold is None
    assert reasons == ["chosen: always the large model", "10% to the small model: costs no less (-1.0% saved)"]


def easy(seed: int, name: str, good: int = 150) -> Both:
    """The first `good` of 300 questions are foretold well and the small model gets them right."""
    random = np.random.default_rng(seed)
    small = np.r_[np.ones(good), (random.random(300 - good) < 0.3).astype(float)]
    return both(np.r_[random.uniform(0.7, 1, 150), random.uniform(0, 0.5, 150)], small, np.ones(300), name)


def test_a_choice_that_the_proof_confirms() -> None:
    told = report_routing(easy(1, "v"), easy(2, "g"), POLICY, LEVEL, "s" * 64, "l" * 64)
    assert told.threshold is not None
    assert told.proof is not None
    assert (told.proof.decision, told.chosen) == ("PASS", told.proof.point)
    assert told.chosen.saved > 0.3
    assert told.gained.low > 0
    assert told.reasons[-1].startswith("proof on 300 other cases: PASS")
    assert [row["small"] for row in told.table()] == [round(one.share, 3) for one in told.curve]
    assert "chosen" in curve_picture(told)


def test_a_choice_that_the_proof_does_not_confirm_is_not_routed() -> None:
    told = report_routing(easy(1, "v"), easy(2, "g", good=60), POLICY, LEVEL, "s" * 64, "l" * 64)
    assert told.threshold is None
    assert told.proof is not None
    assert told.proof.decision == "FAIL"
    assert told.reasons[-1] == "not confirmed: always the large model"
    assert (told.chosen.share, told.chosen.threshold) == (0, None)
    assert "<svg" in curve_picture(told)


def test_an_order_that_is_no_better_than_chance_is_said_to_be_so() -> None:
    told = report_routing(drawn(1, sharp=0, name="v"), drawn(2, sharp=0, name="g"), POLICY, LEVEL, "s", "l")
    assert told.gained.low <= 0 <= told.gained.high
    assert told.reasons[-1].startswith("the order is not shown to be better than chance")


def test_a_release_may_route_only_by_what_the_policy_asks() -> None:
    report = report_routing(easy(1, "v"), easy(2, "g"), POLICY, LEVEL, "s", "l")
    assert report.threshold is not None
    assert allowed_threshold(report, POLICY) == report.threshold
    assert allowed_threshold(report, POLICY.model_copy(update={"margin": 0.1})) == report.threshold
    for asked in ({"margin": 0.02}, {"metric": "faithfulness"}):
        with pytest.raises(InputError, match="run `sluice run difficulty` again"):
            allowed_threshold(report, POLICY.model_copy(update=asked))
    never = report.model_copy(update={"threshold": None, "reasons": ("not confirmed",)})
    with pytest.raises(InputError, match=r"always the large model \(not confirmed\)"):
        allowed_threshold(never, POLICY)


def test_choice_and_proof_share_no_case() -> None:
    with pytest.raises(InputError, match="need cases of their own"):
        report_routing(easy(1, "v"), easy(2, "v"), POLICY, LEVEL, "s", "l")


def test_equal_probabilities_move_together() -> None:
    pair = both(np.repeat([0.9, 0.2], 50), np.ones(100), np.ones(100))
    assert thresholds(pair, POLICY.shares) == [0.9, 0.2]


@pytest.mark.parametrize("shares", [(0.5, 0.4), (0.0, 0.5), (0.5, 1.1), (0.5, 0.5)])
def test_shares_that_do_not_rise(shares: Any) -> None:
    with pytest.raises(ValidationError, match="shares lie above 0"):
        RoutingPolicy(shares=shares)
