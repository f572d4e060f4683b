"""Flow: gate, canary and pointer of a candidate; and the first release of a project."""

from prefect import flow

from evaluation.canary import CanaryPolicy
from evaluation.gate import GatePolicy
from evaluation.types import Verdict
from flows.bundling import measure, starter_release
from flows.evaluate import GATE, evaluate_stages
from flows.finetune import FinetuneSpec, finetune_stages
from flows.index import index_stages
from flows.quantize import quantize_stages
from flows.recording import Recording, Summary, recording
from infra.errors import SluiceError
from models.release import Release
from models.serving.vllm import EngineSpec
from tasks.releasing import (
    CanaryEnd,
    canary_end,
    gate,
    production_release,
    promote_first,
    register,
    run_canary,
    verdict_of,
)


def first_release_stages(run: Recording) -> Release:
    """The base model as it is becomes the first production release, if the gate's floors for that let it."""
    release = starter_release(run)
    observations, scores = measure(run, "first", release, GATE)
    report = run.run(
        gate,
        "gate-first",
        candidate=release.digest,
        production=None,
        observations=observations,
        candidate_scores=scores,
        production_scores=None,
        policy=run.policy.section("gate", GatePolicy),
    ).refs["gate-report"]
    verdict = verdict_of(report)
    register(release, report, f"FIRST_{verdict.decision}")
    if verdict.decision != "PASS":
        reasons = "; ".join(f"{item.rule}: {item.detail}" for item in verdict.reasons if item.decision != "PASS")
        raise SluiceError(f"the first release did not pass the gate's floors ({verdict.decision}): {reasons}")
    promote_first(release)
    return release


def gate_stages(run: Recording, candidate: Release, production: Release) -> Verdict:
    """Both releases on the same cases, then the gate; the candidate is registered with its report."""
    evaluate_stages(run, candidate, production)
    report = run.run(
        gate,
        candidate=candidate.digest,
        production=production.digest,
        observations=run.ref("ask-candidate", "observations"),
        candidate_scores=run.ref("score-candidate", "scores"),
        production_scores=run.ref("score-production", "scores"),
        policy=run.policy.section("gate", GatePolicy),
    ).refs["gate-report"]
    verdict = verdict_of(report)
    register(candidate, report, verdict.decision)
    return verdict


def canary_stages(run: Recording, candidate: Release, production: Release) -> CanaryEnd:
    """The canary of a candidate that passed the gate; how it ended."""
    result = run.run(
        run_canary,
        "canary",
        baseline=production,
        candidate=candidate,
        cases=run.ref("read-cases", "cases"),
        policy=run.policy.section("canary", CanaryPolicy),
        engine=run.policy.section("engine", EngineSpec),
        policy_file=str(run.policy.path.resolve()),
    )
    end = canary_end(result)
    register(candidate, state=end)
    return end


@flow(name="release", description="Gate, canary and promotion of the candidate that the kept stages describe.")
def release(spec: FinetuneSpec = FinetuneSpec()) -> Summary:
    """From kept stages to a decision about the candidate."""
    with recording("release", spec) as run:
        index_stages(run)
        production = production_release() or first_release_stages(run)
        finetune_stages(run, spec)
        candidate = quantize_stages(run)
        if candidate.digest != production.digest and gate_stages(run, candidate, production).decision == "PASS":
            canary_stages(run, candidate, production)
        return run.summary()
