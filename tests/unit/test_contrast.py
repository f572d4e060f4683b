"""Answers of releases beside each other: only cases that both have count, and the picture says which is better."""

import pytest

from evaluation.contrast import contrast, contrast_picture
from evaluation.types import Score
from models.types import Case

CASES = [
    Case(id=f"c{number}", question="?", answer="a", documents=(f"d{number}",), split="validation")
    for number in range(40)
]


def scores(values: dict[str, float], metric: str = "answer_correct") -> list[Score]:
    return [Score(case=case, metric=metric, value=value, reason="", scorer="s 1") for case, value in values.items()]


def test_a_better_release_is_seen_on_the_cases_that_both_answered() -> None:
    base = {case.id: 0.0 for case in CASES}
    own = {case.id: float(number % 2) for number, case in enumerate(CASES[:-4])}
    (row,) = contrast({"starter": scores(base), "tuned": scores(own)}, "starter", CASES)
    assert (row["release"], row["metric"], row["cases"]) == ("tuned", "answer_correct", 36)
    assert row["difference"] == pytest.approx(0.5)
    assert row["low"] > 0
    assert (row["better"], row["worse"], row["verdict"]) == (18, 0, "PASS")
    assert "tuned" in contrast_picture([row])


def test_without_common_cases_there_is_no_row() -> None:
    rows = contrast({"a": scores({"c1": 1.0}), "b": scores({"c2": 1.0})}, "a", CASES)
    assert rows == []
    assert "<svg" in contrast_picture(rows)
