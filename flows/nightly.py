"""Flow: one night, from changed documents to a release that the gate and the canary let through, or not."""

from typing import Any, Literal

from prefect import flow
from pydantic import BaseModel, ConfigDict, Field

from evaluation.types import Verdict
from flows.asking import ask_production
from flows.benchmark import benchmark_stages
from flows.finetune import FinetuneSpec, finetune_stages
from flows.index import index_stages
from flows.quantize import quantize_stages
from flows.recording import Recording, StageRow, recording
from flows.release import canary_stages, first_release_stages, gate_stages
from flows.reporting import is_reported, report_page, write_report
from models.release import Release
from models.tracing.spec import TraceSpec
from tasks.releasing import NightSpec, previous_release, production_release, track_releases
from tasks.watching import export_traces, mirror_aliases

Outcome = Literal["PROMOTED", "HELD", "ROLLED_BACK", "INCONCLUSIVE", "NONE"]


class NightResult(BaseModel):
    """What a night came to: the one object that `sluice run nightly --json` ends with."""

    model_config = ConfigDict(frozen=True)

    release: str
    """Production after the night."""
    previous: str | None
    """The release that production is compared with and would be rolled back to."""
    candidate: str
    verdict: Literal["PASS", "FAIL", "UNDECIDED", "UNCHANGED"]
    canary: Outcome
    first_release: bool
    """Whether this night also made the project's first release."""
    stages: dict[str, StageRow]
    seconds: float
    reasons: list[str]
    """Why the gate did not pass, or what changed nothing."""
    answers: list[dict[str, Any]] = Field(default_factory=list)
    report: str
    mlflow_run: str


def _baseline(candidate: Release, production: Release) -> Release | None:
    """What the candidate is measured against; None where production is the candidate and its story is told."""
    if candidate.digest != production.digest:
        return production
    # Killed between promotion and report: the kept stages tell that story now.
    return None if is_reported(candidate.digest) else previous_release()


def _is_told(run: Recording, candidate: Release) -> bool:
    """Whether an earlier night decided on this candidate and reported it, and nothing had to be computed since."""
    return is_reported(candidate.digest) and all(row.status == "cached" for row in run.stages.values())


def _unchanged(run: Recording, production: Release, candidate: Release) -> NightResult:
    summary = run.summary()
    previous = previous_release()
    return NightResult(
        release=production.digest,
        previous=previous.digest if previous else None,
        candidate=candidate.digest,
        verdict="UNCHANGED",
        canary="NONE",
        first_release=False,
        stages=summary.stages,
        seconds=summary.seconds,
        reasons=["nothing changed: every stage was taken from what is kept, 0 chunks embedded, nothing trained"],
        report=str(report_page(candidate.digest)),
        mlflow_run=summary.mlflow_run,
    )


def _why(verdict: Verdict) -> list[str]:
    return [f"{item.rule}: {item.decision}, {item.detail}" for item in verdict.reasons if item.decision != "PASS"]


def nightly_stages(run: Recording, spec: FinetuneSpec) -> NightResult:
    """The story of a night."""
    index_stages(run)
    before = production_release()
    production = before or first_release_stages(run)
    finetune_stages(run, spec)
    candidate = quantize_stages(run)
    baseline = _baseline(candidate, production)
    if baseline is None:
        return _unchanged(run, production, candidate)

    benchmark_stages(run, candidate)
    verdict = gate_stages(run, candidate, baseline)
    if _is_told(run, candidate):
        return _unchanged(run, production, candidate)
    canary: Outcome = canary_stages(run, candidate, baseline) if verdict.decision == "PASS" else "NONE"
    answers = ask_production(run, run.policy.section("night", NightSpec))
    export_traces(run.policy.section("traces", TraceSpec))
    track_releases(run.tracker, run.mlflow_run, [baseline, candidate])
    mirror_aliases()

    live = production_release()
    assert live is not None, "a night ends with a production release"
    summary = run.summary()
    result = NightResult(
        release=live.digest,
        previous=baseline.digest,
        candidate=candidate.digest,
        verdict=verdict.decision,
        canary=canary,
        first_release=before is None,
        stages=summary.stages,
        seconds=summary.seconds,
        reasons=_why(verdict),
        answers=answers,
        report=str(report_page(candidate.digest)),
        mlflow_run=summary.mlflow_run,
    )
    write_report(run, result, candidate, baseline)
    return result


@flow(name="nightly", description="From changed documents to a canaried release; nothing changed, it says so and ends.")
def nightly(spec: FinetuneSpec = FinetuneSpec()) -> NightResult:
    """One night. Killed at any moment and started again, it goes on with the stage it was in."""
    with recording("nightly", spec) as run:
        result = nightly_stages(run, spec)
        ends = {"verdict": result.verdict, "canary": result.canary, "release": result.release[:12]}
        run.tracker.log(run.mlflow_run, params=ends)
        run.logger.info("verdict %s, canary %s, serving %s", *ends.values())
        return result
