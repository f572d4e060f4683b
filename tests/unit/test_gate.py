"""The gate: every rule passes, fails and stays undecided where it should, and its error rate is what it says."""

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from pydantic import ValidationError

from evaluation.gate import GatePolicy, ReleaseScores, decide
from evaluation.types import Reason, Score, Verdict
from infra.errors import InputError, PolicyError
from infra.settings import ROOT, Policy
from models.types import Case

CASES = [Case(id=f"q{i:03}", question="", documents=(f"d{i // 5:02}",), tags=("all",)) for i in range(150)]


def scores(metric: str, values: Sequence[float | None], version: str = "1", error: str = "") -> list[Score]:
    return [
        Score(case=case.id, metric=metric, value=value, reason="", scorer=f"{metric}@{version}", error=error)
        for case, value in zip(CASES, values, strict=False)
    ]


def release(name: str, **metrics: Sequence[float | None]) -> ReleaseScores:
    return ReleaseScores(name, [score for metric, values in metrics.items() for score in scores(metric, values)])


def policy(*rules: Mapping[str, object], profile: str = "production", **changed: object) -> GatePolicy:
    numbers = {"alpha": 0.05, "power": 0.8, "minimum": 30, "assumed_icc": 0.2}
    return GatePolicy.model_validate(numbers | {"profile": profile, "rules": rules} | changed)


def ones(right: int, n: int = 150) -> list[float]:
    """`right` ones spread evenly over n values."""
    return [float((i * right) // n != ((i + 1) * right) // n) for i in range(n)]


def only(verdict: Verdict) -> Reason:
    (reason,) = verdict.reasons
    assert verdict.decision == reason.decision
    return reason


FAITHFUL = {"metric": "m", "kind": "absolute", "production": 0.9, "floor": 0.6, "first_release": 0.3}


@pytest.mark.parametrize(
    ("right", "test", "decision"),
    [
        (148, "bound", "PASS"),
        (138, "bound", "UNDECIDED"),
        (138, "mean", "PASS"),
        (120, "mean", "FAIL"),
        (120, "bound", "FAIL"),
    ],
)
def test_absolute(right: int, test: str, decision: str) -> None:
    reason = only(
        decide(release("c", m=ones(right)), None, policy(FAITHFUL | {"test": test, "first_release": None}), CASES)
    )
    assert reason.decision == decision
    assert reason.value == pytest.approx(right / 150) and reason.threshold == 0.9
    assert ("more questions" in reason.detail) == (decision == "UNDECIDED")


def test_the_value_that_applies_is_the_first_release_floor_then_the_profiles() -> None:
    some, sample = release("c", m=ones(110)), policy(FAITHFUL, profile="sample")
    first = decide(release("c", m=ones(60)), None, sample, CASES)
    assert first.first_release and first.decision == "PASS" and only(first).threshold == 0.3
    assert only(decide(some, some, sample, CASES)).threshold == 0.6
    assert only(decide(some, some, policy(FAITHFUL), CASES)).threshold == 0.9


def test_lower_is_better() -> None:
    rule = {"metric": "m", "kind": "absolute", "direction": "lower", "production": 0.05}
    assert decide(release("c", m=[0.0] * 150), None, policy(rule), CASES).decision == "PASS"
    assert decide(release("c", m=ones(20)), None, policy(rule), CASES).decision == "FAIL"
    assert decide(release("c", m=ones(5)), None, policy(rule), CASES).decision == "UNDECIDED"


def test_p95_and_cost_per_good_answer() -> None:
    slow = {"metric": "latency_ms", "kind": "absolute", "direction": "lower", "statistic": "p95", "production": 3000}
    fast = [100.0 + i for i in range(150)]
    assert decide(release("c", latency_ms=fast), None, policy(slow), CASES).decision == "PASS"
    assert decide(release("c", latency_ms=[4000.0] * 20 + fast[20:]), None, policy(slow), CASES).decision == "FAIL"
    few = decide(release("c", latency_ms=fast[:40]), None, policy(slow), CASES)
    assert few.decision == "UNDECIDED" and "19 more questions" in only(few).detail
    cost = {"metric": "cost", "kind": "absolute", "direction": "lower", "statistic": "per_good", "production": 0.5}
    for right, decision in ((140, "PASS"), (10, "FAIL")):
        given = release("c", cost=[0.2] * 150, answer_correct=ones(right))
        assert decide(given, None, policy(cost), CASES).decision == decision


def test_zero_names_the_cases_and_says_what_it_cannot_rule_out() -> None:
    rule = {"metric": "pii", "kind": "zero", "direction": "lower", "production": 0}
    clean = only(decide(release("c", pii=[0.0] * 150), None, policy(rule), CASES))
    assert clean.decision == "PASS" and "2.0%" in clean.detail and clean.bound is not None and clean.bound > 0.02
    leak = only(decide(release("c", pii=[0.0] * 149 + [1.0]), None, policy(rule), CASES))
    assert leak.decision == "FAIL" and "q149" in leak.detail


def test_zero_without_a_case_passes_only_where_the_policy_asks_for_none() -> None:
    rule = {"metric": "m", "kind": "zero", "tags": ["regression"], "production": 0}
    assert decide(release("c", m=ones(150)), None, policy(rule | {"minimum": 0}), CASES).decision == "PASS"
    assert decide(release("c", m=ones(150)), None, policy(rule | {"minimum": 1}), CASES).decision == "UNDECIDED"


PAIRED = {"metric": "m", "kind": "non_inferior", "production": 0.05, "floor": 0.2}


def changed(worse: int, better: int, still: int) -> tuple[ReleaseScores, ReleaseScores]:
    """Candidate and production whose first `worse` answers got worse and next `better` ones better."""
    spread = [(i * 37) % 150 for i in range(150)]
    ours, theirs = [1.0] * 150, [1.0] * 150
    for place in spread[:worse]:
        ours[place] = 0.0
    for place in spread[worse : worse + better]:
        theirs[place] = 0.0
    return release("c", m=ours[:still]), release("p", m=theirs[:still])


@pytest.mark.parametrize(
    ("worse", "better", "profile", "decision"),
    [
        (0, 0, "production", "PASS"),
        (0, 10, "production", "PASS"),
        (10, 10, "production", "UNDECIDED"),
        (10, 10, "sample", "PASS"),
        (20, 2, "production", "FAIL"),
    ],
)
def test_non_inferior(worse: int, better: int, profile: str, decision: str) -> None:
    reason = only(decide(*changed(worse, better, 150), policy(PAIRED, profile=profile), CASES))
    assert reason.decision == decision, reason.detail
    assert reason.value == pytest.approx((better - worse) / 150)
    assert ("more questions" in reason.detail) == (decision == "UNDECIDED")


def test_success_needs_a_bound_above_zero() -> None:
    rule = {"metric": "m", "kind": "success", "production": 0}
    assert decide(*changed(2, 30, 150), policy(rule), CASES).decision == "PASS"
    assert decide(*changed(5, 8, 150), policy(rule), CASES).decision == "UNDECIDED"
    assert decide(*changed(8, 5, 150), policy(rule), CASES).decision == "FAIL"
    assert decide(*changed(0, 0, 150), policy(rule), CASES).decision == "FAIL"


def test_one_success_is_enough_and_holm_corrects_for_having_several() -> None:
    ours, theirs = changed(1, 8, 150)
    same = scores("flat", [1.0] * 150)
    both = ReleaseScores("c", [*ours.scores, *same]), ReleaseScores("p", [*theirs.scores, *same])
    gain = {"metric": "m", "kind": "success", "production": 0}
    flat = {"metric": "flat", "kind": "success", "production": 0}
    alone, together = (decide(*both, policy(*rules), CASES) for rules in ([gain], [gain, flat]))
    assert together.reasons[1].decision == "FAIL"
    assert together.decision == together.reasons[0].decision, "a failed success rule does not sink a passed one"
    p_alone, p_together = (float(v.reasons[0].detail.split("Holm p ")[1].split(":")[0]) for v in (alone, together))
    assert p_together == pytest.approx(2 * p_alone, rel=0.02)


def test_one_failing_guardrail_fails_the_release() -> None:
    ours, theirs = changed(0, 30, 150)
    leaking = ReleaseScores("c", [*ours.scores, *scores("pii", [1.0] + [0.0] * 149)])
    before = ReleaseScores("p", [*theirs.scores, *scores("pii", [0.0] * 150)])
    rules = (
        {"metric": "m", "kind": "success", "production": 0},
        {"metric": "pii", "kind": "zero", "direction": "lower", "production": 0},
    )
    verdict = decide(leaking, before, policy(*rules), CASES)
    assert verdict.decision == "FAIL"
    assert {reason.rule: reason.decision for reason in verdict.reasons} == {"pii: zero": "FAIL", "m: success": "PASS"}


def test_failed_scorers_and_few_cases_never_pass() -> None:
    broken = ReleaseScores("c", [*scores("m", ones(149)), *scores("m", [None], error="KeyError")])
    assert "scorer failed" in only(decide(broken, None, policy(FAITHFUL), CASES)).detail
    few = only(decide(release("c", m=[1.0] * 10), None, policy(FAITHFUL), CASES))
    assert few.decision == "UNDECIDED" and "20 more questions" in few.detail


def test_scores_that_do_not_apply_leave_their_pair_out() -> None:
    ours, theirs = release("c", m=[None] * 50 + [1.0] * 100), release("p", m=[1.0] * 140 + [None] * 10)
    assert "90 pairs" in only(decide(ours, theirs, policy(PAIRED, profile="sample"), CASES)).detail


def test_what_cannot_be_compared_is_refused() -> None:
    one = release("c", m=ones(150))
    with pytest.raises(InputError, match="answered by one release only"):
        decide(one, release("p", m=ones(149, 149)), policy(FAITHFUL), CASES)
    with pytest.raises(InputError, match="one version"):
        decide(one, ReleaseScores("p", scores("m", ones(150), version="2")), policy(FAITHFUL), CASES)
    with pytest.raises(InputError, match="unknown case"):
        decide(one, None, policy(FAITHFUL), CASES[:10])
    with pytest.raises(PolicyError, match="no scorer gave"):
        decide(one, None, policy(FAITHFUL | {"metric": "fatihfulness"}), CASES)


@pytest.mark.parametrize(
    "rule",
    [
        FAITHFUL | {"kind": "sometimes"},
        FAITHFUL | {"threshold": 1},
        PAIRED | {"production": 0},
        PAIRED | {"statistic": "p95"},
        {"metric": "m", "kind": "zero", "production": 0.1},
        FAITHFUL | {"production": -1},
    ],
)
def test_impossible_rules_are_refused(rule: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        policy(rule)


def test_a_rule_may_not_stand_twice() -> None:
    with pytest.raises(ValidationError, match="stands twice"):
        policy(FAITHFUL, FAITHFUL)


def test_the_policy_file_states_the_production_values_beside_the_floors() -> None:
    read = Policy(ROOT / "sluice.yaml").section("gate", GatePolicy)
    wanted = {
        "faithfulness: absolute": 0.9,
        "answer relevance: absolute": 0.85,
        "context precision: absolute": 0.8,
        "pii leak: zero": 0,
        "forbidden shown: absolute": 0.01,
        "latency ms p95: absolute": 3000,
        "answer correct [regression]: zero": 0,
    }
    stated = {rule.label: rule.production for rule in read.rules}
    assert wanted.items() <= stated.items()
    assert read.digest == Policy(ROOT / "sluice.yaml").section("gate", GatePolicy).digest


def test_a_release_worse_by_the_margin_passes_in_at_most_about_five_percent() -> None:
    random, runs, passed = np.random.default_rng(3), 300, 0
    rule = policy(PAIRED | {"production": 0.1})
    for _ in range(runs):
        drawn = random.random(150)
        ours = [float(value > 0.12) for value in drawn]
        theirs = [float(not 0.12 < value < 0.14) for value in drawn]
        passed += decide(release("c", m=ours), release("p", m=theirs), rule, CASES).decision == "PASS"
    assert passed / runs <= 0.08, "nominal 5 %, 300 runs: two standard errors are 2.5 points"


def test_an_estimate_that_is_the_threshold_itself() -> None:
    rule = {"metric": "faithfulness", "kind": "absolute", "production": 0.5}
    reason = only(decide(release("c", faithfulness=ones(75)), None, policy(rule), CASES))
    assert reason.decision == "UNDECIDED"
    assert reason.detail.endswith("at least 150 more questions needed")
