"""Answers of several releases to the same cases beside those of one: paired differences, and a picture of them."""

from collections.abc import Mapping, Sequence
from typing import Any

from evaluation.comparison import Paired, compare_retrieval
from evaluation.metrics import case_values
from evaluation.plots import BAD, GOOD, INK, LINE, panels_of, picture
from evaluation.run_report import words
from evaluation.types import Score
from models.types import Case

METRICS = ("answer_correct", "exact_match", "token_f1", "refusal_correct", "citation_valid", "faithfulness")
"""What is compared of answers, the first of them first of all."""


def contrast(
    scores: Mapping[str, Sequence[Score]], against: str, cases: Sequence[Case], metrics: Sequence[str] = METRICS
) -> list[dict[str, Any]]:
    """A row for each release but `against` and each metric: means, difference, 95 % interval, cases better and worse.

    A case counts where the metric applies to both answers (a refusal has no citation); a metric that never does is
    left out. Raises KeyError when `against` has no scores.
    """
    base = {metric: case_values(scores[against], metric) for metric in metrics}
    rows = []
    for name, own in scores.items():
        if name == against:
            continue
        for metric in metrics:
            values = case_values(own, metric)
            both = [case for case in cases if case.id in values and case.id in base[metric]]
            if both:
                paired = _paired(base[metric], values, both, metric)
                rows.append({"release": name, "against": against, "metric": metric, **paired.flat()})
    return rows


def _paired(base: Mapping[str, float], own: Mapping[str, float], cases: Sequence[Case], metric: str) -> Paired:
    ours, theirs = ({case.id: {metric: values[case.id]} for case in cases} for values in (own, base))
    return compare_retrieval(theirs, ours, cases, metric)


def contrast_picture(rows: Sequence[Mapping[str, Any]]) -> str:
    """Differences with their intervals, a line a row, as SVG."""

    def draw(width: float) -> Any:
        figure, (axis,) = panels_of(width, 1.0 + 0.32 * len(rows))
        axis.axvline(0, color=INK, linewidth=1)
        for place, row in enumerate(reversed(rows)):
            low, high = (row["difference"] if row[end] is None else row[end] for end in ("low", "high"))
            colour = GOOD if low > 0 else BAD if high < 0 else INK
            axis.plot([low, high], [place, place], color=colour if row["low"] is not None else LINE, linewidth=2.4)
            axis.plot([row["difference"]], [place], "o", color=colour, markersize=6)
        axis.set_yticks(range(len(rows)), [f"{row['release']}: {words(row['metric'])}" for row in reversed(rows)])
        axis.set_xlabel(f"difference to {rows[0]['against']}, with its 95 % interval" if rows else "")
        axis.grid(axis="y", visible=False)
        return figure

    return picture("contrast", draw)
