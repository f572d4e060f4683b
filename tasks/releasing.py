"""Tasks that decide and move: the gate, the canary through the gateway, and the pointers."""

import asyncio
import json
import time
from pathlib import Path
from typing import Literal

import httpx
from pydantic import Field

from evaluation.canary import CanaryDecision, CanaryPolicy, CanaryState, Outcome, decide
from evaluation.gate import GatePolicy, ReleaseScores
from evaluation.gate import decide as decide_gate
from evaluation.replay import GatewayClient, replay
from evaluation.types import Verdict
from infra.errors import SluiceError, TryAgainError
from infra.processes import ProcessManager
from infra.records import Records, Rollout, rollout_id
from infra.services import gateway, gateway_key
from infra.settings import Spec, settings
from infra.store import ArtifactRef, canonical_json, value_digest, write_atomic
from infra.telemetry import Tracker
from models.release import Release
from models.serving.vllm import EngineSpec
from tasks.corpus import TRAFFIC
from tasks.measuring import cases_of, deployer, observations_of, scores_of
from tasks.policy import StageResult, artifact_store, progress_logger, stage

SEEN_S = 0.5
"""The highest `gateway.routing_max_age_s`."""
CanaryEnd = Literal["PROMOTED", "HELD", "ROLLED_BACK", "INCONCLUSIVE"]
END: dict[str, CanaryEnd] = {
    "PROMOTE": "PROMOTED",
    "ROLLBACK": "ROLLED_BACK",
    "HOLD": "HELD",
    "INCONCLUSIVE": "INCONCLUSIVE",
}


class NightSpec(Spec):
    """Section `night` of the policy file."""

    when_busy: Literal["wait", "leave"] = "wait"
    """What a run does while another works on the same state, where the run does not say it itself."""
    questions: tuple[str, ...] = Field((), max_length=20)
    """Asked through the gateway once a decision has fallen; the report shows the answers with their sources."""


def records() -> Records:
    """The records database. Opened inside a task, never passed to one."""
    return Records.open(settings().database_url)


@stage(*(f"evaluation/{name}.py" for name in ("gate", "rules", "metrics", "statistics", "intervals")))
def gate(
    candidate: str,
    production: str | None,
    observations: ArtifactRef,
    candidate_scores: ArtifactRef,
    production_scores: ArtifactRef | None,
    policy: GatePolicy,
) -> StageResult:
    """The verdict on the candidate, with every reason, kept as the gate report."""
    cases = [row.case for row in observations_of(observations)]
    theirs = ReleaseScores(production, scores_of(production_scores)) if production and production_scores else None
    verdict = decide_gate(ReleaseScores(candidate, scores_of(candidate_scores)), theirs, policy, cases)
    with artifact_store().writing("gate-report") as draft:
        write_atomic(draft.folder / "verdict.json", canonical_json(verdict.model_dump(mode="json")))
        behind = {"observations": observations.digest, "scores": candidate_scores.digest}
        write_atomic(draft.folder / "behind.json", canonical_json(behind))
    passed = sum(reason.decision == "PASS" for reason in verdict.reasons)
    return StageResult(
        refs={"gate-report": draft.stored()},
        computed=len(verdict.reasons),
        total=len(verdict.reasons),
        metrics={"rules_passed": passed, "rules": len(verdict.reasons)},
        params={"decision": verdict.decision, "first_release": str(verdict.first_release)},
        table=[reason.model_dump(mode="json") for reason in verdict.reasons],
        notes=[f"**{verdict.decision}**"],
    )


def verdict_of(report: ArtifactRef) -> Verdict:
    """The verdict of a gate report."""
    return Verdict.model_validate_json((artifact_store().open(report) / "verdict.json").read_text("utf-8"))


def production_release() -> Release | None:
    """The release that is live, or None before the first one."""
    return release_of(records().pointer("production"))


def previous_release() -> Release | None:
    """The release that a rollback would bring back."""
    return release_of(records().pointer("previous"))


def track_releases(tracker: Tracker, run: str, releases: list[Release]) -> None:
    """Register releases in MLflow's model registry; one that is there stays as it is."""
    for release in releases:
        tags = {
            "precision": release.model.precision,
            "model": release.model.base.digest,
            "adapter": release.model.adapter.digest if release.model.adapter else "",
            "index": release.index.digest,
            "prompt": release.prompt.digest,
        }
        tracker.register_release(run, release.digest, release.model_dump_json(indent=1), tags)


def release_of(digest: str | None) -> Release | None:
    """A registered release by its digest."""
    row = records().release(digest) if digest else None
    return Release.model_validate(row.release) if row else None


def register(release: Release, gate_report: ArtifactRef | None = None, state: str = "") -> None:
    """Write a release into the records, with its gate report once it has one."""
    digest = gate_report.digest if gate_report else ""
    records().add_release(release.digest, release.model_dump(mode="json"), digest, state)


def serve(releases: list[Release], engine: EngineSpec, policy: Path) -> str:
    """Engines for the releases, their placements in the records, and the gateway up; the gateway's address."""
    live = records()
    for digest, placement in deployer(engine).ensure(releases).items():
        live.place(digest, placement.base_url, placement.model, placement.rows)
    live.add_key(gateway_key(settings()), "local operator", "operator", ("public", "staff"))
    ProcessManager(settings().home).start(gateway(settings(), policy))
    return settings().gateway_address


def retire_engines(engine: EngineSpec, candidate: Release) -> None:
    """Stop engines that only measured: all but those of the candidate and of what production and previous name.

    Out of the gateways' pools first: a gateway has seen that after `SEEN_S`, and sends nothing any more.
    """
    live = records()
    keep = {candidate.digest, *live.pointers().values()}
    placed = [release for release in live.placements() if release not in keep]
    for release in placed:
        live.unplace(release)
    if placed:
        time.sleep(SEEN_S)
    deployer(engine).retire(keep)


def _outcomes(live: Records, rollout: str) -> list[Outcome]:
    """Rated outcomes of both arms in arrival order, keyed by request."""
    return [
        Outcome(
            key=row.request_key or row.trace_id,
            arm="canary" if row.arm == "canary" else "baseline",
            error=row.error,
            unsafe=row.unsafe,
            latency_ms=row.latency_ms,
            rating=1 if row.rating == 1 else -1 if row.rating == -1 else 0,
            refused=row.refused,
        )
        for row in live.outcomes(rollout)
    ]


@stage(retries=0, cached=False, timeout_s=3600)
def run_canary(
    baseline: Release,
    candidate: Release,
    cases: ArtifactRef,
    policy: CanaryPolicy,
    engine: EngineSpec,
    policy_file: str,
) -> StageResult:
    """Replay the traffic to both arms through the gateway until the evidence decides; promote, hold or roll back.

    Killed and started again it goes on: outcomes are kept, and asking a question twice returns the kept answer.
    """
    live = records()
    rollout = begin_canary(live, baseline.digest, candidate.digest, policy)
    running = rollout.state == "RUNNING"
    progress = progress_logger("canary", "questions")
    traffic = cases_of(cases, [TRAFFIC])
    state = CanaryState(step=rollout.step)
    decision = decide(_outcomes(live, rollout.id), policy, state)

    async def look(done: int) -> bool:
        nonlocal decision, state
        progress(done, len(traffic))
        decision = decide(_outcomes(live, rollout.id), policy, state)
        if decision.action == "ADVANCE":
            live.advance_rollout(rollout.id, decision.share, decision.step)
            state = CanaryState(step=decision.step)
        return decision.action in END and decision.action != "INCONCLUSIVE"

    async def drive() -> int:
        address = serve([baseline, candidate], engine, Path(policy_file))
        async with httpx.AsyncClient(base_url=address, timeout=120, trust_env=False) as http:
            client = GatewayClient(http, gateway_key(settings()))
            return await replay(client, traffic, rollout.id, (baseline.digest, candidate.digest), look)

    asked = asyncio.run(drive()) if running else 0
    if decision.action not in END:
        decision = decide(_outcomes(live, rollout.id), policy, CanaryState(step=state.step, closed=True))
    end = END[decision.action] if running else _end_named(rollout.state)
    if running:
        finish_canary(live, rollout.id, baseline.digest, candidate.digest, end, decision)
    with artifact_store().writing("canary-report") as draft:
        write_atomic(draft.folder / "canary.json", canonical_json(decision.model_dump(mode="json")))
    return StageResult(
        refs={"canary-report": draft.stored()},
        computed=asked,
        total=decision.pairs,
        metrics={"pairs": decision.pairs}
        | {f"{item.metric}_difference": item.difference for item in decision.evidence},
        params={"canary": end},
        table=[item.model_dump(mode="json") for item in decision.evidence],
        notes=[f"**{end}**", *decision.reasons, "The traffic is a simulated user: see the report."],
    )


def begin_canary(live: Records, baseline: str, candidate: str, policy: CanaryPolicy) -> Rollout:
    """The canary of this pair: begun now, or as it stands. One of another pair, left by a killed night, is ended."""
    digest = value_digest(policy.model_dump(mode="json"))
    left = live.running_rollout()
    if left is not None and left.id != rollout_id(baseline, candidate, digest):
        live.finish_rollout(
            left.id, "INCONCLUSIVE", "its night ended without a decision, and another pair is tried now"
        )
    rollout = live.start_rollout(baseline, candidate, digest, policy.steps[0].share)
    if rollout.state == "RUNNING":
        live.move("canary", candidate, live.pointer("canary"), "canary started")
    return rollout


def finish_canary(
    live: Records, rollout: str, baseline: str, candidate: str, end: CanaryEnd, decision: CanaryDecision
) -> None:
    """Move the pointers as the canary ended. Promotion is compare-and-set on the release it was measured against."""
    reason = "; ".join(decision.reasons)
    promoted = live.pointer("production") == candidate  # by a run that was killed before it could say so
    if end == "PROMOTED" and not promoted and not live.promote(candidate, baseline, f"canary: {reason}"):
        raise TryAgainError("production moved while the canary ran; nothing was promoted, run the night again")
    live.finish_rollout(rollout, end, reason)
    live.move("canary", None, candidate, f"canary ended: {end}")


def canary_end(result: StageResult) -> CanaryEnd:
    """How the canary of this stage ended."""
    return _end_named(result.params["canary"])


def _end_named(name: str) -> CanaryEnd:
    return next(end for end in END.values() if end == name)


def decision_of(report: ArtifactRef) -> CanaryDecision:
    """The decision of a canary report."""
    return CanaryDecision.model_validate(json.loads((artifact_store().open(report) / "canary.json").read_text("utf-8")))


def promote_first(release: Release) -> None:
    """Make the first release production: the gate passed its floors, and there is nothing to run a canary against."""
    live = records()
    if live.pointer("production") == release.digest:
        return
    if not live.promote(release.digest, None, "first release: passed the gate's floors, no production to compare with"):
        raise SluiceError("a production release appeared meanwhile; run the night again")
