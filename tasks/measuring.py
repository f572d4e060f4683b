"""Tasks that ask and measure: answers of a release to cases, their scores, the load on an engine."""

import asyncio
from collections.abc import Iterable

from pydantic import Field

from evaluation.asking import ask_cases
from evaluation.load import LoadReport, LoadSpec
from evaluation.loading.generator import run_load
from evaluation.loading.prompts import LoadPrompt, plain
from evaluation.metrics import score_all, standard_scorers, table
from evaluation.statistics import clusters_of
from evaluation.types import Observation, Score
from indexes.embedder import EmbedSpec, open_embedder
from infra.cost import CostSpec, cost
from infra.errors import InputError
from infra.processes import ProcessManager
from infra.settings import Spec, settings
from infra.store import ArtifactRef, canonical_json, read_lines, write_atomic, write_lines
from models.answering.guards.guardrails import find_pii
from models.answering.guards.policy import GuardPolicy
from models.answering.pipeline import build_pipeline, spec_of
from models.prompts import load_prompt, render
from models.release import Release
from models.serving.deployment import Deployer, Placement
from models.serving.engine import OpenAIEngine
from models.serving.routes import Engines
from models.serving.vllm import EngineSpec
from models.types import Case
from tasks.indexing import ACCESS
from tasks.policy import StageResult, artifact_store, progress_logger, stage


class AskSpec(Spec):
    """Section `asking` of the policy file."""

    at_once: int = Field(ge=1, le=256)
    """Questions in flight while cases are asked."""


def deployer(engine: EngineSpec) -> Deployer:
    """The engines of this machine. Built inside a task, never passed to one."""
    return Deployer(settings(), artifact_store(), ProcessManager(settings().home), engine)


def cases_of(cases: ArtifactRef, splits: Iterable[str]) -> list[Case]:
    """The cases of some splits, in file order."""
    wanted = set(splits)
    path = artifact_store().open(cases) / "cases.jsonl"
    return [case for case in read_lines(path, Case) if case.split in wanted]


def observations_of(observations: ArtifactRef) -> list[Observation]:
    """The raw observations of an artifact."""
    return list(read_lines(artifact_store().open(observations) / "observations.jsonl", Observation))


def scores_of(scores: ArtifactRef) -> list[Score]:
    """The scores of an artifact."""
    return list(read_lines(artifact_store().open(scores) / "scores.jsonl", Score))


def load_of(load: ArtifactRef) -> LoadReport:
    """The report of a load."""
    return LoadReport.model_validate_json((artifact_store().open(load) / "load.json").read_text("utf-8"))


ASKING = (
    "models/answering",
    "models/serving",
    "models/prompts.py",
    "models/marks.py",
    "indexes",
    "evaluation/asking.py",
)
"""Code that decides what is answered to a case."""


@stage(*ASKING)
def ask_release(
    release: Release, cases: ArtifactRef, splits: list[str], engine: EngineSpec, spec: AskSpec, embedding: EmbedSpec
) -> StageResult:
    """Every case of `splits` asked through the release on a running engine; answers are kept raw."""
    return _asked(release, deployer(engine).ensure([release])[release.digest], cases, splits, spec, embedding)


@stage(*ASKING)
def ask_endpoint(
    release: Release, cases: ArtifactRef, splits: list[str], at: Placement, spec: AskSpec, embedding: EmbedSpec
) -> StageResult:
    """The same of a model that others serve: the release gives prompt, index and guards, its own model is not asked."""
    key = settings().teacher_api_key.get_secret_value()
    return _asked(release, at, cases, splits, spec, embedding, key)


def _asked(
    release: Release,
    placement: Placement,
    cases: ArtifactRef,
    splits: list[str],
    spec: AskSpec,
    embedding: EmbedSpec,
    key: str = "",
) -> StageResult:
    """The observations of the cases, answered at a placement, with the key of a server of others."""
    asked = cases_of(cases, splits)
    if not asked:
        raise InputError(f"no case of {', '.join(splits)}; check `cases` in the policy")
    timeout_s = spec_of(release).generation.timeout_s
    pipeline = build_pipeline(
        release,
        artifact_store(),
        open_embedder(embedding),
        placement,
        engine=OpenAIEngine(placement.base_url, timeout_s, key),
        small=Engines().small(placement.places, timeout_s) if release.routing else None,
    )
    progress = progress_logger("ask", "cases")

    async def ask() -> list[Observation]:
        try:
            return await ask_cases(pipeline, asked, ACCESS, spec.at_once, progress)
        finally:
            await pipeline.close()

    observations = asyncio.run(ask())
    with artifact_store().writing("observations") as draft:
        write_lines(draft.folder / "observations.jsonl", observations)
    failed = sum(bool(observation.answer.error) for observation in observations)
    return StageResult(
        refs={"observations": draft.stored()},
        computed=len(observations),
        total=len(observations),
        metrics={"errors": failed},
        params={"release": release.digest, "splits": ",".join(splits)},
    )


SCORERS = ("metrics", "scorer", "normalization", "correctness", "grounding", "safety", "retrieval")
"""Modules of evaluation/ that decide a score."""


@stage(*(f"evaluation/{name}.py" for name in SCORERS))
def score_answers(observations: ArtifactRef, embedding: EmbedSpec, guards: GuardPolicy, price: CostSpec) -> StageResult:
    """Scores of raw answers: recomputed whenever a scorer changes, without asking again."""
    rows = observations_of(observations)
    scorers = standard_scorers(
        open_embedder(embedding),
        lambda text: find_pii(text, guards),
        lambda answer: cost(price, answer.latency_ms / 1000, 1, 0).total,
    )
    scores = score_all(rows, scorers)
    with artifact_store().writing("scores") as draft:
        write_lines(draft.folder / "scores.jsonl", scores)
    means = table(scores, clusters_of([row.case for row in rows]))
    return StageResult(
        refs={"scores": draft.stored()},
        computed=len(rows),
        total=len(rows),
        metrics={name: interval.mean for name, interval in means.items()},
        table=[{"metric": name, **interval.model_dump(mode="json")} for name, interval in means.items()],
    )


def prompts_of(release: Release, observations: ArtifactRef) -> list[LoadPrompt]:
    """The prompts behind kept answers, rebuilt from their passages."""
    prompt = load_prompt(release.prompt, artifact_store())
    rows = observations_of(observations)
    return plain(render(prompt, row.answer.passages, row.case.question, row.answer.trace_id) for row in rows)


def kept_load(report: LoadReport) -> StageResult:
    """A load's report stored, with its figures."""
    with artifact_store().writing("load-report") as draft:
        write_atomic(draft.folder / "load.json", canonical_json(report.model_dump(mode="json")))
    figures = report.metrics()
    return StageResult(
        refs={"load": draft.stored()},
        computed=len(report.timings),
        total=len(report.timings),
        metrics=figures,
        table=[{"figure": name, "value": round(value, 2)} for name, value in figures.items()],
    )


@stage("evaluation/load.py", "evaluation/loading", "models/serving")
def load_engine(release: Release, observations: ArtifactRef, engine: EngineSpec, spec: LoadSpec) -> StageResult:
    """Load on the engine of a release with prompts that its pipeline really made."""
    placement = deployer(engine).ensure([release])[release.digest]
    return kept_load(run_load(placement.base_url, placement.model, prompts_of(release, observations), spec))
