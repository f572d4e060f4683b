"""A whole benchmark against an engine whose pace is known: section, loads, search, costs, tables, pictures."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from evaluation.load import LoadReport, LoadSpec, RequestTiming, Slo, summarize
from evaluation.loading.benchmark import BenchmarkReport, BenchmarkSpec
from evaluation.loading.kept import loads_in, write_benchmark
from evaluation.loading.pricing import costs_of, load_cost
from evaluation.loading.search import SearchResult, Tried
from evaluation.loading.stopping import Look, saturation
from evaluation.loading.tables import errors_told, load_rows, notes_of, step_rows, time_rows, wide_rows
from evaluation.loading.taken import PromptTaker, taken_prompts
from infra.cost import CostSpec
from infra.errors import InputError
from models.answering.fake import chunk, fake_pipeline
from models.types import Case

SLO = Slo(ttft_ms=500, e2e_ms=2000, share=0.9)
PRICE = CostSpec(price_per_machine_hour=3.6, currency="EUR")


def timing(total: float, tokens: int = 10, prompt: int = 20, error: str = "") -> RequestTiming:
    return RequestTiming(
        first_token_s=0.1 * total, total_s=total, gaps_s=(total / 10,) * 9, prompt_tokens=prompt,
        completion_tokens=tokens, error=error,
    )  # fmt: skip


def report(spec: LoadSpec | None = None, slow: int = 1, stopped: str = "") -> LoadReport:
    """Ten requests: eight fine ones, `slow` of them out of the SLO, two long ones, and two errors."""
    rows = [timing(3.0)] * slow + [timing(1.0)] * (6 - slow) + [timing(1.0, prompt=200)] * 2
    rows += [timing(1.0, error="http: 503 full"), timing(9.0, error="timeout: no whole answer")]
    spec = spec or LoadSpec(slo=SLO, long_from_tokens=100, requests=10, concurrency=4)
    return summarize(spec, "m", rows, 4.0, 3, stopped=stopped, unfinished=2 if stopped else 0)


def searched() -> SearchResult:
    steps = [
        Tried(level=1, is_within=True, why="fine", report=report(slow=0)),
        Tried(level=2, is_within=False, why="over-saturated: after 3.0 s 50 had arrived", report=report(stopped="x")),
        Tried(level=4, is_within=False, why="gave up", report=None),
    ]
    return SearchResult(mode="closed", best=1, ended="the limit of 3 steps was reached", steps=tuple(steps))


@pytest.fixture
def whole() -> BenchmarkReport:
    loads = {"closed-4": report(), "open-2": report(LoadSpec(mode="open", rate_per_s=2), stopped="gave up")}
    searches = (searched(),)
    return BenchmarkReport(
        target="m at http://x", prompts="8 prompts: random", machine="a machine",
        loads=loads, searches=searches, costs=costs_of(loads, searches, PRICE),
    )  # fmt: skip


def test_the_section_of_the_policy_file() -> None:
    asked: dict[str, Any] = {"concurrency": 8, "requests": 9, "slo": SLO, "long_from_tokens": 100}
    spec = BenchmarkSpec(**asked, also=(LoadSpec(concurrency=8, long_from_tokens=7), LoadSpec(mode="open")))
    assert type(spec.night) is LoadSpec
    assert spec.night == LoadSpec(**asked)
    assert list(spec.loads) == ["closed-8", "closed-8-2", "open-4"]
    assert {load.slo for load in spec.loads.values()} == {SLO}
    assert [load.long_from_tokens for load in spec.loads.values()] == [100, 7, 100]
    assert (spec.searched("open").mode, spec.searched("closed")) == ("open", spec.night)
    target = {"url": "http://127.0.0.1:1", "model": "m"}
    for wrong, says in (
        ({"search": {}}, "search needs slo"),
        ({"endpoint": target}, "prompts must be traffic, questions or random"),
        ({"endpoint": target | {"url": "http://user:word@host"}, "prompts": "random"}, "url"),
        ({"endpoint": {"url": "http://host"}, "prompts": "random"}, "model"),
    ):
        with pytest.raises(ValidationError, match=says):
            BenchmarkSpec.model_validate(wrong)


def test_the_machines_time_is_shared_by_requests_and_tokens() -> None:
    costs = load_cost(PRICE, report(), 4.0)  # 0.001 a second
    assert costs.per_request == pytest.approx(0.004 / 8)
    assert costs.per_good_request == pytest.approx(0.004 / 7)
    assert costs.per_1k_output_tokens == pytest.approx(0.004 / 80 * 1000)
    assert costs.per_1k_tokens == pytest.approx(0.004 / (80 + 6 * 20 + 2 * 200) * 1000)
    none = load_cost(PRICE, summarize(LoadSpec(), "m", [timing(1, error="http: 500")], 1.0, 0), 1.0)
    assert (none.per_request, none.per_1k_tokens, none.per_good_request) == (None, None, None)


def test_tables(whole: BenchmarkReport) -> None:
    rows = load_rows(whole)
    assert [(row["load"], row["prompts"], row["requests"]) for row in rows] == [
        ("closed-4", "all", 10), ("closed-4", "short", 8), ("closed-4", "long", 2), ("open-2", "all", 10),
    ]  # fmt: skip
    assert errors_told(whole.loads["closed-4"]) == "1 http, 1 timeout"
    assert rows[2]["errors"] == "none"
    assert rows[0]["good_share"] == pytest.approx(0.7)
    assert rows[0]["cost_per_request"] == pytest.approx(0.0005) and rows[1]["cost_per_request"] is None
    assert len({tuple(row) for row in rows}) == 1, "one set of columns"
    (wide, *_), times = wide_rows(whole), time_rows(whole)
    assert len({tuple(row) for row in wide_rows(whole)}) == 1
    first = next(row for row in times if row["time"] == "whole answer")
    assert (first["load"], first["n"], first["p50"], first["p95"]) == ("closed-4", 8, 1000, wide["e2e_ms_p95"])
    steps = step_rows(whole.searches[0])
    assert [(row["level"], row["within_slo"]) for row in steps] == [(1, True), (2, False), (4, False)]
    assert steps[1]["why"].startswith("over-saturated") and steps[2]["tokens_per_s"] is None


def test_what_was_left_out_and_what_ended_early_is_said(whole: BenchmarkReport) -> None:
    notes = "\n".join(notes_of(whole))
    assert "closed-4: 10 requests in 4.0 s; 3 warm-up requests before them are in no figure" in notes
    assert "errors: 1 http, 1 timeout" in notes
    assert "open-2 ended early: gave up; 2 requests in flight were dropped" in notes
    assert "closed loop: 1 requests in flight within the SLO after 3 steps; the limit of 3 steps" in notes
    assert "largest closed: " in notes and "EUR a request" in notes


def test_the_report_is_kept_with_its_pictures(whole: BenchmarkReport, tmp_path: Path) -> None:
    write_benchmark(whole, tmp_path)
    assert loads_in(tmp_path) == whole.loads
    drawn = {path.name: path.read_text("utf-8") for path in tmp_path.glob("*.svg")}
    assert set(drawn) == {"levels-closed.svg", "throughput.svg", "spread.svg"}
    assert " SLO" in drawn["levels-closed.svg"] and "requests in flight" in drawn["levels-closed.svg"]
    assert "closed-4 long" in drawn["spread.svg"] and "open-2" in drawn["spread.svg"]
    nothing = whole.model_copy(update={"loads": {}, "searches": ()})
    (tmp_path / "empty").mkdir()
    write_benchmark(nothing, tmp_path / "empty")
    assert not list((tmp_path / "empty").glob("*.svg"))


def test_an_open_loop_that_the_engine_cannot_follow_ends_and_a_closed_one_goes_on() -> None:
    behind = [Look(at_s=at, sent=20 * at, ended=10 * at) for at in range(1, 13)]
    kept_up = [Look(at_s=at, sent=20 * at, ended=20 * at - 5) for at in range(1, 13)]
    ended, opened = [timing(1.0)] * 120, LoadSpec(mode="open", rate_per_s=20)
    assert saturation(behind, ended, opened) == "over-saturated: after 12.0 s 240 had arrived and 120 were answered"
    assert saturation(kept_up, ended, opened) == ""
    assert saturation(behind, ended, LoadSpec()) == "", "a closed loop never sends more than is answered"
    assert saturation(behind, [], opened) == "", "nothing has ended: nobody knows how long an answer takes"


async def test_prompts_are_what_the_pipeline_sends() -> None:
    taker = PromptTaker()
    pipeline = fake_pipeline(taker, [chunk(1, "The fee is 64 euros."), chunk(2, "Dogs travel free.")])
    cases = [Case(id="1", question="What is the fee?"), Case(id="2", question="Do dogs pay?")]
    done: list[int] = []
    prompts = await taken_prompts(pipeline, taker, cases, frozenset({"public"}), lambda at, _of: done.append(at))
    assert [prompt.messages[-1].content.rpartition("Question: ")[2] for prompt in prompts] == [
        "What is the fee?", "Do dogs pay?",
    ]  # fmt: skip
    assert "[1] Guide: The fee is 64 euros." in prompts[0].messages[-1].content
    assert prompts[0].max_tokens == pipeline.spec.generation.max_tokens
    assert done == [1, 2]
    with pytest.raises(InputError, match="none of 1 questions comes to the engine"):
        await taken_prompts(fake_pipeline(PromptTaker(), []), PromptTaker(), cases[:1], frozenset(), lambda *_: None)
