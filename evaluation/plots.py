"""Plots of the report as inline SVG that takes its colours from the page, each in a wide and a narrow version."""

import io
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

from evaluation.arms import CanaryDecision
from evaluation.run_report import MetricLine, words

WIDE, NARROW = 9.2, 4.4
"""Inches of the two versions; the page shows one of them by its width."""

PALETTE = {
    "#000001": "currentColor",
    "#000002": "var(--candidate)",
    "#000003": "var(--production)",
    "#000004": "var(--line)",
    "#000005": "var(--bad)",
    "#000006": "var(--good)",
    "#000007": "var(--third)",
    "#000008": "var(--fourth)",
}
"""Stand-in colours that Matplotlib draws with → what the page shows."""
ON_WHITE = dict(
    zip(PALETTE, ("#1c2024", "#1f6feb", "#b35900", "#d5d9de", "#b42318", "#1a7f37", "#7c3aed", "#0e7490"), strict=True)
)
"""The same for a picture that stands alone."""
INK, CANDIDATE, PRODUCTION, LINE, BAD, GOOD, THIRD, FOURTH = PALETTE
SERIES = (CANDIDATE, PRODUCTION, THIRD, FOURTH, INK)

RC: Any = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": LINE,
    "axes.titlecolor": INK,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "ytick.minor.size": 0,
    "legend.frameon": False,
    "lines.linewidth": 1.7,
}


def _drawn(figure: Any, **options: Any) -> str:
    """The figure as SVG, the same bytes for the same figure."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, **options)
    return buffer.getvalue()


def _svg(figure: Any, label: str) -> str:
    """The figure as an SVG element: deterministic, without ids that clash, scaling with the page."""
    text = _drawn(figure, transparent=True)
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r'<g id="[a-z0-9A-Z]+_\d+">', "<g>", text)
    text = re.sub(r"font: ([\d.]+px|(?:bold|\d+) [\d.]+px) [^;\"]+", r"font: \1 system-ui, sans-serif", text)
    for stand_in, shown in PALETTE.items():
        text = text.replace(stand_in, shown)
    text = re.sub(r'(<svg[^>]*?) width="[^"]+"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]+"', r"\1", text, count=1)
    return text.replace("<svg", f'<svg role="img" aria-label="{label}"', 1).strip()


def _both(name: str, label: str, draw: Callable[[float], Any]) -> str:
    """`draw(width)` in both versions, wrapped so that the page shows one."""
    import matplotlib as mpl

    mpl.use("Agg")
    shown = []
    for kind, width in (("wide", WIDE), ("narrow", NARROW)):
        with mpl.rc_context(RC | {"svg.hashsalt": f"{name}-{kind}"}):
            figure = draw(width)
            shown.append(f'<div class="{kind}">{_svg(figure, label)}</div>')
            figure.clear()
    return "".join(shown)


def picture(name: str, draw: Callable[[float], Any]) -> str:
    """`draw(width)` as an SVG file of its own, dark on white: what MLflow's page of a run shows."""
    import matplotlib as mpl

    mpl.use("Agg")
    with mpl.rc_context(RC | {"svg.hashsalt": name}):
        figure = draw(WIDE)
        text = _drawn(figure, facecolor="white")
        figure.clear()
    for stand_in, shown in ON_WHITE.items():
        text = text.replace(stand_in, shown)
    return text


def panels_of(width: float, height: float, panels: Sequence[float] = (1.0,)) -> tuple[Any, list[Any]]:
    """A figure with panels stacked in these height ratios, without the global state of pyplot."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": list(panels)})
    return figure, [row[0] for row in axes]


def metrics_plot(lines: Sequence[MetricLine]) -> str:
    """Dot and whisker: metrics that are shares, candidate and production with their intervals."""

    def draw(width: float) -> Any:
        figure, (axis,) = panels_of(width, 0.9 + 0.42 * len(lines))
        both = any(line.production for line in lines)
        for edge in range(1, len(lines)):
            axis.axhline(edge - 0.5, color=LINE, linewidth=0.5, alpha=0.7)
        for row, line in enumerate(lines):
            for interval, colour, shift in (
                (line.candidate, CANDIDATE, 0.15 if both else 0.0),
                (line.production, PRODUCTION, -0.15),
            ):
                if interval is None:
                    continue
                place = len(lines) - 1 - row + shift
                axis.plot([interval.low, interval.high], [place, place], color=colour, linewidth=2.4, alpha=0.55)
                axis.plot([interval.mean], [place], "o", color=colour, markersize=6.5)
        axis.plot([], [], "o-", color=CANDIDATE, label="candidate")
        if both:
            axis.plot([], [], "o-", color=PRODUCTION, label="production")
        axis.set_yticks(range(len(lines)), [words(line.metric) for line in reversed(lines)])
        axis.set_xlim(-0.02, 1.02)
        axis.set_ylim(-0.6, len(lines) - 0.4)
        axis.grid(axis="y", visible=False)
        figure.legend(loc="outside upper right", ncols=2)
        return figure

    return _both("metrics", "Metrics of both releases with 95 percent intervals", draw)


def power_of_ten(value: float) -> str:
    """Tick label of a logarithmic axis: plain up to 1,000, else a power of ten."""
    exponent = round(math.log10(value))
    if -2 <= exponent <= 3:
        return f"{value:,g}"
    return f"10{str(exponent).translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))}"


def _evidence(axis: Any, decision: CanaryDecision, kind: str, threshold: float, title: str, good: bool) -> None:
    """One panel: E over pairs on a logarithmic axis, with its threshold."""
    pairs = [point.pairs for point in decision.course]
    names = list(getattr(decision.course[0], kind))
    for index, name in enumerate(names):
        values = [max(getattr(point, kind)[name], 1e-6) for point in decision.course]
        axis.plot(pairs, values, color=SERIES[index % len(SERIES)], label=name)
    axis.axhline(threshold, color=GOOD if good else BAD, linestyle=(0, (5, 3)), linewidth=1.4)
    axis.text(
        pairs[0], threshold, f" E = {threshold:g}", va="bottom", ha="left", color=GOOD if good else BAD, fontsize=9
    )
    axis.set_yscale("log")
    low, high = axis.get_ylim()
    axis.set_ylim(min(0.5, max(low, 1e-3)), max(high, threshold * 4))
    axis.yaxis.set_major_formatter(lambda value, _: power_of_ten(value))
    axis.yaxis.set_minor_formatter(lambda *_: "")
    axis.set_title(title)


def canary_plot(decision: CanaryDecision) -> str:
    """Course of a canary: evidence of harm, evidence of being within the margins, and the share of traffic."""

    def draw(width: float) -> Any:
        figure, (rollback, promote, share) = panels_of(width, 6.2, (1.0, 1.0, 0.55))
        _evidence(rollback, decision, "rollback", decision.rollback_threshold, "Evidence of harm (rolls back)", False)
        _evidence(promote, decision, "promote", decision.promote_threshold, "Evidence of no harm (advances)", True)
        pairs = [point.pairs for point in decision.course]
        shares = [100 * point.share for point in decision.course]
        share.step(pairs, shares, where="post", color=INK)
        share.fill_between(pairs, shares, step="post", color=CANDIDATE, alpha=0.18, linewidth=0)
        share.set_ylim(0, 108)
        share.set_yticks([0, 50, 100], ["0 %", "50 %", "100 %"])
        share.set_title("Share of traffic")
        share.set_xlabel("pairs of outcomes")
        handles, names = promote.get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper left", ncols=4)
        return figure

    return _both("canary", "Course of the canary: evidence and share over pairs of outcomes", draw)


def training_plot(curve: Sequence[tuple[int, float]]) -> str:
    """Loss over training steps."""

    def draw(width: float) -> Any:
        figure, (axis,) = panels_of(width, 2.6)
        axis.plot([step for step, _ in curve], [loss for _, loss in curve], color=CANDIDATE)
        axis.set_xlabel("step")
        axis.set_ylabel("loss")
        axis.set_ylim(bottom=0)
        return figure

    return _both("training", "Training loss over steps", draw)


def loss_picture(curve: Sequence[tuple[int, float]], validation: Sequence[tuple[int, float]] = ()) -> str:
    """Loss over training steps as a picture of its own; the validation rows' as dots where they were looked at."""

    def draw(width: float) -> Any:
        figure, (axis,) = panels_of(width, 3.0)
        axis.plot([step for step, _ in curve], [loss for _, loss in curve], color=CANDIDATE, label="training")
        if validation:
            steps, losses = zip(*validation, strict=True)
            axis.plot(steps, losses, color=PRODUCTION, marker="o", label="validation")
        axis.set_xlabel("step")
        axis.set_ylabel("loss, nats a token")
        axis.set_ylim(bottom=0)
        figure.legend(loc="outside upper right", ncols=2)
        return figure

    return picture("loss", draw)
