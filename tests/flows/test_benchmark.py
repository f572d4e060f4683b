"""The benchmark flow on a server that is none of ours: nothing is indexed or trained; two runs are compared."""

import asyncio
import json
import threading
from collections.abc import Iterator

import pytest
from mlflow import MlflowClient

from evaluation.loading.benchmark import BenchmarkReport
from evaluation.loading.fake import FakeEngine
from flows.benchmark import BenchmarkRunSpec, BenchmarkSummary, benchmark
from infra.errors import InputError, PolicyError
from infra.settings import settings
from infra.telemetry import EXPERIMENT
from tests.flows.project import SECTIONS, Project, shown_artifacts

LOADS = {"requests": 12, "warmup": 2, "concurrency": 4, "max_tokens": 4}
SEARCH = {"modes": ["closed"], "first_concurrency": 2, "most_concurrency": 16, "requests": 20, "steps": 4}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Address of an engine without a model, four answers at once, a token each every 2 ms."""
    addresses: list[str] = []
    up, over = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        async with FakeEngine(token_s=0.002, slots=4).serving() as address:
            addresses.append(address)
            up.set()
            await over.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert up.wait(30)
    yield addresses[0]
    loop.call_soon_threadsafe(over.set)
    thread.join()


@pytest.fixture
def bare(project: Project, server: str) -> Project:
    """A project with the two sections that a server needs, and nothing that could be indexed or trained."""
    for section in (*SECTIONS, "model", "corpus", "cases"):
        project.drop(section)
    project.set("cost", price_per_machine_hour=3.6)
    random = {"prompts": 8, "input": {"mean": 20}, "output": {"mean": 4}}
    endpoint = {"url": server, "model": "base"}
    project.set("benchmark", **LOADS, prompts="random", random=random, endpoint=endpoint)
    return project


def stages(summary: BenchmarkSummary) -> list[str]:
    return list(summary.stages)


def test_a_server_is_loaded_searched_and_compared_with_the_run_before(bare: Project, mlflow_address: str) -> None:
    bare.set("benchmark", also=[{**LOADS, "mode": "open", "rate_per_s": 200}])
    bare.set("benchmark", slo={"e2e_ms": 60_000, "share": 0.5}, search=SEARCH)
    first = benchmark()
    assert stages(first) == ["made-prompts", "load-closed-4", "load-open-200", "search-closed", "report-benchmark"]
    assert {row["load"]: (row["requests"], row["errors"]) for row in first.loads} == {
        "closed-4": (12, "none"), "open-200": (12, "none"),
    }  # fmt: skip
    assert [row["level"] for row in first.steps] == [2, 4, 8, 16]
    assert "closed loop: 16 requests in flight within the SLO after 4 steps" in "\n".join(first.reasons)
    assert "2 warm-up requests before them are in no figure" in "\n".join(first.reasons)
    kept = bare.stored("benchmark-report", "benchmark.json")
    report = BenchmarkReport.model_validate_json(kept.read_text("utf-8"))
    assert report.target.startswith("base at http://127.0.0.1")
    assert report.costs["closed-4"].per_request == pytest.approx(0.001 * report.loads["closed-4"].seconds / 12)

    runs = MlflowClient(tracking_uri=mlflow_address)
    experiment = runs.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    newest = runs.search_runs([experiment.experiment_id], max_results=3)
    told = next(run for run in newest if run.info.run_name == "report-benchmark")
    files = {entry.path for entry in runs.list_artifacts(told.info.run_id)}
    assert {"table.json", "levels-closed.svg", "throughput.svg", "spread.svg"} <= files
    assert told.data.metrics["closed-4/e2e_ms_p95"] == pytest.approx(report.loads["closed-4"].metrics()["e2e_ms_p95"])
    assert "warm-up" in shown_artifacts()["report-benchmark"]

    bare.set("benchmark", also=[], search=None)
    again = benchmark(BenchmarkRunSpec(against=first.report[:12]))
    assert stages(again) == ["made-prompts", "load-closed-4", "report-benchmark", "compare-benchmarks"]
    assert again.stages["made-prompts"].status == "cached"
    assert again.stages["load-closed-4"].status == "done", "a load is always measured now"
    assert {row["load"] for row in again.comparison} == {"closed-4"}
    assert all(row["low"] <= row["high"] for row in again.comparison)


def test_what_the_form_of_a_run_says_holds(bare: Project, server: str) -> None:
    values = LOADS | {"requests": 5, "prompts": "random", "endpoint": {"url": server, "model": "other"}}
    told = benchmark(BenchmarkRunSpec.model_validate({"benchmark": values}))
    (row,) = told.loads
    assert (row["requests"], row["errors"], row["cost_per_request"]) == (5, "5 http", None)
    assert told.times == []


def test_questions_go_as_they_are_without_personal_data(bare: Project) -> None:
    rows = [{"id": "1", "question": "Is mail@example.org known?", "expected": "refusal"}]
    (bare.folder / "traffic.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    bare.set("traffic", files=["traffic.jsonl"])
    bare.set("benchmark", prompts="questions")
    with pytest.raises(PolicyError, match=r"guards\.\w+: Field required"):
        benchmark()
    bare.take("guards")
    assert benchmark().stages["question-prompts"].total == 1
    (prompt,) = bare.stored("load-prompts", "prompts.jsonl").read_text("utf-8").splitlines()
    assert [message["content"] for message in json.loads(prompt)["messages"]] == ["Is <EMAIL_ADDRESS> known?"]


def test_traffic_goes_through_retrieval_and_prompt_and_nothing_is_trained(project: Project, server: str) -> None:
    project.take("guards", "cost")
    rows = [{"id": "t", "question": "Until when does the ferry leave?", "answer": "21:15", "documents": ["ferry.md"]}]
    (project.folder / "traffic.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    project.set("traffic", files=["traffic.jsonl"])
    project.set("benchmark", **LOADS, prompts="traffic", endpoint={"url": server, "model": "base"})
    told = benchmark()
    assert {"build", "traffic-prompts", "load-closed-4"} <= set(told.stages)
    assert not {"make-rows", "finetune-adapter"} & set(told.stages)
    (prompt,) = project.stored("load-prompts", "prompts.jsonl").read_text("utf-8").splitlines()
    asked = json.loads(prompt)["messages"][-1]["content"]
    assert "The first ferry to Sorrel Island leaves at 06:40" in asked
    assert asked.endswith("Question: Until when does the ferry leave?")


def test_a_report_that_is_not_there_is_said_before_anything_is_measured(bare: Project) -> None:
    with pytest.raises(InputError, match="report 'abcdef': 0 match"):
        benchmark(BenchmarkRunSpec(against="abcdef"))
    assert not (settings().home / "store").exists() or not list((settings().home / "store").glob("load-*"))


def test_without_an_endpoint_the_sections_of_the_candidate_are_needed(bare: Project) -> None:
    bare.set("benchmark", endpoint=None)
    with pytest.raises(PolicyError, match="Field required"):
        benchmark()
