"""A release as bytes: built from store and records with a real index and tokenizer, served, cached, explained."""

import asyncio
import hashlib
from collections.abc import Sequence
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from indexes.build import IndexSpec, build_index
from indexes.types import Vectors
from infra.errors import InputError, PolicyError, SetupError
from infra.records import ApiKey, Placement, Records
from infra.store import ArtifactRef, LocalStore, canonical_json, write_atomic
from models.answering.explain import explain
from models.answering.fake import POLICY, SPEC, chunk, fake_pipeline
from models.answering.guards.grounding import WORD
from models.answering.pipeline import Pipeline
from models.prompts import DEFAULT, store_prompt
from models.release import ModelPart, Release
from models.serving.asks import Ask
from models.serving.fake import FakeEngine
from models.serving.routes import Engines
from models.serving.runtime import ReleaseBuilder, Runtime, load_release
from models.serving.traffic import Assignment
from models.serving.writer import TraceWriter, to_row

CALLER = ApiKey(digest="c" * 64, name="someone", role="user", access=["public"], created=1.0)
CHUNKS = [chunk(1, "The appeal period is 14 days."), chunk(2, "The head office stands in Weir Street.")]


class WordEmbedder:
    """Each word is a direction: enough to rank two chunks."""

    version, dimension = "words-1", 64

    def query(self, text: str) -> Vectors:
        vector = np.full(self.dimension, 1e-3, np.float32)
        for word in WORD.findall(text.casefold()):
            vector[hashlib.sha256(word.encode()).digest()[0] % self.dimension] += 1
        unit: Vectors = vector / np.linalg.norm(vector)
        return unit

    def passages(self, texts: Sequence[str]) -> Vectors:
        return np.stack([self.query(text) for text in texts])


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.fixture
def records(tmp_path: Path) -> Records:
    return Records.open(f"sqlite:///{tmp_path / 'records.sqlite'}")


def _artifact(store: LocalStore, kind: str, file: str, value: object) -> ArtifactRef:
    with store.writing(kind) as draft:
        write_atomic(draft.folder / file, canonical_json(value))
    return draft.stored()


@pytest.fixture
def release(store: LocalStore) -> Release:
    with store.writing("model") as draft:
        tokenizer = Tokenizer(WordLevel({"?": 0}, unk_token="?"))
        tokenizer.pre_tokenizer = Whitespace()
        tokenizer.save(str(draft.folder / "tokenizer.json"))
    model = draft.stored()
    embedder = WordEmbedder()
    with store.writing("index") as draft:
        vectors = embedder.passages([one.embedding_text for one in CHUNKS])
        build_index(CHUNKS, vectors, IndexSpec(kind="flat"), embedder.version, draft.folder)
    return Release(
        model=ModelPart(base=model),
        prompt=store_prompt(DEFAULT, store),
        index=draft.stored(),
        retrieval=SPEC.model_dump(mode="json"),
        guards=POLICY.model_dump(mode="json"),
        judge="judge-1",
        code="code-1",
    )


def placement(release: str, url: str = "http://127.0.0.1:1") -> Placement:
    return Placement(release=release, base_url=url, model="m", updated=0.0)


async def test_a_release_is_built_by_digest_answers_and_is_explained(
    store: LocalStore, records: Records, release: Release
) -> None:
    verdict = {"decision": "PASS", "first_release": True}
    gate = _artifact(store, "gate-report", "verdict.json", verdict)
    records.add_release(release.digest, release.model_dump(mode="json"), gate.digest)
    engine = FakeEngine("14 days [1]")
    build = ReleaseBuilder(records, store, lambda spec: WordEmbedder(), Engines(lambda *_: engine))
    pipeline = build(release.digest, placement(release.digest))
    again = build(release.digest, placement(release.digest))
    assert pipeline.retriever is again.retriever
    answer = await pipeline.answer("What is the appeal period?", frozenset({"public"}), "e" * 32)
    assert (answer.answer, answer.citations[0].document) == ("14 days", "doc-1")
    writer = TraceWriter(records, pipeline.guards.redact, capacity=10)
    assert writer.submit(to_row(answer, Assignment(release.digest, "production"), Ask("q", CALLER), 1.0))
    writer.close()
    told = explain("e" * 32, records, store)
    assert told["chunks"][0] == {
        "number": 1, "chunk": "chunk-1", "document": "doc-1", "title": "Guide", "cited": True,
    }  # fmt: skip
    assert told["documents"] == ["doc-1", "doc-2"]
    assert told["prompt"] == {"id": DEFAULT.id, "version": "1", "digest": release.prompt.digest}
    assert (told["model"]["base"], told["index"]) == (release.model.base.digest, release.index.digest)
    assert told["gate_report"] == {"digest": gate.digest, **verdict}
    with pytest.raises(InputError, match="not in the records"):
        explain("0" * 32, records, store)


def test_releases_that_do_not_fit_are_named(store: LocalStore, records: Records, release: Release) -> None:
    build = ReleaseBuilder(records, store, lambda spec: WordEmbedder(), Engines(lambda *_: FakeEngine("x")))
    with pytest.raises(InputError, match="not registered"):
        build(release.digest, placement(release.digest))
    records.add_release("0" * 64, release.model_dump(mode="json"))
    with pytest.raises(SetupError, match="has digest"):
        load_release(records, "0" * 64)
    old = release.model_copy(update={"retrieval": {"k": 3}})
    records.add_release(old.digest, old.model_dump(mode="json"))
    with pytest.raises(PolicyError, match="retrieval"):
        build(old.digest, placement(old.digest))


async def test_a_pipeline_is_built_once_and_again_when_its_engine_moves() -> None:
    built: list[str] = []
    gate = Event()

    def build(release: str, where: Placement) -> Pipeline:
        gate.wait(10)
        built.append(where.base_url)
        return fake_pipeline(FakeEngine("x"), CHUNKS, release=release)

    runtime = Runtime(build)
    here = placement("r")
    waiting = [asyncio.create_task(runtime.pipeline("r", here)) for _ in range(5)]
    await asyncio.sleep(0)
    gate.set()
    found = await asyncio.gather(*waiting)
    assert len({id(pipeline) for pipeline in found}) == 1
    assert built == ["http://127.0.0.1:1"]
    moved = await runtime.pipeline("r", placement("r", "http://127.0.0.1:2"))
    assert moved is not found[0]
    assert built == ["http://127.0.0.1:1", "http://127.0.0.1:2"]
    for number in range(8):
        await runtime.pipeline(f"other-{number}", here)
    assert not runtime.loaded("r"), "what was used longest ago is forgotten"
    assert runtime.loaded("other-7")
