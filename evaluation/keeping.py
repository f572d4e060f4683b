"""Whether a student keeps enough of its teacher: the share of the score with an interval, the verdict, pictures."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from evaluation.intervals import mean_interval, ratio_interval
from evaluation.load import LoadReport
from evaluation.metrics import vector
from evaluation.plots import BAD, CANDIDATE, GOOD, INK, PRODUCTION, panels_of, picture
from evaluation.run_report import words
from evaluation.statistics import cluster_codes
from evaluation.types import Decision, Interval, Reason
from infra.cost import CostSpec, cost

Values = Mapping[str, float]
"""Case id → score."""


def share_kept(student: Values, teacher: Values, clusters: Mapping[str, str]) -> Interval:
    """Mean score of the student by that of the teacher over the cases that both answered.

    The interval is Fieller's over source documents (`ratio_interval`); infinite where the teacher's mean may be 0.
    Raises ValueError where they share no case.
    """
    both = [case for case in student if case in teacher]
    if not both:
        raise ValueError("student and teacher have no case in common")
    ours, theirs = (np.array([values[case] for case in both]) for values in (student, teacher))
    return ratio_interval(ours, theirs, cluster_codes(both, clusters))


def decide_kept(
    share: Interval, keep_share: float, student: int, teacher: int | None, least_ratio: float
) -> tuple[Decision, list[Reason]]:
    """Does the student keep `keep_share` of the teacher's score at a `least_ratio`-th of its parameters?

    FAIL when the estimate or the size is on the wrong side, UNDECIDED when only the interval is, or when the teacher's
    parameters are not known; PASS otherwise.
    """
    reasons = [_score_reason(share, keep_share), _size_reason(student, teacher, least_ratio)]
    found = {reason.decision for reason in reasons}
    return next(decision for decision in ("FAIL", "UNDECIDED", "PASS") if decision in found), reasons


def _score_reason(share: Interval, keep_share: float) -> Reason:
    if not math.isfinite(share.mean):
        return Reason(
            rule="score kept", decision="UNDECIDED", detail="the teacher's score is 0: no share of it to keep"
        )
    decision: Decision = "FAIL" if share.mean < keep_share else "PASS" if share.low >= keep_share else "UNDECIDED"
    detail = f"keeps {share.mean:.1%} of the teacher's score ({_ends(share)}, {share.n} cases); {keep_share:.0%} asked"
    return Reason(
        rule="score kept", decision=decision, detail=detail, value=share.mean, bound=finite(share.low),
        threshold=keep_share,
    )  # fmt: skip


def _ends(share: Interval) -> str:
    if not math.isfinite(share.low):
        return "no interval: too few source documents"
    return f"{share.confidence:.0%} interval {share.low:.1%} to {share.high:.1%}"


def _size_reason(student: int, teacher: int | None, least_ratio: float) -> Reason:
    if teacher is None:
        detail = f"{student:,} parameters; the teacher's are not known: state distillation.teacher.parameters"
        return Reason(rule="size", decision="UNDECIDED", detail=detail, threshold=least_ratio)
    ratio = teacher / student
    detail = f"{student:,} parameters, the teacher has {teacher:,}: {ratio:.2f} times as many; {least_ratio:g} asked"
    decision: Decision = "PASS" if ratio >= least_ratio else "FAIL"
    return Reason(rule="size", decision=decision, detail=detail, value=ratio, threshold=least_ratio)


def best_of(scores: Mapping[str, Values]) -> str:
    """The name with the highest mean score; of equals the first."""
    return max(scores, key=lambda name: float(vector(scores[name]).mean()))


def finite(value: float) -> float | None:
    """The value, or None for infinity, which JSON cannot hold."""
    return value if math.isfinite(value) else None


def model_row(
    name: str,
    values: Values,
    clusters: Mapping[str, str],
    load: LoadReport | None,
    price: CostSpec,
    parameters: int | None,
    bytes_on_disk: int | None,
) -> dict[str, Any]:
    """A model's line of the table: score with interval, size, speed under load, and what answers cost at that load.

    Costs share the machine's time among the requests of the load, good answers as many of them as the score says; a
    model without a load (one that somebody else serves) has none.
    """
    score = mean_interval(vector(values), cluster_codes(list(values), clusters))
    row = {"model": name, "score": score.mean, "low": score.low, "high": score.high, "cases": score.n}
    row |= {"parameters": parameters, "bytes_on_disk": bytes_on_disk}
    if load is None or load.e2e_ms is None:
        return row | dict.fromkeys(("p50_ms", "p95_ms", "tokens_per_s", "per_request", "per_good_answer"))
    answered = load.e2e_ms.n
    shared = cost(price, load.seconds, answered, round(score.mean * answered))
    row |= {"p50_ms": load.e2e_ms.p50, "p95_ms": load.e2e_ms.p95, "tokens_per_s": load.output_tokens_per_s}
    return row | {"per_request": shared.per_request, "per_good_answer": shared.per_good_answer}


def quality_picture(rows: Sequence[Mapping[str, Any]], metric: str) -> str:
    """Score of every model with its 95 % interval, a line a model, as SVG."""

    def draw(width: float) -> Any:
        figure, (axis,) = panels_of(width, 1.0 + 0.4 * len(rows))
        for place, row in enumerate(reversed(rows)):
            axis.plot([row["low"], row["high"]], [place, place], color=CANDIDATE, linewidth=2.4)
            axis.plot([row["score"]], [place], "o", color=CANDIDATE, markersize=7)
        return _named(figure, axis, rows, f"{words(metric)}, with its 95 % interval")

    return picture("quality", draw)


def speed_picture(rows: Sequence[Mapping[str, Any]]) -> str:
    """P50 and P95 of a request under load, a line a model, as SVG; a model without a load has none."""

    def draw(width: float) -> Any:
        figure, (axis,) = panels_of(width, 1.0 + 0.4 * len(rows))
        for place, row in enumerate(reversed(rows)):
            if row["p50_ms"] is not None:
                axis.plot([row["p50_ms"], row["p95_ms"]], [place, place], color=PRODUCTION, linewidth=2.4)
                axis.plot([row["p50_ms"]], [place], "o", color=PRODUCTION, markersize=7)
        axis.set_xlim(left=0)
        return _named(figure, axis, rows, "milliseconds of a request: P50, and the line to P95")

    return picture("speed", draw)


def _named(figure: Any, axis: Any, rows: Sequence[Mapping[str, Any]], label: str) -> Any:
    axis.set_yticks(range(len(rows)), [row["model"] for row in reversed(rows)])
    axis.set_ylim(-0.6, len(rows) - 0.4)
    axis.set_xlabel(label)
    axis.grid(axis="y", visible=False)
    return figure


def share_picture(share: Interval, keep_share: float) -> str:
    """The share of the teacher's score with its interval, and the share asked for, as SVG."""

    def draw(width: float) -> Any:
        figure, (axis,) = panels_of(width, 1.4)
        middle = finite(share.mean) or 0.0
        low, high = (middle if finite(end) is None else end for end in (share.low, share.high))
        colour = GOOD if low >= keep_share else BAD if high < keep_share else INK
        axis.axvline(keep_share, color=PRODUCTION, linewidth=1.4)
        axis.plot([low, high], [0, 0], color=colour, linewidth=3)
        axis.plot([middle], [0], "o", color=colour, markersize=8)
        axis.set_yticks([])
        axis.set_xlabel(f"share of the teacher's score; the upright line is the {keep_share:.0%} asked for")
        return figure

    return picture("share", draw)
