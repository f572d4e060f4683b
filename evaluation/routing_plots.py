"""Pictures of a difficulty classifier: quality over cost with random routing beside it, and its reliability."""

from collections.abc import Sequence
from typing import Any

from evaluation.calibration import Calibration
from evaluation.plots import CANDIDATE, GOOD, INK, LINE, PRODUCTION, panels_of, picture
from evaluation.routing import Point, RoutingReport


def curve_picture(report: RoutingReport) -> str:
    """Quality over the cost of a request, from always large (100 %) to always small, as SVG."""

    def draw(width: float) -> Any:
        figure, (axis,) = panels_of(width, 4.2)
        points = report.curve
        _band(axis, points)
        costs, whole = [_cost(one) for one in points], [one.quality.mean for one in points]
        axis.plot(costs, whole, "o-", color=CANDIDATE, label="by the classifier", markersize=4)
        ends = (points[0], points[-1])
        axis.plot(
            [_cost(one) for one in ends], [one.quality.mean for one in ends], "--", color=PRODUCTION, label="by lot"
        )
        axis.axhline(points[0].quality.mean - report.margin, color=INK, linewidth=1, linestyle=":", label="margin")
        for one, name, side in zip(ends, ("always large", "always small"), ("right", "left"), strict=True):
            place = (_cost(one), one.quality.mean)
            axis.annotate(name, place, textcoords="offset points", xytext=(0, -14), color=INK, ha=side)
        if report.threshold is not None:
            chosen = report.chosen
            axis.plot([_cost(chosen)], [chosen.quality.mean], "D", color=GOOD, markersize=9, label="chosen")
        axis.set_xlabel("cost of a request, % of always asking the large model")
        axis.set_ylabel(report.metric.replace("_", " "))
        figure.legend(loc="outside upper right", ncols=4)
        return figure

    return picture("routing-curve", draw)


def _cost(one: Point) -> float:
    return 100 * (1 - one.saved)


def _band(axis: Any, points: Sequence[Point]) -> None:
    ranked = sorted(points, key=_cost)
    low, high = [one.quality.low for one in ranked], [one.quality.high for one in ranked]
    axis.fill_between([_cost(one) for one in ranked], low, high, color=CANDIDATE, alpha=0.15, linewidth=0)


def reliability_picture(calibration: Calibration) -> str:
    """Observed share over foretold probability with intervals, as SVG."""

    def draw(width: float) -> Any:
        figure, (axis,) = panels_of(width, 4.2)
        axis.plot([0, 1], [0, 1], "--", color=LINE)
        for one in calibration.bins:
            axis.plot(
                [one.foretold] * 2, [one.observed.low, one.observed.high], color=CANDIDATE, linewidth=2.4, alpha=0.55
            )
            axis.plot([one.foretold], [one.observed.mean], "o", color=CANDIDATE, markersize=6.5)
        axis.set_xlim(-0.02, 1.02)
        axis.set_ylim(-0.02, 1.02)
        axis.set_xlabel("foretold: the small model is good enough")
        axis.set_ylabel("observed")
        axis.set_title(f"Brier {calibration.brier.mean:.3f}, calibration error {calibration.ece.mean:.3f}")
        return figure

    return picture("reliability", draw)
