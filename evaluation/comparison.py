"""Two retrieval settings compared on the same cases: paired differences with intervals, overall and in slices."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from evaluation.intervals import difference_interval
from evaluation.retrieval import is_table_row
from evaluation.statistics import cluster_codes, clusters_of
from evaluation.types import Decision
from infra.errors import InputError
from models.types import Case

LEAST_CLUSTERS = 10
"""Below so many source documents no interval is given: between-document variance cannot be told from so few."""
ALL = "all"
"""Name of the slice with every case."""

Rows = Mapping[str, Mapping[str, float]]
"""Case id → metric → value (`retrieval_scores`)."""


class Paired(BaseModel):
    """Setting b minus setting a in one metric over the cases that both have a value for."""

    model_config = ConfigDict(frozen=True)

    metric: str
    slice: str
    cases: int
    clusters: int
    """Groups of cases that share a source document: what counts as independent."""
    mean_a: float
    mean_b: float
    difference: float
    low: float | None
    """Lower end of the two-sided interval; None below LEAST_CLUSTERS."""
    high: float | None
    better: int
    """Cases in which b has the higher value."""
    worse: int
    verdict: Decision
    """PASS: b is better, the interval lies above 0. FAIL: b is no better in the mean. UNDECIDED: all between."""
    detail: str = ""

    def flat(self) -> dict[str, Any]:
        """The comparison as a row of a table."""
        return self.model_dump(mode="json", exclude={"metric"})


def compare_retrieval(
    rows_a: Rows, rows_b: Rows, cases: Sequence[Case], metric: str, *, confidence: float = 0.95, name: str = ALL
) -> Paired:
    """Setting b against setting a over `cases`: mean paired difference with the interval of evaluation/intervals.py.

    That is the studentised cluster bootstrap, or Tango's score interval for −1/0/1 differences; clusters are source
    documents. Cases that lack the metric in both rows are left out (evidence recall of a case without evidence).

    Raises: InputError when a case was measured with one setting only, or none has the metric.
    """
    pairs = {case.id: _pair(rows_a, rows_b, case.id, metric) for case in cases}
    found = {case: pair for case, pair in pairs.items() if pair}
    if not found:
        raise InputError(f"no case has the metric {metric!r}: name one that retrieval_scores gives")
    values = np.array(list(found.values()), dtype=np.float64)
    differences = values[:, 1] - values[:, 0]
    codes = cluster_codes(list(found), clusters_of([case for case in cases if case.id in found]))
    clusters = len(np.unique(codes))
    mean = float(differences.mean())
    low = high = None
    if clusters >= LEAST_CLUSTERS:
        interval = difference_interval(differences, codes, confidence)
        low, high = interval.low, interval.high
    return Paired(
        metric=metric,
        slice=name,
        cases=len(found),
        clusters=clusters,
        mean_a=float(values[:, 0].mean()),
        mean_b=float(values[:, 1].mean()),
        difference=mean,
        low=low,
        high=high,
        better=int((differences > 0).sum()),
        worse=int((differences < 0).sum()),
        verdict="FAIL" if mean <= 0 else "PASS" if low is not None and low > 0 else "UNDECIDED",
        detail=_detail(clusters),
    )


def compare_slices(
    rows_a: Rows, rows_b: Rows, cases: Sequence[Case], metric: str, formats: Mapping[str, str]
) -> list[Paired]:
    """The comparison over all cases, then in every slice (`slices_of`) by name; `formats` is document id → format.

    Slices describe: their intervals are not corrected for being many. Raises InputError as `compare_retrieval` does.
    """
    slices: dict[str, list[Case]] = {}
    for case in cases:
        if _pair(rows_a, rows_b, case.id, metric):
            for name in slices_of(case, formats):
                slices.setdefault(name, []).append(case)
    return [
        compare_retrieval(rows_a, rows_b, cases, metric),
        *(compare_retrieval(rows_a, rows_b, part, metric, name=name) for name, part in sorted(slices.items())),
    ]


def slices_of(case: Case, formats: Mapping[str, str]) -> list[str]:
    """The slices that a case belongs to: its tags, the formats of its documents, and whether a table row is asked."""
    found = {formats[document] for document in case.documents if document in formats}
    shapes = {"table" if is_table_row(evidence) else "prose" for evidence in case.evidence}
    return [
        *(f"tag: {tag}" for tag in case.tags),
        *(f"format: {media}" for media in sorted(found)),
        *(f"evidence: {shape}" for shape in sorted(shapes)),
    ]


def _pair(rows_a: Rows, rows_b: Rows, case: str, metric: str) -> tuple[float, float] | None:
    """The values of both settings; None where neither has the metric."""
    a, b = (rows.get(case, {}).get(metric) for rows in (rows_a, rows_b))
    if a is None and b is None:
        return None
    if a is None or b is None:
        raise InputError(f"case {case}: {metric} was measured with one of the two settings only; measure it with both")
    return a, b


def _detail(clusters: int) -> str:
    if clusters >= LEAST_CLUSTERS:
        return ""
    return f"no interval: {clusters} independent source documents, {LEAST_CLUSTERS} are needed"
