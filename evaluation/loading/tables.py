"""Tables of a load benchmark: a row a load and class of prompts, a row a time, a row a step of a search."""

from typing import Any

from evaluation.load import TIMES, Figures, LoadReport
from evaluation.loading.benchmark import BenchmarkReport
from evaluation.loading.search import SearchResult

WORDS = {
    "ttft_ms": "first token",
    "itl_ms": "between tokens",
    "tpot_ms": "time per token",
    "e2e_ms": "whole answer",
}
"""Times of a load, as people read them."""
ENGINE = ("preemptions", "queue_ms", "kv_use_peak", "prefix_hit_share")
"""What the engine says of itself that stands in the table; None: it does not tell it."""


def _classes(report: LoadReport) -> dict[str, Figures]:
    """All prompts, then short and long ones where they are told apart."""
    return {"all": report, **report.classes}


def errors_told(figures: Figures) -> str:
    """Errors by kind: `2 http, 1 timeout`; `none`."""
    return ", ".join(f"{count} {kind}" for kind, count in sorted(figures.errors_by_kind.items())) or "none"


def load_rows(report: BenchmarkReport) -> list[dict[str, Any]]:
    """A row a load and class: counts, rates, what the engine says (of all prompts), costs (of all prompts)."""
    return [
        {
            "load": name,
            "prompts": kind,
            "requests": figures.requests,
            "errors": errors_told(figures),
            "requests_per_s": figures.requests_per_s,
            "tokens_per_s": figures.output_tokens_per_s,
            "goodput_per_s": figures.goodput_per_s,
            "good_share": figures.good_share,
            **_whole(report, name, load if kind == "all" else None),
        }
        for name, load in report.loads.items()
        for kind, figures in _classes(load).items()
    ]


def _whole(report: BenchmarkReport, name: str, load: LoadReport | None) -> dict[str, Any]:
    """What holds for a whole load only."""
    engine = load.engine if load else None
    costs = report.costs.get(name) if load else None
    return {
        **{field: getattr(engine, field) if engine else None for field in ENGINE},
        "cost_per_request": costs.per_request if costs else None,
        "cost_per_1k_tokens": costs.per_1k_tokens if costs else None,
        "cost_per_1k_output_tokens": costs.per_1k_output_tokens if costs else None,
    }


def time_rows(report: BenchmarkReport) -> list[dict[str, Any]]:
    """A row a load, class and kind of time: number of values, mean and percentiles in milliseconds."""
    return [
        {"load": name, "prompts": kind, "time": WORDS[time], **spread.model_dump()}
        for name, load in report.loads.items()
        for kind, figures in _classes(load).items()
        for time in TIMES
        if (spread := getattr(figures, time)) is not None
    ]


def wide_rows(report: BenchmarkReport) -> list[dict[str, Any]]:
    """`load_rows` with every percentile beside it: the one table of the run's page."""
    found = []
    for row in load_rows(report):
        figures = _classes(report.loads[row["load"]])[row["prompts"]]
        times = {
            f"{time}_p{percent}": getattr(getattr(figures, time), f"p{percent}", None)
            for time in TIMES
            for percent in (50, 95, 99)
        }
        found.append(row | times)
    return found


def step_rows(search: SearchResult) -> list[dict[str, Any]]:
    """A row a step of a search in the order of trying, with why it counts as within the SLO or not."""
    rows = []
    for step in search.steps:
        figures = step.report
        spreads = {time: getattr(figures, time, None) for time in ("ttft_ms", "e2e_ms")}
        rows.append(
            {
                "loop": search.mode,
                "level": step.level,
                "within_slo": step.is_within,
                "why": step.why,
                "requests": figures.requests if figures else None,
                "seconds": figures.seconds if figures else None,
                "tokens_per_s": figures.output_tokens_per_s if figures else None,
                "goodput_per_s": figures.goodput_per_s if figures else None,
                **{f"{time}_p95": spread.p95 if spread else None for time, spread in spreads.items()},
                "errors": errors_told(figures) if figures else None,
            }
        )
    return rows


def notes_of(report: BenchmarkReport) -> list[str]:
    """What a reader must know beside the tables: what was left out, what ended early, what the searches found."""
    notes = [f"{report.target}; {report.prompts}; from {report.machine}"]
    for name, load in report.loads.items():
        notes.append(
            f"{name}: {load.requests} requests in {load.seconds:.1f} s; {load.warmup_excluded} warm-up requests before "
            f"them are in no figure; errors: {errors_told(load)}"
        )
        if load.stopped:
            notes.append(f"{name} ended early: {load.stopped}; {load.unfinished} requests in flight were dropped")
        if load.engine and load.engine.absent:
            notes.append(f"{name}: the server does not tell {', '.join(load.engine.absent)}")
    return [*notes, *(search.told for search in report.searches), *_costs_told(report)]


def _costs_told(report: BenchmarkReport) -> list[str]:
    return [
        f"{name}: {costs.per_request:.3g} {costs.currency} a request, {costs.per_1k_tokens:.3g} per 1,000 tokens"
        for name, costs in report.costs.items()
        if costs.per_request is not None and costs.per_1k_tokens is not None
    ]
