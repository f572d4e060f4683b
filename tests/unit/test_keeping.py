"""The share of the teacher's score that a student keeps, and the verdict about it."""

import math

import pytest

from evaluation.keeping import (
    best_of,
    decide_kept,
    finite,
    model_row,
    quality_picture,
    share_kept,
    share_picture,
    speed_picture,
)
from evaluation.load import LoadSpec, RequestTiming, summarize
from evaluation.types import Interval
from infra.cost import CostSpec

CLUSTERS = {f"c{number}": f"d{number // 2}" for number in range(60)}


def interval(mean: float, low: float, high: float) -> Interval:
    return Interval(mean=mean, low=low, high=high, n=60)


def test_the_share_is_a_ratio_of_means_with_an_interval() -> None:
    teacher = {case: float(place % 3 != 0) for place, case in enumerate(CLUSTERS)}
    student = {case: value * (place % 10 != 1) for place, (case, value) in enumerate(teacher.items())}
    share = share_kept(student, teacher, CLUSTERS)
    assert share.mean == pytest.approx(sum(student.values()) / sum(teacher.values()))
    assert share.low < share.mean < share.high <= 1.01
    assert share_kept(teacher, teacher, CLUSTERS).low == pytest.approx(1.0)


def test_only_cases_of_both_count() -> None:
    share = share_kept({"c0": 1.0, "x": 0.0}, {"c0": 1.0, "c1": 0.0}, CLUSTERS)
    assert (share.n, share.mean, share.low) == (1, 1.0, -math.inf)
    with pytest.raises(ValueError, match="in common"):
        share_kept({"x": 1.0}, {"c0": 1.0}, CLUSTERS)


@pytest.mark.parametrize(
    ("mean", "low", "expected"), [(0.95, 0.91, "PASS"), (0.95, 0.85, "UNDECIDED"), (0.89, 0.8, "FAIL")]
)
def test_the_score_decides_when_the_size_is_right(mean: float, low: float, expected: str) -> None:
    decision, reasons = decide_kept(interval(mean, low, 1.0), 0.9, 10, 40, 4)
    assert decision == expected
    assert [reason.rule for reason in reasons] == ["score kept", "size"]
    assert f"{mean:.1%}" in reasons[0].detail


def test_a_student_that_is_too_large_fails_and_unknown_size_is_undecided() -> None:
    assert decide_kept(interval(1.0, 0.95, 1.0), 0.9, 11, 40, 4)[0] == "FAIL"
    decision, reasons = decide_kept(interval(1.0, 0.95, 1.0), 0.9, 11, None, 4)
    assert decision == "UNDECIDED"
    assert "distillation.teacher.parameters" in reasons[1].detail


def test_a_teacher_without_a_right_answer_decides_nothing() -> None:
    share = share_kept({"c0": 1.0, "c2": 0.0}, {"c0": 0.0, "c2": 0.0}, CLUSTERS)
    assert finite(share.mean) is None
    assert decide_kept(share, 0.9, 10, 40, 4)[0] == "UNDECIDED"


def test_the_best_of_equals_is_the_first() -> None:
    assert best_of({"sequence": {"a": 0.5}, "logits": {"a": 0.5}}) == "sequence"
    assert best_of({"sequence": {"a": 0.5}, "logits": {"a": 0.6}}) == "logits"


def test_a_line_of_the_table_shares_the_time_of_the_load() -> None:
    timings = [RequestTiming(first_token_s=0.01, total_s=0.1, completion_tokens=5)] * 10
    load = summarize(LoadSpec(), "student", timings, 2.0, 0)
    price = CostSpec(price_per_machine_hour=3.6)
    values = {case: float(place < 30) for place, case in enumerate(CLUSTERS)}
    row = model_row("student", values, CLUSTERS, load, price, 720_000, 1_500_000)
    assert (row["score"], row["cases"], row["parameters"], row["tokens_per_s"]) == (0.5, 60, 720_000, 25.0)
    assert row["low"] < 0.5 < row["high"]
    assert (row["p50_ms"], row["p95_ms"]) == pytest.approx((100, 100))
    assert row["per_request"] == pytest.approx(3.6 / 3600 * 2 / 10)
    assert row["per_good_answer"] == pytest.approx(2 * row["per_request"])
    served_elsewhere = model_row("teacher", values, CLUSTERS, None, price, None, None)
    assert {served_elsewhere[name] for name in ("p95_ms", "tokens_per_s", "per_good_answer", "parameters")} == {None}
    assert set(served_elsewhere) == set(row)


def test_pictures_are_the_same_bytes_each_time_and_hold_every_model() -> None:
    rows = [
        {"model": "teacher", "score": 0.5, "low": 0.4, "high": 0.6, "p50_ms": None, "p95_ms": None},
        {"model": "student", "score": 0.45, "low": 0.4, "high": 0.5, "p50_ms": 30.0, "p95_ms": 50.0},
    ]
    first = quality_picture(rows, "answer_correct")
    assert first == quality_picture(rows, "answer_correct")
    for text in (first, speed_picture(rows)):
        assert "teacher" in text
        assert "student" in text
    assert "90%" in share_picture(interval(1.0, -math.inf, math.inf), 0.9)
