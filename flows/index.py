"""Flow: chunks → vectors (new ones only) → index → retrieval measured on the cases."""

from typing import Any

from prefect import flow
from pydantic import Field

from flows.ingest import ingest_stages
from flows.recording import Recording, RunSpec, Summary, recording
from indexes.build import IndexSpec
from indexes.embedder import EmbedSpec
from indexes.vectors.choose import IndexNeed
from infra.store import ArtifactRef
from models.answering.pipeline import AnswerSpec
from models.prompts import DEFAULT
from tasks.indexing import build, check_retrieval, compare_indexes, embed
from tasks.policy import StageResult
from tasks.training import take_prompt


def build_stages(
    run: Recording, chunks: ArtifactRef, embedding: EmbedSpec, spec: IndexSpec, label: str = ""
) -> ArtifactRef:
    """Embed what is new of the chunks and build their index; `label` stands behind the names of the stages."""
    made = run.run(embed, f"embed{label}", chunks=chunks, spec=embedding, token_vectors=spec.token_vectors).refs
    vectors, tokens = made["vectors"], made.get("tokens")
    built = run.run(
        build, f"build{label}", chunks=chunks, vectors=vectors, tokens=tokens, spec=spec, embedding=embedding
    )
    return built.refs["index"]


def index_stages(run: Recording) -> None:
    """Embed what is new, build the index, measure dense, lexical and hybrid retrieval."""
    ingest_stages(run)
    run.run(take_prompt, prompt=DEFAULT)
    embedding = run.policy.section("embedding", EmbedSpec)
    spec = run.policy.section("index", IndexSpec)
    made = build_stages(run, run.ref("chunk-corpus", "chunks"), embedding, spec)
    run.run(
        check_retrieval,
        index=made,
        cases=run.ref("read-cases", "cases"),
        spec=run.policy.section("answering", AnswerSpec).search,
        embedding=embedding,
        splits=[],
    )


class IndexRunSpec(RunSpec):
    """What a run of the index flow asks."""

    compare: bool = False
    """Also measure every kind of vector index on these vectors and the questions of the cases."""


class IndexSummary(Summary):
    """The summary, with the comparison where one was asked for."""

    indexes: list[dict[str, Any]] = Field(default_factory=list)
    """A row a kind: see CompareRow in indexes/vectors/compare.py."""
    choice: list[str] = Field(default_factory=list)
    """The kind that suits section `index_need` with the reason, then why not those that were preferred."""


@flow(name="index", description="Ingest, embed what is new, build the index and measure retrieval.")
def index(spec: IndexRunSpec = IndexRunSpec()) -> IndexSummary:
    """From documents to a measured index; unchanged chunks are not embedded again."""
    with recording("index", spec) as run:
        index_stages(run)
        if not spec.compare:
            return IndexSummary(**run.summary().model_dump())
        compared = _compared(run)
        return IndexSummary(**run.summary().model_dump(), indexes=compared.table, choice=compared.notes)


def _compared(run: Recording) -> StageResult:
    """A row a kind of vector index, and the choice."""
    return run.run(
        compare_indexes,
        vectors=run.ref("embed", "vectors"),
        cases=run.ref("read-cases", "cases"),
        spec=run.policy.section("index", IndexSpec),
        embedding=run.policy.section("embedding", EmbedSpec),
        need=run.policy.section("index_need", IndexNeed),
    )
