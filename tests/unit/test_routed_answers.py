"""A release with a small model: which questions go there, what a failure does, what the trace and the digest say."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from indexes.fake import HashingEmbedder
from indexes.types import Passage, Vectors
from infra.errors import SetupError, TryAgainError
from infra.records import Placement, Records
from infra.store import ArtifactRef, LocalStore
from models.answering.difficulty import FEATURES, Difficulty, DifficultyCard, save_difficulty
from models.answering.fake import chunk, fake_pipeline
from models.answering.pipeline import Pipeline
from models.answering.routing import Router
from models.release import ModelPart, Release, RoutingPart
from models.serving.breaker import BreakerSpec
from models.serving.fake import FakeEngine
from models.serving.pools import Place
from models.serving.routes import Engines
from models.serving.runtime import ReleaseBuilder
from tests.unit.test_runtime import WordEmbedder, release, store

__all__ = ["release", "store"]
CHUNKS = [chunk(1, "The appeal period is 14 days."), chunk(2, "The head office stands in Weir Street.")]
PUBLIC = frozenset({"public"})
EASY, HARD = "What is the appeal period?", "Where is the head office, and what is the appeal period?"
SPEC = BreakerSpec(window_s=10, failures=9, share=1, open_s=5, retry_share=0, backoff_s=0.001)
LARGE = Place(base_url="http://large", model="l")
BOTH = [LARGE, Place(pool="small", base_url="http://small", model="s")]
AS_BEFORE = "4b47b7feeb7b72ee06caea23d6ac7f3f62e3e228daec01b7ed3817e8e4d85c5f"
"""Digest of the plain bundle below, made by the code that knew nothing of routing."""
DOWN = TryAgainError("down")


@dataclass
class ByLength:
    """Foretells that short questions are easy; remembers what it was shown."""

    shown: list[Passage]

    def probability(self, question: str, vector: Vectors, passages: Sequence[Passage]) -> float:
        assert vector.shape == (HashingEmbedder().dimension,)
        self.shown[:] = passages
        return 0.9 if len(question) < 30 else 0.2


def two(small: FakeEngine, large: FakeEngine) -> Engines:
    engines = {"http://small": small, "http://large": large}
    return Engines(lambda base_url, *_: engines[base_url], SPEC)


def routing(small: FakeEngine, large: FakeEngine) -> tuple[Pipeline, list[Passage]]:
    """A pipeline that sends what is at least as likely as 0.9 to the small model."""
    engines, shown = two(small, large), list[Passage]()
    pipeline = fake_pipeline(engines.chain(BOTH, 5), CHUNKS)
    pipeline.router = Router(engines.small(BOTH, 5), ByLength(shown), HashingEmbedder(), 0.9)
    return pipeline, shown


async def test_each_question_goes_to_its_model_and_the_trace_says_which() -> None:
    small, large = FakeEngine("14 days [1]"), FakeEngine("Weir Street [1]")
    pipeline, shown = routing(small, large)
    easy = await pipeline.answer(EASY, PUBLIC)
    assert [passage.chunk.document for passage in shown] == ["doc-1", "doc-2"], "as ranked"
    hard = await pipeline.answer(HARD, PUBLIC)
    assert (easy.answer, easy.engine, hard.engine) == ("14 days", "fake:s", "fake:l")
    assert [len(engine.asked) for engine in (small, large)] == [1, 1]
    for answer, to, probability, model in ((easy, "small", 0.9, "s"), (hard, "large", 0.2, "fake")):
        spans = {span.name: span.attributes for span in answer.spans}
        assert spans["route"] == {"to": to, "probability": probability}
        assert (spans["generate"]["model"], spans["generate"]["engine"]) == (model, answer.engine)
    await pipeline.close()
    assert (small.closed, large.closed) == (True, True)


async def test_a_small_model_that_fails_is_not_seen_by_the_caller() -> None:
    pipeline, _ = routing(FakeEngine("x", [DOWN]), FakeEngine("14 days [1]"))
    answer = await pipeline.answer(EASY, PUBLIC)
    assert (answer.answer, answer.error, answer.engine) == ("14 days", "", "fake:l")
    assert next(span.attributes["to"] for span in answer.spans if span.name == "route") == "small"


async def test_without_a_small_model_nothing_is_routed() -> None:
    answer = await fake_pipeline(FakeEngine("14 days [1]"), CHUNKS).answer(EASY, PUBLIC)
    assert "route" not in {span.name for span in answer.spans}


def bundle(routing: RoutingPart | None = None) -> Release:
    part = ArtifactRef(kind="model", digest="a" * 64, uri="/a")
    return Release(
        model=ModelPart(base=part), prompt=part, index=part, retrieval={"k": 1}, guards={}, judge="j", code="c",
        routing=routing,
    )  # fmt: skip


def test_only_a_release_that_routes_has_it_in_bundle_and_digest() -> None:
    plain = bundle()
    assert "routing" not in plain.model_dump(mode="json")
    assert plain.digest == AS_BEFORE
    small = ModelPart(base=ArtifactRef(kind="model", digest="b" * 64, uri="/b"))
    learnt = ArtifactRef(kind="difficulty", digest="c" * 64, uri="/c")
    part = RoutingPart(small=small, difficulty=learnt, threshold=0.7)
    routed = bundle(part)
    assert Release.model_validate(routed.model_dump(mode="json")) == routed
    moved = learnt.model_copy(update={"uri": "/elsewhere"})
    assert bundle(part.model_copy(update={"difficulty": moved})).digest == routed.digest
    others = [part.model_copy(update=change) for change in ({"threshold": 0.8}, {"difficulty": small.base})]
    assert len({plain.digest, routed.digest, *(bundle(other).digest for other in others)}) == 4


def classifier(store: LocalStore, encoder: str, dimension: int) -> ArtifactRef:
    """A classifier that calls questions with few words easy."""
    weights = np.zeros(len(FEATURES))
    weights[FEATURES.index("log_words")] = -10.0
    card = DifficultyCard(
        encoder=encoder, features=FEATURES, bias=20.0, slope=1.0, offset=0.0, small="s", large="l", cases=9
    )
    ones = np.ones(len(FEATURES))
    with store.writing("difficulty") as draft:
        save_difficulty(Difficulty(card, 0 * ones, ones, weights, np.zeros(dimension)), draft.folder)
    return draft.stored()


async def test_the_gateway_builds_both_models_of_a_release_and_asks_its_classifier(
    tmp_path: Path, store: LocalStore, release: Release
) -> None:
    embedder = WordEmbedder()
    learnt = classifier(store, embedder.version, embedder.dimension)
    routed = release.model_copy(update={"routing": RoutingPart(small=release.model, difficulty=learnt, threshold=0.5)})
    records = Records.open(f"sqlite:///{tmp_path / 'records.sqlite'}")
    records.add_release(routed.digest, routed.model_dump(mode="json"))
    engines = two(FakeEngine("14 days [1]"), FakeEngine("14 days [1]"))
    build = ReleaseBuilder(records, store, lambda spec: embedder, engines)

    def placed(*pools: Place) -> Placement:
        rows = [place.model_dump() for place in pools]
        return Placement(release=routed.digest, base_url="http://large", model="l", updated=0.0, pools=rows)

    pipeline = build(routed.digest, placed(*BOTH))
    answers = [await pipeline.answer(question, PUBLIC) for question in (EASY, HARD)]
    assert [answer.engine for answer in answers] == ["fake:s", "fake:l"]
    with pytest.raises(SetupError, match="placed without one"):
        build(routed.digest, placed())
