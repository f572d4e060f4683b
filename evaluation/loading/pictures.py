"""Pictures of a load benchmark: latency by level with the SLO, latency against throughput, spread, two runs' ratios."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from evaluation.load import LoadReport, RequestTiming, Slo
from evaluation.loading.comparing import Compared
from evaluation.loading.search import UNITS, SearchResult, Tried
from evaluation.loading.tables import WORDS
from evaluation.plots import BAD, CANDIDATE, INK, LINE, PRODUCTION, SERIES, panels_of, picture

PERCENTS = ((50, PRODUCTION), (95, CANDIDATE), (99, INK))
LIMITED = ("ttft_ms", "itl_ms", "e2e_ms")
"""Times that a SLO can limit."""


def pictures_of(loads: Mapping[str, LoadReport], searches: Sequence[SearchResult]) -> dict[str, str]:
    """File name → SVG: what there is to draw of a benchmark."""
    drawn = {f"levels-{search.mode}.svg": levels_picture(search) for search in searches if _measured(search)}
    if drawn:
        drawn["throughput.svg"] = throughput_picture(searches)
    answered = {name: load for name, load in loads.items() if load.e2e_ms}
    return drawn | ({"spread.svg": spread_picture(answered)} if answered else {})


def _measured(search: SearchResult) -> list[Tried]:
    """Steps with latencies, by level."""
    found = [step for step in search.steps if step.report and step.report.e2e_ms]
    return sorted(found, key=lambda step: step.level)


def levels_picture(search: SearchResult) -> str:
    """P50, P95 and P99 of each time by level of the load; hollow: out of the SLO; dashed: the SLO's limit."""
    steps = _measured(search)
    slo = next((step.report.spec.slo for step in steps if step.report), None)
    times = [time for time in LIMITED if any(getattr(step.report, time) for step in steps)]

    def draw(width: float) -> Any:
        figure, axes = panels_of(width, 0.9 + 2.0 * len(times), [1.0] * len(times))
        for axis, time in zip(axes, times, strict=True):
            _levels(axis, steps, time, slo)
        axes[-1].set_xlabel(UNITS[search.mode])
        axes[-1].xaxis.get_major_locator().set_params(integer=search.mode == "closed")
        handles, names = axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper right", ncols=len(PERCENTS))
        return figure

    return picture(f"levels-{search.mode}", draw)


def _levels(axis: Any, steps: Sequence[Tried], time: str, slo: Slo | None) -> None:
    """One panel: a time by level."""
    known = [(step, spread) for step in steps if (spread := getattr(step.report, time))]
    levels = [step.level for step, _ in known]
    for percent, colour in PERCENTS:
        values = [getattr(spread, f"p{percent}") for _, spread in known]
        axis.plot(levels, values, color=colour, label=f"P{percent}")
        for (step, _), value in zip(known, values, strict=True):
            axis.plot(
                step.level, value, "o", color=colour, fillstyle="full" if step.is_within else "none", markersize=5
            )
    limit = getattr(slo, time) if slo else None
    if limit is not None:
        axis.axhline(limit, color=BAD, linestyle=(0, (5, 3)), linewidth=1.4)
        axis.text(levels[0], limit, " SLO", va="bottom", ha="left", color=BAD, fontsize=9)
    axis.set_title(f"{WORDS[time]}, ms")
    axis.set_ylim(bottom=0)


def throughput_picture(searches: Sequence[SearchResult]) -> str:
    """Latency against throughput: each step of the searches a point, with its level beside it."""

    def draw(width: float) -> Any:
        figure, (axis,) = panels_of(width, 3.6)
        for search, colour in zip(searches, SERIES, strict=False):
            points = [
                (step.report.output_tokens_per_s, step.report.e2e_ms.p95, step.level)
                for step in _measured(search)
                if step.report and step.report.e2e_ms
            ]
            axis.plot(
                [x for x, _, _ in points], [y for _, y, _ in points], "o-", color=colour, label=f"{search.mode} loop"
            )
            for x, y, level in points:
                axis.annotate(f"{level:g}", (x, y), textcoords="offset points", xytext=(4, 4), fontsize=8, color=colour)
        axis.set_xlabel("tokens/s of answers")
        axis.set_title("Whole answer P95 in ms, by throughput (numbers: level of the load)")
        axis.set_ylim(bottom=0)
        figure.legend(loc="outside upper right", ncols=2)
        return figure

    return picture("throughput", draw)


def _steps(axis: Any, values: Sequence[float], **style: Any) -> None:
    """An empirical distribution as steps from 0 to 1."""
    ordered = np.sort(values)
    axis.step(ordered, np.arange(1, len(ordered) + 1) / len(ordered), where="post", **style)


def _parts(load: LoadReport) -> dict[str, tuple[list[RequestTiming], str]]:
    """Class of prompts → its requests without error and line style."""
    fine = [timing for timing in load.timings if not timing.error]
    border = load.spec.long_from_tokens
    if border is None:
        return {"": (fine, "-")}
    short = [timing for timing in fine if timing.prompt_tokens < border]
    long = [timing for timing in fine if timing.prompt_tokens >= border]
    return {name: part for name, part in {" short": (short, "-"), " long": (long, "--")}.items() if part[0]}


def spread_picture(loads: Mapping[str, LoadReport]) -> str:
    """Share of the requests that were as fast or faster, for the first token and the whole answer, a line a load."""

    def draw(width: float) -> Any:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(width, 5.6), layout="constrained")
        for axis, time in zip(figure.subplots(2, 1), ("ttft_ms", "e2e_ms"), strict=True):
            for (name, load), colour in zip(loads.items(), SERIES, strict=False):
                for kind, (rows, style) in _parts(load).items():
                    values = [1000 * (row.first_token_s if time == "ttft_ms" else row.total_s) for row in rows]
                    label = f"{name}{kind}" if time == "ttft_ms" else None
                    _steps(axis, values, color=colour, linestyle=style, label=label)
            axis.set_title(f"{WORDS[time]}, ms: share of the requests")
            axis.set_ylim(0, 1.02)
        figure.legend(loc="outside upper right", ncols=3)
        return figure

    return picture("spread", draw)


def comparison_picture(rows: Sequence[Compared]) -> str:
    """Dot and whisker: each ratio with its interval, around the line of no difference."""

    def draw(width: float) -> Any:
        figure, (axis,) = panels_of(width, 0.9 + 0.28 * len(rows))
        axis.axvline(1, color=LINE, linewidth=1.6)
        for place, row in enumerate(reversed(rows)):
            colour = INK if row.told == "no difference shown" else CANDIDATE
            axis.plot([row.low, row.high], [place, place], color=colour, linewidth=2.4, alpha=0.55)
            axis.plot([row.ratio], [place], "o", color=colour, markersize=5)
        axis.set_yticks(range(len(rows)), [f"{row.load} {row.figure}" for row in reversed(rows)], fontsize=8)
        axis.set_xlabel("after / before, with 95 percent intervals")
        axis.grid(axis="y", visible=False)
        return figure

    return picture("comparison", draw)
