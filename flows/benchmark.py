"""Flow: loads on the candidate's engine or on any server, the largest load within the SLO, costs, two runs compared."""

from typing import Any

from prefect import flow
from pydantic import Field

from evaluation.loading.benchmark import BenchmarkSpec
from evaluation.loading.kept import find_loads
from evaluation.loading.tables import load_rows, step_rows, time_rows
from flows.bundling import starter_release
from flows.checking import check_policy
from flows.finetune import FinetuneSpec, finetune_stages
from flows.index import index_stages
from flows.quantize import quantize_stages
from flows.recording import Recording, Summary, recording
from indexes.embedder import EmbedSpec
from infra.cost import CostSpec
from infra.store import ArtifactRef
from models.answering.guards.policy import GuardPolicy
from models.cases import CaseSpec
from models.release import Release
from models.serving.vllm import EngineSpec
from tasks.corpus import content_of
from tasks.loading import (
    Aim,
    answer_prompts,
    benchmark_of,
    compare_benchmarks,
    made_prompts,
    put_load,
    question_prompts,
    report_benchmark,
    search_largest,
    traffic_prompts,
)
from tasks.measuring import load_engine
from tasks.policy import StageResult, artifact_store

STEP = ("loop", "level", "within_slo", "e2e_ms_p95", "tokens_per_s", "why")
"""Columns of a step that fit on a line; the search's own table has all."""


class BenchmarkRunSpec(FinetuneSpec):
    """What a run of the benchmark asks. How the candidate is made matters only without an endpoint."""

    benchmark: BenchmarkSpec | None = None
    """What is loaded, and how. None: section `benchmark` of the policy file; else the values here, all of them."""
    against: str = ""
    """An earlier report to compare with: its path, or the beginning of its digest."""


class BenchmarkSummary(Summary):
    """The summary, with the figures of every load."""

    report: str
    """Digest of the report, for `against` of a later run."""
    loads: list[dict[str, Any]]
    """A row a load and class of prompts: counts, rates, what the engine says, costs."""
    times: list[dict[str, Any]]
    """A row a load, class and kind of time: percentiles in milliseconds."""
    steps: list[dict[str, Any]] = Field(default_factory=list)
    """A row a step of a search, with why it counts as it does."""
    comparison: list[dict[str, Any]] = Field(default_factory=list)
    """A row a figure that both runs have: ratio and interval."""
    reasons: list[str]
    """What was left out, what ended early, what the searches found, what a request costs."""


def benchmark_stages(run: Recording, candidate: Release) -> None:
    """A night's part: one load on the candidate's engine, with the prompts of its validation answers."""
    run.run(
        load_engine,
        "load-candidate",
        release=candidate,
        observations=run.ref(f"ask-{candidate.model.precision}", "observations"),
        engine=run.policy.section("engine", EngineSpec),
        spec=run.policy.section("benchmark", BenchmarkSpec).night,
    )


def _candidate(run: Recording, spec: FinetuneSpec) -> Release:
    """The candidate, trained, quantized and chosen; what is kept is taken."""
    check_policy(run.policy, "quantize")
    index_stages(run)
    finetune_stages(run, spec)
    return quantize_stages(run)


def _traffic_prompts(run: Recording, release: Release | None) -> StageResult:
    """What production would send: by the candidate, or where a server is loaded that is none, by the base model's."""
    if release is None:
        check_policy(run.policy, "index")
        index_stages(run)
    embedding = run.policy.section("embedding", EmbedSpec)
    asked_by = release or starter_release(run)
    return run.run(traffic_prompts, release=asked_by, cases=run.ref("read-cases", "cases"), embedding=embedding)


def _prompts(run: Recording, spec: BenchmarkSpec, release: Release | None) -> StageResult:
    """The prompts that section `benchmark` names."""
    if spec.prompts == "traffic":
        return _traffic_prompts(run, release)
    if spec.prompts == "questions":
        traffic = run.policy.section("traffic", CaseSpec)
        content = content_of(*(run.policy.folder(file) for file in traffic.all_files))
        root, guards = str(run.policy.path.parent.resolve()), run.policy.section("guards", GuardPolicy)
        return run.run(question_prompts, traffic=traffic, root=root, content=content, guards=guards)
    if spec.prompts == "random":
        return run.run(made_prompts, spec=spec.random, model=release.model.base if release else None)
    assert release is not None, "answers are a candidate's"
    return run.run(
        answer_prompts, release=release, observations=run.ref(f"ask-{release.model.precision}", "observations")
    )


def load_stages(run: Recording, spec: BenchmarkSpec, aim: Aim, prompts: StageResult) -> StageResult:
    """Every load, then the searches, then the report of all."""
    asked = prompts.refs["prompts"]
    loads: dict[str, ArtifactRef] = {}
    first = 0  # each load goes on behind the prompts of the last: those are in the engine's prefix cache
    for name, load in spec.loads.items():
        loads[name] = run.run(put_load, f"load-{name}", aim=aim, prompts=asked, spec=load, first=first).refs["load"]
        first += load.requests + load.warmup
    searches = [
        run.run(
            search_largest,
            f"search-{mode}",
            aim=aim,
            prompts=asked,
            spec=spec.searched(mode),
            search=spec.search,
            mode=mode,
            first=first,
        ).refs["report"]
        for mode in (spec.search.modes if spec.search else ())
    ]
    return run.run(
        report_benchmark,
        loads=loads,
        searches=searches,
        target=aim.told,
        prompts=f"{prompts.total} prompts: {spec.prompts}",
        price=run.policy.section("cost", CostSpec),
    )


def _summary(run: Recording, reported: StageResult) -> BenchmarkSummary:
    """What the run found, as tables."""
    report = benchmark_of(reported.refs["report"])
    compared = run.results.get("compare-benchmarks")
    return BenchmarkSummary(
        **run.summary().model_dump(),
        report=reported.refs["report"].digest,
        loads=load_rows(report),
        times=time_rows(report),
        steps=[{name: row[name] for name in STEP} for search in report.searches for row in step_rows(search)],
        comparison=compared.table if compared else [],
        reasons=[*reported.notes, *(compared.notes if compared else ())],
    )


@flow(name="benchmark", description="Load an engine or any server: latency, throughput, largest load, cost.")
def benchmark(spec: BenchmarkRunSpec = BenchmarkRunSpec()) -> BenchmarkSummary:
    """With an endpoint nothing is trained; without one the candidate is made as `sluice run quantize` makes it."""
    with recording("benchmark", spec) as run:
        asked = spec.benchmark or run.policy.section("benchmark", BenchmarkSpec)
        if spec.against:
            find_loads(spec.against, artifact_store())  # one that is not there is said before anything is measured
        release = None if asked.endpoint else _candidate(run, spec)
        aim = Aim(endpoint=asked.endpoint, release=release, engine=run.policy.section("engine", EngineSpec))
        reported = load_stages(run, asked, aim, _prompts(run, asked, release))
        if spec.against:
            run.run(compare_benchmarks, before=spec.against, after=reported.refs["report"])
        return _summary(run, reported)
