"""The decision path: each finding leads where the policy says, with the figure and the threshold behind it."""

from typing import Any

import pytest

from evaluation.advice import Advice, AdvicePolicy
from evaluation.decision_path import advise
from evaluation.facts import Facts, RuleFact, Step
from evaluation.gate import GatePolicy
from evaluation.remedies import REMEDIES, Kind
from infra.settings import ROOT, Policy

GATE = Policy(ROOT / "sluice.yaml").section("gate", GatePolicy).model_copy(update={"profile": "production"})
POLICY = AdvicePolicy()
GOOD: dict[str, Any] = {
    "faithfulness: absolute": 0.95, "answer relevance: absolute": 0.9, "context precision: absolute": 0.85,
    "citation valid: absolute": 0.95, "pii leak: zero": 0, "forbidden shown: absolute": 0.0, "error: absolute": 0.0,
    "latency ms p95: absolute": 900, "cost per good: absolute": 0.0004,
}  # fmt: skip
KNOWN: dict[str, Any] = {
    "release": "a" * 64, "evidence_shown": 0.96, "unsupported_unseen": 0.1, "patterns": [], "rows": 900,
    "pairs": 0, "tried": ["prompt", "rag"], "generation_share": 0.8, "precisions": [],
}  # fmt: skip
PATTERN = {
    "group": "tag table", "cases": 40, "wrong": 18, "share_of_wrong": 0.6, "others": 0.1,
    "rate": {"value": 0.45, "low": 0.3, "high": 0.6, "n": 40},
}  # fmt: skip


def advice(rules: dict[str, Any] | None = None, **facts: Any) -> Advice:
    given = Facts.model_validate({"rules": GOOD | (rules or {})} | KNOWN | facts)
    return advise(given, POLICY, GATE, quantization_margin=0.05)


def kinds(told: Advice) -> list[str]:
    return [step.kind.value for step in told.recommendations]


BF16 = {"precision": "bf16"}


def precision(name: str, low: float, served: bool = False) -> dict[str, Any]:
    return {"precision": name, "difference": {"value": low / 2, "low": low}, "is_served": served}


@pytest.mark.parametrize(
    ("rules", "facts", "expected"),
    [
        ({}, {}, ["keep"]),
        ({"pii leak: zero": 2}, {}, ["guards"]),
        ({"forbidden shown: absolute": 0.2}, {}, ["guards"]),
        ({"error: absolute": 0.2}, {}, ["repair"]),
        ({"faithfulness: absolute": 0.6}, {"evidence_shown": 0.7}, ["retrieval"]),
        ({"faithfulness: absolute": 0.6}, {"unsupported_unseen": 0.8}, ["retrieval"]),
        ({"faithfulness: absolute": 0.6}, {}, ["grounding"]),
        ({"context precision: absolute": 0.5}, {}, ["retrieval"]),
        ({"answer relevance: absolute": 0.5}, {"tried": []}, ["prompt", "rag", "sft"]),
        ({"answer relevance: absolute": 0.5}, {"tried": ["prompt"]}, ["rag", "sft"]),
        ({"answer relevance: absolute": 0.5}, {}, ["sft"]),
        ({"answer relevance: absolute": 0.5}, {"rows": 99}, ["training-rows"]),
        ({"answer relevance: absolute": 0.5}, {"tried": ["prompt", "rag", "fine-tune"]}, ["sft", "larger-model"]),
        ({}, {"patterns": [PATTERN]}, ["sft"]),
        ({}, {"patterns": [PATTERN | {"share_of_wrong": 0.1}]}, ["keep"]),
        ({}, {"style": 0.3, "pairs": 150}, ["dpo"]),
        ({}, {"style": 0.3, "pairs": 10}, ["training-rows"]),
        ({}, {"style": 0.05}, ["keep"]),
        ({}, {"precisions": [BF16, precision("w8a8", -0.08, True), precision("w4a16", -0.01)]}, ["more-bits"]),
        ({}, {"precisions": [BF16, precision("w8a8", -0.08), precision("w4a16", -0.2)]}, ["more-bits", "distil"]),
        ({}, {"precisions": [BF16, precision("w8a8", -0.01, True), precision("w4a16", -0.2)]}, ["keep"]),
        ({"latency ms p95: absolute": 4000}, {"generation_share": 0.2}, ["serving"]),
        ({"latency ms p95: absolute": 4000}, {}, ["distil"]),
        ({"cost per good: absolute": 0.01}, {"routing": {"share": 0.4, "saved": 0.3}}, ["route", "distil"]),
        ({"cost per good: absolute": 0.01}, {"routing": {"share": 0.1, "saved": 0.01}}, ["distil"]),
    ],
)
def test_each_finding_leads_where_the_path_says(
    rules: dict[str, Any], facts: dict[str, Any], expected: list[str]
) -> None:
    assert kinds(advice(rules, **facts)) == expected


def test_everything_at_once_comes_in_the_order_of_the_path() -> None:
    told = advice(
        {
            "pii leak: zero": 1,
            "error: absolute": 0.1,
            "faithfulness: absolute": 0.4,
            "answer relevance: absolute": 0.5,
            "latency ms p95: absolute": 9000,
        },
        evidence_shown=0.5,
        patterns=[PATTERN],
        tried=["rag"],
        style=0.4,
        pairs=200,
        precisions=[BF16, precision("w8a8", -0.3, True)],
        routing={"share": 0.5, "saved": 0.4},
    )
    assert kinds(told) == [
        "guards", "repair", "retrieval", "prompt", "sft", "dpo", "more-bits", "distil", "route",
    ]  # fmt: skip
    assert told.first.kind is Kind.GUARDS
    assert all(step.because and step.how and step.changes for step in told.recommendations)
    distil = told.recommendations[7]
    assert {one.figure for one in distil.because} >= {"w8a8", "latency ms p95: absolute"}


def test_a_reason_names_its_figure_its_threshold_and_where_that_stands() -> None:
    told = advice({"faithfulness: absolute": 0.6}, evidence_shown=0.7)
    reasons = {one.figure: one for one in told.first.because}
    faith, shown = reasons["faithfulness: absolute"], reasons["evidence shown"]
    assert (faith.value, faith.threshold, faith.source) == (0.6, 0.9, "gate.rules")
    assert (shown.value, shown.threshold, shown.source) == (0.7, POLICY.evidence_shown, "advice.evidence_shown")
    assert "0.6, at least 0.9 asked" in faith.told


def test_the_gate_is_believed_where_it_decided() -> None:
    undecided = RuleFact(value=0.91, bound=0.88, decision="UNDECIDED", detail="0.91 on 50 cases; 80 more needed")
    told = advise(
        Facts.model_validate(KNOWN | {"rules": GOOD | {"faithfulness: absolute": undecided.model_dump()}}), POLICY, GATE
    )
    assert kinds(told) == ["keep"]
    (one,) = [one for one in told.missing if one.fact == "faithfulness (absolute)"]
    assert one.matters == "0.91 on 50 cases; 80 more needed"


@pytest.mark.parametrize(
    ("label", "fact", "decision"),
    [
        ("faithfulness: absolute", {"value": 0.95, "bound": 0.91}, "PASS"),
        ("faithfulness: absolute", {"value": 0.95, "bound": 0.89}, "UNDECIDED"),
        ("faithfulness: absolute", {"value": 0.89, "bound": 0.8}, "FAIL"),
        ("latency ms p95: absolute", {"value": 2900, "bound": 3100}, "UNDECIDED"),
        ("latency ms p95: absolute", {"value": 3100, "bound": 3300}, "FAIL"),
        ("error: absolute", {"value": 0.005, "bound": 0.02}, "PASS"),
        ("faithfulness: non inferior", {"value": -0.01, "bound": -0.02}, "PASS"),
        ("faithfulness: non inferior", {"value": -0.01, "bound": -0.05}, "UNDECIDED"),
        ("faithfulness: non inferior", {"value": -0.04, "bound": -0.06}, "FAIL"),
        ("pii leak: zero", {"value": 1}, "FAIL"),
        ("pii leak: zero", {"value": None}, "UNDECIDED"),
    ],
)
def test_figures_without_a_decision_are_held_against_the_policy(
    label: str, fact: dict[str, Any], decision: str
) -> None:
    rule = next(rule for rule in GATE.rules if rule.label == label)
    assert RuleFact.model_validate(fact).decided(rule, GATE) == decision


def test_what_was_not_measured_is_said_with_how_to_measure_it() -> None:
    nothing = advise(Facts(rows=3, tried=frozenset({Step.RAG})), POLICY, GATE)
    assert kinds(nothing) == ["measure"]
    assert nothing.first.how == ("sluice run nightly",)
    bare = advise(Facts.model_validate({"rules": {"latency ms p95: absolute": 9000}}), POLICY, GATE, 0.05)
    assert {one.fact for one in bare.missing} == {
        "safety rules", "evidence shown", "patterns", "precisions", "generation share", "routing",
    }  # fmt: skip
    assert kinds(bare) == ["serving", "distil"]
    assert all(one.measure for one in bare.missing)


def test_every_kind_says_what_to_do() -> None:
    assert set(REMEDIES) == set(Kind)
