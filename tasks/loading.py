"""Tasks of the load benchmark: prompts, loads, searches of the largest load, the report, two runs compared."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from prefect.logging import get_run_logger

from evaluation.benches import machine
from evaluation.load import LoadReport, LoadSpec
from evaluation.loading.benchmark import BenchmarkReport, LoadTarget
from evaluation.loading.comparing import cautions, compare_runs
from evaluation.loading.generator import run_load
from evaluation.loading.kept import BENCHMARK, find_loads, loads_in, write_benchmark, write_comparison
from evaluation.loading.pictures import pictures_of
from evaluation.loading.pricing import costs_of
from evaluation.loading.prompts import LoadPrompt, RandomSpec, plain, random_prompts
from evaluation.loading.search import Mode, SearchResult, SearchSpec, search_load
from evaluation.loading.stopping import saturation, stop_reason
from evaluation.loading.tables import notes_of, step_rows, wide_rows
from evaluation.loading.taken import PromptTaker, taken_prompts
from indexes.embedder import EmbedSpec, open_embedder
from infra.cost import CostSpec
from infra.errors import InputError
from infra.settings import Spec, settings
from infra.store import ArtifactRef, canonical_json, read_lines, write_atomic, write_lines
from models.answering.guards.guardrails import Guards
from models.answering.guards.policy import GuardPolicy
from models.answering.pipeline import build_pipeline
from models.answering.routing import ModelAt
from models.cases import CaseSpec, load_cases
from models.release import Release
from models.serving.deployment import Placement
from models.serving.vllm import EngineSpec
from models.types import Message
from tasks.corpus import TRAFFIC
from tasks.indexing import ACCESS, PROMPTING
from tasks.measuring import cases_of, deployer, kept_load, load_of, prompts_of
from tasks.policy import StageResult, artifact_store, progress_logger, stage

LOADING = ("evaluation/load.py", "evaluation/loading", "tasks/loading.py")
"""Source that decides what a load measures."""
HOURS = 3600.0


class Aim(Spec):
    """What is loaded: a server by its address, or the engine of a release, which is started where needed."""

    endpoint: LoadTarget | None = None
    """The server; else the two below."""
    release: Release | None = None
    """Whose engine."""
    engine: EngineSpec | None = None
    """How it is started."""

    @property
    def told(self) -> str:
        """The target in words."""
        if self.endpoint:
            return f"{self.endpoint.model} at {self.endpoint.url}"
        assert self.release is not None, "an aim has an endpoint or a release"
        return f"the engine of release {self.release.digest[:12]} ({self.release.model.precision})"

    def placement(self) -> tuple[Placement, str]:
        """(where it answers, key)."""
        if self.endpoint:
            key = settings().benchmark_api_key.get_secret_value()
            return Placement(base_url=self.endpoint.url, model=self.endpoint.model), key
        assert self.release is not None and self.engine is not None, "an aim has an endpoint or a release"
        return deployer(self.engine).ensure([self.release])[self.release.digest], ""


def _kept_prompts(prompts: Sequence[LoadPrompt], kind: str) -> StageResult:
    """Prompts as an artifact."""
    with artifact_store().writing("load-prompts") as draft:
        write_lines(draft.folder / "prompts.jsonl", prompts)
    counted = [prompt.tokens for prompt in prompts if prompt.tokens]
    return StageResult(
        refs={"prompts": draft.stored()},
        computed=len(prompts),
        total=len(prompts),
        metrics={"prompts": len(prompts), **({"mean_tokens": sum(counted) / len(counted)} if counted else {})},
        params={"prompts": kind},
    )


@stage(*LOADING, *PROMPTING)
def answer_prompts(release: Release, observations: ArtifactRef) -> StageResult:
    """The prompts behind kept answers."""
    return _kept_prompts(prompts_of(release, observations), "answers")


@stage(*LOADING, *PROMPTING)
def traffic_prompts(release: Release, cases: ArtifactRef, embedding: EmbedSpec) -> StageResult:
    """The traffic's questions through guards, retrieval and prompt of a release: what production would send."""
    asked = cases_of(cases, [TRAFFIC])
    if not asked:
        raise InputError("benchmark.prompts: traffic needs section `traffic` of the policy file")
    taker, store = PromptTaker(), artifact_store()
    nowhere = Placement(base_url="", model="")
    small = ModelAt(taker, "") if release.routing else None
    pipeline = build_pipeline(release, store, open_embedder(embedding), nowhere, engine=taker, small=small)
    progress = progress_logger("traffic-prompts", "questions")
    return _kept_prompts(asyncio.run(taken_prompts(pipeline, taker, asked, ACCESS, progress)), "traffic")


@stage(*LOADING, "models/cases.py", "models/answering/guards/guardrails.py")
def question_prompts(traffic: CaseSpec, root: str, content: str, guards: GuardPolicy) -> StageResult:
    """The traffic's questions as they are, personal data taken out; `content` is the digest of the file."""
    redact = Guards(guards).redact
    texts = [redact(case.question) for case in load_cases(traffic, Path(root))]
    return _kept_prompts(plain([Message(role="user", content=text)] for text in texts), "questions")


@stage(*LOADING)
def made_prompts(spec: RandomSpec, model: ArtifactRef | None) -> StageResult:
    """Random prompts, their lengths in tokens of `model`; in words without one."""
    folder = artifact_store().open(model) if model else None
    return _kept_prompts(random_prompts(spec, folder), "random")


def _prompts(prompts: ArtifactRef) -> list[LoadPrompt]:
    return list(read_lines(artifact_store().open(prompts) / "prompts.jsonl", LoadPrompt))


@stage(cached=False, timeout_s=6 * HOURS)
def put_load(aim: Aim, prompts: ArtifactRef, spec: LoadSpec, first: int) -> StageResult:
    """One load from prompt number `first` on, measured now; an open loop ends where the server falls behind."""
    place, key = aim.placement()
    asked = _prompts(prompts)
    return kept_load(run_load(place.base_url, place.model, asked, spec, api_key=key, first=first, stop_when=saturation))


@stage(cached=False, timeout_s=12 * HOURS)
def search_largest(
    aim: Aim, prompts: ArtifactRef, spec: LoadSpec, search: SearchSpec, mode: Mode, first: int
) -> StageResult:
    """The largest load within the SLO, every step measured now; steps that cannot meet it are not waited out."""
    place, key = aim.placement()
    asked, logger = _prompts(prompts), get_run_logger()

    def measure(load: LoadSpec, sent: int) -> LoadReport:
        report = run_load(
            place.base_url, place.model, asked, load, api_key=key, first=first + sent, stop_when=stop_reason
        )
        logger.info("%s: %.1f %% good %s", load.name, 100 * (report.good_share or 0), report.stopped)
        return report

    found = search_load(spec, search, mode, measure)
    with artifact_store().writing("load-search") as draft:
        write_atomic(draft.folder / "search.json", canonical_json(found.model_dump(mode="json")))
        for name, svg in pictures_of({}, [found]).items():
            write_atomic(draft.folder / name, svg)
    return StageResult(
        refs={"report": draft.stored()},
        computed=len(found.steps),
        total=len(found.steps),
        metrics={"steps": len(found.steps), **({} if found.best is None else {"best": found.best})},
        table=step_rows(found),
        notes=[found.told],
    )


def benchmark_of(report: ArtifactRef) -> BenchmarkReport:
    """The report of a benchmark."""
    return BenchmarkReport.model_validate_json((artifact_store().open(report) / BENCHMARK).read_text("utf-8"))


def _search_of(search: ArtifactRef) -> SearchResult:
    return SearchResult.model_validate_json((artifact_store().open(search) / "search.json").read_text("utf-8"))


@stage(*LOADING, cached=False)
def report_benchmark(
    loads: dict[str, ArtifactRef], searches: list[ArtifactRef], target: str, prompts: str, price: CostSpec
) -> StageResult:
    """Loads and searches as one report with costs, tables and pictures."""
    measured = {name: load_of(ref) for name, ref in loads.items()}
    searched = [_search_of(ref) for ref in searches]
    report = BenchmarkReport(
        target=target,
        prompts=prompts,
        machine=machine(),
        loads=measured,
        searches=tuple(searched),
        costs=costs_of(measured, searched, price),
    )
    with artifact_store().writing("benchmark-report") as draft:
        write_benchmark(report, draft.folder)
    return StageResult(
        refs={"report": draft.stored()},
        computed=len(measured) + len(searched),
        total=len(measured) + len(searched),
        metrics={f"{name}/{key}": value for name, load in measured.items() for key, value in load.metrics().items()},
        table=wide_rows(report),
        notes=notes_of(report),
    )


@stage(*LOADING, cached=False)
def compare_benchmarks(before: str, after: ArtifactRef) -> StageResult:
    """An earlier report (path or beginning of its digest) against this one: ratios with their intervals."""
    store = artifact_store()
    earlier, later = find_loads(before, store), loads_in(store.open(after))
    rows = compare_runs(earlier, later)
    with store.writing("load-comparison") as draft:
        write_comparison(rows, draft.folder)
    return StageResult(
        refs={"report": draft.stored()},
        computed=len(rows),
        total=len(rows),
        metrics={f"{row.load}/{row.figure}_ratio": row.ratio for row in rows},
        params={"before": before},
        table=[row.row() for row in rows],
        notes=cautions(earlier, later),
    )
