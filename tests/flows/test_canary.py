"""A canary that ended is not run again, and one that was killed while it ended can still end."""

import pytest
from prefect import flow

from evaluation.canary import CanaryPolicy, CanaryState, decide
from infra.errors import TryAgainError
from infra.records import Records
from infra.settings import settings
from infra.store import ArtifactRef, value_digest, write_lines
from models.release import ModelPart, Release
from models.serving.vllm import EngineSpec
from models.types import Case
from tasks.policy import StageResult, artifact_store
from tasks.releasing import begin_canary, canary_end, decision_of, finish_canary, run_canary
from tests.e2e.project import QUICK_CANARY
from tests.flows.project import Project

POLICY = CanaryPolicy.model_validate(QUICK_CANARY)
DIGEST = value_digest(POLICY.model_dump(mode="json"))


def release(name: str) -> Release:
    part = ArtifactRef(kind="x", digest=name * 64, uri="/store")
    return Release(model=ModelPart(base=part), prompt=part, index=part, retrieval={}, guards={}, judge="1", code="2")


OLD, NEW = release("a"), release("b")


@flow
def canary() -> StageResult:
    """The stage by itself; without an engine it can only look at what is kept."""
    with artifact_store().writing("cases") as draft:
        write_lines(draft.folder / "cases.jsonl", [Case(id="t", question="?", expected="refusal", split="traffic")])
    return run_canary(
        baseline=OLD,
        candidate=NEW,
        cases=draft.stored(),
        policy=POLICY,
        engine=EngineSpec(),
        policy_file=str(settings().policy),
    )


@pytest.fixture
def live(project: Project) -> Records:
    opened = Records.open(settings().database_url)
    opened.promote(OLD.digest, None)
    return opened


@pytest.mark.parametrize("end", ["PROMOTED", "HELD", "ROLLED_BACK", "INCONCLUSIVE"])
def test_a_canary_that_ended_stays_as_it_ended(live: Records, end: str) -> None:
    rollout = live.start_rollout(OLD.digest, NEW.digest, DIGEST, share=0.1)
    live.finish_rollout(rollout.id, end, "as it was")
    result = canary()
    assert canary_end(result) == end
    assert result.computed == 0
    assert decision_of(result.refs["canary-report"]).action == "INCONCLUSIVE", "its outcomes are gone by retention"
    assert live.pointers() == {"production": OLD.digest}


def test_a_killed_canary_goes_on_and_gives_way_to_another_pair(live: Records) -> None:
    first = begin_canary(live, OLD.digest, NEW.digest, POLICY)
    live.advance_rollout(first.id, share=0.5, step=1)
    again = begin_canary(live, OLD.digest, NEW.digest, POLICY)
    assert (again.id, again.step, live.pointer("canary")) == (first.id, 1, NEW.digest)

    other = begin_canary(live, OLD.digest, "c" * 64, POLICY)
    assert (other.state, live.pointer("canary")) == ("RUNNING", "c" * 64)
    left = live.rollout(first.id)
    assert left is not None
    assert (left.state, left.reason.split(",")[0]) == ("INCONCLUSIVE", "its night ended without a decision")


def test_killed_between_promotion_and_its_record(live: Records) -> None:
    rollout = live.start_rollout(OLD.digest, NEW.digest, DIGEST, share=0.1)
    live.move("canary", NEW.digest, None)
    live.promote(NEW.digest, OLD.digest)
    finish_canary(live, rollout.id, OLD.digest, NEW.digest, "PROMOTED", decide([], POLICY, CanaryState(step=0)))
    ended = live.rollout(rollout.id)
    assert ended is not None
    assert ended.state == "PROMOTED"
    assert live.pointers() == {"production": NEW.digest, "previous": OLD.digest}


def test_production_that_moved_meanwhile_is_left_alone(live: Records) -> None:
    rollout = live.start_rollout(OLD.digest, NEW.digest, DIGEST, share=0.1)
    live.promote("c" * 64, OLD.digest)
    with pytest.raises(TryAgainError, match="production moved while the canary ran; nothing was promoted"):
        finish_canary(live, rollout.id, OLD.digest, NEW.digest, "PROMOTED", decide([], POLICY, CanaryState(step=0)))
    assert live.pointer("production") == "c" * 64
