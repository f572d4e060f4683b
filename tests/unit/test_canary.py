"""The canary's state machine: every action, pairing, halts, and the same decision however it is asked."""

from collections.abc import Sequence

import numpy as np
import pytest
from pydantic import ValidationError

from evaluation.arms import Arm, harm, paired
from evaluation.canary import CanaryDecision, CanaryPolicy, CanaryState, Outcome, decide
from evaluation.eprocess import anytime_p, log_evidence
from infra.settings import ROOT, Policy

STEPS = [{"share": 0.01, "minimum": 20}, {"share": 0.1, "minimum": 30}, {"share": 0.5, "minimum": 40}]
METRICS = [
    {"metric": "error", "tolerated": 0.01, "margin": 0.05},
    {"metric": "rating", "tolerated": 0.02, "margin": 0.05},
]


def policy(**changed: object) -> CanaryPolicy:
    numbers: dict[str, object] = {"alpha": 0.05, "slo_ms": 1000, "pairing": "key", "maximum": 800, "srm_p": 0.001}
    return CanaryPolicy.model_validate(numbers | {"steps": STEPS, "metrics": METRICS} | changed)


def outcome(key: object, arm: Arm, *, error: bool = False, trip: str = "") -> Outcome:
    return Outcome(key=str(key), arm=arm, error=error, unsafe=False, latency_ms=200, rating=1, trip=trip)


def course(n: int, baseline: float, canary: float, seed: int = 1) -> list[Outcome]:
    """Both arms answer n requests, with these error rates, in shuffled order of arms."""
    dice = np.random.default_rng(seed)
    found: list[Outcome] = []
    for key in range(n):
        both = [
            outcome(key, "baseline", error=bool(dice.random() < baseline)),
            outcome(key, "canary", error=bool(dice.random() < canary)),
        ]
        found += both if dice.random() < 0.5 else both[::-1]
    return found


def ask(outcomes: Sequence[Outcome], step: int = 0, closed: bool = False, **changed: object) -> CanaryDecision:
    return decide(outcomes, policy(**changed), CanaryState(step=step, closed=closed))


def test_equal_arms_climb_every_step_and_are_promoted() -> None:
    outcomes = course(600, 0.0, 0.0)
    final = ask(outcomes)
    assert (final.action, final.share, final.step) == ("PROMOTE", 1.0, 3)
    shares = [point.share for point in final.course]
    assert shares == sorted(shares) and set(shares) == {0.01, 0.1, 0.5, 1.0}
    left = [shares.index(share) for share in (0.1, 0.5, 1.0)]
    pairs = [final.course[index].pairs for index in left]
    assert pairs[0] >= 20 and pairs[1] - pairs[0] >= 30 and pairs[2] - pairs[1] >= 40
    assert all(item.promote_e >= 20 and item.promote_p <= 0.05 for item in final.evidence)


def test_advance_is_told_until_the_share_is_applied() -> None:
    outcomes = course(600, 0.0, 0.0)
    pairs = next(point.pairs for point in ask(outcomes).course if point.share == 0.1)
    here = outcomes[: 2 * pairs]
    assert (ask(here).action, ask(here).share) == ("ADVANCE", 0.1)
    assert ask(here, step=1).action == "CONTINUE"
    assert ask(here[:-2]).action == "CONTINUE" and ask(here[:-2]).share == 0.01


def test_a_much_worse_canary_is_rolled_back_with_the_reason() -> None:
    final = ask(course(400, 0.02, 0.4))
    assert (final.action, final.share) == ("ROLLBACK", 0.0)
    assert final.pairs < 100
    assert "error" in final.reasons[0]
    assert final.evidence[0].rollback_e is not None and final.evidence[0].rollback_e >= final.rollback_threshold == 40


def test_no_traffic_is_inconclusive_and_one_arm_alone_is_no_evidence() -> None:
    for outcomes in ([], [outcome(key, "baseline") for key in range(50)]):
        for closed in (False, True):
            final = ask(outcomes, closed=closed)
            assert final.action == "INCONCLUSIVE" and final.share == 0.01 and final.pairs == 0


def test_traffic_that_ends_or_reaches_the_maximum_is_held_for_a_person() -> None:
    outcomes = course(30, 0.0, 0.0)
    assert ask(outcomes).action == "CONTINUE"
    assert ask(outcomes, closed=True).action == "HOLD"
    held = ask(course(600, 0.1, 0.13), maximum=100)
    assert held.action == "HOLD" and held.pairs == 100 and "person" in held.reasons[0]


def test_one_hard_trip_of_the_canary_rolls_back() -> None:
    outcomes = course(40, 0.0, 0.0)
    tripped = [*outcomes[:30], outcome("x", "canary", trip="canary token in the answer"), *outcomes[30:]]
    final = ask(tripped)
    assert final.action == "ROLLBACK" and "canary token" in final.reasons[0] and final.pairs == 15
    assert ask([*outcomes, outcome("x", "baseline", trip="canary token")]).action == "CONTINUE"
    held = course(600, 0.1, 0.13)
    late = [*held, outcome("x", "canary", trip="tool outside the allowlist")]
    assert ask(held, maximum=100).action == "HOLD" and ask(late, maximum=100).action == "ROLLBACK"


def test_arms_of_different_size_halt() -> None:
    outcomes = [one for one in course(400, 0.0, 0.0) if one.arm == "baseline" or int(one.key) % 2]
    final = ask(outcomes, pairing="order")
    assert final.action == "HOLD" and "sample ratio" in final.reasons[0]


@pytest.mark.parametrize(("baseline", "canary"), [(0.0, 0.0), (0.05, 0.05), (0.02, 0.3), (0.05, 0.12)])
@pytest.mark.parametrize("pairing", ["key", "order"])
def test_a_killed_canary_resumes_with_the_same_decision(baseline: float, canary: float, pairing: str) -> None:
    outcomes = course(450, baseline, canary, seed=7)
    ended: CanaryDecision | None = None
    step = 0
    for seen in range(0, len(outcomes) + 1, 9):
        now = ask(outcomes[:seen], step=step, pairing=pairing)
        assert now.step >= step, "a share is never taken back but by a rollback"
        step = now.step if now.action == "ADVANCE" else step
        if ended is not None:
            assert (now.action, now.pairs, now.course) == (ended.action, ended.pairs, ended.course)
        elif now.action in ("PROMOTE", "ROLLBACK", "HOLD"):
            ended = now
    final = ask(outcomes, step=step, pairing=pairing)
    if ended is not None:
        assert final.action == ended.action


def test_pairs_by_key_complete_in_arrival_order_and_repeats_count_once() -> None:
    outcomes = [
        outcome("a", "baseline"),
        outcome("b", "canary"),
        outcome("b", "baseline", error=True),
        outcome("b", "baseline"),
        outcome("a", "canary"),
        outcome("a", "canary", error=True),
    ]
    found = paired(outcomes, "key")
    assert [(index, base.key, base.error, canary.error) for index, base, canary in found] == [
        (2, "b", True, False),
        (4, "a", False, False),
    ]
    assert [(base.key, canary.key) for _, base, canary in paired(outcomes, "order")] == [
        ("a", "b"),
        ("b", "a"),
        ("b", "a"),
    ]


def test_harm_of_every_metric() -> None:
    bad = Outcome(key="k", arm="canary", error=True, unsafe=True, latency_ms=1001, rating=-1, refused=True)
    good = Outcome(key="k", arm="canary", error=False, unsafe=False, latency_ms=1000, rating=1)
    for metric in ("error", "unsafe", "slow", "refused", "rating"):
        assert (harm(bad, metric, 1000), harm(good, metric, 1000)) == (1, 0)
    assert harm(good.model_copy(update={"rating": 0}), "rating", 1000) == 0.5


def test_evidence_is_that_of_the_formula_one_step_at_a_time() -> None:
    dice = np.random.default_rng(0)
    differences = dice.choice([-1.0, 0.0, 1.0], size=60)
    tolerance, total, log_e = 0.02, [0.5], 0.0
    null, variance = (1 + tolerance) / 2, [0.25]
    found = log_evidence(differences, tolerance)
    for i, value in enumerate((1 + differences) / 2):
        mean, spread = sum(total) / (i + 1), sum(variance) / (i + 1)
        bet = min(max((mean - null) / (spread + (mean - null) ** 2), 0), 1 / (2 * null))
        log_e += np.log(1 + bet * (value - null))
        assert found[i] == pytest.approx(log_e)
        total.append(value)
        variance.append((value - sum(total) / (i + 2)) ** 2)
    assert np.all(np.diff(anytime_p(found)) <= 0)


@pytest.mark.parametrize(
    "changed",
    [
        {"steps": [{"share": 0.5, "minimum": 5}, {"share": 0.1, "minimum": 5}]},
        {"steps": []},
        {"metrics": [METRICS[0], METRICS[0]]},
        {"metrics": [METRICS[0] | {"margin": 0}]},
        {"maximum": 10},
        {"alpha": 0.9},
        {"pairing": "guess"},
        {"unknown": 1},
    ],
)
def test_impossible_policies_are_refused(changed: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        policy(**changed)


def test_the_policy_file_promotes_an_equal_release_within_the_sample_traffic() -> None:
    read = Policy(ROOT / "sluice.yaml").section("canary", CanaryPolicy)
    final = decide(course(600, 0.0, 0.0), read, CanaryState())
    assert final.action == "PROMOTE"
