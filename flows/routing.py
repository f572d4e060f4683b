"""Routing as a part of a release: what was learnt of a pair of models is kept by name, and taken up by policy."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from evaluation.routing import RoutingPolicy, allowed_threshold
from flows.bundling import small_release
from flows.recording import Recording
from infra.errors import InputError
from infra.settings import settings
from infra.store import ArtifactRef, write_atomic
from models.release import Release, RoutingPart
from models.training.difficulty import DifficultySpec
from tasks.difficulty import routing_of
from tasks.policy import artifact_store


class Learnt(BaseModel):
    """Digests of what the difficulty flow made for one pair of releases."""

    model_config = ConfigDict(frozen=True)

    difficulty: str
    report: str


def _file(small: str, large: str) -> Path:
    return settings().home / "routing" / f"{large[:32]}-{small[:32]}.json"


def keep_learnt(small: Release, large: Release, difficulty: ArtifactRef, report: ArtifactRef) -> None:
    """Keep which classifier and which report are the newest of this pair."""
    learnt = Learnt(difficulty=difficulty.digest, report=report.digest)
    write_atomic(_file(small.digest, large.digest), learnt.model_dump_json())


def routed(run: Recording, release: Release) -> Release:
    """The release with its small model, where the policy wants routing; as it is where not.

    Raises: InputError where nothing was learnt of exactly this pair, or what was learnt does not allow routing.
    """
    policy = run.policy.section("routing", RoutingPolicy)
    if not policy.use:
        return release
    small = small_release(run, run.policy.section("difficulty", DifficultySpec).small)
    difficulty, report = _learnt(small, release)
    threshold = allowed_threshold(routing_of(report), policy)
    part = RoutingPart(small=small.model, difficulty=difficulty, threshold=threshold)
    return release.model_copy(update={"routing": part})


def _learnt(small: Release, large: Release) -> tuple[ArtifactRef, ArtifactRef]:
    """(classifier, report) of the pair."""
    path, store = _file(small.digest, large.digest), artifact_store()
    if path.is_file():
        learnt = Learnt.model_validate_json(path.read_text("utf-8"))
        difficulty, report = store.find("difficulty", learnt.difficulty), store.find("routing-report", learnt.report)
        if difficulty is not None and report is not None:
            return difficulty, report
    raise InputError(
        f"routing.use: no classifier is kept for small model {small.digest[:12]} beside release {large.digest[:12]}; "
        "run `sluice run difficulty` first, as after every change of documents, models or code, or set it to false"
    )
