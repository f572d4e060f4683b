"""Flow: a small and a large model asked the same cases, a classifier of which questions the small one can take."""

from typing import Any

from prefect import flow
from pydantic import Field

from evaluation.gate import GatePolicy
from evaluation.routing import Level, RoutingPolicy
from flows.advising import keep_routing
from flows.bundling import measure, small_release, tuned_release
from flows.finetune import FinetuneSpec, finetune_stages
from flows.index import index_stages
from flows.recording import Recording, Summary, recording
from flows.routing import keep_learnt
from indexes.embedder import EmbedSpec
from models.answering.pipeline import AnswerSpec
from models.training.difficulty import DifficultySpec
from tasks.difficulty import PROVED, learn_difficulty, measure_routing, routing_of


class DifficultySummary(Summary):
    """The summary, with what the classifier is worth."""

    routing: str
    """`small and large` or `always large`."""
    curve: list[dict[str, Any]] = Field(default_factory=list)
    """Quality and cost of 1,000 requests, a row a share of the questions that goes to the small model; gate cases."""
    reasons: list[str] = Field(default_factory=list)


def difficulty_stages(run: Recording) -> DifficultySummary:
    """Ask both models, learn, measure. No release is changed."""
    spec = run.policy.section("difficulty", DifficultySpec)
    policy = run.policy.section("routing", RoutingPolicy).model_copy(update={"use": False})  # measured all the same
    gate = run.policy.section("gate", GatePolicy)
    small, large = small_release(run, spec.small), tuned_release(run)
    splits = [*spec.learn, PROVED]
    _, small_scores = measure(run, "small", small, splits)
    _, large_scores = measure(run, "large", large, splits)
    read: dict[str, Any] = {
        "cases": run.ref("read-cases", "cases"),
        "index": run.ref("build", "index"),
        "small_scores": small_scores,
        "large_scores": large_scores,
        "search": run.policy.section("answering", AnswerSpec).search,
        "embedding": run.policy.section("embedding", EmbedSpec),
    }
    learnt = run.run(learn_difficulty, small=small.digest, large=large.digest, spec=spec, metric=policy.metric, **read)
    level = Level(alpha=gate.alpha, power=gate.power, assumed_icc=gate.assumed_icc)
    told = run.run(measure_routing, difficulty=learnt.refs["difficulty"], policy=policy, level=level, **read)
    keep_routing(routing_of(told.refs["report"]))
    keep_learnt(small, large, learnt.refs["difficulty"], told.refs["report"])
    return DifficultySummary(
        **run.summary().model_dump(),
        routing=told.params["routing"],
        curve=told.table,
        reasons=[note.removeprefix("- ") for note in told.notes],
    )


@flow(name="difficulty", description="Learn which questions the small model can take, and what routing them is worth.")
def difficulty(spec: FinetuneSpec = FinetuneSpec()) -> DifficultySummary:
    """From documents to a difficulty classifier with its calibration and its curve of quality over cost."""
    with recording("difficulty", spec) as run:
        index_stages(run)
        finetune_stages(run, spec)
        return difficulty_stages(run)
