"""Paired comparison of two retrieval settings: by hand, its error rate by simulation, and slices that say when they
are too small."""

import numpy as np
import pytest

from evaluation.comparison import LEAST_CLUSTERS, compare_retrieval, compare_slices, slices_of
from evaluation.intervals import difference_interval
from infra.errors import InputError
from models.types import Case

METRIC = "ndcg_at_10"


def cases(count: int, documents: int, **values: object) -> list[Case]:
    """Cases that ask about the documents in turn."""
    return [
        Case.model_validate({"id": f"c{n}", "question": "q", "documents": (f"d{n % documents}",), **values})
        for n in range(count)
    ]


def rows(values: list[float], metric: str = METRIC) -> dict[str, dict[str, float]]:
    return {f"c{number}": {metric: value} for number, value in enumerate(values)}


def test_the_interval_is_that_of_clustered_differences() -> None:
    random = np.random.default_rng(5)
    a, b = random.random(60), random.random(60)
    found = compare_retrieval(rows(a.tolist()), rows(b.tolist()), cases(60, 12), METRIC)
    names = [f"d{n % 12}" for n in range(60)]
    codes = np.array([sorted(set(names)).index(name) for name in names], np.int64)
    expected = difference_interval(b - a, codes)
    assert (found.difference, found.low, found.high) == pytest.approx((expected.mean, expected.low, expected.high))
    assert (found.cases, found.clusters) == (60, 12)
    assert (found.better, found.worse) == (int((b > a).sum()), int((b < a).sum()))
    assert found.mean_b - found.mean_a == pytest.approx(found.difference)


@pytest.mark.parametrize(
    ("gains", "verdict"),
    [
        ([0.4, 0.5, 0.6], "PASS"),
        ([-0.4, -0.5, -0.6], "FAIL"),
        ([0.0, 0.0, 0.0], "FAIL"),
        ([0.9, -0.8, 0.2], "UNDECIDED"),
    ],
)
def test_verdicts(gains: list[float], verdict: str) -> None:
    b = [gains[number % 3] for number in range(30)]
    assert compare_retrieval(rows([0.0] * 30), rows(b), cases(30, 15), METRIC).verdict == verdict


def test_few_documents_give_no_interval_however_many_the_cases() -> None:
    found = compare_retrieval(rows([0.0] * 90), rows([1.0] * 90), cases(90, LEAST_CLUSTERS - 1), METRIC)
    assert (found.low, found.high, found.verdict, found.difference) == (None, None, "UNDECIDED", 1.0)
    assert found.detail == "no interval: 9 independent source documents, 10 are needed"
    assert compare_retrieval(rows([0.0] * 90), rows([1.0] * 90), cases(90, 10), METRIC).verdict == "PASS"


def test_settings_that_do_not_differ_pass_seldom() -> None:
    random, asked = np.random.default_rng(11), cases(48, 12)
    passed = 0
    for _ in range(400):
        common = np.tile(random.normal(0, 0.2, 12), 4)
        b = common + random.normal(0, 0.2, 48)
        passed += compare_retrieval(rows([0.0] * 48), rows(b.tolist()), asked, METRIC).verdict == "PASS"
    assert passed / 400 <= 0.05, "a one-sided error of 2.5 % is meant"


def test_cases_without_the_metric_are_left_out_and_half_measured_ones_are_an_error() -> None:
    a, b = rows([0.1, 0.2]), rows([0.2, 0.4])
    assert compare_retrieval(a, b, [*cases(2, 2), Case(id="z", question="q")], METRIC).cases == 2
    del b["c1"]
    with pytest.raises(InputError, match="case c1: ndcg_at_10 was measured with one of the two settings only"):
        compare_retrieval(a, b, cases(2, 2), METRIC)
    with pytest.raises(InputError, match="no case has the metric 'ndgc'"):
        compare_retrieval(a, a, cases(2, 2), "ndgc")


def test_slices() -> None:
    case = Case(
        id="1", question="q", documents=("a.md", "b.csv", "z"), tags=("regression",),
        evidence=("| Snowflake | below 4 degrees |", "It snows, they say."),
    )  # fmt: skip
    assert slices_of(case, {"a.md": "markdown", "b.csv": "csv"}) == [
        "tag: regression", "format: csv", "format: markdown", "evidence: prose", "evidence: table",
    ]  # fmt: skip
    asked = [*cases(20, 20, tags=("easy",)), Case(id="c20", question="q", documents=("x.pdf",), tags=("hard",))]
    found = compare_slices(rows([0.0] * 21), rows([0.5, 0.7, 0.6] * 7), asked, METRIC, {"x.pdf": "pdf"})
    assert [(one.slice, one.cases, one.low is None) for one in found] == [
        ("all", 21, False), ("format: pdf", 1, True), ("tag: easy", 20, False), ("tag: hard", 1, True),
    ]  # fmt: skip
    assert "metric" not in found[0].flat()
