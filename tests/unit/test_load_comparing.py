"""Two runs of a load side by side: ratios that are known, intervals that hold them, reports found again."""

from pathlib import Path

import numpy as np
import pytest

from evaluation.load import LoadReport, LoadSpec, RequestTiming, summarize
from evaluation.loading.comparing import Compared, cautions, compare_loads, compare_runs, throughput_ratio
from evaluation.loading.engine_metrics import EngineFigures
from evaluation.loading.kept import find_loads, loads_in, write_comparison
from infra.errors import InputError
from infra.store import LocalStore

SPEC = LoadSpec(requests=96, concurrency=8)


def report(factor: float = 1.0, seed: int = 0, spec: LoadSpec = SPEC, error: str = "") -> LoadReport:
    """Requests whose times vary by chance around `factor`; eight at once."""
    source = np.random.default_rng(seed)
    rows = []
    for number in range(spec.requests):
        total = float(factor * source.lognormal(0, 0.3))
        gaps = tuple(float(gap) for gap in source.dirichlet(np.ones(9)) * total * 0.8)
        rows.append(
            RequestTiming(
                sent_s=number / 8,
                first_token_s=0.2 * total,
                total_s=total,
                gaps_s=gaps,
                prompt_tokens=10 + number,
                completion_tokens=10,
                error=error,
            )
        )
    return summarize(spec, "m", rows, sum(row.total_s for row in rows) / spec.concurrency, 0)


def by_figure(rows: list[Compared]) -> dict[str, Compared]:
    return {row.figure: row for row in rows}


def test_a_run_that_takes_twice_as_long_has_half_of_the_throughput_and_twice_the_percentiles() -> None:
    rows = by_figure(compare_loads(report(), report(2.0), "closed-8"))
    names = {f"{time}_ms_p{percent}" for time in ("ttft", "itl", "tpot", "e2e") for percent in (50, 95, 99)}
    assert set(rows) == {"tokens_per_s", *names}
    assert rows["tokens_per_s"].ratio == pytest.approx(0.5)
    assert all(rows[name].ratio == pytest.approx(2) for name in names)
    assert all(row.is_paired for row in rows.values())
    for row in rows.values():  # the same requests, each scaled: pairing leaves nothing to chance
        assert row.low == pytest.approx(row.ratio) and row.high == pytest.approx(row.ratio)
    assert (rows["tokens_per_s"].told, rows["e2e_ms_p95"].told) == ("less", "more")


def test_the_interval_holds_the_true_ratio_about_as_often_as_it_says() -> None:
    hits = 0
    for seed in range(40):
        low, high = throughput_ratio(report(1.2, 2 * seed + 1).timings, report(1.0, 2 * seed).timings)
        hits += low <= 1 / 1.2 <= high
    assert 34 <= hits <= 40, "95 % intervals, 40 runs"


def test_other_prompts_are_not_paired_and_an_open_loop_counts_the_time_of_the_run() -> None:
    spec = LoadSpec(mode="open", rate_per_s=4, requests=48)
    one, other = report(spec=spec), report(seed=3, spec=spec.model_copy(update={"requests": 64}))
    rows = by_figure(compare_loads(one, other, "open-4"))
    assert not any(row.is_paired for row in rows.values())
    assert rows["tokens_per_s"].ratio == pytest.approx(other.output_tokens_per_s / one.output_tokens_per_s)
    assert rows["e2e_ms_p50"].told == "no difference shown"


def test_loads_are_matched_by_name() -> None:
    closed, opened = report(), report(spec=LoadSpec(mode="open", rate_per_s=4, requests=48))
    both = {"closed-8": closed, "open-4": opened}
    assert {row.load for row in compare_runs(both, {"open-4": opened})} == {"open-4"}
    assert {row.load for row in compare_runs({"closed-8": closed}, {"closed-16": closed})} == {"closed-8 to closed-16"}
    with pytest.raises(InputError, match="no load in common: closed-8, open-4 against closed-16"):
        compare_runs(both, {"closed-16": closed})
    with pytest.raises(InputError, match="without one request that went well"):
        compare_runs({"closed-8": report(error="http: 500")}, {"closed-8": closed})


def test_a_warm_prefix_cache_is_no_faster_engine() -> None:
    def hits(share: float | None) -> dict[str, LoadReport]:
        return {"closed-8": report().model_copy(update={"engine": EngineFigures(prefix_hit_share=share)})}

    (told,) = cautions(hits(0.1), hits(0.9))
    assert told.startswith(
        "closed-8: not the same work: the prefix cache gave 10% of the prompts' tokens before and 90%"
    )
    assert cautions(hits(0.1), hits(0.12)) == cautions(hits(None), hits(0.9)) == []
    assert cautions({"closed-8": report()}, hits(0.9)) == []


def test_reports_are_found_by_path_and_by_the_begin_of_their_digest(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    with store.writing("load-report") as draft:
        (draft.folder / "load.json").write_text(report().model_dump_json(), "utf-8")
    ref = draft.stored()
    kept = {"closed-8": report()}
    assert find_loads(ref.digest[:9], store) == kept
    assert loads_in(store.open(ref)) == loads_in(store.open(ref) / "load.json") == kept
    for reference in ("f" * 30, "../x", str(tmp_path)):
        with pytest.raises(InputError):
            find_loads(reference, store)
    (tmp_path / "load.json").write_text('{"spec": 1}', "utf-8")
    with pytest.raises(InputError, match=r"load\.json: not a report of loads of this version: "):
        find_loads(str(tmp_path), store)


def test_the_comparison_as_picture(tmp_path: Path) -> None:
    write_comparison(compare_loads(report(), report(2.0, 1), "closed-8"), tmp_path)
    drawn = (tmp_path / "comparison.svg").read_text("utf-8")
    assert "closed-8 tokens_per_s" in drawn and "e2e_ms_p99" in drawn
